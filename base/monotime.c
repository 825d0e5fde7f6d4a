// SPDX-License-Identifier: Apache-2.0
#include "base/monotime.h"

#include <stddef.h>
#include <time.h>

static struct monotime_source replaced;

int64_t monotime_ns(void)
{
    if (replaced.monotonic_ns)
        return replaced.monotonic_ns(replaced.context);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t monotime_ms(void)
{
    return monotime_ns() / 1000000;
}

int64_t walltime_ms(void)
{
    if (replaced.wall_ms)
        return replaced.wall_ms(replaced.context);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t monotime_core_ns(void)
{
    if (replaced.monotonic_ns)
        return replaced.monotonic_ns(replaced.context);
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void monotime_replace(const struct monotime_source *source)
{
    replaced = source ? *source : (struct monotime_source){0};
}
