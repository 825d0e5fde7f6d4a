// SPDX-License-Identifier: Apache-2.0
// The AVX2 kernel set (with FMA) and its row ops. Row ops work lane by lane, or keep 32 partial sums folded
// in one fixed order: a value's bytes depend on the row alone.
#include <math.h>

#include "engine/kernels/attention_avx2.h"
#include "engine/kernels/simd_avx2.h"

static bool supported(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_format(enum weight_format format)
{
    return format == WEIGHT_F32 || format == WEIGHT_BF16 || format == WEIGHT_INT8 || format == WEIGHT_INT4;
}

static float sum_of_squares(const float *x, int32_t n)
{
    __m256 sum[4];
    for (int i = 0; i < 4; i++)
        sum[i] = _mm256_setzero_ps();
    for (int32_t at = 0; at < n; at += 32)
        for (int i = 0; i < 4 && at + i * 8 < n; i++) {
            const __m256 v = avx2_load(x + at + i * 8, n - at - i * 8);
            sum[i] = _mm256_fmadd_ps(v, v, sum[i]);
        }
    return avx2_sum(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
}

static void rms_norm(float *y, const float *x, const float *weight, int32_t n, float eps)
{
    const __m256 scale = _mm256_set1_ps(1.0f / sqrtf(sum_of_squares(x, n) / (float)n + eps));
    for (int32_t i = 0; i < n; i += 8) {
        const __m256 v = _mm256_mul_ps(avx2_load(x + i, n - i), scale);
        avx2_store(y + i, n - i, _mm256_mul_ps(v, avx2_load(weight + i, n - i)));
    }
}

static void rope(float *x, int32_t heads, int32_t head_dim, const float *cos, const float *sin)
{
    const int32_t half = head_dim / 2;
    for (int32_t head = 0; head < heads; head++, x += head_dim)
        for (int32_t i = 0; i < half; i += 8) {
            const int32_t left = half - i;
            const __m256 a = avx2_load(x + i, left), b = avx2_load(x + half + i, left);
            const __m256 c = avx2_load(cos + i, left), s = avx2_load(sin + i, left);
            avx2_store(x + i, left, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
            avx2_store(x + half + i, left, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
        }
}

static void swiglu(float *y, const float *gate, const float *up, int32_t n)
{
    const __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);
    for (int32_t i = 0; i < n; i += 8) {
        const __m256 g = avx2_load(gate + i, n - i);
        const __m256 below = _mm256_add_ps(one, avx2_exp(_mm256_xor_ps(g, sign)));
        avx2_store(y + i, n - i, _mm256_mul_ps(_mm256_div_ps(g, below), avx2_load(up + i, n - i)));
    }
}

static void add(float *y, const float *x, int32_t n)
{
    for (int32_t i = 0; i < n; i += 8)
        avx2_store(y + i, n - i, _mm256_add_ps(avx2_load(y + i, n - i), avx2_load(x + i, n - i)));
}

const struct kernels kernels_avx2 = {
    .name = "avx2",
    .supported = supported,
    .has_format = has_format,
    .weight_bytes = avx2_weight_bytes,
    .n_granule = AVX2_PANEL_COLUMNS,
    .weight_pack = avx2_weight_pack,
    .activation_bytes = avx2_activation_bytes,
    .activation_prepare = avx2_activation_prepare,
    .matmul = avx2_matmul,
    .rms_norm = rms_norm,
    .rope = rope,
    .swiglu = swiglu,
    .add = add,
    .has_kv_int8 = true,
    .kv_block_bytes = avx2_kv_block_bytes,
    .kv_store = avx2_kv_store,
    .attention_scratch_bytes = avx2_attention_scratch_bytes,
    .attention = avx2_attention,
    .attention_spans = avx2_attention_spans,
    .attention_tile_tokens = AVX2_ATTENTION_TILE_TOKENS,
};
