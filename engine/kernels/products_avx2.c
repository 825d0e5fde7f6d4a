// SPDX-License-Identifier: Apache-2.0
// Matrix products on AVX2 and FMA: panels of 16 columns against register tiles of 1 to 4 rows.
//
// Panel: f32 [k][16]; bf16 [k / 2][16] pairs, widened exactly on the way; int8 scales f32 [16], then [k /
// 2][16] pairs, multiplied as 16-bit integers, which is exact. Rows: f32 for f32 and bf16 panels; for int8
// 16-bit values of a byte's range and one scale per row. k is padded with zeros to an even number.
//
// Invariant: an output element is one accumulator that takes k in ascending order, for any number of rows. A
// long k is cut into blocks, between which the sum waits in y.
#include "engine/kernels/products_avx2.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "engine/kernels/cut.h"
#include "engine/kernels/dtype.h"

enum {
    COLUMNS = AVX2_PANEL_COLUMNS,
    TILE_ROWS = 4,
    BLOCK_ROWS = 16 * TILE_ROWS,
    BLOCK_PAIRS = 512, /* of k */
    LINE_BYTES = 64,
    INT8_HEADER_BYTES = COLUMNS * 4,
    STREAM_AHEAD_BYTES = 2048
};
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

bool avx2_has_format(enum weight_format format)
{
    return format == WEIGHT_F32 || format == WEIGHT_BF16 || format == WEIGHT_INT8;
}

static int32_t pairs_of(int32_t k)
{
    return (k + 1) / 2;
}

/* Bytes of a pair of k for all columns of a panel. */
ALWAYS_INLINE size_t pair_bytes(enum weight_format format)
{
    return (size_t)COLUMNS * (format == WEIGHT_F32 ? 8 : format == WEIGHT_BF16 ? 4 : 2);
}

static size_t header_bytes(enum weight_format format)
{
    return format == WEIGHT_INT8 ? INT8_HEADER_BYTES : 0;
}

static size_t panel_bytes(enum weight_format format, int32_t k)
{
    const size_t bytes = header_bytes(format) + (size_t)pairs_of(k) * pair_bytes(format);
    return (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

size_t avx2_weight_bytes(enum weight_format format, int32_t n, int32_t k)
{
    CHECK(avx2_has_format(format) && n > 0 && k > 0);
    return (size_t)((n + COLUMNS - 1) / COLUMNS) * panel_bytes(format, k);
}

static void pack_float(uint8_t *panel, enum weight_format format, int32_t column, int32_t k, float value)
{
    const uint16_t half = dtype_bf16_from_f32(value);
    if (format == WEIGHT_F32)
        memcpy(panel + ((size_t)k * COLUMNS + (size_t)column) * sizeof value, &value, sizeof value);
    else
        memcpy(panel + ((size_t)(k / 2) * COLUMNS + (size_t)column) * 4 + (size_t)(k % 2) * 2, &half,
               sizeof half);
}

static void pack_column_int8(uint8_t *panel, int32_t column, const void *src, enum dtype dtype, size_t first,
                             int32_t k)
{
    float max = 0.0f;
    for (int32_t i = 0; i < k; i++)
        max = fmaxf(max, fabsf(dtype_load(src, first + (size_t)i, dtype)));
    const float scale = max / 127.0f, inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    memcpy(panel + column * 4, &scale, sizeof scale);
    for (int32_t i = 0; i < k; i++) {
        float q = fminf(fmaxf(rintf(dtype_load(src, first + (size_t)i, dtype) * inverse), -127.0f), 127.0f);
        panel[INT8_HEADER_BYTES + ((size_t)(i / 2) * COLUMNS + (size_t)column) * 2 + (size_t)(i % 2)] =
            (uint8_t)(int8_t)q;
    }
}

void avx2_weight_pack(struct weight *w, const void *src, enum dtype dtype, int32_t n_begin, int32_t n_end)
{
    CHECK(n_begin % COLUMNS == 0 && (n_end % COLUMNS == 0 || n_end == w->n));
    CHECK(w->format != WEIGHT_INT8 || w->k <= 65536); /* sums fit 32 bits */
    const size_t bytes = panel_bytes(w->format, w->k);
    for (int32_t n = n_begin; n < n_end; n++) {
        uint8_t *panel = (uint8_t *)w->data + (size_t)(n / COLUMNS) * bytes;
        const size_t first = (size_t)n * (size_t)w->k;
        if (n % COLUMNS == 0)
            memset(panel, 0, bytes);
        if (w->format == WEIGHT_INT8)
            pack_column_int8(panel, n % COLUMNS, src, dtype, first, w->k);
        for (int32_t i = 0; w->format != WEIGHT_INT8 && i < w->k; i++)
            pack_float(panel, w->format, n % COLUMNS, i, dtype_load(src, first + (size_t)i, dtype));
    }
}

/* Bytes of a row's values; int8: the scale follows. */
static size_t values_bytes(enum weight_format format, int32_t k)
{
    return (size_t)pairs_of(k) * 2 * (format == WEIGHT_INT8 ? sizeof(int16_t) : sizeof(float));
}

/* An odd number of cache lines, so that the rows of a tile do not compete for the same cache sets. */
static size_t row_stride(enum weight_format format, int32_t k)
{
    return ((values_bytes(format, k) + sizeof(float) + LINE_BYTES - 1) / LINE_BYTES | 1) * LINE_BYTES;
}

size_t avx2_activation_bytes(enum weight_format format, int32_t rows, int32_t k)
{
    return (size_t)rows * row_stride(format, k);
}

static void quantise_row(uint8_t *out, const float *x, int32_t k)
{
    float max = 0.0f;
    for (int32_t i = 0; i < k; i++)
        max = fmaxf(max, fabsf(x[i]));
    const float scale = max / 127.0f, inverse = max > 0.0f ? 127.0f / max : 0.0f;
    int16_t *values = (int16_t *)out;
    for (int32_t i = 0; i < k; i++)
        values[i] = (int16_t)fminf(fmaxf(rintf(x[i] * inverse), -127.0f), 127.0f);
    if (k % 2 != 0)
        values[k] = 0;
    memcpy(out + values_bytes(WEIGHT_INT8, k), &scale, sizeof scale);
}

void avx2_activation_prepare(struct activation *x, int32_t row_begin, int32_t row_end)
{
    for (int32_t row = row_begin; row < row_end; row++) {
        const float *source = activation_source(x, row);
        uint8_t *out = (uint8_t *)x->data + (size_t)row * row_stride(x->format, x->k);
        if (x->format == WEIGHT_INT8) {
            quantise_row(out, source, x->k);
            continue;
        }
        memcpy(out, source, (size_t)x->k * sizeof *source);
        if (x->k % 2 != 0)
            ((float *)out)[x->k] = 0.0f;
    }
}

struct tile {
    const uint8_t *w, *header; /* the panel's pairs of this block of k; int8: its scales */
    const uint8_t *x, *x_tail;
    size_t x_stride, y_stride;
    float *y;
    const float *bias;
    int32_t columns, pairs;
    bool first, last;
};

ALWAYS_INLINE __m256i broadcast_pair(const uint8_t *x)
{
    int32_t bits;
    memcpy(&bits, x, sizeof bits);
    return _mm256_set1_epi32(bits);
}

/* acc[row][half] takes one pair of k; w[half][i] is element i of the pair, widened (int8: w[half][0] both).
 */
ALWAYS_INLINE void take_pair(enum weight_format format, const int rows, __m256 acc[][2], __m256i w[2][2],
                             const uint8_t *x, size_t stride)
{
    UNROLL
    for (int r = 0; r < rows; r++, x += stride) {
        if (format == WEIGHT_INT8) {
            const __m256i pair = broadcast_pair(x);
            for (int half = 0; half < 2; half++)
                acc[r][half] = _mm256_castsi256_ps(
                    _mm256_add_epi32(_mm256_castps_si256(acc[r][half]), _mm256_madd_epi16(w[half][0], pair)));
            continue;
        }
        for (int i = 0; i < 2; i++) {
            const __m256 value = _mm256_broadcast_ss((const float *)x + i);
            acc[r][0] = _mm256_fmadd_ps(_mm256_castsi256_ps(w[0][i]), value, acc[r][0]);
            acc[r][1] = _mm256_fmadd_ps(_mm256_castsi256_ps(w[1][i]), value, acc[r][1]);
        }
    }
}

ALWAYS_INLINE void load_pair(enum weight_format format, __m256i w[2][2], const uint8_t *at)
{
    const __m256i high = _mm256_set1_epi32((int)0xffff0000u);
    for (int half = 0; half < 2; half++) {
        const __m256i *vectors = (const __m256i *)at + half;
        if (format == WEIGHT_F32) {
            w[half][0] = _mm256_load_si256(vectors);
            w[half][1] = _mm256_load_si256(vectors + 2);
        } else if (format == WEIGHT_BF16) {
            const __m256i both = _mm256_load_si256(vectors);
            w[half][0] = _mm256_slli_epi32(both, 16);
            w[half][1] = _mm256_and_si256(both, high);
        } else {
            w[half][0] = w[half][1] = _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)at + half));
        }
    }
}

/* y of a tile, in and out, through a whole panel's width. */
struct sums {
    _Alignas(LINE_BYTES) float at[TILE_ROWS][COLUMNS];
};

static void store_sums(const struct tile *t, enum weight_format format, int rows, struct sums *sums)
{
    for (int r = 0; r < rows; r++) {
        float *y = t->y + (size_t)r * t->y_stride, row_scale = 1.0f;
        memcpy(&row_scale, t->x_tail + (size_t)r * t->x_stride, sizeof row_scale);
        for (int32_t column = 0; column < t->columns; column++) {
            float sum = sums->at[r][column];
            if (format == WEIGHT_INT8 && t->last) {
                float scale;
                memcpy(&scale, t->header + column * 4, sizeof scale);
                sum = (float)(int32_t)dtype_f32_bits(sum) * (scale * row_scale);
            }
            y[column] = t->last && t->bias ? sum + t->bias[column] : sum;
        }
    }
}

ALWAYS_INLINE void run_tile(enum weight_format format, const int rows, const struct tile *t)
{
    struct sums sums = {0};
    for (int r = 0; !t->first && r < rows; r++)
        memcpy(sums.at[r], t->y + (size_t)r * t->y_stride, (size_t)t->columns * sizeof(float));
    __m256 acc[TILE_ROWS][2];
    UNROLL
    for (int r = 0; r < rows; r++)
        acc[r][0] = _mm256_load_ps(sums.at[r]), acc[r][1] = _mm256_load_ps(sums.at[r] + 8);
    const uint8_t *w = t->w, *x = t->x;
    for (int32_t pair = 0; pair < t->pairs; pair++) {
        __m256i operands[2][2];
        load_pair(format, operands, w);
        _mm_prefetch((const char *)w + STREAM_AHEAD_BYTES, _MM_HINT_T0);
        take_pair(format, rows, acc, operands, x, t->x_stride);
        w += pair_bytes(format);
        x += format == WEIGHT_INT8 ? 2 * sizeof(int16_t) : 2 * sizeof(float);
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        _mm256_store_ps(sums.at[r], acc[r][0]), _mm256_store_ps(sums.at[r] + 8, acc[r][1]);
    store_sums(t, format, rows, &sums);
}

/* One function per format and height, so that accumulators live in registers. */
#define HEIGHTS(X, format) X(format, 1) X(format, 2) X(format, 3) X(format, 4)
#define DEFINE_TILE(format, rows)                            \
    static void tile_##format##_##rows(const struct tile *t) \
    {                                                        \
        run_tile(WEIGHT_##format, rows, t);                  \
    }
HEIGHTS(DEFINE_TILE, F32)
HEIGHTS(DEFINE_TILE, BF16)
HEIGHTS(DEFINE_TILE, INT8)

#define LIST_TILE(format, rows) [WEIGHT_##format][rows] = tile_##format##_##rows,
static void (*const tiles[3][TILE_ROWS + 1])(const struct tile *t) = {
    HEIGHTS(LIST_TILE, F32) HEIGHTS(LIST_TILE, BF16) HEIGHTS(LIST_TILE, INT8)};

struct product {
    float *y;
    const struct weight *w;
    const float *bias;
    int32_t n_begin, n_end;
};

/* One panel, rows [row, row_end), the block of k that `t` describes. */
static void multiply_panel(const struct product *p, struct tile t, int32_t n, int32_t row, int32_t row_end)
{
    const struct cut cut = cut_evenly(row_end - row, TILE_ROWS);
    const uint8_t *x = t.x, *x_tail = t.x_tail;
    t.header = (const uint8_t *)p->w->data + (size_t)(n / COLUMNS) * panel_bytes(p->w->format, p->w->k);
    t.w += t.header - (const uint8_t *)p->w->data;
    t.columns = p->n_end - n < COLUMNS ? p->n_end - n : COLUMNS;
    t.bias = p->bias ? p->bias + n : NULL;
    for (int32_t part = 0; part < cut.parts; part++) {
        const int32_t first = row + cut_at(cut, part);
        t.x = x + (size_t)first * t.x_stride, t.x_tail = x_tail + (size_t)first * t.x_stride;
        t.y = p->y + (size_t)first * t.y_stride + (size_t)n;
        tiles[p->w->format][row + cut_at(cut, part + 1) - first](&t);
    }
}

void avx2_matmul(float *y, size_t y_stride, const struct weight *w, const struct activation *x,
                 const float *bias, int32_t n_begin, int32_t n_end)
{
    CHECK(x->k == w->k && x->format == w->format);
    CHECK(n_begin % COLUMNS == 0 && n_end <= w->n);
    const struct product p = {.y = y, .w = w, .bias = bias, .n_begin = n_begin, .n_end = n_end};
    const struct cut rows = cut_evenly(x->rows, BLOCK_ROWS);
    const int32_t pairs = pairs_of(w->k);
    const struct cut blocks = cut_evenly(pairs, x->rows <= TILE_ROWS ? pairs : BLOCK_PAIRS);
    struct tile t = {.x_stride = row_stride(w->format, w->k), .y_stride = y_stride};
    t.x_tail = (const uint8_t *)x->data + values_bytes(w->format, w->k);
    for (int32_t r = 0; r < rows.parts; r++)
        for (int32_t b = 0; b < blocks.parts; b++) {
            const size_t begin = (size_t)cut_at(blocks, b);
            t.x = (const uint8_t *)x->data + begin * 2 * (w->format == WEIGHT_INT8 ? 2 : sizeof(float));
            t.w = (const uint8_t *)w->data + header_bytes(w->format) + begin * pair_bytes(w->format);
            t.pairs = cut_at(blocks, b + 1) - (int32_t)begin;
            t.first = b == 0, t.last = b == blocks.parts - 1;
            for (int32_t n = n_begin; n < n_end; n += COLUMNS)
                multiply_panel(&p, t, n, cut_at(rows, r), cut_at(rows, r + 1));
        }
}
