// SPDX-License-Identifier: Apache-2.0
// Matrix products on AVX-512: weight panels of 32 columns against register tiles of 1 to 12 rows.
//
// Invariant: an output element is one accumulator lane that takes the units of k in ascending order (int4:
// the groups of k in ascending order, exact inside), whatever the tile's height. A long k is cut into blocks,
// and the accumulator then waits in y between blocks, which changes no bit. Idea: the block of a panel stays
// in L2 while all rows pass by; meanwhile each tile prefetches its share of the panel that comes next, so
// that memory and arithmetic overlap.
#include "base/check.h"
#include "engine/kernels/panels_avx512.h"

enum {
    TILE_ROWS = 12,
    BLOCK_ROWS = 8 * TILE_ROWS,
    BLOCK_UNITS = 1024, /* of k: a row block's operands and a panel's block fit 1 MiB of L2 together */
    STREAM_AHEAD_BYTES = 4096
};

struct tile {
    const uint8_t *w;      /* the panel's units of this block of k; int4: its groups */
    const uint8_t *header; /* int8: the panel's scales and corrections */
    const uint8_t *x;      /* first row's units of this block of k */
    const uint8_t *x_tail; /* first row's tail */
    size_t x_stride;
    float *y; /* first row, first column */
    size_t y_stride;
    const float *bias; /* first column; NULL: none */
    __mmask16 lanes[2];
    int32_t units;              /* of this block */
    bool first, last;           /* block of k */
    const uint8_t *prefetch;    /* what to bring to L2 meanwhile */
    size_t prefetch_step_bytes; /* per unit of PANEL_UNIT_BYTES */
};

ALWAYS_INLINE void prefetch_unit(const struct tile *t, size_t unit)
{
    const char *at = (const char *)t->prefetch + unit * t->prefetch_step_bytes;
    _mm_prefetch(at, _MM_HINT_T1);
    _mm_prefetch(at + t->prefetch_step_bytes / 2, _MM_HINT_T1);
}

/* acc[row][half] takes `units` units of 32 columns. */
ALWAYS_INLINE void accumulate(enum weight_format format, const int rows, __m512 acc[][2],
                              const struct tile *t)
{
    const uint8_t *w = t->w, *x = t->x;
    const size_t stride = t->x_stride;
    for (size_t unit = 0; unit < (size_t)t->units; unit++) {
        const __m512i w0 = _mm512_load_si512(w), w1 = _mm512_load_si512(w + LINE_BYTES);
        prefetch_unit(t, unit);
        UNROLL
        for (int r = 0; r < rows; r++) {
            const __m512i operand = avx512_broadcast_unit(x + (size_t)r * stride);
            acc[r][0] = avx512_step(format, acc[r][0], w0, operand);
            acc[r][1] = avx512_step(format, acc[r][1], w1, operand);
        }
        w += PANEL_UNIT_BYTES, x += UNIT_BYTES;
    }
}

ALWAYS_INLINE float tail_scale(const struct tile *t, int row)
{
    float scale;
    memcpy(&scale, t->x_tail + (size_t)row * t->x_stride, sizeof scale);
    return scale;
}

/* Adds the bias and stores one row of the tile. */
ALWAYS_INLINE void store_row(const struct tile *t, int row, __m512 low, __m512 high)
{
    float *y = t->y + (size_t)row * t->y_stride;
    if (t->last && t->bias) {
        low = _mm512_add_ps(low, _mm512_maskz_loadu_ps(t->lanes[0], t->bias));
        high = _mm512_add_ps(high, _mm512_maskz_loadu_ps(t->lanes[1], t->bias + 16));
    }
    _mm512_mask_storeu_ps(y, t->lanes[0], low);
    _mm512_mask_storeu_ps(y + 16, t->lanes[1], high);
}

ALWAYS_INLINE __m512 initial(enum weight_format format, const struct tile *t, int row, int half)
{
    if (!t->first)
        return _mm512_maskz_loadu_ps(t->lanes[half], t->y + (size_t)row * t->y_stride + half * 16);
    if (format == WEIGHT_INT8)
        return _mm512_load_ps(t->header + (2 + half) * LINE_BYTES);
    return _mm512_setzero_ps();
}

ALWAYS_INLINE __m512 scaled(const struct tile *t, int row, int half, __m512 sum)
{
    const __m512 scale = _mm512_load_ps(t->header + half * LINE_BYTES);
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(sum)),
                         _mm512_mul_ps(scale, _mm512_set1_ps(tail_scale(t, row))));
}

/* f32, bf16, int8. */
ALWAYS_INLINE void plain_tile(enum weight_format format, const int rows, const struct tile *t)
{
    __m512 acc[TILE_ROWS][2];
    UNROLL
    for (int r = 0; r < rows; r++)
        acc[r][0] = initial(format, t, r, 0), acc[r][1] = initial(format, t, r, 1);
    accumulate(format, rows, acc, t);
    UNROLL
    for (int r = 0; r < rows; r++) {
        if (format == WEIGHT_INT8 && t->last)
            acc[r][0] = scaled(t, r, 0, acc[r][0]), acc[r][1] = scaled(t, r, 1, acc[r][1]);
        store_row(t, r, acc[r][0], acc[r][1]);
    }
}

ALWAYS_INLINE __m512 load_bf16(const uint8_t *data)
{
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)data));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* One group of k: exact in integers from -8 times the row's sum, then scaled into the running sum. */
ALWAYS_INLINE void int4_group(const int rows, __m512 sum[][2], const struct tile *t, size_t group)
{
    const uint8_t *w = t->w + group * INT4_GROUP_BYTES;
    const uint8_t *x = t->x + group * INT4_GROUP_UNITS * UNIT_BYTES;
    const __m512 scale[2] = {load_bf16(w), load_bf16(w + INT4_SCALE_BYTES / 2)};
    const __m512i nibble = _mm512_set1_epi8(0x0f);
    __m512 acc[TILE_ROWS][2];
    UNROLL
    for (int r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = _mm512_castsi512_ps(avx512_broadcast_unit(
            t->x_tail + (size_t)r * t->x_stride + sizeof(float) + group * sizeof(int32_t)));
    w += INT4_SCALE_BYTES;
    for (size_t unit = 0; unit < INT4_GROUP_UNITS; unit++) {
        const __m512i both = _mm512_load_si512(w + unit * LINE_BYTES);
        const __m512i w0 = _mm512_and_si512(both, nibble);
        const __m512i w1 = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
        prefetch_unit(t, group * INT4_GROUP_UNITS + unit);
        UNROLL
        for (int r = 0; r < rows; r++) {
            const __m512i operand = avx512_broadcast_unit(x + (size_t)r * t->x_stride + unit * UNIT_BYTES);
            acc[r][0] = avx512_step(WEIGHT_INT4, acc[r][0], w0, operand);
            acc[r][1] = avx512_step(WEIGHT_INT4, acc[r][1], w1, operand);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        for (int half = 0; half < 2; half++)
            sum[r][half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(acc[r][half])), scale[half],
                                           sum[r][half]);
}

ALWAYS_INLINE void int4_tile(const int rows, const struct tile *t)
{
    __m512 sum[TILE_ROWS][2];
    for (int r = 0; r < rows; r++)
        sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    for (size_t group = 0; group < (size_t)t->units / INT4_GROUP_UNITS; group++)
        int4_group(rows, sum, t, group);
    for (int r = 0; r < rows; r++) {
        const __m512 scale = _mm512_set1_ps(tail_scale(t, r));
        store_row(t, r, _mm512_mul_ps(sum[r][0], scale), _mm512_mul_ps(sum[r][1], scale));
    }
}

/* One function per format and height, so that accumulators live in registers. */
#define HEIGHTS(X, format) \
    X(format, 1)           \
    X(format, 2)           \
    X(format, 3)           \
    X(format, 4)           \
    X(format, 5)           \
    X(format, 6)           \
    X(format, 7)           \
    X(format, 8)           \
    X(format, 9)           \
    X(format, 10)          \
    X(format, 11)          \
    X(format, 12)
#define DEFINE_TILE(format, rows)                            \
    static void tile_##format##_##rows(const struct tile *t) \
    {                                                        \
        if (WEIGHT_##format == WEIGHT_INT4)                  \
            int4_tile(rows, t);                              \
        else                                                 \
            plain_tile(WEIGHT_##format, rows, t);            \
    }
HEIGHTS(DEFINE_TILE, F32)
HEIGHTS(DEFINE_TILE, BF16)
HEIGHTS(DEFINE_TILE, INT8)
HEIGHTS(DEFINE_TILE, INT4)

#define LIST_TILE(format, rows) [WEIGHT_##format][rows] = tile_##format##_##rows,
static void (*const tiles[4][TILE_ROWS + 1])(const struct tile *t) = {
    HEIGHTS(LIST_TILE, F32) HEIGHTS(LIST_TILE, BF16) HEIGHTS(LIST_TILE, INT8) HEIGHTS(LIST_TILE, INT4)};

struct product {
    float *y;
    size_t y_stride;
    const struct weight *w;
    const struct activation *x;
    const float *bias;
    int32_t n_begin, n_end;
    size_t panel_bytes, x_stride;
};

/* Rows [row, row_end) of one panel and one block of k. */
static void multiply_panel(const struct product *p, struct tile *t, int32_t n, int32_t row, int32_t row_end)
{
    const struct cut cut = cut_evenly(row_end - row, TILE_ROWS);
    const uint8_t *x = t->x, *x_tail = t->x_tail;
    const size_t stored_bytes = p->w->format == WEIGHT_INT4 ? LINE_BYTES : PANEL_UNIT_BYTES;
    const uint8_t *next = t->w + (cut.parts == 1 ? STREAM_AHEAD_BYTES : p->panel_bytes);
    t->lanes[0] = avx512_lanes(p->n_end - n), t->lanes[1] = avx512_lanes(p->n_end - n - 16);
    t->bias = p->bias ? p->bias + n : NULL;
    t->prefetch_step_bytes = stored_bytes / (size_t)cut.parts;
    for (int32_t part = 0; part < cut.parts; part++) {
        const int32_t first = row + cut_at(cut, part), rows = row + cut_at(cut, part + 1) - first;
        t->x = x + (size_t)first * p->x_stride, t->x_tail = x_tail + (size_t)first * p->x_stride;
        t->y = p->y + (size_t)first * p->y_stride + (size_t)n;
        t->prefetch = next + (size_t)part * (size_t)t->units * t->prefetch_step_bytes;
        tiles[p->w->format][rows](t);
    }
    t->x = x, t->x_tail = x_tail;
}

/* All panels of rows [row, row_end) for units [begin, end) of k. */
static void multiply_block(const struct product *p, int32_t row, int32_t row_end, int32_t begin, int32_t end)
{
    const enum weight_format format = p->w->format;
    struct tile t = {.x = (const uint8_t *)p->x->data + (size_t)begin * UNIT_BYTES,
                     .x_tail = (const uint8_t *)p->x->data + activation_tail(format, p->w->k),
                     .x_stride = p->x_stride,
                     .y_stride = p->y_stride,
                     .units = end - begin,
                     .first = begin == 0,
                     .last = end == row_units(format, p->w->k)};
    const size_t offset = (format == WEIGHT_INT8 ? INT8_HEADER_BYTES : 0) + (size_t)begin * PANEL_UNIT_BYTES;
    for (int32_t n = p->n_begin; n < p->n_end; n += AVX512_PANEL_COLUMNS) {
        t.header = (const uint8_t *)p->w->data + (size_t)(n / AVX512_PANEL_COLUMNS) * p->panel_bytes;
        t.w = t.header + offset;
        multiply_panel(p, &t, n, row, row_end);
    }
}

void avx512_matmul(float *y, size_t y_stride, const struct weight *w, const struct activation *x,
                   const float *bias, int32_t n_begin, int32_t n_end)
{
    CHECK(x->k == w->k && x->format == w->format);
    CHECK(n_begin % AVX512_PANEL_COLUMNS == 0 && n_end <= w->n);
    const struct product p = {.y = y,
                              .y_stride = y_stride,
                              .w = w,
                              .x = x,
                              .bias = bias,
                              .n_begin = n_begin,
                              .n_end = n_end,
                              .panel_bytes = panel_bytes(w->format, w->k),
                              .x_stride = activation_stride(w->format, w->k)};
    const struct cut rows = cut_evenly(x->rows, BLOCK_ROWS);
    const int32_t units = row_units(w->format, w->k);
    const bool whole_k = x->rows <= TILE_ROWS || w->format == WEIGHT_INT4; /* one pass, or sums leave y */
    const struct cut blocks = cut_evenly(units, whole_k ? units : BLOCK_UNITS);
    for (int32_t r = 0; r < rows.parts; r++)
        for (int32_t b = 0; b < blocks.parts; b++)
            multiply_block(&p, cut_at(rows, r), cut_at(rows, r + 1), cut_at(blocks, b),
                           cut_at(blocks, b + 1));
}
