// SPDX-License-Identifier: Apache-2.0
#include "kvtier/breaker.h"

void breaker_init(struct breaker *breaker, uint64_t seed)
{
    *breaker = (struct breaker){.random = seed | 1};
}

/* xorshift64 (Marsaglia 2003): up to a quarter of ms, so that workers do not probe in step. */
static int64_t jitter(struct breaker *breaker, int64_t ms)
{
    breaker->random ^= breaker->random << 13;
    breaker->random ^= breaker->random >> 7;
    breaker->random ^= breaker->random << 17;
    return ms >= 4 ? (int64_t)(breaker->random % (uint64_t)(ms / 4)) : 0;
}

bool breaker_allows(const struct breaker *breaker, int64_t now_ms)
{
    return breaker->open_until_ms == 0 || now_ms >= breaker->open_until_ms;
}

void breaker_success(struct breaker *breaker)
{
    breaker->failures = 0;
    breaker->open_until_ms = 0;
    breaker->open_ms = 0;
}

void breaker_trip(struct breaker *breaker, int64_t now_ms, int64_t open_ms)
{
    breaker->open_ms = open_ms < BREAKER_LONGEST_OPEN_MS ? open_ms : BREAKER_LONGEST_OPEN_MS;
    breaker->open_until_ms = now_ms + breaker->open_ms + jitter(breaker, breaker->open_ms);
}

void breaker_failure(struct breaker *breaker, int64_t now_ms)
{
    breaker->failures++;
    bool probing = breaker->open_until_ms != 0;
    if (probing || breaker->failures >= BREAKER_FAILURES)
        breaker_trip(breaker, now_ms, breaker->open_ms ? breaker->open_ms * 2 : BREAKER_FIRST_OPEN_MS);
}

void breaker_settle(struct breaker *breaker, enum tier_fault fault, int64_t now_ms)
{
    switch (fault) {
    case TIER_FAULT_NONE:
    case TIER_FAULT_NODE: /* the others answer */
        breaker_success(breaker);
        break;
    case TIER_FAULT_CONNECTION:
    case TIER_FAULT_LOADING:
        breaker_failure(breaker, now_ms);
        break;
    case TIER_FAULT_ELSEWHERE: /* to whom knows no cluster */
    case TIER_FAULT_DENIED:
        breaker_trip(breaker, now_ms, BREAKER_DENIED_MS);
        break;
    case TIER_FAULT_NO_ROOM:
        breaker_trip(breaker, now_ms, BREAKER_NO_ROOM_MS);
        break;
    }
}

bool breaker_is_open(const struct breaker *breaker)
{
    return breaker->open_until_ms != 0;
}
