// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/bench_limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels/huge_memory.h"
#include "engine/kernels/machine_limits.h"

#define READ_BYTES ((size_t)1 << 30)

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(const double *values, int count)
{
    double sorted[BENCH_MAX_ROUNDS];
    memcpy(sorted, values, (size_t)count * sizeof *values);
    qsort(sorted, (size_t)count, sizeof *sorted, compare);
    return sorted[count / 2];
}

enum status bench_limits_open(struct bench_limits *limits, int threads, struct error *err)
{
    *limits = (struct bench_limits){.memory = huge_memory_map(READ_BYTES)};
    if (!limits->memory)
        return error_set(err, STATUS_NO_MEMORY, "no memory for measuring the bandwidth");
    memset(limits->memory, 1, READ_BYTES);
    return thread_team_open(&limits->team, threads, err);
}

void bench_limits_close(struct bench_limits *limits)
{
    huge_memory_unmap(limits->memory, READ_BYTES);
    thread_team_close(limits->team);
}

void bench_limits_measure(struct bench_limits *limits, const struct kernels *kernels)
{
    const int round = limits->rounds < BENCH_MAX_ROUNDS ? limits->rounds++ : BENCH_MAX_ROUNDS - 1;
    limits->values[BENCH_READ][round] = machine_read_bandwidth(limits->team, limits->memory, READ_BYTES);
    limits->values[BENCH_F32][round] = machine_peak(limits->team, kernels, WEIGHT_F32);
    limits->values[BENCH_BF16][round] = machine_peak(limits->team, kernels, WEIGHT_BF16);
    limits->values[BENCH_INT8][round] = machine_peak(limits->team, kernels, WEIGHT_INT8);
}

double bench_limits_median(const struct bench_limits *limits, enum bench_limit limit)
{
    return bench_median(limits->values[limit], limits->rounds);
}

enum bench_limit bench_limit_of(const char *format)
{
    return strcmp(format, "f32") == 0 ? BENCH_F32 : strcmp(format, "bf16") == 0 ? BENCH_BF16 : BENCH_INT8;
}

void bench_limits_print(const struct bench_limits *limits, const char *what)
{
    const double giga = 1e-9;
    fprintf(
        stderr,
        "%s, %d threads; this machine: reads %.1f GB/s, peak f32 %.0f, bf16 %.0f GFLOP/s, int8 %.0f Gop/s\n",
        what, thread_team_size(limits->team), bench_limits_median(limits, BENCH_READ) * giga,
        bench_limits_median(limits, BENCH_F32) * giga, bench_limits_median(limits, BENCH_BF16) * giga,
        bench_limits_median(limits, BENCH_INT8) * giga);
}
