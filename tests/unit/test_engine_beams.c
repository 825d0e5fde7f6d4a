// SPDX-License-Identifier: Apache-2.0
// Beam searches in an engine with others: the same bytes alone and in company, cached or not, in a pool that
// is just large enough; what a search holds is free when it ends or is cancelled; fewer sequences than asked
// for.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/constrain/catalog.h"
#include "tests/support/engine_fixture.h"

enum { ASKED = 8, WIDTH = 5 };

static struct asked asked[ASKED], expected;

static void ask_search(struct asked *search, uint64_t id, uint32_t prompt_tokens, uint32_t width)
{
    asked_init(search, id, prompt_tokens, prompt_tokens, 7);
    search->sampling.use_beam_search = true;
    search->sampling.n = width;
    search->sampling.max_tokens = 40;
    search->sampling.ignore_eos = false;
}

static struct engine_stats stats_of(const struct engine *engine)
{
    struct engine_stats stats;
    engine_stats_read(engine, &stats);
    return stats;
}

static void assert_all_free(const struct engine *engine)
{
    assert_int_equal(stats_of(engine).blocks_used, 0);
    assert_int_equal(stats_of(engine).running, 0);
    assert_true(engine_idle(engine));
}

static void run_alone(uint32_t prompt_tokens)
{
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    ask_search(&asked[0], 0, prompt_tokens, WIDTH);
    asked_submit(&asked[0], engine);
    asked_run(asked, engine);
    expected = asked[0];
    for (uint32_t i = 0; i < WIDTH; i++)
        assert_true(expected.said[i].finished && expected.said[i].count > 0);
    assert_memory_not_equal(expected.said[0].tokens, expected.said[1].tokens, sizeof expected.said[0].tokens);
    assert_all_free(engine);
    engine_close(engine);
}

/* The search is asked[3]; the others sample. */
static void run_in_company(const struct engine_options *options, const char *what, uint32_t prompt_tokens)
{
    struct engine *engine = engine_fixture_open(options);
    for (uint64_t i = 0; i < ASKED; i++) {
        if (i == 3 || i == 6)
            ask_search(&asked[i], i, i == 3 ? prompt_tokens : 21, i == 3 ? WIDTH : 2);
        else
            asked_init(&asked[i], i, 30 + (uint32_t)i, 0, 0);
        if (i != 3 && i != 6)
            asked[i].sampling.max_tokens = 25;
        asked_submit(&asked[i], engine);
        for (uint64_t step = 0; step < i; step++)
            asked_step(asked, engine);
    }
    asked_run(asked, engine);
    asked_compare(&asked[3], &expected, what);
    assert_all_free(engine);
    ask_search(&asked[0], 0, prompt_tokens, WIDTH); /* its prompt is cached now */
    asked_submit(&asked[0], engine);
    asked_run(asked, engine);
    uint32_t full = prompt_tokens / 16 * 16; /* one token is left to compute */
    assert_int_equal(asked[0].said[0].cached_tokens, full == prompt_tokens ? full - 1 : full);
    for (uint32_t i = 0; i < WIDTH; i++)
        asked[0].said[i].cached_tokens = expected.said[i].cached_tokens;
    asked_compare(&asked[0], &expected, "from the cache");
    engine_close(engine);
}

static void company_changes_nothing(void **state)
{
    static const uint32_t prompts[] = {32, 37, 3};
    (void)state;
    for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++) {
        run_alone(prompts[i]);
        struct engine_options options = engine_fixture_options();
        run_in_company(&options, "in company", prompts[i]);
        options.max_chunk_tokens = 5;
        run_in_company(&options, "in chunks of 5", prompts[i]);
        options.force_preempt_every = 3;
        run_in_company(&options, "with neighbours preempted", prompts[i]);
        options.kv_blocks = (int32_t)(prompts[i] / 16 + WIDTH * 5); /* just what it may come to hold */
        run_in_company(&options, "in a small pool", prompts[i]);
    }
}

static void a_width_of_one_is_greedy(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    ask_search(&asked[0], 0, 20, 1);
    ask_search(&asked[1], 1, 20, 1);
    asked[0].sampling.ignore_eos = asked[1].sampling.ignore_eos = true;
    asked[1].sampling.use_beam_search = false;
    asked[1].sampling.temperature = 0;
    for (int i = 0; i < 2; i++)
        asked_submit(&asked[i], engine);
    asked_run(asked, engine);
    assert_int_equal(asked[0].said[0].count, 40);
    assert_memory_equal(asked[0].said[0].tokens, asked[1].said[0].tokens, 40 * sizeof(int32_t));
    assert_memory_equal(asked[0].said[0].logprobs, asked[1].said[0].logprobs, 40 * sizeof(float));
    engine_close(engine);
}

static void cancelling_frees_at_once(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    for (int steps = 0; steps < 12; steps++) { /* waiting, in the prompt, and among the beams */
        struct engine *engine = engine_fixture_open(&options);
        ask_search(&asked[0], 0, 60, WIDTH);
        asked_submit(&asked[0], engine);
        for (int i = 0; i < steps; i++)
            asked_step(asked, engine);
        engine_cancel(engine, 0);
        asked_step(asked, engine);
        for (uint32_t i = 0; i < WIDTH; i++)
            assert_true(asked[0].said[i].finished && asked[0].said[i].finish == ENGINE_FINISH_CANCELLED);
        assert_all_free(engine);
        engine_close(engine);
    }
}

static void closing_in_the_middle_leaks_nothing(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    for (uint64_t i = 0; i < 3; i++) {
        ask_search(&asked[i], i, 20, WIDTH);
        asked_submit(&asked[i], engine);
    }
    for (int i = 0; i < 5; i++)
        asked_step(asked, engine);
    engine_close(engine); /* the sanitizer looks */
}

static struct constraint *open_items(const char *lines)
{
    static const int32_t eos[] = {FIXTURE_EOS};
    const struct catalog_options options = {.vocab = FIXTURE_VOCAB, .eos = eos, .eos_count = 1};
    struct catalog *catalog;
    struct constraint *constraint;
    struct error err = {0};
    assert_int_equal(catalog_open_text(&catalog, lines, strlen(lines), &options, &err), STATUS_OK);
    assert_int_equal(catalog_constraint(&constraint, catalog, NULL, 0, &err), STATUS_OK);
    catalog_give_back(catalog);
    return constraint;
}

static uint32_t run_items(uint32_t max_tokens)
{
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    uint32_t found = 0;
    ask_search(&asked[0], 0, 20, WIDTH);
    asked[0].sampling.max_tokens = max_tokens;
    asked[0].sampling.whole_only = true;
    asked[0].sampling.constraint = open_items("{\"item_id\":\"a\",\"token_ids\":[5]}\n"
                                              "{\"item_id\":\"b\",\"token_ids\":[5,6,7]}\n"
                                              "{\"item_id\":\"c\",\"token_ids\":[9,10]}\n");
    asked_submit(&asked[0], engine);
    asked_run(asked, engine);
    for (uint32_t i = 0; i < WIDTH; i++) {
        const struct said *said = &asked[0].said[i];
        assert_true(said->finished);
        if (said->finish == ENGINE_FINISH_ABSENT)
            continue;
        assert_int_equal(found++, i); /* what is there comes first */
        assert_true(said->tokens[0] == 5 || said->tokens[0] == 9);
        assert_int_equal(said->finish,
                         said->count == max_tokens && said->tokens[said->count - 1] != FIXTURE_EOS
                             ? ENGINE_FINISH_LENGTH
                             : ENGINE_FINISH_STOP);
    }
    constraint_give_back(asked[0].sampling.constraint);
    assert_all_free(engine);
    engine_close(engine);
    return found;
}

static void fewer_sequences_than_asked_for(void **state)
{
    (void)state;
    assert_int_equal(run_items(40), 3);
    assert_int_equal(run_items(3), 3); /* b is cut behind its last token: whole, without an end */
    assert_int_equal(run_items(1), 1); /* only a is whole */
}

static void what_never_fits_is_refused(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    options.kv_blocks = 16;
    struct engine *engine = engine_fixture_open(&options);
    struct error err = {0};
    ask_search(&asked[0], 0, 32, 5);
    asked[0].sampling.max_tokens = 100;
    assert_int_equal(engine_submit(engine, &asked[0].request, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "37 KV blocks"));
    asked[0].sampling.n = 9;
    assert_int_equal(engine_submit(engine, &asked[0].request, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "engine.max_sequences"));
    asked[0].sampling.n = 2;
    asked[0].sampling.max_tokens = 0;
    assert_int_equal(engine_submit(engine, &asked[0].request, &err), STATUS_INVALID);
    assert_true(engine_idle(engine));
    engine_close(engine);
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
        cmocka_unit_test(company_changes_nothing),
        cmocka_unit_test(a_width_of_one_is_greedy),
        cmocka_unit_test(cancelling_frees_at_once),
        cmocka_unit_test(closing_in_the_middle_leaks_nothing),
        cmocka_unit_test(fewer_sequences_than_asked_for),
        cmocka_unit_test(what_never_fits_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, close_model);
}
