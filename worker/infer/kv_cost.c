// SPDX-License-Identifier: Apache-2.0
#include "worker/infer/kv_cost.h"

enum {
    SHORTEST_DEADLINE_MS = 50,
    LONGEST_DEADLINE_MS = 5000,
    SHORTEST_LEASE_MS = 250,
    LEASE_WORTH_MS = 4,
    CLAIM_AHEAD_MS = 200,
    SHORTEST_POLL_MS = 2,
    LONGEST_POLL_MS = 50,
    PROBE_EVERY = 16
};
/* Until the first step that computes a block of a prompt. The fit of engine/step_cost.h has no price before
 * that step either, and a guess from the model's arithmetic needs this machine's speed, which only a step
 * measures. Too low a guess costs a load that is given up early and computed, too high a one at most its
 * deadline. */
#define FIRST_PREFILL_NS_PER_TOKEN 1e6
#define PREFILL_WEIGHT 0.1 /* of a new measurement in the moving average */
#define DEADLINE_SHARE 0.5 /* of what computing would take */
#define POLL_SHARE 0.125
#define LEASE_SLACK 2.0 /* lease over the expected time of computing */
#define LOAD_MARGIN 1.3 /* loading must be faster than computing by this factor */

static int64_t clamp_ms(double ms, int least, int most)
{
    return (int64_t)(ms < least ? least : ms > most ? most : ms);
}

void kv_cost_note_prefill(struct kv_cost *cost, uint64_t tokens, int64_t took_ns)
{
    if (tokens < cost->block_tokens || took_ns <= 0)
        return;
    double sample = (double)took_ns / (double)tokens, old = cost->prefill_ns_per_token;
    cost->prefill_ns_per_token = old > 0 ? old + PREFILL_WEIGHT * (sample - old) : sample;
}

double kv_cost_compute_ms(const struct kv_cost *cost, size_t blocks)
{
    double ns = cost->prefill_ns_per_token;
    return (double)(blocks * cost->block_tokens) * (ns > 0 ? ns : FIRST_PREFILL_NS_PER_TOKEN) / 1e6;
}

bool kv_cost_loads_too_slowly(struct kv_cost *cost, size_t blocks, int64_t load_ns)
{
    if (LOAD_MARGIN * (double)load_ns < kv_cost_compute_ms(cost, blocks) * 1e6)
        cost->slow_loads = 0;
    else
        cost->slow_loads++;
    return cost->slow_loads % PROBE_EVERY != 0;
}

int64_t kv_cost_fetch_deadline_ns(const struct kv_cost *cost, size_t blocks, int64_t now_ns)
{
    double ms = DEADLINE_SHARE * kv_cost_compute_ms(cost, blocks);
    return now_ns + clamp_ms(ms, SHORTEST_DEADLINE_MS, LONGEST_DEADLINE_MS) * 1000000;
}

int64_t kv_cost_lease_ms(const struct kv_cost *cost, size_t promised)
{
    return clamp_ms(LEASE_SLACK * kv_cost_compute_ms(cost, promised), SHORTEST_LEASE_MS,
                    KV_COST_LONGEST_LEASE_MS);
}

bool kv_cost_is_worth_a_lease(const struct kv_cost *cost, size_t blocks)
{
    return kv_cost_compute_ms(cost, blocks) >= LEASE_WORTH_MS;
}

bool kv_cost_may_claim(const struct kv_cost *cost, size_t promised)
{
    return promised == 0 || kv_cost_compute_ms(cost, promised) < CLAIM_AHEAD_MS;
}

int64_t kv_cost_next_look_ns(const struct kv_cost *cost, size_t blocks, int64_t now_ns)
{
    double ms = POLL_SHARE * kv_cost_compute_ms(cost, blocks);
    return now_ns + clamp_ms(ms, SHORTEST_POLL_MS, LONGEST_POLL_MS) * 1000000;
}
