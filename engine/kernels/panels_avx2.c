// SPDX-License-Identifier: Apache-2.0
// Puts weights and activation rows into the layout of panels_avx2.h. Weights once at load; activations once
// per phase of a step, on the kernel team, each row by one thread and from that row alone.
#include "engine/kernels/panels_avx2.h"

#include <math.h>

#include "base/check.h"
#include "engine/kernels/dtype.h"

enum { COLUMNS = AVX2_PANEL_COLUMNS };

struct source { /* [n][k] of a checkpoint */
    const void *data;
    enum dtype dtype;
    int32_t k;
};

static float source_at(const struct source *source, int32_t n, int32_t k)
{
    return dtype_load(source->data, (size_t)n * (size_t)source->k + (size_t)k, source->dtype);
}

size_t avx2_weight_bytes(enum weight_format format, int32_t n, int32_t k)
{
    CHECK(n > 0 && k > 0);
    return ((size_t)n + COLUMNS - 1) / COLUMNS * panel_bytes(format, k);
}

static void pack_column_float(uint8_t *panel, int32_t column, const struct source *source, int32_t n,
                              enum weight_format format)
{
    for (int32_t i = 0; i < source->k; i++) {
        const float value = source_at(source, n, i);
        const uint16_t half = dtype_bf16_from_f32(value);
        uint8_t *line = panel + (size_t)(i / line_depth(format)) * LINE_BYTES;
        if (format == WEIGHT_F32)
            memcpy(line + column * 4, &value, sizeof value);
        else
            memcpy(line + column / 4 * 16 + i % 2 * 8 + column % 4 * 2, &half, sizeof half);
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
    const float scale = column_max(source, n) / 127.0f, inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    memcpy(panel + column * 4, &scale, sizeof scale);
    for (int32_t i = 0; i < source->k; i++) {
        uint8_t *pairs = panel + INT8_HEADER_BYTES + (size_t)(i / 2) * 2 * COLUMNS;
        pairs[column * 2 + i % 2] = (uint8_t)quantise(source_at(source, n, i), inverse, -127, 127);
    }
}

static void pack_column_int4(uint8_t *panel, int32_t column, const struct source *source, int32_t n)
{
    for (int32_t group = 0; group < int4_groups(source->k); group++) {
        float values[INT4_GROUP] = {0};
        for (int32_t i = 0; i < INT4_GROUP && group * INT4_GROUP + i < source->k; i++)
            values[i] = source_at(source, n, group * INT4_GROUP + i);
        const float scale = int4_scale(values), inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
        const uint16_t half = dtype_bf16_from_f32(scale);
        uint8_t *out = panel + (size_t)group * INT4_GROUP_BYTES;
        memcpy(out + column * 2, &half, sizeof half);
        out += INT4_SCALE_BYTES + column % 8 * 4;
        for (int32_t i = 0; i < INT4_GROUP; i++) {
            uint8_t *byte = out + i / 4 * (LINE_BYTES / 2) + i % 4;
            const int32_t nibble = quantise(values[i], inverse, -8, 7) + 8;
            *byte = (uint8_t)(column < 8 ? (*byte & 0xf0) | nibble : (*byte & 0x0f) | nibble << 4);
        }
    }
}

/* Columns beyond n, and k beyond its end, are zero: they add nothing. */
void avx2_weight_pack(struct weight *w, const void *src, enum dtype dtype, int32_t n_begin, int32_t n_end)
{
    CHECK(n_begin % COLUMNS == 0 && (n_end % COLUMNS == 0 || n_end == w->n));
    CHECK(w->format != WEIGHT_INT8 || w->k <= 65536); /* sums of products of bytes fit 32 bits */
    const struct source source = {.data = src, .dtype = dtype, .k = w->k};
    const size_t bytes = panel_bytes(w->format, w->k);
    for (int32_t n = n_begin; n < n_end; n++) {
        const int32_t column = n % COLUMNS;
        uint8_t *panel = (uint8_t *)w->data + (size_t)(n / COLUMNS) * bytes;
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

size_t avx2_activation_bytes(enum weight_format format, int32_t rows, int32_t k)
{
    return (size_t)rows * (row_bytes(format, k) + row_tail_bytes(format, k));
}

/* One row's place in its tile. */
struct row {
    uint8_t *units, *tail;
    size_t step_bytes; /* from a unit or a value of the tail to the row's next */
    int32_t k;
};

static struct row row_of(const struct activation *x, int32_t index)
{
    const struct cut tiles = activation_tiles(x->rows);
    const int32_t tile = cut_part(tiles, index), first = cut_at(tiles, tile);
    const size_t place = (size_t)(index - first) * UNIT_BYTES, bytes = row_bytes(x->format, x->k);
    uint8_t *tails = (uint8_t *)x->data + (size_t)x->rows * bytes;
    return (struct row){.units = (uint8_t *)x->data + (size_t)first * bytes + place,
                        .tail = tails + (size_t)first * row_tail_bytes(x->format, x->k) + place,
                        .step_bytes = (size_t)(cut_at(tiles, tile + 1) - first) * UNIT_BYTES,
                        .k = x->k};
}

static void put_units(const struct row *row, int32_t first, const void *units, int32_t count)
{
    uint8_t *out = row->units + (size_t)first * row->step_bytes;
    for (int32_t i = 0; i < count; i++, out += row->step_bytes)
        memcpy(out, (const uint8_t *)units + (size_t)i * UNIT_BYTES, UNIT_BYTES);
}

static void put_tail(const struct row *row, int32_t index, const void *value)
{
    memcpy(row->tail + (size_t)index * row->step_bytes, value, UNIT_BYTES);
}

static void prepare_float(const struct row *row, const float *x, enum weight_format format)
{
    const float zero = 0.0f;
    put_units(row, 0, x, row->k);
    if (format == WEIGHT_BF16 && row->k % 2 != 0)
        put_units(row, row->k, &zero, 1);
}

static float row_max(const float *x, int32_t k)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 max = _mm256_setzero_ps();
    for (int32_t i = 0; i < k; i += 8)
        max = _mm256_max_ps(max, _mm256_andnot_ps(sign, avx2_load(x + i, k - i)));
    return avx2_max(max);
}

/* Symmetric, one scale per row: x is about scale * q, q from -127 to 127. */
static float row_scale(const float *x, int32_t k, __m256 *inverse)
{
    const float max = row_max(x, k);
    *inverse = _mm256_set1_ps(max > 0.0f ? 127.0f / max : 0.0f);
    return max / 127.0f;
}

/* 16 values as 16-bit integers; zeros behind the `left` first. */
static __m256i quantise_lanes(const float *x, int32_t left, __m256 inverse)
{
    if (left <= 0)
        return _mm256_setzero_si256();
    const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(avx2_load(x, left), inverse));
    const __m256i high = left > 8 ? _mm256_cvtps_epi32(_mm256_mul_ps(avx2_load(x + 8, left - 8), inverse))
                                  : _mm256_setzero_si256();
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
}

static void prepare_int8(const struct row *row, const float *x)
{
    __m256 inverse;
    const float scale = row_scale(x, row->k, &inverse);
    const int32_t units = panel_lines(WEIGHT_INT8, row->k) * line_units(WEIGHT_INT8);
    put_tail(row, 0, &scale);
    for (int32_t i = 0; i < units; i += 8) {
        const __m256i q = quantise_lanes(x + i * 2, row->k - i * 2, inverse);
        put_units(row, i, &q, units - i < 8 ? units - i : 8);
    }
}

/* -8 times the sums of a group, of whose values `sum` has every 16th in a lane: those of k modulo 4 at most 1
 * in the low half, the others in the high half. */
static uint32_t int4_correction(__m256i sum)
{
    const __m256i pairs = _mm256_madd_epi16(sum, _mm256_set1_epi16(-8));
    __m128i v = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    v = _mm_add_epi32(v, _mm_unpackhi_epi64(v, v));
    return (uint32_t)_mm_cvtsi128_si32(_mm_packs_epi32(v, v));
}

static void prepare_int4(const struct row *row, const float *x)
{
    __m256 inverse;
    const float scale = row_scale(x, row->k, &inverse);
    put_tail(row, 0, &scale);
    for (int32_t group = 0; group < int4_groups(row->k); group++) {
        __m256i sum = _mm256_setzero_si256();
        for (int32_t i = group * INT4_GROUP; i < (group + 1) * INT4_GROUP; i += 16) {
            const __m256i q = quantise_lanes(x + i, row->k - i, inverse);
            const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
            put_units(row, i / 4, &bytes, 4);
            sum = _mm256_add_epi16(sum, q);
        }
        const uint32_t correction = int4_correction(sum);
        put_tail(row, 1 + group, &correction);
    }
}

void avx2_activation_prepare(struct activation *x, int32_t row_begin, int32_t row_end)
{
    for (int32_t index = row_begin; index < row_end; index++) {
        const float *source = activation_source(x, index);
        const struct row row = row_of(x, index);
        if (x->format == WEIGHT_INT8)
            prepare_int8(&row, source);
        else if (x->format == WEIGHT_INT4)
            prepare_int4(&row, source);
        else
            prepare_float(&row, source, x->format);
    }
}
