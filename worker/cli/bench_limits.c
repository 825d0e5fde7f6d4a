// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/bench_limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels/huge_memory.h"
#include "engine/kernels/machine_limits.h"

#define READ_BYTES ((size_t)1 << 30)
#define SLICE_BYTES ((size_t)512 << 20) /* of one sample */
enum { SLICES = READ_BYTES / SLICE_BYTES };

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

static void raise_to(double *best, double value)
{
    *best = value > *best ? value : *best;
}

void bench_limits_sample(struct bench_limits *limits, const struct kernels *kernels, struct bench_rates *best)
{
    static const enum weight_format formats[BENCH_LIMITS] = {[BENCH_F32] = WEIGHT_F32,
                                                             [BENCH_BF16] = WEIGHT_BF16,
                                                             [BENCH_INT8] = WEIGHT_INT8,
                                                             [BENCH_INT4] = WEIGHT_INT4};
    const uint8_t *slice = (const uint8_t *)limits->memory + limits->slice++ % SLICES * SLICE_BYTES;
    for (int limit = 0; limit < BENCH_LIMITS; limit++) {
        const double rate = limit == BENCH_READ ? machine_read_bandwidth(limits->team, slice, SLICE_BYTES)
                                                : machine_peak(limits->team, kernels, formats[limit]);
        raise_to(&best->per_second[limit], rate);
        raise_to(&limits->best.per_second[limit], rate);
    }
}

enum bench_limit bench_limit_of(const char *format)
{
    static const char *const names[BENCH_LIMITS] = {[BENCH_READ] = "",
                                                    [BENCH_F32] = "f32",
                                                    [BENCH_BF16] = "bf16",
                                                    [BENCH_INT8] = "int8",
                                                    [BENCH_INT4] = "int4"};
    for (int limit = BENCH_F32; limit < BENCH_LIMITS; limit++)
        if (strcmp(format, names[limit]) == 0)
            return (enum bench_limit)limit;
    return BENCH_F32;
}

void bench_limits_print(const struct bench_limits *limits, const char *what)
{
    const double *best = limits->best.per_second, giga = 1e-9;
    fprintf(
        stderr,
        "%s, %d threads; this machine at best: reads %.1f GB/s, peak f32 %.0f, bf16 %.0f GFLOP/s, int8 %.0f, "
        "int4 %.0f Gop/s\n",
        what, thread_team_size(limits->team), best[BENCH_READ] * giga, best[BENCH_F32] * giga,
        best[BENCH_BF16] * giga, best[BENCH_INT8] * giga, best[BENCH_INT4] * giga);
}
