// SPDX-License-Identifier: Apache-2.0
// What is guessed to follow a text, how likely it is said to be, and which guesses are worth their rows.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "engine/philox.h"
#include "engine/speculate/draft_gate.h"
#include "engine/speculate/prompt_lookup.h"

enum { MOST = 4096 };

static int32_t text[MOST + 64];

static struct prompt_lookup look_at(const char *said)
{
    struct prompt_lookup lookup = {0};
    for (size_t i = 0; i < strlen(said); i++)
        text[i] = said[i];
    prompt_lookup_follow(&lookup, text, (uint32_t)strlen(said));
    return lookup;
}

static void guesses(const char *said, const char *expected)
{
    struct prompt_lookup lookup = look_at(said);
    char guessed[64] = {0};
    prompt_lookup_guess(&lookup, text, (uint32_t)strlen(expected));
    for (size_t i = 0; i < strlen(expected); i++)
        guessed[i] = (char)text[strlen(said) + i];
    assert_string_equal(guessed, expected);
}

static void the_longest_agreement_is_followed(void **state)
{
    (void)state;
    guesses("the cat sat. the c", "at sat.");
    guesses("xabc1 abc2 zzc3 xabc", "1 abc2"); /* before the later, shorter ones */
    guesses("abc1 abc2 abc", "2 ab");          /* the last of equally long ones */
}

static void a_guess_runs_on_into_itself(void **state)
{
    (void)state;
    guesses("-abab", "abababab");
    guesses("-zz", "zzzz");
}

static void what_never_stood_before_has_no_guess(void **state)
{
    (void)state;
    assert_true(prompt_lookup_chance(&(struct prompt_lookup){0}, 0) <= 0);
    const char *const texts[] = {"", "a", "abcdef"};
    for (size_t i = 0; i < 3; i++) {
        const struct prompt_lookup lookup = look_at(texts[i]);
        assert_true(prompt_lookup_chance(&lookup, 0) <= 0);
    }
}

/* A text that is looked at token by token, in runs, or at the end only is followed to the same place when its
 * guesses came true; and a guess is a place in the text, whatever the text. */
static void a_random_text_is_followed(void **state)
{
    (void)state;
    struct prompt_lookup lookup = {0};
    for (uint32_t count = 1; count <= MOST; count++) {
        text[count - 1] = (int32_t)(philox_uniform(4, 0, count) * 6);
        if (philox_uniform(4, 1, count) < 0.3)
            continue;
        prompt_lookup_follow(&lookup, text, count);
        if (prompt_lookup_chance(&lookup, 0) <= 0)
            continue;
        assert_true(lookup.place > 0 && lookup.place < count && lookup.agreed <= lookup.place);
        for (uint32_t i = 1; i <= lookup.agreed; i++)
            assert_int_equal(text[lookup.place - i], text[count - i]);
    }
}

static void chances_follow_the_text(void **state)
{
    (void)state;
    struct prompt_lookup copies = {0}, noise = {0};
    for (uint32_t count = 1; count <= 400; count++) {
        text[count - 1] = (int32_t)count % 40;
        prompt_lookup_follow(&copies, text, count);
    }
    assert_true(prompt_lookup_chance(&copies, 0) > 0.99);
    assert_true(prompt_lookup_chance(&copies, 7) > 0.99);
    for (uint32_t count = 1; count <= 400; count++) {
        text[count - 1] = (int32_t)(philox_uniform(6, 0, count) * 20);
        prompt_lookup_follow(&noise, text, count);
    }
    assert_true(prompt_lookup_chance(&noise, 0) < 0.2);
}

/* ---- the gate ---- */

static struct prompt_lookup sure(float chance)
{
    struct prompt_lookup lookup = {.known = 9, .place = 4, .agreed = 2};
    for (int i = 0; i < LOOKUP_LENGTHS; i++)
        lookup.come_true[i] = chance;
    return lookup;
}

static void free_rows_are_taken_and_dear_ones_left(void **state)
{
    (void)state;
    const struct prompt_lookup lookup = sure(0.9F);
    struct draft_place place = {.lookup = &lookup, .most = 5};
    struct draft_step step = {.sequences = 1, .seconds = 0.060, .row_price = 0.001, .rows = 64};
    assert_true(draft_gate_choose(&place, 1, &step) <= 0);
    assert_int_equal(place.drafts, 5);
    step.row_price = 0.058; /* nearly a step of its own */
    assert_true(draft_gate_choose(&place, 1, &step) > 0.89);
    assert_int_equal(place.drafts, 0);
    step.rows = 3;
    step.row_price = 0;
    draft_gate_choose(&place, 1, &step);
    assert_int_equal(place.drafts, 3);
    step.seconds = 0; /* nothing known: even odds, 0.9^6 and no further */
    place.most = 20, step.rows = 20;
    draft_gate_choose(&place, 1, &step);
    assert_int_equal(place.drafts, 6);
}

/* Each row costs what it brings in, on average: only what brings in more is taken. */
static void a_step_bound_by_arithmetic_guesses_little(void **state)
{
    (void)state;
    const struct prompt_lookup lookup = sure(0.9F);
    struct draft_place places[32];
    for (int i = 0; i < 32; i++)
        places[i] = (struct draft_place){.lookup = &lookup, .most = 8};
    const struct draft_step step = {.sequences = 32, .seconds = 0.320, .row_price = 0.0095, .rows = 512};
    assert_true(draft_gate_choose(places, 32, &step) > 0.8);
    for (int i = 0; i < 32; i++)
        assert_int_equal(places[i].drafts, 0);
}

/* The likeliest guesses of all sequences come first. */
static void rows_go_to_the_likeliest(void **state)
{
    (void)state;
    const struct prompt_lookup likely = sure(0.95F), unlikely = sure(0.5F), hopeless = sure(0.1F);
    struct draft_place places[] = {
        {.lookup = &unlikely, .most = 8}, {.lookup = &likely, .most = 8}, {.lookup = &hopeless, .most = 8}};
    const struct draft_step step = {.sequences = 3, .seconds = 0.060, .rows = 9};
    draft_gate_choose(places, 3, &step);
    assert_int_equal(places[0].drafts, 1);
    assert_int_equal(places[1].drafts, 8);
    assert_int_equal(places[2].drafts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_agreement_is_followed),
        cmocka_unit_test(a_guess_runs_on_into_itself),
        cmocka_unit_test(what_never_stood_before_has_no_guess),
        cmocka_unit_test(a_random_text_is_followed),
        cmocka_unit_test(chances_follow_the_text),
        cmocka_unit_test(free_rows_are_taken_and_dear_ones_left),
        cmocka_unit_test(a_step_bound_by_arithmetic_guesses_little),
        cmocka_unit_test(rows_go_to_the_likeliest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
