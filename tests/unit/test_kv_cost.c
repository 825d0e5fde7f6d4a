// SPDX-License-Identifier: Apache-2.0
// Load or compute, and the times that follow from what computing costs.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/infer/kv_cost.h"

#define MS ((int64_t)1000000)

/* 1 ms per token, 16 ms per block. */
static struct kv_cost cost_of_a_large_model(void)
{
    struct kv_cost cost = {.block_tokens = 16};
    kv_cost_note_prefill(&cost, 512, 512 * MS);
    return cost;
}

static void the_first_measurement_counts_in_full_and_later_ones_a_little(void **state)
{
    (void)state;
    struct kv_cost cost = {.block_tokens = 16};
    assert_true(kv_cost_compute_ms(&cost, 4) > 0); /* something, before anything was measured */
    kv_cost_note_prefill(&cost, 100, 300 * MS);
    assert_true(kv_cost_compute_ms(&cost, 1) > 47.9 && kv_cost_compute_ms(&cost, 1) < 48.1);
    kv_cost_note_prefill(&cost, 100, 400 * MS);
    assert_true(kv_cost_compute_ms(&cost, 1) > 49.5 && kv_cost_compute_ms(&cost, 1) < 49.7);
    kv_cost_note_prefill(&cost, 3, 900 * MS); /* a step that mostly decoded */
    assert_true(kv_cost_compute_ms(&cost, 1) < 49.7);
}

static void a_slow_link_is_not_used_but_tried_now_and_then(void **state)
{
    (void)state;
    struct kv_cost cost = cost_of_a_large_model();
    assert_false(kv_cost_loads_too_slowly(&cost, 10, 0)); /* nothing measured yet: try */
    assert_false(kv_cost_loads_too_slowly(&cost, 10, 120 * MS));
    assert_true(kv_cost_loads_too_slowly(&cost, 10, 130 * MS)); /* 160 ms to compute, but a margin of 1.3 */
    int tried = 0;
    for (int i = 0; i < 64; i++)
        tried += !kv_cost_loads_too_slowly(&cost, 10, 1000 * MS);
    assert_int_equal(tried, 4);
    assert_false(kv_cost_loads_too_slowly(&cost, 10, 100 * MS)); /* the link is good again: at once */
}

static void a_fetch_may_take_half_of_computing(void **state)
{
    (void)state;
    struct kv_cost cost = cost_of_a_large_model();
    assert_int_equal(kv_cost_fetch_deadline_ns(&cost, 64, 7) - 7, 512 * MS);
    assert_int_equal(kv_cost_fetch_deadline_ns(&cost, 1, 0), 50 * MS);
    assert_int_equal(kv_cost_fetch_deadline_ns(&cost, 4096, 0), 5000 * MS);
}

static void leases_and_claims_have_bounds(void **state)
{
    (void)state;
    struct kv_cost cost = cost_of_a_large_model();
    assert_int_equal(kv_cost_lease_ms(&cost, 32), 1024);
    assert_int_equal(kv_cost_lease_ms(&cost, 1), 250);
    assert_int_equal(kv_cost_lease_ms(&cost, 4096), KV_COST_LONGEST_LEASE_MS);
    assert_true(kv_cost_may_claim(&cost, 0)); /* always one, however long */
    assert_true(kv_cost_may_claim(&cost, 12));
    assert_false(kv_cost_may_claim(&cost, 13)); /* 208 ms */
    assert_true(kv_cost_is_worth_a_lease(&cost, 1));
    struct kv_cost quick = {.block_tokens = 16};
    kv_cost_note_prefill(&quick, 1000, 50 * MS);
    assert_false(kv_cost_is_worth_a_lease(&quick, 1)); /* 0.8 ms */
    assert_true(kv_cost_is_worth_a_lease(&quick, 32));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_measurement_counts_in_full_and_later_ones_a_little),
        cmocka_unit_test(a_slow_link_is_not_used_but_tried_now_and_then),
        cmocka_unit_test(a_fetch_may_take_half_of_computing),
        cmocka_unit_test(leases_and_claims_have_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
