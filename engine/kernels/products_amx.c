// SPDX-License-Identifier: Apache-2.0
// Matrix products on AMX tiles of 16 rows x 64 bytes: up to 32 rows meet a weight panel of 32 columns in four
// accumulator tiles. bf16 and int8; int4 is in int4_amx.c, f32 goes to the AVX-512 products.
//
// Invariant: an output element takes the tiles of k in ascending order, for any number of rows (a tile
// computes its rows apart from each other). A long k is cut into blocks, between which the sum waits in y.
#include "engine/kernels/products_amx.h"

#include "base/check.h"
#include "engine/kernels/panels_avx512.h"

enum {
    TILE_ROWS = 16,
    PAIR_ROWS = 2 * TILE_ROWS,
    BLOCK_ROWS = 512,
    BLOCK_UNITS = 512, /* of k: operands of a row block (1 MiB) and of a panel (64 KiB) fit 2 MiB of L2 */
    STREAM_AHEAD_BYTES = 4096,
    FEW_INT4_ROWS = 12 /* widening a panel for tiles does not pay; the AVX-512 products give the same bytes */
};

struct pair { /* up to 32 rows of one panel and one block of k */
    const struct weight *w;
    const uint8_t *panel;  /* the panel's units of this block */
    const uint8_t *header; /* int8: scales and corrections */
    const uint8_t *x, *x_tail;
    size_t x_stride;
    float *y;
    size_t y_stride;
    const float *bias; /* first column; NULL: none */
    __mmask16 lanes[2];
    int32_t rows, units;
    bool first, last;
    const uint8_t *prefetch;
    size_t prefetch_step_bytes; /* per tile of k */
};

void amx_configure(const struct amx_tile_config *config)
{
    __asm__ volatile("" : : "r"(config) : "memory"); /* gcc believes that only 8 bytes of it are read */
    _tile_loadconfig(config);
}

void amx_configure_rows(int32_t rows)
{
    struct amx_tile_config config = {.palette = 1};
    const int32_t low = rows < TILE_ROWS ? rows : TILE_ROWS, high = rows - low;
    const int32_t heights[] = {low, low, high, high, low, high, TILE_UNITS, TILE_UNITS};
    for (size_t i = 0; i < sizeof heights / sizeof heights[0]; i++) {
        config.rows[i] = (uint8_t)heights[i];
        config.row_bytes[i] = heights[i] > 0 ? LINE_BYTES : 0;
    }
    amx_configure(&config);
}

/* Sums of the pair's rows between blocks of k and on their way out: f32 or int32. */
struct sums {
    _Alignas(LINE_BYTES) float at[PAIR_ROWS][AVX512_PANEL_COLUMNS];
};

ALWAYS_INLINE void load_sums(const struct pair *p, struct sums *sums, const bool two)
{
    if (p->first) {
        _tile_zero(0);
        _tile_zero(1);
        if (two) {
            _tile_zero(2);
            _tile_zero(3);
        }
        return;
    }
    for (int32_t r = 0; r < p->rows; r++)
        for (int half = 0; half < 2; half++)
            _mm512_store_ps(
                sums->at[r] + half * 16,
                _mm512_maskz_loadu_ps(p->lanes[half], p->y + (size_t)r * p->y_stride + half * 16));
    __asm__ volatile("" : : "r"(sums) : "memory"); /* gcc does not know that a tile load reads memory */
    _tile_loadd(0, sums->at[0], sizeof sums->at[0]);
    _tile_loadd(1, sums->at[0] + 16, sizeof sums->at[0]);
    if (two) {
        _tile_loadd(2, sums->at[TILE_ROWS], sizeof sums->at[0]);
        _tile_loadd(3, sums->at[TILE_ROWS] + 16, sizeof sums->at[0]);
    }
}

static void store_sums(const struct pair *p, const struct sums *sums)
{
    const bool scale = p->w->format == WEIGHT_INT8 && p->last;
    for (int32_t r = 0; r < p->rows; r++)
        for (int half = 0; half < 2; half++) {
            __m512 sum = _mm512_load_ps(sums->at[r] + half * 16);
            if (scale) {
                float row_scale;
                memcpy(&row_scale, p->x_tail + (size_t)r * p->x_stride, sizeof row_scale);
                const __m512i correction = _mm512_load_si512(p->header + (2 + half) * LINE_BYTES);
                sum = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_castps_si512(sum), correction));
                sum = _mm512_mul_ps(sum, _mm512_mul_ps(_mm512_load_ps(p->header + half * LINE_BYTES),
                                                       _mm512_set1_ps(row_scale)));
            }
            if (p->last && p->bias)
                sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(p->lanes[half], p->bias + half * 16));
            _mm512_mask_storeu_ps(p->y + (size_t)r * p->y_stride + half * 16, p->lanes[half], sum);
        }
}

#define TILE_PRODUCT(format, sum, rows, columns) \
    do {                                         \
        if ((format) == WEIGHT_BF16)             \
            _tile_dpbf16ps(sum, rows, columns);  \
        else                                     \
            _tile_dpbusd(sum, rows, columns);    \
    } while (0)

ALWAYS_INLINE void multiply_pair(enum weight_format format, const bool two, const struct pair *p)
{
    struct sums sums;
    load_sums(p, &sums, two);
    const uint8_t *w = p->panel, *x = p->x, *prefetch = p->prefetch;
    for (int32_t unit = 0; unit < p->units; unit += TILE_UNITS) {
        _tile_loadd(6, w, PANEL_UNIT_BYTES);
        _tile_loadd(4, x, p->x_stride);
        TILE_PRODUCT(format, 0, 4, 6);
        _tile_loadd(7, w + LINE_BYTES, PANEL_UNIT_BYTES);
        TILE_PRODUCT(format, 1, 4, 7);
        if (two) {
            _tile_loadd(5, x + TILE_ROWS * p->x_stride, p->x_stride);
            TILE_PRODUCT(format, 2, 5, 6);
            TILE_PRODUCT(format, 3, 5, 7);
        }
        for (size_t at = 0; at < p->prefetch_step_bytes; at += LINE_BYTES)
            _mm_prefetch((const char *)prefetch + at, _MM_HINT_T1);
        w += TILE_UNITS * PANEL_UNIT_BYTES, x += LINE_BYTES, prefetch += p->prefetch_step_bytes;
    }
    _tile_stored(0, sums.at[0], sizeof sums.at[0]);
    _tile_stored(1, sums.at[0] + 16, sizeof sums.at[0]);
    if (two) {
        _tile_stored(2, sums.at[TILE_ROWS], sizeof sums.at[0]);
        _tile_stored(3, sums.at[TILE_ROWS] + 16, sizeof sums.at[0]);
    }
    store_sums(p, &sums);
}

static void run_pair(const struct pair *p)
{
    if (p->w->format == WEIGHT_BF16 && p->rows > TILE_ROWS)
        multiply_pair(WEIGHT_BF16, true, p);
    else if (p->w->format == WEIGHT_BF16)
        multiply_pair(WEIGHT_BF16, false, p);
    else if (p->rows > TILE_ROWS)
        multiply_pair(WEIGHT_INT8, true, p);
    else
        multiply_pair(WEIGHT_INT8, false, p);
}

struct product {
    float *y;
    size_t y_stride;
    const struct weight *w;
    const struct activation *x;
    const float *bias;
    int32_t n_begin, n_end;
    size_t panel_bytes, x_stride;
    int32_t configured; /* rows of the pair that the tiles are set up for */
};

/* Rows [row, row_end) of one panel and one block of k, 32 at a time; each pair brings its share of the next
 * panel to L2. */
static void multiply_panel(struct product *product, struct pair *p, int32_t n, int32_t row, int32_t row_end)
{
    const uint8_t *x = p->x, *x_tail = p->x_tail;
    const int32_t pairs = (row_end - row + PAIR_ROWS - 1) / PAIR_ROWS;
    p->lanes[0] = avx512_lanes(product->n_end - n), p->lanes[1] = avx512_lanes(product->n_end - n - 16);
    p->bias = product->bias ? product->bias + n : NULL;
    p->prefetch = p->panel + (pairs == 1 ? STREAM_AHEAD_BYTES : product->panel_bytes);
    p->prefetch_step_bytes =
        (size_t)(TILE_UNITS * PANEL_UNIT_BYTES / pairs + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
    for (; row < row_end; row += PAIR_ROWS) {
        p->rows = row_end - row < PAIR_ROWS ? row_end - row : PAIR_ROWS;
        p->x = x + (size_t)row * product->x_stride, p->x_tail = x_tail + (size_t)row * product->x_stride;
        p->y = product->y + (size_t)row * product->y_stride + (size_t)n;
        if (product->configured != p->rows)
            amx_configure_rows(p->rows);
        product->configured = p->rows;
        run_pair(p);
        p->prefetch += (size_t)(p->units / TILE_UNITS) * p->prefetch_step_bytes;
    }
    p->x = x, p->x_tail = x_tail;
}

/* All panels of rows [row, row_end) for units [begin, end) of k. */
static void multiply_block(struct product *product, int32_t row, int32_t row_end, int32_t begin, int32_t end)
{
    const struct weight *w = product->w;
    const size_t offset =
        (w->format == WEIGHT_INT8 ? INT8_HEADER_BYTES : 0) + (size_t)begin * PANEL_UNIT_BYTES;
    struct pair p = {.w = w,
                     .x = (const uint8_t *)product->x->data + (size_t)begin * UNIT_BYTES,
                     .x_tail = (const uint8_t *)product->x->data + activation_tail(w->format, w->k),
                     .x_stride = product->x_stride,
                     .y_stride = product->y_stride,
                     .units = end - begin,
                     .first = begin == 0,
                     .last = end == row_units(w->format, w->k)};
    for (int32_t n = product->n_begin; n < product->n_end; n += AVX512_PANEL_COLUMNS) {
        p.header = (const uint8_t *)w->data + (size_t)(n / AVX512_PANEL_COLUMNS) * product->panel_bytes;
        p.panel = p.header + offset;
        multiply_panel(product, &p, n, row, row_end);
    }
}

void amx_matmul(float *y, size_t y_stride, const struct weight *w, const struct activation *x,
                const float *bias, int32_t n_begin, int32_t n_end)
{
    CHECK(x->k == w->k && x->format == w->format);
    CHECK(n_begin % AVX512_PANEL_COLUMNS == 0 && n_end <= w->n);
    const bool few = w->format == WEIGHT_INT4 && x->rows <= FEW_INT4_ROWS;
    if (w->format == WEIGHT_F32 || few) {
        avx512_matmul(y, y_stride, w, x, bias, n_begin, n_end);
        return;
    }
    if (w->format == WEIGHT_INT4) {
        amx_matmul_int4(&(struct amx_product){y, y_stride, w, x, bias, n_begin, n_end});
        return;
    }
    struct product product = {.y = y,
                              .y_stride = y_stride,
                              .w = w,
                              .x = x,
                              .bias = bias,
                              .n_begin = n_begin,
                              .n_end = n_end,
                              .panel_bytes = panel_bytes(w->format, w->k),
                              .x_stride = activation_stride(w->format, w->k)};
    const struct cut rows = cut_evenly(x->rows, BLOCK_ROWS);
    const int32_t k_tiles = row_units(w->format, w->k) / TILE_UNITS;
    const struct cut blocks = cut_evenly(k_tiles, x->rows <= PAIR_ROWS ? k_tiles : BLOCK_UNITS / TILE_UNITS);
    for (int32_t r = 0; r < rows.parts; r++)
        for (int32_t b = 0; b < blocks.parts; b++)
            multiply_block(&product, cut_at(rows, r), cut_at(rows, r + 1), cut_at(blocks, b) * TILE_UNITS,
                           cut_at(blocks, b + 1) * TILE_UNITS);
    _tile_release(); /* a switch of threads then has no tiles to save */
}

uint64_t amx_peak(enum weight_format format, uint64_t operations)
{
    _Alignas(LINE_BYTES) static const uint8_t ones[TILE_ROWS * LINE_BYTES] = {1};
    const uint64_t per_round = 4ull * 2 * TILE_ROWS * 16 * (format == WEIGHT_BF16 ? 32 : 64);
    const uint64_t rounds = operations / per_round + 1;
    amx_configure_rows(PAIR_ROWS);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, ones, LINE_BYTES);
    _tile_loadd(5, ones, LINE_BYTES);
    _tile_loadd(6, ones, LINE_BYTES);
    _tile_loadd(7, ones, LINE_BYTES);
    for (uint64_t round = 0; round < rounds; round++) {
        TILE_PRODUCT(format, 0, 4, 6);
        TILE_PRODUCT(format, 1, 4, 7);
        TILE_PRODUCT(format, 2, 5, 6);
        TILE_PRODUCT(format, 3, 5, 7);
    }
    _tile_release();
    return rounds * per_round;
}
