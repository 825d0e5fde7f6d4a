// SPDX-License-Identifier: Apache-2.0
// Products with int4 weights on AMX tiles. A group of 64 k is one tile of k: its nibbles are widened to bytes
// once per panel and 512 rows, its products are exact integers, and the groups' sums are scaled and added in
// f32 in ascending order, as the AVX-512 products do: the same bytes.
#include "engine/kernels/panels_avx512.h"
#include "engine/kernels/products_amx.h"

enum { TILE_ROWS = 16, PAIR_ROWS = 2 * TILE_ROWS, BLOCK_ROWS = 512, BLOCK_GROUPS = 16, AHEAD_BYTES = 2048 };

struct columns { /* some groups of a panel, widened; stays in L1 and L2 */
    _Alignas(LINE_BYTES) uint8_t values[BLOCK_GROUPS][2][TILE_UNITS * LINE_BYTES]; /* value plus 8 */
    float scales[BLOCK_GROUPS][AVX512_PANEL_COLUMNS];
};

struct rows {
    _Alignas(LINE_BYTES) float sums[PAIR_ROWS][AVX512_PANEL_COLUMNS];
    _Alignas(LINE_BYTES) int32_t products[PAIR_ROWS][AVX512_PANEL_COLUMNS];
};

struct work {
    float *y; /* first column of the panel */
    size_t y_stride;
    const struct activation *x;
    size_t x_stride, x_tail;
    const float *bias;
    __mmask16 lanes[2];
    int32_t first_group, groups, all_groups;
    int32_t configured;
};

static void widen(struct columns *out, const uint8_t *groups, int32_t count)
{
    const __m512i nibble = _mm512_set1_epi8(0x0f);
    for (int32_t g = 0; g < count; g++, groups += INT4_GROUP_BYTES) {
        for (int half = 0; half < 2; half++) {
            const __m256i scales = _mm256_load_si256((const __m256i *)groups + half);
            _mm512_store_si512(out->scales[g] + half * 16,
                               _mm512_slli_epi32(_mm512_cvtepu16_epi32(scales), 16));
        }
        for (int32_t unit = 0; unit < INT4_GROUP_UNITS; unit++) {
            const uint8_t *line = groups + INT4_SCALE_BYTES + unit * LINE_BYTES;
            const __m512i both = _mm512_load_si512(line);
            _mm_prefetch((const char *)line + AHEAD_BYTES, _MM_HINT_T0);
            _mm512_store_si512(out->values[g][0] + unit * LINE_BYTES, _mm512_and_si512(both, nibble));
            _mm512_store_si512(out->values[g][1] + unit * LINE_BYTES,
                               _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble));
        }
    }
}

static void load_rows(struct rows *rows, const struct work *w, int32_t row, int32_t count)
{
    for (int32_t r = 0; r < count; r++)
        for (int half = 0; half < 2; half++) {
            const float *y = w->y + (size_t)(row + r) * w->y_stride + half * 16;
            const __mmask16 lanes = w->first_group == 0 ? 0 : w->lanes[half];
            _mm512_store_ps(rows->sums[r] + half * 16, _mm512_maskz_loadu_ps(lanes, y));
        }
}

static void store_rows(const struct rows *rows, const struct work *w, int32_t row, int32_t count)
{
    const bool last = w->first_group + w->groups == w->all_groups;
    for (int32_t r = 0; r < count; r++) {
        float scale;
        memcpy(&scale, (const uint8_t *)w->x->data + (size_t)(row + r) * w->x_stride + w->x_tail,
               sizeof scale);
        for (int half = 0; half < 2; half++) {
            __m512 sum = _mm512_load_ps(rows->sums[r] + half * 16);
            if (last)
                sum = _mm512_mul_ps(sum, _mm512_set1_ps(scale));
            if (last && w->bias)
                sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(w->lanes[half], w->bias + half * 16));
            _mm512_mask_storeu_ps(w->y + (size_t)(row + r) * w->y_stride + half * 16, w->lanes[half], sum);
        }
    }
}

/* products = rows x columns of one group. */
static void multiply_group(struct rows *rows, const uint8_t *x, size_t x_stride,
                           const uint8_t values[2][1024], bool two)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_loadd(4, x, x_stride);
    _tile_loadd(6, values[0], LINE_BYTES);
    _tile_loadd(7, values[1], LINE_BYTES);
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_stored(0, rows->products[0], sizeof rows->products[0]);
    _tile_stored(1, rows->products[0] + 16, sizeof rows->products[0]);
    if (!two)
        return;
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(5, x + TILE_ROWS * x_stride, x_stride);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
    _tile_stored(2, rows->products[TILE_ROWS], sizeof rows->products[0]);
    _tile_stored(3, rows->products[TILE_ROWS] + 16, sizeof rows->products[0]);
}

/* sums += scale * (products - 8 * the row's sum over the group). */
static void add_group(struct rows *rows, const uint8_t *corrections, size_t x_stride, const float *scales,
                      int32_t count)
{
    const __m512 scale[2] = {_mm512_load_ps(scales), _mm512_load_ps(scales + 16)};
    for (int32_t r = 0; r < count; r++) {
        const __m512i correction = avx512_broadcast_unit(corrections + (size_t)r * x_stride);
        for (int half = 0; half < 2; half++) {
            float *sum = rows->sums[r] + half * 16;
            const __m512i product = _mm512_load_si512(rows->products[r] + half * 16);
            const __m512 exact = _mm512_cvtepi32_ps(_mm512_add_epi32(product, correction));
            _mm512_store_ps(sum, _mm512_fmadd_ps(exact, scale[half], _mm512_load_ps(sum)));
        }
    }
}

static void multiply_rows(struct work *w, const struct columns *columns, int32_t row, int32_t count)
{
    struct rows rows;
    const uint8_t *x = (const uint8_t *)w->x->data + (size_t)row * w->x_stride;
    if (w->configured != count)
        amx_configure_rows(count);
    w->configured = count;
    load_rows(&rows, w, row, count);
    for (int32_t g = 0; g < w->groups; g++) {
        const size_t group = (size_t)(w->first_group + g);
        multiply_group(&rows, x + group * LINE_BYTES, w->x_stride, columns->values[g], count > TILE_ROWS);
        add_group(&rows, x + w->x_tail + sizeof(float) + group * sizeof(int32_t), w->x_stride,
                  columns->scales[g], count);
    }
    store_rows(&rows, w, row, count);
}

static void multiply_panel(struct work *w, const uint8_t *panel, int32_t row, int32_t row_end)
{
    struct columns columns;
    const struct cut blocks = cut_evenly(w->all_groups, BLOCK_GROUPS);
    for (int32_t b = 0; b < blocks.parts; b++) {
        w->first_group = cut_at(blocks, b);
        w->groups = cut_at(blocks, b + 1) - w->first_group;
        widen(&columns, panel + (size_t)w->first_group * INT4_GROUP_BYTES, w->groups);
        __asm__ volatile(""
                         :
                         : "r"(&columns)
                         : "memory"); /* gcc does not know that a tile load reads memory */
        for (int32_t r = row; r < row_end; r += PAIR_ROWS)
            multiply_rows(w, &columns, r, row_end - r < PAIR_ROWS ? row_end - r : PAIR_ROWS);
    }
}

void amx_matmul_int4(const struct amx_product *p)
{
    const int32_t k = p->w->k;
    const struct cut rows = cut_evenly(p->x->rows, BLOCK_ROWS);
    struct work w = {.y_stride = p->y_stride,
                     .x = p->x,
                     .x_stride = activation_stride(WEIGHT_INT4, k),
                     .x_tail = activation_tail(WEIGHT_INT4, k),
                     .all_groups = int4_groups(k)};
    for (int32_t r = 0; r < rows.parts; r++)
        for (int32_t n = p->n_begin; n < p->n_end; n += AVX512_PANEL_COLUMNS) {
            w.y = p->y + n, w.bias = p->bias ? p->bias + n : NULL;
            w.lanes[0] = avx512_lanes(p->n_end - n), w.lanes[1] = avx512_lanes(p->n_end - n - 16);
            multiply_panel(&w,
                           (const uint8_t *)p->w->data +
                               (size_t)(n / AVX512_PANEL_COLUMNS) * panel_bytes(WEIGHT_INT4, k),
                           cut_at(rows, r), cut_at(rows, r + 1));
        }
    _tile_release();
}
