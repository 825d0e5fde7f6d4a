// SPDX-License-Identifier: Apache-2.0
// The rate of the AVX2 multiply-accumulate steps from registers: 12 independent chains, which covers their
// latency and leaves room for the operands. bf16 is widened to f32, so its peak is that of f32.
#include <immintrin.h>

#include "engine/kernels/machine_limits.h"

enum { CHAINS = 12, LANES = 8 };

/* An empty asm that "changes" the accumulator keeps the compiler from working the loop out. */
#define KEEP(acc) __asm__ volatile("" : "+x"(acc))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

static uint64_t run_f32(uint64_t rounds)
{
    const __m256 w = _mm256_set1_ps(0.5f), x = _mm256_set1_ps(0.25f);
    __m256 acc[CHAINS];
    UNROLL
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm256_setzero_ps();
    for (uint64_t round = 0; round < rounds; round++) {
        UNROLL
        for (int i = 0; i < CHAINS; i++) {
            acc[i] = _mm256_fmadd_ps(w, x, acc[i]);
            KEEP(acc[i]);
        }
    }
    return rounds * CHAINS * LANES * 2;
}

static uint64_t run_int8(uint64_t rounds)
{
    __m256i w = _mm256_set1_epi16(3), x = _mm256_set1_epi16(5);
    __m256i acc[CHAINS];
    UNROLL
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm256_setzero_si256();
    for (uint64_t round = 0; round < rounds; round++) {
        KEEP(w);
        UNROLL
        for (int i = 0; i < CHAINS; i++) {
            __m256i product = _mm256_madd_epi16(w, x);
            KEEP(product);
            acc[i] = _mm256_add_epi32(acc[i], product);
            KEEP(acc[i]);
        }
    }
    return rounds * CHAINS * LANES * 4;
}

uint64_t avx2_peak(enum weight_format format, uint64_t operations)
{
    if (format == WEIGHT_INT8 || format == WEIGHT_INT4)
        return run_int8(operations / (CHAINS * LANES * 4) + 1);
    return run_f32(operations / (CHAINS * LANES * 2) + 1);
}
