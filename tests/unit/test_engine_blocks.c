// SPDX-License-Identifier: Apache-2.0
// What the KV tier lives on: events that stay readable until the next step, chains carried into an engine
// that has little room, and many requests with one long prefix.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/engine_fixture.h"

enum { ASKED = 16, MAX_KEYS = 16 };

static struct asked asked[ASKED];

static int close_model(void **state)
{
    (void)state;
    engine_fixture_close_model();
    return 0;
}

static struct engine *open_engine(int32_t blocks)
{
    struct engine_options options = engine_fixture_options();
    options.kv_blocks = blocks;
    options.max_chunk_tokens = 64;
    return engine_fixture_open(&options);
}

/* Prefill, last token and STORED in one step: the tokens that the events point to are there still. */
static void stored_tokens_outlive_a_request_that_ends_with_the_step(void **state)
{
    (void)state;
    struct engine *engine = open_engine(64);
    const struct engine_event *events;
    size_t count, stored = 0;
    asked_init(&asked[0], 0, 50, 0, 0);
    asked[0].sampling.max_tokens = 1;
    asked_submit(&asked[0], engine);
    assert_int_equal(engine_step(engine, &events, &count, NULL), STATUS_OK);
    assert_true(engine_idle(engine));
    for (size_t i = 0; i < count; i++) {
        const struct engine_event *event = &events[i];
        if (event->type != ENGINE_EVENT_BLOCK_STORED)
            continue;
        assert_memory_equal(event->block_tokens, asked[0].prompt + event->position,
                            FIXTURE_BLOCK_TOKENS * sizeof(int32_t));
        struct block_key key = block_key_next(&event->parent, event->block_tokens, FIXTURE_BLOCK_TOKENS);
        assert_true(block_key_equal(&key, &event->key));
        stored++;
    }
    assert_int_equal(stored, 3);
    engine_close(engine);
}

/* Writes the chain of asked[0] as far as there is room, tail first. */
static size_t carry(struct engine *from, struct engine *to)
{
    struct block_key keys[MAX_KEYS];
    size_t count = engine_block_keys(from, &asked[0].request, keys, MAX_KEYS);
    size_t written = count < engine_blocks_spare(to) ? count : engine_blocks_spare(to);
    void *payload = malloc(engine_block_bytes(from));
    for (size_t i = written; i-- > 0;) {
        assert_int_equal(engine_block_read(from, &keys[i], payload), STATUS_OK);
        assert_int_equal(engine_block_write(to, &keys[i], NULL, payload), STATUS_OK);
    }
    free(payload);
    return written;
}

/* A full pool takes what fits, keeps the beginning of the chain, and gives up its end first. */
static void a_carried_chain_keeps_its_beginning(void **state)
{
    (void)state;
    struct engine *from = open_engine(64), *to = open_engine(8);
    asked_init(&asked[0], 0, 200, 0, 0);
    asked[0].sampling.max_tokens = 1;
    asked_submit(&asked[0], from);
    asked_run(asked, from);
    assert_int_equal(carry(from, to), 8);
    asked_init(&asked[1], 1, 20, 0, 0); /* two blocks: the two last of the chain go */
    asked[1].sampling.max_tokens = 1;
    asked_submit(&asked[1], to);
    asked_run(asked, to);
    struct asked longer = asked[0];
    asked[0].request.prompt_tokens = 120; /* of the same tokens: seven full blocks */
    asked_submit(&asked[0], to);
    asked_run(asked, to);
    assert_int_equal(asked[0].said[0].cached_tokens, 6 * FIXTURE_BLOCK_TOKENS);
    asked[0] = longer;
    engine_close(to);
    engine_close(from);
}

/* A block that is there already counts as used again: it is not the next to go. */
static void writing_a_known_block_keeps_it(void **state)
{
    (void)state;
    struct engine *engine = open_engine(3);
    void *payload = calloc(1, engine_block_bytes(engine));
    struct block_key keys[4] = {{{1}}, {{2}}, {{3}}, {{4}}};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(engine_block_write(engine, &keys[i], NULL, payload), STATUS_OK);
    assert_int_equal(engine_block_write(engine, &keys[0], NULL, payload), STATUS_OK);
    assert_int_equal(engine_block_write(engine, &keys[3], NULL, payload), STATUS_OK);
    assert_true(engine_block_has(engine, &keys[0]) && !engine_block_has(engine, &keys[1]));
    engine_check_invariants(engine);
    free(payload);
    engine_close(engine);
}

static void sixteen_with_one_long_prefix_compute_it_once(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    struct engine_stats stats;
    options.max_sequences = 16;
    struct engine *engine = engine_fixture_open(&options);
    for (uint64_t id = 0; id < 16; id++) {
        asked_init(&asked[id], id, 168, 160, 0);
        asked[id].sampling.max_tokens = 4;
        asked_submit(&asked[id], engine);
    }
    asked_run(asked, engine);
    engine_stats_read(engine, &stats);
    assert_int_equal(stats.prompt_tokens, 160 + 16 * 8);
    assert_int_equal(stats.cached_tokens, 15 * 160);
    for (uint64_t id = 0; id < 16; id++)
        assert_int_equal(asked[id].said[0].count, 4);
    engine_close(engine);
}

/* Ids that the sampler would use as indices. */
static void sampling_lists_outside_the_vocabulary_are_invalid(void **state)
{
    (void)state;
    static const int32_t outside[] = {5, FIXTURE_VOCAB}, negative[] = {-1};
    static const struct token_bias bias = {FIXTURE_VOCAB, 1.0f};
    struct engine *engine = open_engine(64);
    struct error err;
    asked_init(&asked[0], 0, 5, 0, 0);
    struct sampling_params good = asked[0].sampling, *s = &asked[0].sampling;
    s->allowed_tokens = outside;
    s->allowed_count = 2;
    assert_int_equal(engine_submit(engine, &asked[0].request, &err), STATUS_INVALID);
    *s = good;
    s->logprob_tokens = negative;
    s->logprob_token_count = 1;
    assert_int_equal(engine_submit(engine, &asked[0].request, &err), STATUS_INVALID);
    *s = good;
    s->logit_bias = &bias;
    s->logit_bias_count = 1;
    assert_int_equal(engine_submit(engine, &asked[0].request, &err), STATUS_INVALID);
    assert_true(strstr(err.text, "vocabulary") != NULL);
    assert_true(engine_idle(engine));
    engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_tokens_outlive_a_request_that_ends_with_the_step),
        cmocka_unit_test(a_carried_chain_keeps_its_beginning),
        cmocka_unit_test(writing_a_known_block_keeps_it),
        cmocka_unit_test(sixteen_with_one_long_prefix_compute_it_once),
        cmocka_unit_test(sampling_lists_outside_the_vocabulary_are_invalid),
    };
    return cmocka_run_group_tests(tests, NULL, close_model);
}
