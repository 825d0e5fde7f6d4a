// SPDX-License-Identifier: Apache-2.0
// What this machine gives at best, measured between the cells of a benchmark, round after round.
#ifndef WORKER_CLI_BENCH_LIMITS_H
#define WORKER_CLI_BENCH_LIMITS_H

#include "engine/kernels/kernels.h"
#include "engine/kernels/thread_team.h"

enum { BENCH_MAX_ROUNDS = 15 };
enum bench_limit { BENCH_READ, BENCH_F32, BENCH_BF16, BENCH_INT8, BENCH_LIMITS }; /* int4 counts as int8 */

struct bench_limits {
    struct thread_team *team;
    void *memory; /* read for the bandwidth: more than any cache holds */
    int rounds;
    double values[BENCH_LIMITS][BENCH_MAX_ROUNDS]; /* bytes or operations per second */
};

MUST_CHECK enum status bench_limits_open(struct bench_limits *limits, int threads, struct error *err);
void bench_limits_close(struct bench_limits *limits);
/* One more round of every limit; more than BENCH_MAX_ROUNDS replace the last. */
void bench_limits_measure(struct bench_limits *limits, const struct kernels *kernels);
double bench_limits_median(const struct bench_limits *limits, enum bench_limit limit);
enum bench_limit bench_limit_of(const char *format); /* the peak that a format's products are held against */
void bench_limits_print(const struct bench_limits *limits, const char *what);

double bench_median(const double *values, int count); /* count at most BENCH_MAX_ROUNDS */

#endif
