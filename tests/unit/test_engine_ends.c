// SPDX-License-Identifier: Apache-2.0
// How requests end and what is refused: eos, stop tokens, stop strings, lengths, cancellation in every state,
// bounded queue, requests that can never fit.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "engine/text/tokenizer.h"
#include "tests/support/engine_fixture.h"

enum { ASKED = 40 };

static struct asked asked[ASKED];
static struct engine *engine;

static int open_engine(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    options.max_sequences = 2;
    options.max_waiting = 4;
    options.kv_blocks = 12;
    engine = engine_fixture_open(&options);
    return 0;
}

static int close_engine(void **state)
{
    (void)state;
    engine_close(engine);
    return 0;
}

static const struct said *run(struct asked *one)
{
    asked_submit(one, engine);
    asked_run(asked, engine);
    return &one->said[0];
}

static void max_tokens_and_the_context_end_with_length(void **state)
{
    (void)state;
    asked_init(&asked[0], 0, 20, 0, 0);
    asked[0].sampling.max_tokens = 7;
    const struct said *said = run(&asked[0]);
    assert_int_equal(said->finish, ENGINE_FINISH_LENGTH);
    assert_int_equal(said->count, 7);
    struct engine_options options = engine_fixture_options();
    options.max_context_tokens = 50;
    struct engine *narrow = engine_fixture_open(&options);
    asked_init(&asked[0], 0, 45, 0, 0);
    asked[0].sampling.max_tokens = 1000;
    asked_submit(&asked[0], narrow);
    asked_run(asked, narrow);
    assert_int_equal(said->count, 5);
    assert_int_equal(said->finish, ENGINE_FINISH_LENGTH);
    engine_close(narrow);
}

/* Bias makes eos certain. */
static void eos_ends_unless_ignored_or_too_early(void **state)
{
    (void)state;
    static const struct token_bias bias = {FIXTURE_EOS, 100};
    asked_init(&asked[0], 0, 20, 0, 0);
    struct sampling_params *s = &asked[0].sampling;
    s->logit_bias = &bias;
    s->logit_bias_count = 1;
    s->ignore_eos = false;
    const struct said *said = run(&asked[0]);
    assert_int_equal(said->count, 1);
    assert_int_equal(said->finish, ENGINE_FINISH_STOP);
    assert_int_equal(said->stop_token, FIXTURE_EOS);
    s->min_tokens = 5;
    run(&asked[0]);
    assert_int_equal(said->count, 6);
    for (int i = 0; i < 5; i++)
        assert_int_not_equal(said->tokens[i], FIXTURE_EOS);
    s->min_tokens = 0;
    s->ignore_eos = true;
    run(&asked[0]);
    assert_int_equal(said->count, 16);
    assert_int_equal(said->finish, ENGINE_FINISH_LENGTH);
    assert_int_equal(said->stop_token, -1);
}

static void stop_tokens_end(void **state)
{
    (void)state;
    asked_init(&asked[0], 0, 20, 0, 0);
    struct said free_run = *run(&asked[0]);
    asked[0].sampling.stop_tokens = &free_run.tokens[6];
    asked[0].sampling.stop_token_count = 1;
    uint32_t first = 0;
    while (free_run.tokens[first] != free_run.tokens[6])
        first++;
    const struct said *said = run(&asked[0]);
    assert_int_equal(said->count, first + 1);
    assert_int_equal(said->finish, ENGINE_FINISH_STOP);
    assert_int_equal(said->stop_token, free_run.tokens[6]);
    assert_memory_equal(said->tokens, free_run.tokens, (first + 1) * sizeof(int32_t));
}

/* The miniature's ids 2 to 287 are tokens of the bundled model's tokenizer too. */
static void stop_strings_end(void **state)
{
    (void)state;
    struct tokenizer *tokenizer;
    struct bytes text;
    struct error err;
    bytes_init(&text, 4096);
    if (tokenizer_open(&tokenizer, MILLRACE_SOURCE_DIR "/examples/models/shop-qwen3", &err) != STATUS_OK)
        fail_msg("%s", err.text);
    asked_init(&asked[0], 0, 20, 0, 0);
    asked[0].sampling.allowed_tokens = (const int32_t[]){35, 36, 37}; /* plain letters */
    asked[0].sampling.allowed_count = 3;
    struct said free_run = *run(&asked[0]);
    assert_int_equal(tokenizer_decode(tokenizer, free_run.tokens + 8, 2, true, &text, NULL), STATUS_OK);
    char stop[16] = {0};
    memcpy(stop, text.data, text.count_bytes);
    uint32_t first = 1; /* last token of the first place where the pair stands */
    while (memcmp(free_run.tokens + first - 1, free_run.tokens + 8, 2 * sizeof(int32_t)) != 0)
        first++;
    struct engine_options options = engine_fixture_options();
    options.tokenizer = tokenizer;
    struct engine *with_text = engine_fixture_open(&options);
    asked[0].sampling.stops = (const char *const[]){"never", stop};
    asked[0].sampling.stop_count = 2;
    asked_submit(&asked[0], with_text);
    asked_run(asked, with_text);
    assert_int_equal(asked[0].said[0].count, first + 1);
    assert_int_equal(asked[0].said[0].finish, ENGINE_FINISH_STOP);
    assert_int_equal(asked[0].said[0].stop_string, 1);
    engine_close(with_text);
    tokenizer_close(tokenizer);
    bytes_release(&text);
}

static void cancel_now(uint64_t id)
{
    struct engine_stats stats;
    engine_cancel(engine, id);
    asked_step(asked, engine);
    assert_true(asked[id].said[0].finished);
    assert_int_equal(asked[id].said[0].finish, ENGINE_FINISH_CANCELLED);
    engine_stats_read(engine, &stats);
    assert_int_equal(stats.blocks_used, 0);
    assert_true(engine_idle(engine));
}

static void cancelling_frees_within_one_step(void **state)
{
    (void)state;
    asked_init(&asked[0], 0, 60, 0, 0);
    asked_submit(&asked[0], engine);
    cancel_now(0); /* waiting */
    for (int steps = 1; steps <= 6; steps += 5) {
        asked_submit(&asked[0], engine); /* in the prompt's first chunk, then among generated tokens */
        for (int i = 0; i < steps; i++)
            asked_step(asked, engine);
        assert_int_equal(asked[0].said[0].count > 0, steps > 1);
        cancel_now(0);
    }
    struct engine_options options = engine_fixture_options();
    options.force_preempt_every = 7;
    options.kv_blocks = 12;
    options.max_sequences = 1;
    struct engine *roomy = engine;
    engine = engine_fixture_open(&options);
    asked_init(&asked[1], 1, 60, 0, 0);
    asked[1].request.priority = -1;
    asked_submit(&asked[0], engine);
    for (int i = 0; i < 6; i++)
        asked_step(asked, engine);
    asked_submit(&asked[1], engine); /* overtakes when the first is preempted, and takes its place */
    asked_step(asked, engine);
    struct engine_stats stats;
    engine_stats_read(engine, &stats);
    assert_int_equal(stats.preemptions, 1);
    assert_int_equal(stats.waiting, 1);
    engine_cancel(engine, 1);
    cancel_now(0);            /* preempted */
    engine_cancel(engine, 5); /* unknown: nothing happens */
    engine_close(engine);
    engine = roomy;
}

/* One that gave its seat to an urgent one has its blocks in the cache only. Cancelled, it is gone within one
 * step, and who has its seat says what it says alone. */
static void a_spilled_one_is_gone_within_one_step(void **state)
{
    (void)state;
    struct engine_stats stats;
    struct engine_options options = engine_fixture_options();
    options.max_sequences = 1;
    struct engine *narrow = engine_fixture_open(&options);
    asked_init(&asked[1], 1, 20, 0, 0);
    asked[1].request.priority = -1;
    const struct said alone = *run(&asked[1]);
    asked_init(&asked[0], 0, 60, 0, 0);
    asked_submit(&asked[0], narrow);
    for (int i = 0; i < 7; i++)
        asked_step(asked, narrow);
    const uint32_t said = asked[0].said[0].count;
    assert_true(said > 0);
    asked_init(&asked[1], 1, 20, 0, 0);
    asked[1].request.priority = -1;
    asked_submit(&asked[1], narrow);
    asked_step(asked, narrow);
    engine_stats_read(narrow, &stats);
    assert_int_equal(stats.preemptions, 1);
    assert_int_equal(stats.waiting, 1);
    const int32_t used = stats.blocks_used;
    engine_cancel(narrow, 0);
    asked_step(asked, narrow);
    assert_true(asked[0].said[0].finished);
    assert_int_equal(asked[0].said[0].finish, ENGINE_FINISH_CANCELLED);
    assert_int_equal(asked[0].said[0].count, said);
    engine_stats_read(narrow, &stats);
    assert_int_equal(stats.waiting, 0);
    assert_int_equal(stats.running, 1);
    assert_true(stats.blocks_used <= used + 1); /* the urgent one's own next */
    asked_run(asked, narrow);
    assert_int_equal(asked[1].said[0].count, alone.count);
    assert_memory_equal(asked[1].said[0].tokens, alone.tokens, alone.count * sizeof(int32_t));
    engine_stats_read(narrow, &stats);
    assert_int_equal(stats.blocks_used, 0);
    engine_close(narrow);
}

static void more_than_the_queue_holds_is_full(void **state)
{
    (void)state;
    struct error err;
    for (uint64_t i = 0; i < 5; i++)
        asked_init(&asked[i], i, 10, 0, 0);
    for (int i = 0; i < 4; i++)
        asked_submit(&asked[i], engine);
    assert_int_equal(engine_submit(engine, &asked[4].request, &err), STATUS_FULL);
    asked_step(asked, engine);
    asked_submit(&asked[4], engine);
    asked_run(asked, engine);
    for (int i = 0; i < 5; i++)
        assert_int_equal(asked[i].said[0].count, 16);
}

static void expect_invalid(const char *words)
{
    struct error err = {0};
    asked[0].request.prompt = asked[0].prompt;
    asked[0].request.sampling = &asked[0].sampling;
    assert_int_equal(engine_submit(engine, &asked[0].request, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, words));
    assert_true(engine_idle(engine));
}

static void what_can_never_run_is_invalid_at_once(void **state)
{
    (void)state;
    asked_init(&asked[0], 0, 0, 0, 0);
    expect_invalid("no tokens");
    asked_init(&asked[0], 0, 256, 0, 0);
    expect_invalid("maximum context length is 256");
    asked_init(&asked[0], 0, 200, 0, 0);
    expect_invalid("need 14 KV blocks of 16 tokens, but the pool has 12");
    asked_init(&asked[0], 0, 10, 0, 0);
    asked[0].prompt[3] = FIXTURE_VOCAB;
    expect_invalid("outside the vocabulary");
    asked_init(&asked[0], 0, 10, 0, 0);
    asked[0].sampling.n = 5;
    expect_invalid("n must be between 1 and 4");
}

static void lower_priority_first_then_arrival(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    options.max_sequences = 1;
    struct engine *single = engine_fixture_open(&options);
    static const int64_t priorities[] = {1, 0, 0, -1};
    static const int order[] = {3, 1, 2, 0};
    for (uint64_t i = 0; i < 4; i++) {
        asked_init(&asked[i], i, 10, 0, 0);
        asked[i].request.priority = priorities[i];
        asked_submit(&asked[i], single);
    }
    for (int place = 0; place < 4; place++) {
        while (!asked[order[place]].said[0].finished)
            asked_step(asked, single);
        for (int later = place + 1; later < 4; later++)
            assert_int_equal(asked[order[later]].said[0].count, 0);
    }
    engine_close(single);
}

/* It does not wait until one of them ends; they say what they would have said, and one of equal priority
 * waits. */
static void an_urgent_request_takes_a_seat(void **state)
{
    (void)state;
    static struct asked alone[4];
    static const uint32_t tokens[] = {60, 60, 5, 5};
    struct engine_stats stats;
    for (uint64_t i = 0; i < 4; i++) {
        asked_init(&alone[i], i, 20, 0, 0);
        alone[i].sampling.max_tokens = tokens[i];
        struct engine_options options = engine_fixture_options();
        struct engine *own = engine_fixture_open(&options);
        asked_submit(&alone[i], own);
        asked_run(alone, own);
        engine_close(own);
        asked[i] = alone[i];
    }
    asked[2].request.priority = -1;
    struct engine_options options = engine_fixture_options();
    options.max_sequences = 2;
    struct engine *two = engine_fixture_open(&options);
    for (int i = 0; i < 2; i++)
        asked_submit(&asked[i], two);
    for (int step = 0; step < 10; step++)
        asked_step(asked, two);
    asked_submit(&asked[3], two);
    asked_submit(&asked[2], two);
    for (int step = 0; step < 8; step++)
        asked_step(asked, two);
    assert_true(asked[2].said[0].finished);
    assert_int_equal(asked[3].said[0].count, 0);
    asked_run(asked, two);
    engine_stats_read(two, &stats);
    assert_int_equal(stats.preemptions, 1);
    for (int i = 0; i < 4; i++)
        asked_compare(&asked[i], &alone[i], "beside an urgent one");
    engine_close(two);
}

/* After 1,024 later arrivals of better priority, what waits is overtaken no more. */
static void nothing_waits_for_ever(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    options.max_sequences = 1;
    struct engine *single = engine_fixture_open(&options);
    asked_init(&asked[0], 0, 1, 0, 0);
    asked[0].request.priority = 1;
    asked[0].sampling.max_tokens = 1;
    for (int i = 1; i <= 2; i++) {
        asked_init(&asked[i], (uint64_t)i, 1, 0, 0);
        asked[i].sampling.max_tokens = 1;
        asked_submit(&asked[i], single);
    }
    asked_submit(&asked[0], single);
    int others = 0;
    for (int next = 1; !asked[0].said[0].finished; next = 3 - next) {
        asked_step(asked, single);
        others++;
        assert_true(others < 1100);
        if (asked[next].said[0].finished)
            asked_submit(&asked[next], single);
    }
    assert_true(others > 1000);
    engine_close(single);
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
        cmocka_unit_test_setup_teardown(max_tokens_and_the_context_end_with_length, open_engine,
                                        close_engine),
        cmocka_unit_test_setup_teardown(eos_ends_unless_ignored_or_too_early, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(stop_tokens_end, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(stop_strings_end, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(cancelling_frees_within_one_step, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(a_spilled_one_is_gone_within_one_step, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(more_than_the_queue_holds_is_full, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(what_can_never_run_is_invalid_at_once, open_engine, close_engine),
        cmocka_unit_test(lower_priority_first_then_arrival),
        cmocka_unit_test(an_urgent_request_takes_a_seat),
        cmocka_unit_test(nothing_waits_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, close_model);
}
