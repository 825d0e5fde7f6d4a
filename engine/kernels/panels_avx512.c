// SPDX-License-Identifier: Apache-2.0
// Puts weights and activation rows into the layout of panels_avx512.h. Weights once at load; activations once
// per phase of a step, on the kernel team, each row by one thread and from that row alone.
#include "engine/kernels/panels_avx512.h"

#include <math.h>

#include "base/check.h"
#include "engine/kernels/dtype.h"

struct source { /* [n][k] of a checkpoint */
    const void *data;
    enum dtype dtype;
    int32_t k;
};

static float source_at(const struct source *source, int32_t n, int32_t k)
{
    return dtype_load(source->data, (size_t)n * (size_t)source->k + (size_t)k, source->dtype);
}

size_t avx512_weight_bytes(enum weight_format format, int32_t n, int32_t k)
{
    CHECK(n > 0 && k > 0);
    size_t panels = ((size_t)n + AVX512_PANEL_COLUMNS - 1) / AVX512_PANEL_COLUMNS;
    return panels * panel_bytes(format, k);
}

static void pack_column_float(uint8_t *panel, int32_t column, const struct source *source, int32_t n,
                              enum weight_format format)
{
    const int32_t per_unit = unit_elements(format);
    for (int32_t i = 0; i < source->k; i++) {
        uint8_t *unit = panel + (size_t)(i / per_unit) * PANEL_UNIT_BYTES + (size_t)column * UNIT_BYTES;
        float value = source_at(source, n, i);
        uint16_t half = dtype_bf16_from_f32(value);
        if (format == WEIGHT_F32)
            memcpy(unit, &value, sizeof value);
        else
            memcpy(unit + i % per_unit * 2, &half, sizeof half);
    }
}

static float column_max(const struct source *source, int32_t n)
{
    float max = 0.0f;
    for (int32_t i = 0; i < source->k; i++) {
        const float size = fabsf(source_at(source, n, i));
        max = size > max ? size : max;
    }
    return max;
}

/* Symmetric, one scale per column (output channel). */
static void pack_column_int8(uint8_t *panel, int32_t column, const struct source *source, int32_t n)
{
    float scale = column_max(source, n) / 127.0f;
    const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    int32_t sum = 0;
    for (int32_t i = 0; i < source->k; i++) {
        int32_t q = quantise(source_at(source, n, i), inverse, -127, 127);
        panel[INT8_HEADER_BYTES + (size_t)(i / 4) * PANEL_UNIT_BYTES + (size_t)(column * 4 + i % 4)] =
            (uint8_t)q;
        sum += q;
    }
    int32_t correction = -128 * sum;
    memcpy(panel + column * 4, &scale, sizeof scale);
    memcpy(panel + AVX512_PANEL_COLUMNS * 4 + column * 4, &correction, sizeof correction);
}

static void pack_column_int4(uint8_t *panel, int32_t column, const struct source *source, int32_t n)
{
    for (int32_t group = 0; group < int4_groups(source->k); group++) {
        float values[INT4_GROUP] = {0};
        for (int32_t i = 0; i < INT4_GROUP && group * INT4_GROUP + i < source->k; i++)
            values[i] = source_at(source, n, group * INT4_GROUP + i);
        const float scale = int4_scale(values);
        const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
        const uint16_t half = dtype_bf16_from_f32(scale);
        uint8_t *out = panel + (size_t)group * INT4_GROUP_BYTES;
        memcpy(out + column * 2, &half, sizeof half);
        out += INT4_SCALE_BYTES + column % 16 * 4;
        for (int32_t i = 0; i < INT4_GROUP; i++) {
            uint8_t *byte = out + i / 4 * LINE_BYTES + i % 4;
            int32_t nibble = quantise(values[i], inverse, -8, 7) + 8;
            *byte = (uint8_t)(column < 16 ? (*byte & 0xf0) | nibble : (*byte & 0x0f) | nibble << 4);
        }
    }
}

/* Columns beyond n, and k beyond the last whole unit, are zero: they add nothing. */
void avx512_weight_pack(struct weight *w, const void *src, enum dtype dtype, int32_t n_begin, int32_t n_end)
{
    CHECK(n_begin % AVX512_PANEL_COLUMNS == 0 && (n_end % AVX512_PANEL_COLUMNS == 0 || n_end == w->n));
    CHECK(w->format != WEIGHT_INT8 || w->k <= 65536); /* sums of bytes fit 32 bits */
    const struct source source = {.data = src, .dtype = dtype, .k = w->k};
    const size_t bytes = panel_bytes(w->format, w->k);
    for (int32_t n = n_begin; n < n_end; n++) {
        const int32_t column = n % AVX512_PANEL_COLUMNS;
        uint8_t *panel = (uint8_t *)w->data + (size_t)(n / AVX512_PANEL_COLUMNS) * bytes;
        if (column == 0)
            memset(panel, 0, bytes);
        if (w->format == WEIGHT_INT8)
            pack_column_int8(panel, column, &source, n);
        else if (w->format == WEIGHT_INT4)
            pack_column_int4(panel, column, &source, n);
        else
            pack_column_float(panel, column, &source, n, w->format);
    }
}

size_t avx512_activation_bytes(enum weight_format format, int32_t rows, int32_t k)
{
    return (size_t)rows * activation_stride(format, k);
}

static void prepare_bf16(uint8_t *out, const float *x, int32_t k)
{
    for (int32_t i = 0; i < row_units(WEIGHT_BF16, k) * 2; i += 16) { /* zero behind k */
        const __m512 values = _mm512_maskz_loadu_ps(avx512_lanes(k - i), x + i);
        _mm256_storeu_si256((__m256i *)(out + (size_t)i * 2), (__m256i)_mm512_cvtneps_pbh(values));
    }
}

static float row_max(const float *x, int32_t k)
{
    __m512 max = _mm512_setzero_ps();
    for (int32_t i = 0; i < k; i += 16)
        max = _mm512_max_ps(max, _mm512_abs_ps(_mm512_maskz_loadu_ps(avx512_lanes(k - i), x + i)));
    return _mm512_reduce_max_ps(max);
}

/* Symmetric, one scale per row: x is about scale * q, q from -127 to 127. */
static __m128i quantise_lanes(const float *x, int32_t left, __m512 inverse_scale)
{
    const __m512 values = _mm512_maskz_loadu_ps(avx512_lanes(left), x);
    return _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(values, inverse_scale)));
}

static float row_scale(const float *x, int32_t k, __m512 *inverse)
{
    const float max = row_max(x, k);
    *inverse = _mm512_set1_ps(max > 0.0f ? 127.0f / max : 0.0f);
    return max / 127.0f;
}

static void prepare_int8(uint8_t *out, const float *x, int32_t k)
{
    __m512 inverse;
    const float scale = row_scale(x, k, &inverse);
    const __m128i offset = _mm_set1_epi8((char)0x80);
    for (int32_t i = 0; i < row_units(WEIGHT_INT8, k) * 4; i += 16)
        _mm_storeu_si128((__m128i *)(out + i), _mm_xor_si128(quantise_lanes(x + i, k - i, inverse), offset));
    memcpy(out + activation_tail(WEIGHT_INT8, k), &scale, sizeof scale);
}

static void prepare_int4(uint8_t *out, const float *x, int32_t k)
{
    __m512 inverse;
    const float scale = row_scale(x, k, &inverse);
    uint8_t *tail = out + activation_tail(WEIGHT_INT4, k);
    memcpy(tail, &scale, sizeof scale);
    for (int32_t group = 0; group < int4_groups(k); group++) {
        __m512i sum = _mm512_setzero_si512();
        for (int32_t i = group * INT4_GROUP; i < (group + 1) * INT4_GROUP; i += 16) {
            const __m128i q = quantise_lanes(x + i, k - i, inverse);
            _mm_storeu_si128((__m128i *)(out + i), q);
            sum = _mm512_add_epi32(sum, _mm512_cvtepi8_epi32(q));
        }
        const int32_t correction = -8 * _mm512_reduce_add_epi32(sum);
        memcpy(tail + sizeof scale + (size_t)group * sizeof correction, &correction, sizeof correction);
    }
}

void avx512_activation_prepare(struct activation *x, int32_t row_begin, int32_t row_end)
{
    const size_t stride = activation_stride(x->format, x->k);
    for (int32_t row = row_begin; row < row_end; row++) {
        const float *source = activation_source(x, row);
        uint8_t *out = (uint8_t *)x->data + (size_t)row * stride;
        switch (x->format) {
        case WEIGHT_F32:
            memcpy(out, source, (size_t)x->k * sizeof *source);
            break;
        case WEIGHT_BF16:
            prepare_bf16(out, source, x->k);
            break;
        case WEIGHT_INT8:
            prepare_int8(out, source, x->k);
            break;
        case WEIGHT_INT4:
            prepare_int4(out, source, x->k);
            break;
        }
    }
}
