// SPDX-License-Identifier: Apache-2.0
// A request that goes on behind tokens which it said elsewhere says what it would have said there: in every
// byte, wherever it was cut, alone or in company, with the blocks at hand or none. Tokens that would have
// ended it are refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "engine/text/tokenizer.h"
#include "tests/support/engine_fixture.h"

enum { PROMPT = 37, SAID = 120 };

static struct asked whole, parts[4];

static void ask(struct asked *asked, uint64_t id)
{
    asked_init(asked, id, PROMPT, 0, 0);
    asked->sampling.logprobs = SAMPLING_NO_LOGPROBS;
    asked->sampling.max_tokens = SAID;
    asked->sampling.seed = 99;
    asked->sampling.frequency_penalty = 0.4f; /* what comes depends on everything that was said */
    asked->sampling.repetition_penalty = 1.1f;
    asked->sampling.min_tokens = 3;
    memcpy(asked->prompt, whole.prompt, sizeof asked->prompt);
    asked->request.id = id;
}

static void say_whole(void)
{
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    asked_init(&whole, 0, PROMPT, 0, 0);
    ask(&whole, 0);
    asked_submit(&whole, engine);
    asked_run(&whole, engine);
    assert_int_equal(whole.said[0].count, SAID);
    engine_close(engine);
}

/* Behind the first `count` tokens. */
static enum status resume(struct asked *asked, struct engine *engine, uint32_t count)
{
    struct error err;
    struct said *said = &asked->said[0];
    memcpy(asked->prompt + PROMPT, whole.said[0].tokens, count * sizeof(int32_t));
    asked->request.prompt = asked->prompt;
    asked->request.sampling = &asked->sampling;
    asked->request.resumed_tokens = count;
    memset(asked->said, 0, sizeof asked->said);
    memcpy(said->tokens, whole.said[0].tokens, count * sizeof(int32_t));
    said->count = count;
    return engine_submit(engine, &asked->request, &err);
}

static void says_the_rest_wherever_it_was_cut(void **state)
{
    (void)state;
    static const uint32_t cuts[] = {1,  2,  10,  11, 12,
                                    27, 75, 118, 119}; /* 11 and 27: at the edge of a block */
    struct engine_options options = engine_fixture_options();
    say_whole();
    for (int warm = 0; warm < 2; warm++)
        for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
            struct engine *engine = engine_fixture_open(&options);
            ask(&parts[0], 0);
            if (warm) { /* its blocks are in the cache */
                asked_submit(&parts[0], engine);
                asked_run(parts, engine);
            }
            assert_int_equal(resume(&parts[0], engine, cuts[i]), STATUS_OK);
            asked_run(parts, engine);
            asked_compare(&parts[0], &whole, "resumed");
            struct engine_stats stats;
            engine_stats_read(engine, &stats);
            assert_int_equal(stats.generated_tokens, (warm ? SAID : 0) + SAID - cuts[i]);
            engine_close(engine);
        }
}

static void says_the_rest_in_company_and_when_preempted(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    options.force_preempt_every = 5;
    struct engine *engine = engine_fixture_open(&options);
    say_whole();
    for (uint64_t id = 0; id < 4; id++) {
        ask(&parts[id], id);
        assert_int_equal(resume(&parts[id], engine, (uint32_t)(1 + 30 * id)), STATUS_OK);
    }
    asked_run(parts, engine);
    for (uint64_t id = 0; id < 4; id++)
        asked_compare(&parts[id], &whole, "resumed in company");
    engine_close(engine);
}

/* What a cancelled choice has said is handed out: with it another engine goes on. */
static void the_end_of_a_cancelled_choice_has_its_tokens(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    const struct engine_event *events;
    size_t count;
    say_whole();
    ask(&parts[0], 0);
    asked_submit(&parts[0], engine);
    for (int step = 0; step < 40; step++)
        asked_step(parts, engine);
    engine_cancel(engine, 0);
    assert_int_equal(engine_step(engine, &events, &count, NULL), STATUS_OK);
    assert_int_equal(count, 1);
    assert_int_equal(events[0].finish, ENGINE_FINISH_CANCELLED);
    assert_true(events[0].generated > 20);
    assert_memory_equal(events[0].tokens, whole.prompt, PROMPT * sizeof(int32_t));
    assert_memory_equal(events[0].tokens + PROMPT, whole.said[0].tokens,
                        events[0].generated * sizeof(int32_t));
    engine_close(engine);
}

static void what_cannot_be_resumed_is_refused(void **state)
{
    (void)state;
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    say_whole();
    ask(&parts[0], 0);
    assert_int_equal(resume(&parts[0], engine, SAID), STATUS_INVALID); /* nothing is left to say */
    parts[0].sampling.n = 2;
    assert_int_equal(resume(&parts[0], engine, 5), STATUS_INVALID);
    parts[0].sampling.n = 1;
    parts[0].sampling.logprobs = 0;
    assert_int_equal(resume(&parts[0], engine, 5), STATUS_INVALID);
    parts[0].sampling.logprobs = SAMPLING_NO_LOGPROBS;
    const int32_t kept = whole.said[0].tokens[3];
    whole.said[0].tokens[3] = FIXTURE_VOCAB;
    assert_int_equal(resume(&parts[0], engine, 5), STATUS_INVALID);
    whole.said[0].tokens[3] = kept;
    assert_int_equal(resume(&parts[0], engine, 5), STATUS_OK);
    asked_run(parts, engine);
    asked_compare(&parts[0], &whole, "resumed at last");
    engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_the_rest_wherever_it_was_cut),
        cmocka_unit_test(says_the_rest_in_company_and_when_preempted),
        cmocka_unit_test(the_end_of_a_cancelled_choice_has_its_tokens),
        cmocka_unit_test(what_cannot_be_resumed_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    engine_fixture_close_model();
    return failed;
}
