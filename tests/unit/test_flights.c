// SPDX-License-Identifier: Apache-2.0
// Who may start: suspects apart from the others, a few together, then each alone; nobody is forgotten.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "worker/intake/flights.h"
#include "worker/intake/record_copy.h"

enum { CAPACITY = 300, CAP = 3 };

static struct flights *open_flights(void)
{
    struct flights *flights;
    assert_int_equal(flights_open(&flights, CAPACITY, CAP, NULL), STATUS_OK);
    return flights;
}

static struct flight *add(struct flights *flights, unsigned attempts, bool hold)
{
    static const struct job_header header = {"name", "value", 5};
    const struct job_record record = {.value = "{}",
                                      .value_bytes = 2,
                                      .topic = "t",
                                      .cluster_id = "c",
                                      .headers = &header,
                                      .header_count = 1};
    struct flight *flight = flights_add(flights, &record, NULL, attempts);
    if (hold)
        flights_hold(flights, flight, record_copy(&record));
    return flight;
}

static void start(struct flights *flights, struct flight *flight)
{
    struct job_record *record = flights_release(flights, flight);
    assert_non_null(record);
    assert_string_equal(record->headers[0].value, "value");
    free(record);
}

static void suspects_run_apart_and_the_worst_alone(void **state)
{
    (void)state;
    struct flights *flights = open_flights();
    struct flight *wave[FLIGHTS_WAVE];
    struct flight *running = add(flights, 0, false);
    assert_true(flights_are_free(flights));
    struct flight *innocent = add(flights, 0, true);
    struct flight *once[20], *twice;
    for (int i = 0; i < 10; i++)
        once[i] = add(flights, 1, true);
    twice = add(flights, 2, true);
    for (int i = 10; i < 20; i++)
        once[i] = add(flights, 1, true);
    assert_false(flights_are_free(flights));
    assert_int_equal(flights_wave(flights, wave), 0); /* what runs ends first */
    flights_remove(flights, running);
    assert_int_equal(flights_wave(flights, wave), FLIGHTS_SUSPECTS_TOGETHER);
    for (int i = 0; i < FLIGHTS_SUSPECTS_TOGETHER; i++) {
        assert_ptr_equal(wave[i], once[i]);
        start(flights, once[i]);
    }
    for (int i = 0; i < FLIGHTS_SUSPECTS_TOGETHER; i++) {
        assert_int_equal(flights_wave(flights, wave), 0);
        flights_remove(flights, once[i]);
    }
    assert_int_equal(flights_wave(flights, wave), 1);
    assert_ptr_equal(wave[0], twice);
    start(flights, twice);
    assert_int_equal(flights_wave(flights, wave), 0);
    flights_remove(flights, twice);
    assert_int_equal(flights_wave(flights, wave), 20 - FLIGHTS_SUSPECTS_TOGETHER);
    for (int i = FLIGHTS_SUSPECTS_TOGETHER; i < 20; i++)
        flights_remove(flights, once[i]); /* also while they wait */
    assert_int_equal(flights_wave(flights, wave), 1);
    assert_ptr_equal(wave[0], innocent);
    assert_int_equal(flights_held(flights), 1);
    flights_close(flights);
}

/* Whatever the order, all start, and no suspect ever runs beside an innocent. */
static void everyone_gets_a_turn(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 50; seed++) {
        struct flights *flights = open_flights();
        struct flight *wave[FLIGHTS_WAVE];
        size_t started = 0;
        srandom(seed);
        for (int i = 0; i < CAPACITY; i++)
            add(flights, random() % 3 ? 0 : (unsigned)(random() % 4), true);
        for (size_t count; (count = flights_wave(flights, wave)) > 0;) {
            for (size_t i = 0; i < count; i++) {
                assert_true(wave[i]->attempts < 2 || count == 1);
                assert_int_equal(wave[i]->attempts > 0, wave[0]->attempts > 0);
                start(flights, wave[i]);
            }
            for (size_t i = 0; i < count; i++)
                flights_remove(flights, wave[i]);
            started += count;
        }
        assert_int_equal(started, CAPACITY);
        assert_int_equal(flights_count(flights), 0);
        flights_close(flights);
    }
}

static void a_tenant_has_only_so_many_running(void **state)
{
    (void)state;
    struct flights *flights = open_flights();
    struct flight *wave[FLIGHTS_WAVE], *of_a[8], *of_b;
    for (int i = 0; i < 8; i++) {
        of_a[i] = add(flights, 0, false);
        bool over = flights_set_tenant(flights, of_a[i], "a", 1);
        assert_int_equal(over, i >= CAP);
        if (over)
            flights_hold(flights, of_a[i],
                         record_copy(&(struct job_record){.value = "{}", .value_bytes = 2}));
    }
    of_b = add(flights, 0, false);
    assert_false(flights_set_tenant(flights, of_b, "b", 1));
    assert_int_equal(flights_wave(flights, wave), 0);
    flights_remove(flights, of_a[0]); /* two places come free: the two oldest, no more */
    flights_remove(flights, of_a[2]);
    assert_int_equal(flights_wave(flights, wave), 2);
    assert_ptr_equal(wave[0], of_a[3]);
    assert_ptr_equal(wave[1], of_a[4]);
    for (int i = 0; i < 2; i++)
        free(flights_release(flights, wave[i]));
    assert_int_equal(flights_wave(flights, wave), 0);
    flights_remove(flights, of_a[5]); /* one that waited: no place comes free */
    assert_int_equal(flights_wave(flights, wave), 0);
    flights_remove(flights, of_b);
    assert_int_equal(flights_wave(flights, wave), 0);
    flights_remove(flights, of_a[1]);
    assert_int_equal(flights_wave(flights, wave), 1);
    assert_ptr_equal(wave[0], of_a[6]);
    flights_close(flights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(suspects_run_apart_and_the_worst_alone),
        cmocka_unit_test(a_tenant_has_only_so_many_running),
        cmocka_unit_test(everyone_gets_a_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
