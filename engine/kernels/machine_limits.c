// SPDX-License-Identifier: Apache-2.0
#include "engine/kernels/machine_limits.h"

#include <stdatomic.h>

#include "base/monotime.h"
#include "engine/kernels/products_amx.h"

/* Ways of reading: how many runs of memory a member reads side by side, and how far ahead it asks. Which of
 * them is fastest changes with the state of the machine, so that each sample tries all of them and takes the
 * second best: the best of four neighbouring moments is luck, some 10 % above what lasts. */
static const struct read_shape {
    int runs;
    size_t ahead_bytes;
} read_shapes[] = {{1, 1024}, {2, 512}, {4, 1024}, {8, 2048}};
enum { READ_SHAPES = sizeof read_shapes / sizeof read_shapes[0], LINE_BYTES = 64, LINE_VECTORS = 4 };
#define PEAK_OPERATIONS ((uint64_t)1 << 30) /* per member: milliseconds */

typedef uint64_t vector __attribute__((vector_size(16)));

struct reading {
    const uint8_t *memory;
    size_t bytes;
    struct read_shape shape;
    _Atomic uint64_t sink; /* keeps the reads from being optimised away */
};

static void read_share(void *context, int member, int members)
{
    struct reading *r = context;
    const size_t runs = (size_t)r->shape.runs,
                 run_bytes = r->bytes / (size_t)members / runs / LINE_BYTES * LINE_BYTES;
    const uint8_t *begin = r->memory + run_bytes * runs * (size_t)member;
    vector sums[LINE_VECTORS] = {{0}};
    for (size_t at = 0; at < run_bytes; at += LINE_BYTES)
        for (size_t run = 0; run < runs; run++) {
            const uint8_t *line = begin + run * run_bytes + at;
            __builtin_prefetch(line + r->shape.ahead_bytes);
            for (int i = 0; i < LINE_VECTORS; i++)
                sums[i] += ((const vector *)line)[i];
        }
    for (int i = 0; i < LINE_VECTORS; i++)
        atomic_fetch_add(&r->sink, sums[i][0] + sums[i][1]);
}

double machine_read_bandwidth(struct thread_team *team, const void *memory, size_t bytes)
{
    double best = 0.0, second = 0.0;
    for (int i = 0; i < READ_SHAPES; i++) {
        struct reading reading = {.memory = (const uint8_t *)memory + bytes / READ_SHAPES * (size_t)i,
                                  .bytes = bytes / READ_SHAPES,
                                  .shape = read_shapes[i]};
        const int64_t begin_ns = monotime_ns();
        thread_team_run(team, read_share, &reading);
        const double rate = (double)reading.bytes / (double)(monotime_ns() - begin_ns) * 1e9;
        second = rate > best ? best : rate > second ? rate : second;
        best = rate > best ? rate : best;
    }
    return second;
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
    if (peak->kernels == &kernels_amx && peak->format == WEIGHT_F32)
        done = avx512_peak(peak->format, PEAK_OPERATIONS);
    else if (peak->kernels == &kernels_amx) /* int4 is widened to int8 */
        done = amx_peak(peak->format == WEIGHT_BF16 ? WEIGHT_BF16 : WEIGHT_INT8, 8 * PEAK_OPERATIONS);
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
