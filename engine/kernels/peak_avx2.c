// SPDX-License-Identifier: Apache-2.0
// The rate of the AVX2 multiply-accumulate steps from registers: 12 independent chains, which covers their
// latency and leaves room for the operands. bf16 is widened to f32, so its peak is that of f32; int8 and int4
// are a multiplication of pairs and an addition.
#include "engine/kernels/machine_limits.h"
#include "engine/kernels/simd_avx2.h"

enum { CHAINS = 12, LANES = 8 };

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
            PIN(acc[i]);
        }
    }
    return rounds * CHAINS * LANES * 2;
}

static uint64_t run_int8(uint64_t rounds)
{
    const __m256i x = _mm256_set1_epi16(5);
    __m256i w = _mm256_set1_epi16(3);
    __m256i acc[CHAINS];
    UNROLL
    for (int i = 0; i < CHAINS; i++)
        acc[i] = _mm256_setzero_si256();
    for (uint64_t round = 0; round < rounds; round++) {
        UNROLL
        for (int i = 0; i < CHAINS; i++) {
            PIN(w); /* another operand each time: no product is computed once for all */
            acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(w, x));
            PIN(acc[i]);
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
