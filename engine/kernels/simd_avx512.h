// SPDX-License-Identifier: Apache-2.0
// What the AVX-512 files share: the multiply-accumulate step over 32-bit units, exp, and the entry points of
// the parts of kernels_avx512. A unit holds what one 32-bit lane of a step consumes: 1 f32, 2 bf16, 4 bytes
// (int8), or 4 nibbles widened to bytes (int4).
#ifndef ENGINE_KERNELS_SIMD_AVX512_H
#define ENGINE_KERNELS_SIMD_AVX512_H

#include <immintrin.h>
#include <string.h>

#include "engine/kernels/kernels.h"

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* acc + w * x, lane by lane. Integers: the unsigned operand of VPDPBUSD is x for int8, w for int4. */
ALWAYS_INLINE __m512 avx512_step(enum weight_format format, __m512 acc, __m512i w, __m512i x)
{
    switch (format) {
    case WEIGHT_F32:
        return _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), acc);
    case WEIGHT_BF16:
        return _mm512_dpbf16_ps(acc, (__m512bh)w, (__m512bh)x);
    case WEIGHT_INT8:
        return _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(acc), x, w));
    default:
        return _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(acc), w, x));
    }
}

ALWAYS_INLINE __m512i avx512_broadcast_unit(const uint8_t *unit)
{
    int32_t bits;
    memcpy(&bits, unit, sizeof bits);
    return _mm512_set1_epi32(bits);
}

/* The first `count` of 16 lanes; all from 16 on, none from 0 down. */
ALWAYS_INLINE __mmask16 avx512_lanes(int32_t count)
{
    return (__mmask16)(count >= 16 ? 0xffffu : count <= 0 ? 0u : (1u << count) - 1u);
}

/* e^x within 2 ulp, lane by lane: x = n ln 2 + r and a Taylor series of degree 7 in r. Results under 2^-126
 * are 0; exp(0) is exactly 1. */
ALWAYS_INLINE __m512 avx512_exp(__m512 x)
{
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1f), x); /* ln 2 in two parts */
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
    __m512 p = _mm512_set1_ps(1.0f / 5040.0f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    const __m512 infinity = _mm512_castsi512_ps(_mm512_set1_epi32(0x7f800000));
    const __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.33f), _CMP_NLT_UQ);
    const __mmask16 huge = _mm512_cmp_ps_mask(x, _mm512_set1_ps(88.72f), _CMP_GT_OQ);
    return _mm512_mask_mov_ps(_mm512_maskz_scalef_ps(normal, p, n), huge, infinity);
}

enum { AVX512_PANEL_COLUMNS = 32 };

/* products_avx512.c and panels_avx512.c; contracts: kernels.h. */
size_t avx512_weight_bytes(enum weight_format format, int32_t n, int32_t k);
void avx512_weight_pack(struct weight *w, const void *src, enum dtype dtype, int32_t n_begin, int32_t n_end);
size_t avx512_activation_bytes(enum weight_format format, int32_t rows, int32_t k);
void avx512_activation_prepare(struct activation *x, int32_t row_begin, int32_t row_end);
void avx512_matmul(float *y, size_t y_stride, const struct weight *w, const struct activation *x,
                   const float *bias, int32_t n_begin, int32_t n_end);

/* kernels_avx512.c; contracts: kernels.h. */
bool avx512_supported(void);
void avx512_rms_norm(float *y, const float *x, const float *weight, int32_t n, float eps);
void avx512_rope(float *x, int32_t heads, int32_t head_dim, const float *cos, const float *sin);
void avx512_swiglu(float *y, const float *gate, const float *up, int32_t n);
void avx512_add(float *y, const float *x, int32_t n);

/* attention_avx512.c; contracts: kernels.h. */
size_t avx512_kv_block_bytes(enum kv_format format, int32_t block_tokens, int32_t kv_heads, int32_t head_dim);
void avx512_kv_store(uint8_t *block, enum kv_format format, int32_t slot, int32_t block_tokens,
                     int32_t kv_heads, int32_t head_dim, const float *k, const float *v);
size_t avx512_attention_scratch_bytes(int32_t heads, int32_t kv_heads, int32_t head_dim, int32_t max_rows);
void avx512_attention(const struct attention_args *args, int32_t kv_head_begin, int32_t kv_head_end,
                      void *scratch);
void avx512_attention_spans(const struct attention_args *args, const struct attention_row *rows,
                            const struct attention_span *spans, int32_t span_count, int32_t kv_head_begin,
                            int32_t kv_head_end, void *scratch);
enum { AVX512_ATTENTION_TILE_TOKENS = 64 };

#endif
