// SPDX-License-Identifier: Apache-2.0
#include "engine/kernels/machine_limits.h"

#include <stdatomic.h>

#include "base/monotime.h"
#include "engine/kernels/products_amx.h"

enum { AHEAD_BYTES = 2048, LINE_WORDS = 8 };
#define PEAK_OPERATIONS ((uint64_t)4 << 30) /* per member: tens of milliseconds */

struct reading {
    const uint64_t *words;
    size_t count;
    _Atomic uint64_t sink; /* keeps the reads from being optimised away */
};

static void read_share(void *context, int member, int members)
{
    struct reading *r = context;
    size_t lines = r->count / LINE_WORDS;
    size_t begin = lines * (size_t)member / (size_t)members,
           end = lines * (size_t)(member + 1) / (size_t)members;
    uint64_t sums[LINE_WORDS] = {0};
    for (size_t line = begin; line < end; line++) {
        const uint64_t *words = r->words + line * LINE_WORDS;
        __builtin_prefetch((const uint8_t *)words + AHEAD_BYTES);
        for (int i = 0; i < LINE_WORDS; i++)
            sums[i] += words[i];
    }
    for (int i = 0; i < LINE_WORDS; i++)
        atomic_fetch_add(&r->sink, sums[i]);
}

double machine_read_bandwidth(struct thread_team *team, const void *memory, size_t bytes)
{
    struct reading reading = {.words = memory, .count = bytes / sizeof(uint64_t)};
    const int64_t begin_ns = monotime_ns();
    thread_team_run(team, read_share, &reading);
    return (double)bytes / (double)(monotime_ns() - begin_ns) * 1e9;
}

/* Four independent chains of scalar fused operations, as the compiler vectorises them for any CPU. */
static uint64_t portable_peak(uint64_t operations)
{
    volatile float factor = 0.999f;
    float sums[64] = {0};
    uint64_t done = 0;
    for (const float f = factor; done < operations; done += 2 * 64)
        for (int i = 0; i < 64; i++)
            sums[i] = sums[i] * f + f;
    volatile float sink = 0.0f;
    for (int i = 0; i < 64; i++)
        sink = sink + sums[i];
    return done;
}

struct peak {
    const struct kernels *kernels;
    enum weight_format format;
    _Atomic uint64_t done;
};

static void run_peak(void *context, int member, int members)
{
    (void)member, (void)members;
    struct peak *peak = context;
    uint64_t done = 0;
#ifdef MILLRACE_KERNELS_AMX
    if (peak->kernels == &kernels_amx && (peak->format == WEIGHT_BF16 || peak->format == WEIGHT_INT8))
        done = amx_peak(peak->format, 8 * PEAK_OPERATIONS);
    else if (peak->kernels == &kernels_amx)
        done = avx512_peak(peak->format, PEAK_OPERATIONS);
#endif
#ifdef MILLRACE_KERNELS_AVX512
    if (peak->kernels == &kernels_avx512)
        done = avx512_peak(peak->format, PEAK_OPERATIONS);
#endif
#ifdef MILLRACE_KERNELS_AVX2
    if (peak->kernels == &kernels_avx2)
        done = avx2_peak(peak->format, PEAK_OPERATIONS);
#endif
    if (done == 0)
        done = portable_peak(PEAK_OPERATIONS / 8);
    atomic_fetch_add(&peak->done, done);
}

double machine_peak(struct thread_team *team, const struct kernels *kernels, enum weight_format format)
{
    struct peak peak = {.kernels = kernels, .format = format};
    const int64_t begin_ns = monotime_ns();
    thread_team_run(team, run_peak, &peak);
    return (double)atomic_load(&peak.done) / (double)(monotime_ns() - begin_ns) * 1e9;
}
