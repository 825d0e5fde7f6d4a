// SPDX-License-Identifier: Apache-2.0
// What computing a prefix costs, from what computing took lately, and the times that follow from it: how long
// loading may take, how long a lease must be, how often to ask again. Owner: the engine thread; the average
// may be read by others. Times in milliseconds unless named.
#ifndef WORKER_INFER_KV_COST_H
#define WORKER_INFER_KV_COST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KV_COST_LONGEST_LEASE_MS = 10000 }; /* also the longest that a request waits for other workers */

struct kv_cost {
    uint32_t block_tokens;
    _Atomic double prefill_ns_per_token; /* moving average; 0: not measured yet */
    uint64_t slow_loads;                 /* in a row */
};

/* A step that computed so many prompt tokens. Steps that mostly decode say little and are passed over. */
void kv_cost_note_prefill(struct kv_cost *cost, uint64_t tokens, int64_t took_ns);
double kv_cost_compute_ms(const struct kv_cost *cost, size_t blocks);
/* Is loading so many blocks slower than computing them? Now and then the answer is false all the same: to see
 * whether it is. */
bool kv_cost_loads_too_slowly(struct kv_cost *cost, size_t blocks, int64_t load_ns);
/* For the last of so many blocks that are loaded one after another. */
int64_t kv_cost_fetch_deadline_ns(const struct kv_cost *cost, size_t blocks, int64_t now_ns);
/* A lease for computing the last of `promised` blocks. */
int64_t kv_cost_lease_ms(const struct kv_cost *cost, size_t promised);
/* Is computing so many blocks dear enough that workers should agree on who does it? */
bool kv_cost_is_worth_a_lease(const struct kv_cost *cost, size_t blocks);
/* May a worker that has promised so many blocks promise more? The rest is for others. */
bool kv_cost_may_claim(const struct kv_cost *cost, size_t promised);
int64_t kv_cost_next_look_ns(const struct kv_cost *cost, size_t blocks, int64_t now_ns);

#endif
