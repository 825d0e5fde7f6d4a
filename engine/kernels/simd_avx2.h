// SPDX-License-Identifier: Apache-2.0
// What the AVX2 files share: partial vectors, exp, and the entry points of the parts of kernels_avx2.
#ifndef ENGINE_KERNELS_SIMD_AVX2_H
#define ENGINE_KERNELS_SIMD_AVX2_H

#include <immintrin.h>
#include <string.h>

#include "engine/kernels/kernels.h"

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))
/* An empty instruction that "changes" a register: what was written before is done in that order and in that
 * register, where the compiler would otherwise reorder sums and spill accumulators, or find a loop idle. */
#define PIN(vector) __asm__ volatile("" : "+x"(vector))

/* The first `count` of 8 lanes; all from 8 on, none from 0 down. */
ALWAYS_INLINE __m256i avx2_lanes(int32_t count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The first `left` elements behind x, zeros after them. */
ALWAYS_INLINE __m256 avx2_load(const float *x, int32_t left)
{
    return left >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, avx2_lanes(left));
}

ALWAYS_INLINE void avx2_store(float *y, int32_t left, __m256 value)
{
    if (left >= 8)
        _mm256_storeu_ps(y, value);
    else
        _mm256_maskstore_ps(y, avx2_lanes(left), value);
}

/* One fixed tree: lanes i and i + 4, then 2 apart, then neighbours. */
ALWAYS_INLINE float avx2_sum(__m256 v)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

ALWAYS_INLINE float avx2_max(__m256 v)
{
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

/* e^x within 2 ulp, lane by lane: x = n ln 2 + r and a Taylor series of degree 7 in r. Results under 2^-126
 * are 0, from 2^128 / sqrt(2) on infinite; exp(0) is exactly 1. */
ALWAYS_INLINE __m256 avx2_exp(__m256 x)
{
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x); /* ln 2 in two parts */
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
    __m256 p = _mm256_set1_ps(1.0f / 5040.0f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 720.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    const __m256i power = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), power));
    const __m256 huge = _mm256_cmp_ps(x, _mm256_set1_ps(88.37f), _CMP_GT_OQ);
    const __m256 normal = _mm256_cmp_ps(x, _mm256_set1_ps(-87.33f), _CMP_NLT_UQ);
    p = _mm256_blendv_ps(p, _mm256_set1_ps(__builtin_inff()), huge);
    return _mm256_and_ps(p, normal);
}

enum { AVX2_PANEL_COLUMNS = 16 };

/* products_avx2.c and panels_avx2.c; contracts: kernels.h. */
size_t avx2_weight_bytes(enum weight_format format, int32_t n, int32_t k);
void avx2_weight_pack(struct weight *w, const void *src, enum dtype dtype, int32_t n_begin, int32_t n_end);
size_t avx2_activation_bytes(enum weight_format format, int32_t rows, int32_t k);
void avx2_activation_prepare(struct activation *x, int32_t row_begin, int32_t row_end);
void avx2_matmul(float *y, size_t y_stride, const struct weight *w, const struct activation *x,
                 const float *bias, int32_t n_begin, int32_t n_end);

#endif
