// SPDX-License-Identifier: Apache-2.0
// The rate of the AVX2 multiply-accumulate steps from registers: 12 independent chains, which covers their
// latency and leaves room for the operands. bf16 is widened to f32, so its peak is that of f32; int8 is a
// multiplication of pairs of 16-bit values and an addition; int4 one of pairs of bytes and an addition in 16
// bits, twice as much in one instruction.
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

ALWAYS_INLINE __m256i integer_step(enum weight_format format, __m256i acc, __m256i w, __m256i x)
{
    return format == WEIGHT_INT8 ? _mm256_add_epi32(acc, _mm256_madd_epi16(w, x))
                                 : _mm256_add_epi16(acc, _mm256_maddubs_epi16(w, x));
}

ALWAYS_INLINE uint64_t run_integers(enum weight_format format, uint64_t operations)
{
    const uint64_t per_round = (uint64_t)CHAINS * LANES * (format == WEIGHT_INT8 ? 4 : 8);
    const uint64_t rounds = operations / per_round + 1;
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
            acc[i] = integer_step(format, acc[i], w, x);
            PIN(acc[i]);
        }
    }
    return rounds * per_round;
}

uint64_t avx2_peak(enum weight_format format, uint64_t operations)
{
    if (format == WEIGHT_INT8)
        return run_integers(WEIGHT_INT8, operations);
    if (format == WEIGHT_INT4)
        return run_integers(WEIGHT_INT4, operations);
    return run_f32(operations / (CHAINS * LANES * 2) + 1);
}
