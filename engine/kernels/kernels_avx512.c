// SPDX-License-Identifier: Apache-2.0
// The AVX-512 kernel set (F, BW, VL, DQ, VNNI, BF16) and its row ops. Row ops work lane by lane, or keep 64
// partial sums folded in one fixed order: a value's bytes depend on the row alone.
#include <math.h>

#include "engine/kernels/simd_avx512.h"

bool avx512_supported(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
}

static bool has_format(enum weight_format format)
{
    return format == WEIGHT_F32 || format == WEIGHT_BF16 || format == WEIGHT_INT8 || format == WEIGHT_INT4;
}

static float sum_of_squares(const float *x, int32_t n)
{
    __m512 sum[4];
    for (int i = 0; i < 4; i++)
        sum[i] = _mm512_setzero_ps();
    for (int32_t at = 0; at < n; at += 64)
        for (int i = 0; i < 4; i++) {
            const __m512 v = _mm512_maskz_loadu_ps(avx512_lanes(n - at - i * 16), x + at + i * 16);
            sum[i] = _mm512_fmadd_ps(v, v, sum[i]);
        }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

void avx512_rms_norm(float *y, const float *x, const float *weight, int32_t n, float eps)
{
    const __m512 scale = _mm512_set1_ps(1.0f / sqrtf(sum_of_squares(x, n) / (float)n + eps));
    for (int32_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = avx512_lanes(n - i);
        const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + i), scale);
        _mm512_mask_storeu_ps(y + i, lanes, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(lanes, weight + i)));
    }
}

void avx512_rope(float *x, int32_t heads, int32_t head_dim, const float *cos, const float *sin)
{
    const int32_t half = head_dim / 2;
    for (int32_t head = 0; head < heads; head++, x += head_dim)
        for (int32_t i = 0; i < half; i += 16) {
            const __mmask16 lanes = avx512_lanes(half - i);
            const __m512 c = _mm512_maskz_loadu_ps(lanes, cos + i), s = _mm512_maskz_loadu_ps(lanes, sin + i);
            const __m512 a = _mm512_maskz_loadu_ps(lanes, x + i);
            const __m512 b = _mm512_maskz_loadu_ps(lanes, x + half + i);
            _mm512_mask_storeu_ps(x + i, lanes, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
            _mm512_mask_storeu_ps(x + half + i, lanes, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
        }
}

void avx512_swiglu(float *y, const float *gate, const float *up, int32_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    for (int32_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = avx512_lanes(n - i);
        const __m512 g = _mm512_maskz_loadu_ps(lanes, gate + i), u = _mm512_maskz_loadu_ps(lanes, up + i);
        const __m512 down = _mm512_add_ps(one, avx512_exp(_mm512_sub_ps(_mm512_setzero_ps(), g)));
        _mm512_mask_storeu_ps(y + i, lanes, _mm512_mul_ps(_mm512_div_ps(g, down), u));
    }
}

void avx512_add(float *y, const float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = avx512_lanes(n - i);
        const __m512 sum =
            _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, y + i), _mm512_maskz_loadu_ps(lanes, x + i));
        _mm512_mask_storeu_ps(y + i, lanes, sum);
    }
}

const struct kernels kernels_avx512 = {
    .name = "avx512",
    .supported = avx512_supported,
    .has_format = has_format,
    .weight_bytes = avx512_weight_bytes,
    .n_granule = AVX512_PANEL_COLUMNS,
    .weight_pack = avx512_weight_pack,
    .activation_bytes = avx512_activation_bytes,
    .activation_prepare = avx512_activation_prepare,
    .matmul = avx512_matmul,
    .rms_norm = avx512_rms_norm,
    .rope = avx512_rope,
    .swiglu = avx512_swiglu,
    .add = avx512_add,
    .kv_block_bytes = avx512_kv_block_bytes,
    .kv_store = avx512_kv_store,
    .attention_scratch_bytes = avx512_attention_scratch_bytes,
    .attention = avx512_attention,
    .attention_spans = avx512_attention_spans,
    .attention_tile_tokens = AVX512_ATTENTION_TILE_TOKENS,
};
