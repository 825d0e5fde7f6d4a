// SPDX-License-Identifier: Apache-2.0
// Philox against the known answers that its authors publish with Random123 (kat_vectors, philox4x32 10), and
// what the engine makes of it: one number in [0, 1) per (seed, choice, position).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "engine/philox.h"

static void the_published_answers_are_met(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint32_t out[4];
        philox4x32_10(known[i].counter, known[i].key, out);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

/* The first 53 bits of the first two words; the first vector above, (0, 0, 0), gives the number by hand. */
static void a_uniform_number_is_the_first_53_bits(void **state)
{
    (void)state;
    uint64_t bits = 0x6627e8d5e169c58du >> 11;
    assert_true(philox_uniform(0, 0, 0) == (double)bits / 9007199254740992.0);
}

static void seed_choice_and_position_each_matter(void **state)
{
    (void)state;
    double first = philox_uniform(7, 0, 0);
    assert_true(first == philox_uniform(7, 0, 0));
    assert_true(first != philox_uniform(8, 0, 0));
    assert_true(first != philox_uniform(7 + (UINT64_C(1) << 32), 0, 0)); /* the seed's upper half too */
    assert_true(first != philox_uniform(7, 1, 0));
    assert_true(first != philox_uniform(7, 0, 1));
    assert_true(philox_uniform(7, 0, 1) != philox_uniform(7, 1, 0));
}

/* 16 classes, 160,000 numbers: chi-square with 15 degrees of freedom exceeds 37.70 with p = 0.001. */
static void numbers_are_spread_evenly(void **state)
{
    (void)state;
    enum { CLASSES = 16, PER_CLASS = 10000 };
    double counts[CLASSES] = {0}, chi_square = 0;
    for (uint32_t i = 0; i < CLASSES * PER_CLASS; i++) {
        double u = philox_uniform(20261123, i / 1000, i % 1000);
        assert_true(u >= 0 && u < 1);
        counts[(int)(u * CLASSES)]++;
    }
    for (int i = 0; i < CLASSES; i++)
        chi_square += (counts[i] - PER_CLASS) * (counts[i] - PER_CLASS) / PER_CLASS;
    print_message("chi-square %.1f\n", chi_square);
    assert_true(chi_square < 37.70);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_answers_are_met),
        cmocka_unit_test(a_uniform_number_is_the_first_53_bits),
        cmocka_unit_test(seed_choice_and_position_each_matter),
        cmocka_unit_test(numbers_are_spread_evenly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
