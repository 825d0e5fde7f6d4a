// SPDX-License-Identifier: Apache-2.0
// The committed offset never passes an unanswered job, and what the metadata carries comes back the same.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "worker/intake/offset_ledger.h"

enum { WINDOW = 4096, JOBS = 3000 };

static struct offset_ledger *ledger_at(int64_t committed, const char *metadata)
{
    struct offset_ledger *ledger;
    assert_int_equal(offset_ledger_open(&ledger, WINDOW, NULL), STATUS_OK);
    assert_int_equal(offset_ledger_begin(ledger, committed, metadata), STATUS_OK);
    return ledger;
}

static void commit_is_the_lowest_unanswered(void **state)
{
    (void)state;
    struct offset_ledger *ledger = ledger_at(100, NULL);
    for (int64_t offset = 100; offset < 110; offset++)
        assert_true(offset_ledger_take(ledger, offset));
    offset_ledger_answer(ledger, 105);
    offset_ledger_answer(ledger, 101);
    assert_int_equal(offset_ledger_commit_offset(ledger), 100);
    offset_ledger_answer(ledger, 100);
    assert_int_equal(offset_ledger_commit_offset(ledger), 102);
    assert_int_equal(offset_ledger_open_count(ledger), 7);
    offset_ledger_close(ledger);
}

static void gaps_count_as_answered(void **state)
{
    (void)state;
    struct offset_ledger *ledger = ledger_at(-1, NULL);
    assert_int_equal(offset_ledger_commit_offset(ledger), -1);
    assert_true(offset_ledger_take(ledger, 7));
    assert_int_equal(offset_ledger_commit_offset(ledger), 7);
    assert_true(offset_ledger_take(ledger, 12)); /* 8..11 were transaction markers */
    offset_ledger_answer(ledger, 7);
    assert_int_equal(offset_ledger_commit_offset(ledger), 12);
    offset_ledger_answer(ledger, 12);
    assert_int_equal(offset_ledger_commit_offset(ledger), 13);
    assert_false(offset_ledger_take(ledger, 12)); /* a redelivery of something committed */
    offset_ledger_close(ledger);
}

/* A model of the ledger: which offsets are answered. */
static void check_against(const struct offset_ledger *ledger, const uint8_t *answered, int64_t first,
                          int64_t next)
{
    int64_t lowest = first;
    while (lowest < next && answered[lowest - first])
        lowest++;
    assert_int_equal(offset_ledger_commit_offset(ledger), lowest);
    char metadata[OFFSET_MAP_MAX_BYTES];
    assert_true(offset_ledger_metadata(ledger, metadata) < OFFSET_MAP_MAX_BYTES);
    struct offset_ledger *again = ledger_at(lowest, metadata);
    for (int64_t offset = lowest; offset < next; offset++) {
        bool run = offset_ledger_take(again, offset);
        if (run && answered[offset - first])
            fail_msg("offset %lld was answered and would run again", (long long)offset);
        if (!run && !answered[offset - first])
            fail_msg("offset %lld would never be answered", (long long)offset);
    }
    offset_ledger_close(again);
}

static void random_completion_survives_a_restart(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        uint8_t answered[JOBS] = {0};
        int64_t first = 1000 + seed, next = first;
        struct offset_ledger *ledger = ledger_at(first, NULL);
        srandom(seed);
        while (next < first + JOBS) {
            if (random() % 3 && offset_ledger_has_room(ledger, next)) {
                assert_true(offset_ledger_take(ledger, next++));
            } else if (next > first) {
                int64_t lowest = offset_ledger_commit_offset(ledger);
                int64_t reach = next - lowest < 200 ? next - lowest : 200;
                int64_t offset = reach > 0 ? lowest + random() % reach : first;
                if (offset < lowest || answered[offset - first])
                    continue;
                answered[offset - first] = 1;
                offset_ledger_answer(ledger, offset);
            }
            if (random() % 50 == 0)
                check_against(ledger, answered, first, next);
        }
        check_against(ledger, answered, first, next);
        offset_ledger_close(ledger);
    }
}

static void unknown_metadata_is_ignored(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "x",        "!!!!",     "AQEB", "AwEB", "Ag", "AgD/////////////", "AgCAgICAgIAB",
        "AgAHAA==", "AgAH/w==", "AgAH"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct offset_ledger *ledger;
        assert_int_equal(offset_ledger_open(&ledger, WINDOW, NULL), STATUS_OK);
        assert_int_equal(offset_ledger_begin(ledger, 50, bad[i]), STATUS_INVALID);
        assert_true(offset_ledger_take(ledger, 50));
        assert_true(offset_ledger_take(ledger, 51));
        assert_int_equal(offset_ledger_commit_offset(ledger), 50);
        offset_ledger_close(ledger);
    }
}

static struct offset_ledger *restart(struct offset_ledger *ledger)
{
    char metadata[OFFSET_MAP_MAX_BYTES];
    int64_t committed = offset_ledger_commit_offset(ledger);
    offset_ledger_metadata(ledger, metadata);
    offset_ledger_close(ledger);
    return ledger_at(committed, metadata);
}

static void assert_attempts(struct offset_ledger *ledger, int64_t offset, unsigned attempts)
{
    assert_true(offset_ledger_take(ledger, offset));
    assert_int_equal(offset_ledger_attempts(ledger, offset), attempts);
}

/* Offsets 10..19 were taken, 12 is answered, 18 and up were never allowed to start. */
static struct offset_ledger *some_attempted(void)
{
    struct offset_ledger *ledger = ledger_at(10, NULL);
    for (int64_t offset = 10; offset < 20; offset++)
        assert_attempts(ledger, offset, 0);
    offset_ledger_answer(ledger, 12);
    offset_ledger_reserve(ledger, 18);
    offset_ledger_reserve(ledger, 15); /* never goes back */
    return ledger;
}

static void a_crash_counts_for_what_may_have_run(void **state)
{
    (void)state;
    struct offset_ledger *ledger = restart(some_attempted());
    assert_attempts(ledger, 10, 1);
    assert_attempts(ledger, 11, 1);
    assert_false(offset_ledger_take(ledger, 12));
    offset_ledger_strike(ledger, 11); /* it starts again, alone */
    ledger = restart(ledger);         /* and kills its worker again */
    assert_attempts(ledger, 10, 1);
    assert_attempts(ledger, 11, 2);
    assert_attempts(ledger, 17, 1); /* nobody took it in between, and it stays marked */
    assert_attempts(ledger, 18, 0);
    offset_ledger_strike(ledger, 11);
    ledger = restart(ledger);
    assert_attempts(ledger, 11, 3);
    offset_ledger_answer(ledger, 11);
    assert_int_equal(offset_ledger_commit_offset(ledger), 10);
    offset_ledger_close(ledger);
}

static void a_farewell_counts_for_nothing(void **state)
{
    (void)state;
    struct offset_ledger *ledger = some_attempted();
    assert_true(offset_ledger_leave(ledger));
    assert_false(offset_ledger_leave(ledger));
    ledger = restart(ledger);
    assert_attempts(ledger, 10, 0);
    assert_attempts(ledger, 17, 0);
    offset_ledger_close(ledger);

    ledger = restart(some_attempted()); /* a crash, then an owner that takes a few, strikes one and leaves */
    assert_attempts(ledger, 10, 1);
    offset_ledger_strike(ledger, 10);
    offset_ledger_forgive(ledger, 10);
    offset_ledger_leave(ledger);
    ledger = restart(ledger);
    assert_attempts(ledger, 10, 1);
    assert_attempts(ledger, 16, 1); /* what it did not take is still known */
    assert_attempts(ledger, 19, 0);
    offset_ledger_close(ledger);

    ledger =
        some_attempted(); /* a crash, then an owner that leaves before it has come to all it was told of */
    offset_ledger_answer(ledger, 16);
    ledger = restart(ledger);
    assert_attempts(ledger, 10, 1);
    offset_ledger_leave(ledger);
    ledger = restart(ledger);
    assert_attempts(ledger, 10, 1);
    assert_attempts(ledger, 11, 1);
    assert_attempts(ledger, 15, 1);
    assert_attempts(ledger, 17, 1);
    assert_attempts(ledger, 18, 0);
    offset_ledger_close(ledger);
}

/* The reservation reaches beyond what was taken; offsets that never come (markers) must not hold the commit.
 */
static void a_reservation_ahead_is_no_job(void **state)
{
    (void)state;
    struct offset_ledger *ledger = ledger_at(10, NULL);
    assert_attempts(ledger, 10, 0);
    offset_ledger_reserve(ledger, 30);
    ledger = restart(ledger);
    assert_attempts(ledger, 10, 1);
    assert_attempts(ledger, 20, 1); /* 11..19: transaction markers */
    offset_ledger_answer(ledger, 10);
    offset_ledger_answer(ledger, 20);
    assert_int_equal(offset_ledger_commit_offset(ledger), 21);
    assert_attempts(ledger, 35, 0);
    offset_ledger_answer(ledger, 35);
    assert_int_equal(offset_ledger_commit_offset(ledger), 36);
    offset_ledger_close(ledger);
}

static void the_window_and_the_map_are_bounds(void **state)
{
    (void)state;
    struct offset_ledger *ledger = ledger_at(0, NULL);
    int64_t offset = 0;
    while (offset_ledger_has_room(ledger, offset) && offset < 2 * WINDOW)
        assert_true(offset_ledger_take(ledger, offset++));
    assert_int_equal(offset, WINDOW);
    offset_ledger_close(ledger);
    ledger = ledger_at(0, NULL);
    for (offset = 0; offset_ledger_has_room(ledger, offset) && offset < 2 * WINDOW; offset++) {
        assert_true(offset_ledger_take(ledger, offset));
        if (offset % 2)
            offset_ledger_answer(ledger, offset); /* the worst pattern: every other one */
    }
    assert_true(offset < WINDOW);
    assert_true(offset_ledger_is_strained(ledger)); /* the map is full */
    char metadata[OFFSET_MAP_MAX_BYTES];
    assert_in_range(offset_ledger_metadata(ledger, metadata), 100, OFFSET_MAP_MAX_BYTES * 3 / 4);
    offset_ledger_close(ledger);
}

static void half_a_window_is_a_strain_however_deep_it_is(void **state)
{
    (void)state;
    struct offset_ledger *ledger = ledger_at(0, NULL);
    for (int64_t offset = 0; offset < WINDOW; offset++) {
        assert_int_equal(offset_ledger_is_strained(ledger), offset > WINDOW / 2);
        assert_true(offset_ledger_take(ledger, offset));
    }
    for (int64_t offset = 0; offset < WINDOW; offset++)
        offset_ledger_answer(ledger, offset);
    assert_false(offset_ledger_is_strained(ledger));
    offset_ledger_close(ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commit_is_the_lowest_unanswered),
        cmocka_unit_test(gaps_count_as_answered),
        cmocka_unit_test(random_completion_survives_a_restart),
        cmocka_unit_test(unknown_metadata_is_ignored),
        cmocka_unit_test(a_crash_counts_for_what_may_have_run),
        cmocka_unit_test(a_farewell_counts_for_nothing),
        cmocka_unit_test(a_reservation_ahead_is_no_job),
        cmocka_unit_test(the_window_and_the_map_are_bounds),
        cmocka_unit_test(half_a_window_is_a_strain_however_deep_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
