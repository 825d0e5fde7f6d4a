// SPDX-License-Identifier: Apache-2.0
// Masks made ahead: by another thread, before they are asked for, all of a step's and nothing more; and an
// engine that samples under a constraint finds every mask made when the model has computed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "engine/constrain/mask_ahead.h"
#include "tests/support/engine_fixture.h"

enum { MOST_STATES = 256, WORDS = (FIXTURE_VOCAB + 63) / 64 };

/* Allows everything; a state is how many tokens were said. Notes who first asked for the mask of each. */
struct spy {
    struct constraint constraint;
    pthread_t first[MOST_STATES];
    uint32_t asked[MOST_STATES];
    uint64_t mask[WORDS];
};

static const uint64_t *spy_mask(struct constraint *constraint, uint32_t state)
{
    struct spy *spy = (struct spy *)constraint;
    assert_true(state < MOST_STATES);
    if (spy->asked[state]++ == 0)
        spy->first[state] = pthread_self();
    memset(spy->mask, 255, sizeof spy->mask);
    return spy->mask;
}

static size_t spy_tokens(struct constraint *constraint, uint32_t state, const int32_t **tokens)
{
    (void)constraint;
    (void)state;
    *tokens = NULL;
    return 0;
}

static uint32_t spy_next(struct constraint *constraint, uint32_t state, int32_t token)
{
    (void)constraint;
    (void)token;
    return state + 1;
}

static bool spy_accepts(struct constraint *constraint, uint32_t state)
{
    (void)constraint;
    (void)state;
    return false;
}

static const struct constraint_ops masks = {.mask = spy_mask, .next = spy_next, .accepts = spy_accepts};
static const struct constraint_ops few = {
    .mask = spy_mask, .tokens = spy_tokens, .next = spy_next, .accepts = spy_accepts};

static void a_thread_makes_what_was_noted(void **state)
{
    struct mask_ahead *ahead;
    struct error err = {0};
    static struct spy spy = {.constraint = {&masks, 1}}, trie = {.constraint = {&few, 1}};
    (void)state;
    assert_int_equal(mask_ahead_open(&ahead, 3, &err), STATUS_OK);
    mask_ahead_start(ahead); /* nothing noted: nothing waits */
    mask_ahead_wait(ahead);
    for (uint32_t step = 0; step < 40; step++) {
        mask_ahead_note(ahead, &trie.constraint, step);
        for (uint32_t i = 0; i < 5; i++)
            mask_ahead_note(ahead, &spy.constraint, 5 * step + i);
        mask_ahead_start(ahead);
        mask_ahead_wait(ahead);
        for (uint32_t i = 0; i < 5; i++) {
            assert_int_equal(spy.asked[5 * step + i], i < 3); /* three at most */
            assert_false(i < 3 && pthread_equal(spy.first[5 * step + i], pthread_self()));
        }
        assert_int_equal(trie.asked[step], 0);
    }
    mask_ahead_close(ahead);
    mask_ahead_close(NULL);
}

static void an_engine_finds_its_masks_made(void **state)
{
    enum { ASKED = 6, SAID = 20 };
    static struct asked asked[ASKED];
    static struct spy spies[ASKED];
    struct engine_options options = engine_fixture_options();
    struct engine *engine = engine_fixture_open(&options);
    (void)state;
    for (uint64_t i = 0; i < ASKED; i++) {
        spies[i].constraint = (struct constraint){&masks, 1};
        asked_init(&asked[i], i, 30 + (uint32_t)i, 0, 0);
        asked[i].sampling.max_tokens = SAID;
        if (i > 0)
            asked[i].sampling.constraint = &spies[i].constraint;
        asked_submit(&asked[i], engine);
    }
    asked_run(asked, engine);
    for (uint64_t i = 0; i < ASKED; i++) {
        assert_int_equal(asked[i].said[0].count, SAID);
        for (uint32_t at = 0; at < SAID; at++) {
            assert_int_equal(spies[i].asked[at], i > 0 ? 2 : 0); /* ahead, and to be used */
            assert_false(i > 0 && pthread_equal(spies[i].first[at], pthread_self()));
        }
        assert_int_equal(spies[i].asked[SAID], 0);
    }
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
        cmocka_unit_test(a_thread_makes_what_was_noted),
        cmocka_unit_test(an_engine_finds_its_masks_made),
    };
    return cmocka_run_group_tests(tests, NULL, close_model);
}
