// SPDX-License-Identifier: Apache-2.0
// What this machine gives at best, measured beside the cells of a benchmark. A machine that is shared gives
// now more and now less, so that each cell is held against the samples taken before, between and after its
// steps, and against the best of them: what a kernel can reach is what a simple loop reached at the same
// time.
#ifndef WORKER_CLI_BENCH_LIMITS_H
#define WORKER_CLI_BENCH_LIMITS_H

#include "engine/kernels/kernels.h"
#include "engine/kernels/thread_team.h"

enum { BENCH_MAX_ROUNDS = 15 };
enum bench_limit { BENCH_READ, BENCH_F32, BENCH_BF16, BENCH_INT8, BENCH_INT4, BENCH_LIMITS };

/* Bytes or operations per second. */
struct bench_rates {
    double per_second[BENCH_LIMITS];
};

struct bench_limits {
    struct thread_team *team;
    void *memory; /* read for the bandwidth, slice by slice: more than any cache holds */
    size_t slice;
    struct bench_rates best; /* of all samples */
};

MUST_CHECK enum status bench_limits_open(struct bench_limits *limits, int threads, struct error *err);
void bench_limits_close(struct bench_limits *limits);
/* One sample of every limit, some 50 ms; raises what is higher than in `best`. */
void bench_limits_sample(struct bench_limits *limits, const struct kernels *kernels,
                         struct bench_rates *best);
enum bench_limit bench_limit_of(const char *format); /* the peak that a format's products are held against */
void bench_limits_print(const struct bench_limits *limits, const char *what);

double bench_median(const double *values, int count); /* count at most BENCH_MAX_ROUNDS */

#endif
