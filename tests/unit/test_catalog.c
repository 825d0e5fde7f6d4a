// SPDX-License-Identifier: Apache-2.0
// Catalogues: what the trie allows is what the items say, for every walk; excluding takes items away and
// nothing else; bad files are refused by line; the engine never leaves the catalogue, alone or in a batch; a
// version that is put beside the others is found, and one that was read stays.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/constrain/catalog_store.h"
#include "tests/support/engine_fixture.h"

static const int32_t eos[] = {FIXTURE_EOS};
static const struct catalog_options options = {.vocab = FIXTURE_VOCAB, .eos = eos, .eos_count = 1};

static struct catalog *open_ok(const char *text)
{
    struct catalog *catalog;
    struct error err = {0};
    if (catalog_open_text(&catalog, text, strlen(text), &options, &err) != STATUS_OK)
        fail_msg("refused: %s", err.text);
    return catalog;
}

static struct constraint *view_ok(struct catalog *catalog, const char *const *exclude, size_t count)
{
    struct constraint *view;
    assert_int_equal(catalog_constraint(&view, catalog, exclude, count, NULL), STATUS_OK);
    return view;
}

static void expect_tokens(struct constraint *view, uint32_t state, const int32_t *expected, size_t count)
{
    const int32_t *tokens;
    assert_int_equal(view->ops->tokens(view, state, &tokens), count);
    if (count)
        assert_memory_equal(tokens, expected, count * sizeof *tokens);
    const uint64_t *mask = view->ops->mask(view, state);
    size_t bits = 0;
    for (int32_t i = 0; i < FIXTURE_VOCAB; i++)
        bits += mask[i / 64] >> (i % 64) & 1;
    assert_int_equal(bits, count);
}

static const char small[] = "{\"item_id\":\"long\",\"token_ids\":[9,4,7],\"price\":3}\n"
                            "{\"item_id\":\"short\",\"token_ids\":[9,4]}\n\n"
                            "{\"item_id\":\"twin\",\"token_ids\":[9,4]}\r\n"
                            "{\"item_id\":\"other\",\"token_ids\":[5]}";

static void walks_are_items(void **state)
{
    (void)state;
    struct catalog *catalog = open_ok(small);
    struct constraint *view = view_ok(catalog, NULL, 0);
    assert_int_equal(catalog_items(catalog), 4);
    expect_tokens(view, CONSTRAINT_START, (const int32_t[]){5, 9}, 2);
    assert_false(view->ops->accepts(view, CONSTRAINT_START));
    uint32_t nine = view->ops->next(view, CONSTRAINT_START, 9);
    uint32_t four = view->ops->next(view, nine, 4);
    expect_tokens(view, four, (const int32_t[]){7}, 1);
    assert_string_equal(catalog_constraint_item(view, four, 0), "short");
    assert_string_equal(catalog_constraint_item(view, four, 1), "twin");
    assert_null(catalog_constraint_item(view, four, 2));
    uint32_t seven = view->ops->next(view, four, 7);
    assert_string_equal(catalog_constraint_item(view, seven, 0), "long");
    expect_tokens(view, seven, NULL, 0);
    assert_int_equal(view->ops->next(view, four, 8), CONSTRAINT_DEAD);
    constraint_give_back(view);
    catalog_give_back(catalog);
}

static void excluding_takes_items_away(void **state)
{
    (void)state;
    struct catalog *catalog = open_ok(small);
    struct constraint *view = view_ok(catalog, (const char *const[]){"other", "short", "unknown"}, 3);
    expect_tokens(view, CONSTRAINT_START, (const int32_t[]){9}, 1);
    uint32_t four = view->ops->next(view, view->ops->next(view, CONSTRAINT_START, 9), 4);
    assert_string_equal(catalog_constraint_item(view, four, 0), "twin");
    assert_int_equal(view->ops->next(view, CONSTRAINT_START, 5), CONSTRAINT_DEAD);
    constraint_give_back(view);
    view = view_ok(catalog, (const char *const[]){"short", "twin"}, 2);
    assert_false(view->ops->accepts(view, four));
    expect_tokens(view, four, (const int32_t[]){7}, 1);
    constraint_give_back(view);
    assert_int_equal(
        catalog_constraint(&view, catalog, (const char *const[]){"short", "twin", "long", "other"}, 4, NULL),
        STATUS_NOT_FOUND);
    catalog_give_back(catalog);
}

static void bad_files_name_the_line(void **state)
{
    static const char *const bad[][2] = {
        {"{\"item_id\":\"a\",\"token_ids\":[3]}\n{\"item_id\":\"b\"}", "line 2"},
        {"{\"item_id\":\"a\",\"token_ids\":[]}", "1 to 255"},
        {"{\"item_id\":\"a\",\"token_ids\":[288]}", "vocabulary"},
        {"{\"item_id\":\"a\",\"token_ids\":[1]}", "end-of-sequence"},
        {"{\"item_id\":\"\",\"token_ids\":[3]}", "item_id"},
        {"{\"item_id\":\"a\",\"token_ids\":[3]}\n{\"item_id\":\"a\",\"token_ids\":[4]}", "twice"},
        {"{\"item_id\":\"a\",\"token_ids\":[3]", "line 1"},
        {"", "no items"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct catalog *catalog;
        struct error err = {0};
        assert_int_equal(catalog_open_text(&catalog, bad[i][0], strlen(bad[i][0]), &options, &err),
                         STATUS_INVALID);
        if (!strstr(err.text, bad[i][1]))
            fail_msg("\"%s\" does not say \"%s\"", err.text, bad[i][1]);
    }
}

/* Items of 3 pseudo-random tokens, none of them eos. */
static struct catalog *open_many(int items)
{
    struct bytes text;
    uint32_t random = 1;
    bytes_init(&text, 1 << 20);
    for (int i = 0; i < items; i++) {
        int32_t tokens[3];
        for (int t = 0; t < 3; t++) {
            random = random * 1664525u + 1013904223u;
            tokens[t] = 2 + (int32_t)(random >> 20) % (FIXTURE_VOCAB - 2);
        }
        bytes_appendf(&text, "{\"item_id\":\"i%d\",\"token_ids\":[%d,%d,%d]}\n", i, tokens[0], tokens[1],
                      tokens[2]);
    }
    struct catalog *catalog = open_ok(text.data);
    bytes_release(&text);
    return catalog;
}

static void ask(struct asked *asked, uint64_t id, struct constraint *view, float temperature)
{
    asked_init(asked, id, 24, 16, 1);
    asked->sampling.ignore_eos = false;
    asked->sampling.constraint = view;
    asked->sampling.temperature = temperature;
    asked->sampling.n = temperature > 0 ? FIXTURE_MAX_CHOICES : 1;
    asked->sampling.max_tokens = 8;
}

static void expect_item(struct constraint *view, const struct said *said)
{
    uint32_t at = CONSTRAINT_START;
    assert_int_equal(said->finish, ENGINE_FINISH_STOP);
    assert_int_equal(said->count, 4); /* the item and the end */
    for (uint32_t i = 0; i < 3; i++)
        at = view->ops->next(view, at, said->tokens[i]);
    assert_int_not_equal(at, CONSTRAINT_DEAD);
    assert_non_null(catalog_constraint_item(view, at, 0));
    assert_int_equal(said->tokens[3], FIXTURE_EOS);
}

static void the_engine_says_items_alone_or_not(void **state)
{
    enum { JOBS = 6 };
    static struct asked together[JOBS], alone[JOBS];
    (void)state;
    struct catalog *catalog = open_many(500);
    struct constraint *view = view_ok(catalog, NULL, 0);
    struct engine_options engine_options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&engine_options);
    for (uint64_t i = 0; i < JOBS; i++) {
        ask(&together[i], i, view, i % 2 ? 1.0f : 0.0f);
        asked_submit(&together[i], engine);
    }
    asked_run(together, engine);
    engine_close(engine);
    for (uint64_t i = 0; i < JOBS; i++) {
        engine = engine_fixture_open(&engine_options);
        ask(&alone[i], i, view, i % 2 ? 1.0f : 0.0f);
        asked_submit(&alone[i], engine);
        asked_run(alone, engine);
        engine_close(engine);
        asked_compare(&alone[i], &together[i], "alone");
        for (uint32_t c = 0; c < alone[i].sampling.n; c++)
            expect_item(view, &alone[i].said[c]);
    }
    constraint_give_back(view);
    catalog_give_back(catalog);
}

static void write_version(const char *directory, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s.jsonl", directory, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void versions_are_added_and_stay(void **state)
{
    static const char *const wrong[] = {"shop",      "@1",    "shop@", "../shop@1",
                                        "shop@1/..", "a@b@c", "",      ".shop@1"};
    char directory[] = "/tmp/millrace-catalogs-XXXXXX", path[256];
    struct catalog_store *store;
    struct catalog *first, *second, *again;
    struct error err = {0};
    (void)state;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(catalog_store_open(&store, directory, &options, &err), STATUS_OK);
    write_version(directory, "shop@1", "{\"item_id\":\"a\",\"token_ids\":[5]}\n");
    assert_int_equal(catalog_store_find(store, "shop@1", &first, &err), STATUS_OK);
    assert_int_equal(catalog_store_find(store, "shop@2", &second, &err), STATUS_NOT_FOUND);
    write_version(directory, "shop@2", small);
    assert_int_equal(catalog_store_find(store, "shop@2", &second, &err), STATUS_OK);
    assert_int_equal(catalog_items(second), 4);
    assert_string_not_equal(catalog_digest(first), catalog_digest(second));
    write_version(directory, "shop@1", small); /* what nobody may do changes nothing */
    assert_int_equal(catalog_store_find(store, "shop@1", &again, &err), STATUS_OK);
    assert_ptr_equal(first, again);
    assert_int_equal(catalog_items(again), 1);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(catalog_store_find(store, wrong[i], &again, &err), STATUS_NOT_FOUND);
    catalog_store_close(store);
    for (int version = 1; version <= 2; version++) {
        snprintf(path, sizeof path, "%s/shop@%d.jsonl", directory, version);
        assert_int_equal(remove(path), 0);
    }
    assert_int_equal(remove(directory), 0);
}

static int close_model(void **state)
{
    (void)state;
    engine_fixture_close_model();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(walks_are_items),
        cmocka_unit_test(excluding_takes_items_away),
        cmocka_unit_test(bad_files_name_the_line),
        cmocka_unit_test(the_engine_says_items_alone_or_not),
        cmocka_unit_test(versions_are_added_and_stay),
    };
    return cmocka_run_group_tests(tests, NULL, close_model);
}
