// SPDX-License-Identifier: Apache-2.0
// Memory of the engine: whichever allocation of engine_open or engine_submit fails, the answer is NO_MEMORY,
// nothing leaks (ASan build) and the engine goes on; a step allocates nothing at all.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/text/tokenizer.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/failing_alloc.h"

enum { ASKED = 12 };

static struct asked asked[ASKED];

static void every_allocation_of_open_may_fail(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    int nth = 1;
    for (;; nth++) {
        struct engine *engine = NULL;
        struct error err = {0};
        failing_alloc_arm(nth);
        enum status status = engine_open(&engine, &options, &err);
        if (!failing_alloc_disarm()) {
            assert_int_equal(status, STATUS_OK);
            engine_close(engine);
            break;
        }
        assert_int_equal(status, STATUS_NO_MEMORY);
        assert_null(engine);
        assert_true(err.text[0] != '\0');
    }
    assert_true(nth > 15);
}

static struct tokenizer *open_tokenizer(void)
{
    struct tokenizer *tokenizer;
    struct error err;
    if (tokenizer_open(&tokenizer, MILLRACE_SOURCE_DIR "/examples/models/shop-qwen3", &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return tokenizer;
}

static void every_allocation_of_submit_may_fail(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = open_tokenizer();
    struct error err;
    struct engine_options options = engine_fixture_options();
    options.tokenizer = tokenizer;
    struct engine *engine = engine_fixture_open(&options);
    asked_init(&asked[1], 1, 30, 0, 0);
    asked_submit(&asked[1], engine); /* a neighbour that must not notice */
    asked_init(&asked[0], 0, 30, 0, 0);
    asked[0].sampling.n = 3;
    asked[0].sampling.stops = (const char *const[]){"never"};
    asked[0].sampling.stop_count = 1;
    int nth = 1;
    for (;; nth++) {
        failing_alloc_arm(nth);
        enum status status = engine_submit(engine, &asked[0].request, &err);
        if (!failing_alloc_disarm()) {
            assert_int_equal(status, STATUS_OK);
            break;
        }
        assert_int_equal(status, STATUS_NO_MEMORY);
        struct engine_stats stats;
        engine_stats_read(engine, &stats);
        assert_int_equal(stats.waiting, 1); /* no choice is left behind */
        engine_check_invariants(engine);
    }
    assert_true(nth > 12);
    asked_run(asked, engine);
    for (int choice = 0; choice < 3; choice++)
        assert_int_equal(asked[0].said[choice].finish, ENGINE_FINISH_LENGTH);
    assert_int_equal(asked[1].said[0].count, 16);
    engine_close(engine);
    tokenizer_close(tokenizer);
}

static void make_search(struct asked *search)
{
    search->sampling.use_beam_search = true;
    search->sampling.n = 3;
    search->sampling.logprobs = 0;
    search->sampling.prompt_logprobs = SAMPLING_NO_LOGPROBS;
    search->sampling.stop_count = 0;
}

/* Chunks, decoding, preemption, eviction, cuts, penalties, stop strings, log-probabilities, beams: the first
 * allocation of a step would be made to fail, and there is none. A grammar is the exception
 * (engine/constrain/): its automaton and its masks are made when a state is first reached. */
static void check_steps(struct model *model)
{
    static const char *const stops[] = {"never"};
    struct tokenizer *tokenizer = open_tokenizer();
    struct engine_options options = engine_fixture_options();
    options.model = model;
    options.tokenizer = tokenizer;
    options.kv_blocks = 20;
    options.step_target_ns = 1000000;
    options.speculative_tokens = 4;
    options.force_preempt_every = 5;
    struct engine *engine = engine_fixture_open(&options);
    for (uint64_t i = 0; i < ASKED; i++) {
        asked_init(&asked[i], i, 20 + 5 * (uint32_t)i, i % 2 ? 32 : 0, 0);
        asked[i].sampling.prompt_logprobs = i % 3 ? SAMPLING_NO_LOGPROBS : 5;
        asked[i].sampling.logprobs = 20;
        asked[i].sampling.top_p = 0.9f;
        asked[i].sampling.top_k = i % 2 ? 50 : 0;
        asked[i].sampling.repetition_penalty = i % 4 ? 1.1f : 1.0f;
        asked[i].sampling.temperature = i % 4 ? 1.0f : 0.0f;
        asked[i].sampling.max_tokens = i % 4 ? 16 : 60;
        asked[i].sampling.stops = stops;
        asked[i].sampling.stop_count = i % 4 == 1;
        if (i == 4)
            make_search(&asked[i]);
        asked_submit(&asked[i], engine);
    }
    int steps = 0;
    for (; !engine_idle(engine); steps++) {
        const struct engine_event *events;
        size_t count;
        if (steps == 30)
            engine_cancel(engine, 7);
        failing_alloc_arm(1);
        enum status status = engine_step(engine, &events, &count, NULL);
        if (failing_alloc_disarm())
            fail_msg("step %d allocates", steps);
        assert_int_equal(status, STATUS_OK);
        if (steps > 40) /* guesses are tried at any price until there is one */
            engine_note_step(engine, 100000 * (steps % 30));
    }
    struct engine_stats stats;
    engine_stats_read(engine, &stats);
    assert_true(steps > 50 && stats.drafted_tokens > 10);
    engine_close(engine);
    tokenizer_close(tokenizer);
}

static void a_step_allocates_nothing(void **state)
{
    (void)state;
    check_steps(engine_fixture_model());
}

static void nor_does_a_step_with_experts(void **state)
{
    (void)state;
    const struct model_options options = {.model_dir = MILLRACE_SOURCE_DIR "/tests/golden/models/qwen3-moe",
                                          .kernels = "auto",
                                          .weight_format = "auto",
                                          .kv_format = "auto",
                                          .threads = 2,
                                          .max_batch_tokens = FIXTURE_ROWS,
                                          .max_logit_rows = engine_max_logit_rows(64)};
    struct model *model;
    struct error err;
    if (model_open(&model, &options, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    check_steps(model);
    model_close(model);
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
        cmocka_unit_test(every_allocation_of_open_may_fail),
        cmocka_unit_test(every_allocation_of_submit_may_fail),
        cmocka_unit_test(a_step_allocates_nothing),
        cmocka_unit_test(nor_does_a_step_with_experts),
    };
    return cmocka_run_group_tests(tests, NULL, close_model);
}
