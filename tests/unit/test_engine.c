// SPDX-License-Identifier: Apache-2.0
// The engine's promise in bytes: a request says the same, tokens and log-probabilities, alone and in any
// company: batch sizes, chunk sizes, forced preemption, prefix cache on and off, small pools, cancelled
// neighbours. The invariants are checked after each step.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "engine/philox.h"
#include "tests/support/engine_fixture.h"

enum { REQUESTS = 64 };

static struct asked alone[REQUESTS], company[REQUESTS];

/* Prompts of 1 to 100 tokens; every third shares a beginning with its family; some have several choices,
 * prompt log-probabilities, penalties, cuts. */
static void init_request(struct asked *asked, uint64_t id)
{
    uint32_t tokens = 1 + (uint32_t)(philox_uniform(99, 0, (uint32_t)id) * 100);
    asked_init(asked, id, tokens, id % 3 == 0 ? 40 : 0, id % 2);
    struct sampling_params *s = &asked->sampling;
    s->max_tokens = 1 + (uint32_t)(philox_uniform(99, 1, (uint32_t)id) * 30);
    s->n = id % 5 == 0 ? 3 : 1;
    s->prompt_logprobs = id % 7 == 0 ? 0 : SAMPLING_NO_LOGPROBS;
    s->top_k = id % 4 == 1 ? 20 : 0;
    s->top_p = id % 4 == 2 ? 0.8f : 1.0f;
    s->frequency_penalty = id % 6 == 3 ? 0.5f : 0.0f;
    s->repetition_penalty = id % 6 == 4 ? 1.3f : 1.0f;
    s->ignore_eos = id % 2 == 0;
}

static int compute_alone(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    options.prefix_cache = false;
    options.max_chunk_tokens = 7;
    struct engine *engine = engine_fixture_open(&options);
    for (uint64_t id = 0; id < REQUESTS; id++) {
        init_request(&alone[id], id);
        asked_submit(&alone[id], engine);
        asked_run(alone, engine);
        company[id] = alone[id];
    }
    engine_close(engine);
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    engine_fixture_close_model();
    return 0;
}

static void compare_together(const struct engine_options *options, const char *what)
{
    struct engine *engine = engine_fixture_open(options);
    for (uint64_t id = 0; id < REQUESTS; id++)
        asked_submit(&company[id], engine);
    asked_run(company, engine);
    for (uint64_t id = 0; id < REQUESTS; id++)
        asked_compare(&company[id], &alone[id], what);
    struct engine_stats stats;
    engine_stats_read(engine, &stats);
    assert_int_equal(stats.blocks_used, 0);
    assert_true(options->force_preempt_every == 0 || stats.preemptions > 10);
    assert_int_equal(stats.window_rows > 0, options->contiguous_kv);
    engine_close(engine);
}

static void the_batch_does_not_show(void **state)
{
    (void)state;
    static const int32_t sizes[] = {2, 7, 64};
    for (size_t i = 0; i < 3; i++) {
        struct engine_options options = engine_fixture_options();
        options.max_sequences = sizes[i];
        compare_together(&options, "batch size");
        options.prefix_cache = false;
        compare_together(&options, "batch size without prefix cache");
    }
}

static void the_chunks_do_not_show(void **state)
{
    (void)state;
    static const int32_t chunks[] = {1, 16, 333};
    for (size_t i = 0; i < 3; i++) {
        struct engine_options options = engine_fixture_options();
        options.max_chunk_tokens = chunks[i];
        options.max_batch_tokens = chunks[i] > 16 ? FIXTURE_ROWS : 8;
        compare_together(&options, "chunk size");
    }
}

/* Chunks sized by time follow whatever the clock says. */
static void the_clock_does_not_show(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    options.max_chunk_tokens = 64;
    options.step_target_ns = 8000000;
    compare_together(&options, "step target");
    options.force_preempt_every = 4;
    compare_together(&options, "step target with preemption");
}

static void preemption_does_not_show(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    options.force_preempt_every = 3;
    compare_together(&options, "preemption");
    options.prefix_cache = false;
    compare_together(&options, "preemption without prefix cache");
}

static void a_small_pool_does_not_show(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    options.kv_blocks = 9; /* the longest request needs all of them */
    compare_together(&options, "small pool");
    options.force_preempt_every = 2;
    compare_together(&options, "small pool with preemption");
}

/* Windows are mapped by a thread that may be late: then a step goes through the block table. */
static void contiguous_kv_does_not_show(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    options.contiguous_kv = true;
    options.max_mappings = 1000;
    compare_together(&options, "contiguous KV");
    options.force_preempt_every = 3;
    compare_together(&options, "contiguous KV with preemption");
    options.kv_blocks = 40;
    options.max_mappings = 20; /* not enough for all */
    compare_together(&options, "contiguous KV with few mappings");
}

/* Some choices may have ended before it. */
static bool was_cancelled(const struct asked *asked)
{
    for (uint32_t choice = 0; choice < asked->sampling.n; choice++)
        if (asked->said[choice].finish == ENGINE_FINISH_CANCELLED)
            return true;
    return false;
}

/* Requests come and go at random moments; what is not cancelled says what it says alone. */
static void run_random_day(uint64_t seed)
{
    struct engine_options options = engine_fixture_options();
    options.kv_blocks = 12 + (int32_t)(philox_uniform(seed, 0, 0) * 60);
    options.max_sequences = 1 + (int32_t)(philox_uniform(seed, 0, 1) * 12);
    options.max_chunk_tokens = 1 + (int32_t)(philox_uniform(seed, 0, 2) * 40);
    options.force_preempt_every = (int32_t)(philox_uniform(seed, 0, 3) * 6);
    options.step_target_ns = seed % 2 ? 5000000 : 0;
    options.speculative_tokens = (int32_t)(seed % 3) * 4;
    options.contiguous_kv = seed % 4 > 1;
    options.max_mappings = 16 + (int32_t)(philox_uniform(seed, 0, 4) * 200);
    struct engine *engine = engine_fixture_open(&options);
    uint64_t next = 0;
    for (uint32_t turn = 0; next < REQUESTS || !engine_idle(engine); turn++) {
        if (next < REQUESTS && philox_uniform(seed, 1, turn) < 0.4) {
            company[next].request.priority = (int64_t)(philox_uniform(seed, 2, turn) * 5) - 2;
            company[next].request.deadline = (int64_t)(philox_uniform(seed, 5, turn) * 9);
            asked_submit(&company[next++], engine);
        }
        if (next > 0 && philox_uniform(seed, 3, turn) < 0.05)
            engine_cancel(engine, (uint64_t)(philox_uniform(seed, 4, turn) * (double)next));
        asked_step(company, engine);
        assert_true(turn < 20000);
    }
    for (uint64_t id = 0; id < REQUESTS; id++)
        if (!was_cancelled(&company[id]))
            asked_compare(&company[id], &alone[id], "random day");
    engine_close(engine);
}

static void random_days_do_not_show(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++)
        run_random_day(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_batch_does_not_show),     cmocka_unit_test(the_chunks_do_not_show),
        cmocka_unit_test(preemption_does_not_show),    cmocka_unit_test(a_small_pool_does_not_show),
        cmocka_unit_test(contiguous_kv_does_not_show), cmocka_unit_test(the_clock_does_not_show),
        cmocka_unit_test(random_days_do_not_show),
    };
    return cmocka_run_group_tests(tests, compute_alone, close_model);
}
