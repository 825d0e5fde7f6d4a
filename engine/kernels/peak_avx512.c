// SPDX-License-Identifier: Apache-2.0
// The rate of the AVX-512 multiply-accumulate steps from registers: 24 independent chains, which covers their
// latency on every CPU known to us.
#include "engine/kernels/machine_limits.h"
#include "engine/kernels/simd_avx512.h"

enum { CHAINS = 24, LANES = 16 };

/* An empty asm that "changes" the accumulator keeps the compiler from working the loop out. */
#define KEEP(acc) __asm__ volatile("" : "+v"(acc))

ALWAYS_INLINE uint64_t run_steps(enum weight_format format, uint64_t operations)
{
    const uint64_t per_round = (uint64_t)CHAINS * LANES * 2 *
                               (format == WEIGHT_F32    ? 1
                                : format == WEIGHT_BF16 ? 2
                                                        : 4);
    const uint64_t rounds = operations / per_round + 1;
    __m512 acc[CHAINS];
    __m512i w = _mm512_set1_epi32(0x3c003c00), x = _mm512_set1_epi32(0x3c013c01);
    UNROLL
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm512_setzero_ps();
    for (uint64_t round = 0; round < rounds; round++) {
        UNROLL
        for (int i = 0; i < CHAINS; i++) {
            acc[i] = avx512_step(format, acc[i], w, x);
            KEEP(acc[i]);
        }
    }
    return rounds * per_round;
}

uint64_t avx512_peak(enum weight_format format, uint64_t operations)
{
    switch (format) {
    case WEIGHT_F32:
        return run_steps(WEIGHT_F32, operations);
    case WEIGHT_BF16:
        return run_steps(WEIGHT_BF16, operations);
    default:
        return run_steps(WEIGHT_INT8, operations);
    }
}
