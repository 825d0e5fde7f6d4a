// SPDX-License-Identifier: Apache-2.0
// Prefix cache and blocks for the KV tier: what is computed, what is counted as cached, who may share, what
// is evicted first, and that a block carried to another engine is as good as a computed one.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/engine_fixture.h"

enum { ASKED = 8, MAX_KEYS = 16 };

static struct asked asked[ASKED];

static struct engine_stats stats_of(const struct engine *engine)
{
    struct engine_stats stats;
    engine_stats_read(engine, &stats);
    return stats;
}

/* Request `id` with the family's prompt of so many tokens, three tokens to generate; run to its end. */
static uint32_t run_one(struct engine *engine, uint64_t id, uint32_t tokens, uint32_t shared)
{
    asked_init(&asked[id], id, tokens, shared, 0);
    asked[id].sampling.max_tokens = 3;
    asked_submit(&asked[id], engine);
    asked_run(asked, engine);
    return asked[id].said[0].cached_tokens;
}

static void cached_tokens_are_exact(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    assert_int_equal(run_one(engine, 0, 50, 50), 0);
    assert_int_equal(run_one(engine, 1, 50, 50), 48);
    assert_int_equal(run_one(engine, 2, 49, 49), 48);
    assert_int_equal(run_one(engine, 3, 48, 48), 47); /* one token is left to compute: the block is copied */
    assert_int_equal(run_one(engine, 4, 60, 31), 16);
    assert_int_equal(run_one(engine, 5, 60, 15), 0);
    struct engine_stats stats = stats_of(engine);
    assert_int_equal(stats.prompt_tokens, 50 + 2 + 1 + 1 + 44 + 60);
    assert_int_equal(stats.cached_tokens, 48 + 48 + 47 + 16);
    assert_int_equal(stats.prefix_hits_tokens, stats.cached_tokens);
    assert_int_equal(stats.prefix_queries_tokens, 50 + 50 + 49 + 48 + 60 + 60);
    engine_close(engine);
}

static void salts_do_not_share(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    static const char *const salts[] = {"a", "b", NULL, "a"};
    static const uint32_t cached[] = {0, 0, 0, 48};
    struct block_key keys[MAX_KEYS];
    for (uint64_t i = 0; i < 4; i++) {
        asked_init(&asked[i], i, 50, 50, 0);
        asked[i].request.salt = salts[i];
        asked[i].request.salt_bytes = salts[i] ? 1 : 0;
        assert_int_equal(engine_block_keys(engine, &asked[i].request, keys, MAX_KEYS), 3);
        assert_int_equal(engine_block_has(engine, &keys[2]), cached[i] > 0);
        asked_submit(&asked[i], engine);
        asked_run(asked, engine);
        assert_int_equal(asked[i].said[0].cached_tokens, cached[i]);
        assert_true(engine_block_has(engine, &keys[2]));
    }
    engine_close(engine);
}

static void prompt_logprobs_come_in_spite_of_the_cache(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    run_one(engine, 0, 50, 50);
    asked_init(&asked[1], 1, 50, 50, 0);
    asked[1].sampling.prompt_logprobs = 2;
    asked[1].sampling.max_tokens = 0;
    asked_submit(&asked[1], engine);
    asked_run(asked, engine);
    assert_int_equal(asked[1].said[0].cached_tokens, 0);
    assert_int_equal(asked[1].said[0].prompt_count, 49);
    assert_int_equal(asked[1].said[0].count, 0);
    assert_int_equal(asked[1].said[0].finish, ENGINE_FINISH_LENGTH);
    engine_close(engine);
}

static void a_prefix_that_arrives_together_is_computed_once(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    for (uint64_t i = 0; i < 4; i++) {
        asked_init(&asked[i], i, 70, 64, 0);
        asked_submit(&asked[i], engine);
    }
    asked_run(asked, engine);
    assert_int_equal(stats_of(engine).prompt_tokens, 64 + 4 * 6);
    engine_close(engine);
}

enum { SHARERS = 16, SHARED_TOKENS = 1024 };

static struct model *open_bundled(void)
{
    const struct model_options options = {.model_dir = MILLRACE_SOURCE_DIR "/examples/models/shop-qwen3",
                                          .kernels = "auto",
                                          .weight_format = "auto",
                                          .kv_format = "auto",
                                          .threads = 2,
                                          .max_batch_tokens = 512,
                                          .max_logit_rows = engine_max_logit_rows(SHARERS)};
    struct model *model;
    struct error err;
    if (model_open(&model, &options, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return model;
}

/* Request i: the shared prefix and i + 1 tokens of its own. Returns the tokens of its own of all requests. */
static uint64_t submit_sharers(struct engine *engine, struct engine_request *requests,
                               const struct sampling_params *sampling)
{
    static int32_t prompts[SHARERS][SHARED_TOKENS + SHARERS];
    uint64_t own = 0;
    for (int32_t i = 0; i < SHARERS; i++) {
        for (int32_t at = 0; at < SHARED_TOKENS + SHARERS; at++)
            prompts[i][at] = 10 + at % 3000 + (at < SHARED_TOKENS ? 0 : 17 * i);
        requests[i] = (struct engine_request){.id = (uint64_t)i,
                                              .prompt = prompts[i],
                                              .prompt_tokens = (size_t)(SHARED_TOKENS + i + 1),
                                              .sampling = sampling};
        struct error err;
        assert_int_equal(engine_submit(engine, &requests[i], &err), STATUS_OK);
        own += (uint64_t)i + 1;
    }
    return own;
}

/* Sixteen requests with one prefix of 1,024 tokens, at once: it is computed once, and usage says so. */
static void sixteen_requests_compute_their_prefix_once(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    options.model = open_bundled();
    options.kv_blocks = 1200;
    options.max_sequences = SHARERS;
    options.max_batch_tokens = 512;
    options.max_chunk_tokens = 256;
    struct engine *engine = engine_fixture_open(&options);
    struct sampling_params sampling = sampling_defaults();
    sampling.max_tokens = 4;
    sampling.ignore_eos = true;
    struct engine_request requests[SHARERS];
    uint64_t own = submit_sharers(engine, requests, &sampling), cached = 0, finished = 0;
    while (!engine_idle(engine)) {
        const struct engine_event *events;
        size_t count;
        assert_int_equal(engine_step(engine, &events, &count, NULL), STATUS_OK);
        for (size_t i = 0; i < count; i++)
            if (events[i].type == ENGINE_EVENT_FINISHED) {
                cached += events[i].cached_tokens;
                finished++;
            }
    }
    assert_int_equal(finished, SHARERS);
    assert_int_equal(stats_of(engine).prompt_tokens, SHARED_TOKENS + own);
    assert_int_equal(cached, (SHARERS - 1) * SHARED_TOKENS);
    engine_close(engine);
    model_close(options.model);
}

static void choices_share_the_prompt(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    asked_init(&asked[0], 0, 70, 0, 0);
    asked[0].sampling.n = 4;
    asked_submit(&asked[0], engine);
    asked_run(asked, engine);
    assert_int_equal(stats_of(engine).prompt_tokens, 64 + 4 * 6);
    for (int choice = 0; choice < 4; choice++)
        assert_int_equal(asked[0].said[choice].count, 16);
    const struct said *said = asked[0].said;
    assert_memory_not_equal(said[0].tokens, said[1].tokens, 16 * sizeof(int32_t));
    engine_close(engine);
}

/* Runs a request of 70 tokens and writes its prompt's blocks into the other engine. */
static size_t carry_blocks(struct engine *from, struct engine *to, struct block_key keys[MAX_KEYS])
{
    size_t count = engine_block_keys(from, &asked[0].request, keys, MAX_KEYS);
    void *payload = malloc(engine_block_bytes(from));
    for (size_t i = 0; i < count; i++) {
        assert_true(engine_block_has(from, &keys[i]) && !engine_block_has(to, &keys[i]));
        assert_int_equal(engine_block_read(from, &keys[i], payload), STATUS_OK);
        assert_int_equal(engine_block_write(to, &keys[i], i ? &keys[i - 1] : NULL, payload), STATUS_OK);
        assert_true(engine_block_has(to, &keys[i]));
    }
    free(payload);
    return count;
}

static void a_carried_block_is_as_good_as_a_computed_one(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    struct engine *from = engine_fixture_open(&options), *to = engine_fixture_open(&options);
    struct block_key keys[MAX_KEYS];
    run_one(from, 0, 70, 0);
    struct asked computed = asked[0];
    assert_int_equal(carry_blocks(from, to, keys), 4);
    assert_int_equal(run_one(to, 0, 70, 0), 64);
    asked_compare(&asked[0], &computed, "carried blocks");
    keys[0].bytes[0] ^= 1;
    assert_int_equal(engine_block_read(to, &keys[0], NULL), STATUS_NOT_FOUND);
    engine_close(from);
    engine_close(to);
}

static void a_block_does_not_take_what_is_promised(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    options.kv_blocks = 4;
    struct engine *engine = engine_fixture_open(&options);
    void *payload = calloc(1, engine_block_bytes(engine));
    struct block_key key = {{1}};
    asked_init(&asked[0], 0, 10, 0, 0);
    asked[0].sampling.max_tokens = 50; /* 4 blocks in the end, one at first */
    asked_submit(&asked[0], engine);
    asked_step(asked, engine);
    assert_int_equal(engine_block_write(engine, &key, NULL, payload), STATUS_FULL);
    asked_run(asked, engine);
    assert_int_equal(asked[0].said[0].count, 50);
    assert_int_equal(engine_block_write(engine, &key, NULL, payload), STATUS_OK);
    free(payload);
    engine_close(engine);
}

/* One request's STORED events against engine_block_keys: keys, parents, tokens, positions. */
static void stored_blocks_are_reported(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    struct block_key keys[MAX_KEYS];
    asked_init(&asked[0], 0, 40, 0, 0);
    asked[0].sampling.max_tokens = 20; /* 60 tokens in all, the last one is not computed: 3 full blocks */
    assert_int_equal(engine_block_keys(engine, &asked[0].request, keys, MAX_KEYS), 2);
    asked_submit(&asked[0], engine);
    uint32_t stored = 0;
    while (!engine_idle(engine)) {
        const struct engine_event *events;
        size_t count;
        assert_int_equal(engine_step(engine, &events, &count, NULL), STATUS_OK);
        for (size_t i = 0; i < count; i++) {
            if (events[i].type != ENGINE_EVENT_BLOCK_STORED)
                continue;
            assert_int_equal(events[i].position, stored * FIXTURE_BLOCK_TOKENS);
            assert_int_equal(events[i].of_prompt, stored < 2);
            if (stored < 2) {
                assert_memory_equal(&events[i].key, &keys[stored], sizeof keys[0]);
                assert_memory_equal(events[i].block_tokens, asked[0].prompt + stored * FIXTURE_BLOCK_TOKENS,
                                    FIXTURE_BLOCK_TOKENS * sizeof(int32_t));
            }
            if (stored > 0 && stored <= 2)
                assert_memory_equal(&events[i].parent, &keys[stored - 1], sizeof keys[0]);
            stored++;
        }
    }
    assert_int_equal(stored, 3);
    engine_close(engine);
}

static void the_leaf_is_evicted_before_its_parent(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    options.kv_blocks = 6;
    struct engine *engine = engine_fixture_open(&options);
    struct block_key keys[MAX_KEYS];
    run_one(engine, 0, 65, 0);
    assert_int_equal(engine_block_keys(engine, &asked[0].request, keys, MAX_KEYS), 4);
    run_one(engine, 1, 40, 0); /* three blocks: two were free, one is taken */
    assert_false(engine_block_has(engine, &keys[3]));
    for (int i = 0; i < 3; i++)
        assert_true(engine_block_has(engine, &keys[i]));
    assert_int_equal(run_one(engine, 0, 65, 0), 48);
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
        cmocka_unit_test(cached_tokens_are_exact),
        cmocka_unit_test(salts_do_not_share),
        cmocka_unit_test(prompt_logprobs_come_in_spite_of_the_cache),
        cmocka_unit_test(a_prefix_that_arrives_together_is_computed_once),
        cmocka_unit_test(sixteen_requests_compute_their_prefix_once),
        cmocka_unit_test(choices_share_the_prompt),
        cmocka_unit_test(a_carried_block_is_as_good_as_a_computed_one),
        cmocka_unit_test(a_block_does_not_take_what_is_promised),
        cmocka_unit_test(stored_blocks_are_reported),
        cmocka_unit_test(the_leaf_is_evicted_before_its_parent),
    };
    return cmocka_run_group_tests(tests, NULL, close_model);
}
