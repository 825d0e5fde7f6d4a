// SPDX-License-Identifier: Apache-2.0
// Speculation changes how many steps a text takes, never a byte of it: whatever is guessed, a request says
// what it says without, tokens and log-probabilities, greedy and sampled, under penalties, stops and
// constraints of length, alone and in company, through chunks, preemption and caches.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "engine/philox.h"
#include "engine/text/tokenizer.h"
#include "tests/support/engine_fixture.h"

enum { REQUESTS = 28, DRAFTS = 6 };

static struct asked plain[REQUESTS], speculated[REQUESTS];
static struct tokenizer *tokenizer;
static char stop[16];
static const char *const stops[] = {stop};

/* A prompt that repeats itself after `period` tokens. */
static void repeat_prompt(struct asked *asked, uint32_t period)
{
    for (uint32_t i = period; i < asked->request.prompt_tokens; i++)
        asked->prompt[i] = asked->prompt[i - period];
}

/* At random, until two letters come twice: then they were guessed more than once before. */
static void say_letters(struct sampling_params *s)
{
    static const int32_t letters[] = {35, 36, 37}; /* tokens of the bundled model's tokenizer too */
    s->allowed_tokens = letters;
    s->allowed_count = 3;
    s->temperature = 1;
    s->max_tokens = 150;
    s->stops = (const char *const *)stops;
    s->stop_count = 1;
}

/* Greedy texts of the miniature run in circles; at a low temperature they nearly do. */
static void init_request(struct asked *asked, uint64_t id)
{
    static const float temperatures[] = {0, 0, 0.1F, 0.3F, 1};
    uint32_t tokens = 2 + (uint32_t)(philox_uniform(98, 0, (uint32_t)id) * 90);
    asked_init(asked, id, tokens, id % 3 == 0 ? 40 : 0, id % 2);
    repeat_prompt(asked, 2 + (uint32_t)id % 9);
    struct sampling_params *s = &asked->sampling;
    s->temperature = temperatures[id % 5];
    s->max_tokens = 1 + (uint32_t)(philox_uniform(98, 1, (uint32_t)id) * 110);
    s->n = id % 7 == 0 ? 3 : 1;
    s->prompt_logprobs = id % 11 == 0 ? 0 : SAMPLING_NO_LOGPROBS;
    s->top_p = id % 4 == 2 ? 0.8F : 1.0F;
    s->frequency_penalty = id % 6 == 3 ? 0.1F : 0.0F;
    s->repetition_penalty = id % 6 == 4 ? 1.05F : 1.0F;
    s->min_tokens = id % 8 == 5 ? 20 : 0;
    s->ignore_eos = id % 2 == 0;
    if (id % 8 == 3)
        say_letters(s);
}

static struct engine_options options_with(int32_t drafts)
{
    struct engine_options options = engine_fixture_options();
    options.tokenizer = tokenizer;
    options.speculative_tokens = drafts;
    return options;
}

static void open_tokenizer(void)
{
    static const int32_t said[] = {36, 37, 36, 37};
    struct error err;
    struct bytes text;
    bytes_init(&text, sizeof stop);
    if (tokenizer_open(&tokenizer, MILLRACE_SOURCE_DIR "/examples/models/shop-qwen3", &err) != STATUS_OK)
        fail_msg("%s", err.text);
    assert_int_equal(tokenizer_decode(tokenizer, said, 4, true, &text, NULL), STATUS_OK);
    memcpy(stop, text.data, text.count_bytes);
    bytes_release(&text);
}

/* Both ways to end occur. */
static void check_ends(void)
{
    int lengths = 0, strings = 0;
    for (uint64_t id = 0; id < REQUESTS; id++) {
        const struct said *said = &plain[id].said[0];
        lengths += said->finish == ENGINE_FINISH_LENGTH;
        strings += said->stop_string >= 0;
    }
    assert_true(lengths > 5 && strings > 2);
}

static int say_plainly(void **state)
{
    (void)state;
    open_tokenizer();
    const struct engine_options options = options_with(0);
    struct engine *engine = engine_fixture_open(&options);
    for (uint64_t id = 0; id < REQUESTS; id++) {
        init_request(&plain[id], id);
        asked_submit(&plain[id], engine);
        asked_run(plain, engine);
        speculated[id] = plain[id];
    }
    engine_close(engine);
    check_ends();
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    tokenizer_close(tokenizer);
    engine_fixture_close_model();
    return 0;
}

static void submit_all(struct engine *engine)
{
    for (uint64_t id = 0; id < REQUESTS; id++)
        asked_submit(&speculated[id], engine);
}

/* Without a clock: every guess of even odds is tried. */
static void step(struct engine *engine)
{
    const struct engine_event *events;
    size_t count;
    assert_int_equal(engine_step(engine, &events, &count, NULL), STATUS_OK);
    asked_record(speculated, events, count);
    engine_check_invariants(engine);
}

/* The block's key is that of tokens that the prompt or the answer has there. */
static void check_stored(const struct engine_event *event)
{
    const struct asked *asked = &plain[event->request_id];
    const uint32_t prompt_tokens = (uint32_t)asked->request.prompt_tokens;
    int32_t tokens[FIXTURE_BLOCK_TOKENS];
    for (uint32_t i = 0; i < FIXTURE_BLOCK_TOKENS; i++) {
        const uint32_t at = event->position + i;
        tokens[i] =
            at < prompt_tokens ? asked->prompt[at] : asked->said[event->choice].tokens[at - prompt_tokens];
    }
    const struct block_key key = block_key_next(&event->parent, tokens, FIXTURE_BLOCK_TOKENS);
    assert_true(block_key_equal(&key, &event->key));
}

static struct engine_stats stats_of(const struct engine *engine)
{
    struct engine_stats stats;
    engine_stats_read(engine, &stats);
    return stats;
}

static void compare_together(const struct engine_options *options, const char *what)
{
    struct engine *engine = engine_fixture_open(options);
    submit_all(engine);
    while (!engine_idle(engine))
        step(engine);
    for (uint64_t id = 0; id < REQUESTS; id++)
        asked_compare(&speculated[id], &plain[id], what);
    const struct engine_stats stats = stats_of(engine);
    assert_int_equal(stats.blocks_used, 0);
    assert_true(stats.accepted_tokens > 200);
    assert_true(stats.drafted_tokens > stats.accepted_tokens + 50);
    assert_int_equal(stats.window_rows > 0, options->contiguous_kv);
    engine_close(engine);
}

static void company_does_not_show(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 64};
    for (size_t i = 0; i < 2; i++) {
        struct engine_options options = options_with(DRAFTS);
        options.max_sequences = sizes[i];
        compare_together(&options, "batch size");
        options.prefix_cache = false;
        compare_together(&options, "batch size without prefix cache");
    }
}

static void chunks_and_drafts_do_not_show(void **state)
{
    (void)state;
    static const int32_t drafts[] = {1, 16};
    for (size_t i = 0; i < 2; i++) {
        struct engine_options options = options_with(drafts[i]);
        options.max_chunk_tokens = 1 + 12 * (int32_t)i;
        options.max_batch_tokens = 9; /* one more than there are sequences: guesses and prompts want it */
        compare_together(&options, "a row to spare");
        options.max_batch_tokens = FIXTURE_ROWS;
        compare_together(&options, "rows for all");
    }
}

static void preemption_does_not_show(void **state)
{
    (void)state;
    struct engine_options options = options_with(DRAFTS);
    options.force_preempt_every = 3;
    compare_together(&options, "preemption");
    options.kv_blocks = 16; /* the longest request needs all of them */
    compare_together(&options, "preemption in a small pool");
    options.prefix_cache = false;
    compare_together(&options, "preemption without prefix cache");
}

static void contiguous_kv_does_not_show(void **state)
{
    (void)state;
    struct engine_options options = options_with(DRAFTS);
    options.contiguous_kv = true;
    options.max_mappings = 1000;
    compare_together(&options, "contiguous KV");
    options.force_preempt_every = 3;
    options.max_mappings = 20; /* not enough for all */
    compare_together(&options, "contiguous KV with few mappings");
}

/* Prices are learnt from steps that seem to take anything: what is guessed follows them, what is said does
 * not. */
static void the_clock_does_not_show(void **state)
{
    (void)state;
    struct engine_options options = options_with(DRAFTS);
    options.step_target_ns = 5000000;
    struct engine *engine = engine_fixture_open(&options);
    submit_all(engine);
    asked_run(speculated, engine);
    for (uint64_t id = 0; id < REQUESTS; id++)
        asked_compare(&speculated[id], &plain[id], "clock");
    assert_true(stats_of(engine).accepted_tokens > 0);
    engine_close(engine);
}

/* Blocks with wrong guesses in them are not stored; a second time what was stored is found, and says the
 * same. */
static void only_what_was_said_is_cached(void **state)
{
    (void)state;
    struct engine_options options = options_with(DRAFTS);
    options.kv_blocks = 2048; /* nothing is evicted */
    options.max_waiting = 256;
    struct engine *engine = engine_fixture_open(&options);
    for (int time = 0; time < 2; time++) {
        submit_all(engine);
        while (!engine_idle(engine)) {
            const struct engine_event *events;
            size_t count;
            assert_int_equal(engine_step(engine, &events, &count, NULL), STATUS_OK);
            asked_record(speculated, events, count);
            for (size_t i = 0; i < count; i++)
                if (events[i].type == ENGINE_EVENT_BLOCK_STORED)
                    check_stored(&events[i]);
        }
        for (uint64_t id = 0; id < REQUESTS; id++)
            asked_compare(&speculated[id], &plain[id], "a second time");
    }
    engine_close(engine);
}

/* The request goes on in the circle in which it already was, up to a token of it. */
static void a_stop_among_right_guesses_ends(void **state)
{
    (void)state;
    struct asked *asked = &speculated[0];
    const struct engine_options options = options_with(DRAFTS);
    struct engine *engine = engine_fixture_open(&options);
    asked_init(asked, 0, 40, 0, 0);
    asked->sampling.temperature = 0;
    asked->sampling.max_tokens = 100;
    asked_submit(asked, engine);
    while (!engine_idle(engine))
        step(engine);
    const struct said first = asked->said[0];
    memcpy(asked->prompt + 40, first.tokens, 80 * sizeof(int32_t));
    asked->request.prompt_tokens = 40 + 80;
    for (uint32_t at = 80; at < 90; at++) {
        asked->sampling.stop_tokens = &first.tokens[at];
        asked->sampling.stop_token_count = 1;
        asked_submit(asked, engine);
        while (!engine_idle(engine))
            step(engine);
        const struct said *said = &asked->said[0];
        assert_int_equal(said->finish, ENGINE_FINISH_STOP);
        assert_int_equal(said->stop_token, first.tokens[at]);
        assert_true(said->count <= at - 80 + 1);
        assert_memory_equal(said->tokens, first.tokens + 80, said->count * sizeof(int32_t));
        assert_int_equal(said->tokens[said->count - 1], first.tokens[at]);
    }
    assert_true(stats_of(engine).accepted_tokens > 10);
    engine_close(engine);
}

static uint64_t steps_of(int32_t drafts, struct engine_stats *stats)
{
    const struct engine_options options = options_with(drafts);
    struct engine *engine = engine_fixture_open(&options);
    asked_init(&speculated[0], 0, 40, 0, 0);
    repeat_prompt(&speculated[0], 10);
    speculated[0].sampling.temperature = 0;
    speculated[0].sampling.max_tokens = 200;
    asked_submit(&speculated[0], engine);
    while (!engine_idle(engine))
        step(engine);
    assert_int_equal(speculated[0].said[0].count, 200);
    *stats = stats_of(engine);
    engine_close(engine);
    return stats->steps;
}

/* A text that runs in circles needs a fraction of the steps; every row of a guess was one more row, no more
 * were computed than guessed. */
static void a_repetitive_text_takes_fewer_steps(void **state)
{
    (void)state;
    struct engine_stats without, with;
    const uint64_t plain_steps = steps_of(0, &without), steps = steps_of(DRAFTS, &with);
    assert_int_equal(without.drafted_tokens, 0);
    assert_true(steps * 2 < plain_steps);
    assert_int_equal(steps + with.accepted_tokens, plain_steps);
    assert_true(with.drafts < steps && with.drafted_tokens <= DRAFTS * with.drafts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(company_does_not_show),
        cmocka_unit_test(chunks_and_drafts_do_not_show),
        cmocka_unit_test(preemption_does_not_show),
        cmocka_unit_test(contiguous_kv_does_not_show),
        cmocka_unit_test(the_clock_does_not_show),
        cmocka_unit_test(only_what_was_said_is_cached),
        cmocka_unit_test(a_stop_among_right_guesses_ends),
        cmocka_unit_test(a_repetitive_text_takes_fewer_steps),
    };
    return cmocka_run_group_tests(tests, say_plainly, close_all);
}
