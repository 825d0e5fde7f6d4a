// SPDX-License-Identifier: Apache-2.0
// Circuit breaker of one connection: after BREAKER_FAILURES failures in a row it opens, and nothing is asked
// of a sick Redis for 1 s, doubling to 30 s with jitter; then one half-open attempt decides. One owner: the
// tier thread that owns the connection. Times are monotonic milliseconds given by the caller.
#ifndef KVTIER_BREAKER_H
#define KVTIER_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#include "kvtier/tier_store.h"

enum {
    BREAKER_FAILURES = 3,
    BREAKER_FIRST_OPEN_MS = 1000,
    BREAKER_LONGEST_OPEN_MS = 30000,
    BREAKER_NO_ROOM_MS = 10000, /* a full server */
    BREAKER_DENIED_MS = 30000   /* one that a person must look at */
};

struct breaker {
    int failures;          /* in a row */
    int64_t open_until_ms; /* 0: closed */
    int64_t open_ms;       /* length of the last opening */
    uint64_t random;       /* jitter */
};

void breaker_init(struct breaker *breaker, uint64_t seed);
/* May the store be asked now? While open: false; when the time is up: true, once, as the half-open probe. */
bool breaker_allows(const struct breaker *breaker, int64_t now_ms);
void breaker_success(struct breaker *breaker);
void breaker_failure(struct breaker *breaker, int64_t now_ms);
/* Opens at once for at least open_ms (wrong password, out of memory). */
void breaker_trip(struct breaker *breaker, int64_t now_ms, int64_t open_ms);
/* The same from what a store answered. */
void breaker_settle(struct breaker *breaker, enum tier_fault fault, int64_t now_ms);
bool breaker_is_open(const struct breaker *breaker);

#endif
