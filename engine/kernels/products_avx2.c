// SPDX-License-Identifier: Apache-2.0
// Matrix products on AVX2 and FMA: weight panels of 16 columns against register tiles of 2 to 6 rows; one row
// alone goes past several panels at a time.
//
// Invariant: an output element is one accumulator lane that takes k in ascending order (int8: exact; int4:
// the groups of k in ascending order, exact inside), whatever the tile's height. A long k is cut into blocks,
// and the accumulator then waits in y between blocks, which changes no bit. Idea: the block of a panel stays
// in the cache while all rows pass by; meanwhile each tile prefetches its share of the panel that comes next,
// so that memory and arithmetic overlap.
#include "base/check.h"
#include "engine/kernels/panels_avx2.h"

enum {
    COLUMNS = AVX2_PANEL_COLUMNS,
    BLOCK_TILES = 8,
    TURN_LINES = 4,
    BLOCK_LINES = 512, /* of k: a panel's block and the units of a block of rows stay in L2 */
    STREAM_AHEAD_BYTES = 4096
};

struct tile {
    void (*run)(const struct tile *t);
    const uint8_t *w;           /* the panel's lines of this block of k; int4: its groups */
    const uint8_t *header;      /* int8: the panel's scales */
    const uint8_t *x;           /* the tile's units of this block of k */
    const uint8_t *x_tail;      /* int8 and int4: the tile's scales */
    const uint8_t *corrections; /* int4: of the tile's rows in this block's groups */
    float *y;                   /* first row, first column */
    size_t y_stride;
    const float *bias; /* first column; NULL: none */
    int32_t columns;
    int32_t lines;              /* of this block */
    bool first, last;           /* block of k */
    const uint8_t *prefetch;    /* what to bring near meanwhile */
    size_t prefetch_step_bytes; /* per line; int4: per group */
};

ALWAYS_INLINE __m256 float_of(__m256i v)
{
    return _mm256_castsi256_ps(v);
}

ALWAYS_INLINE __m256i integer_of(__m256 v)
{
    return _mm256_castps_si256(v);
}

ALWAYS_INLINE __m256i broadcast_4_bytes(const uint8_t *at)
{
    int32_t bits;
    memcpy(&bits, at, sizeof bits);
    return _mm256_set1_epi32(bits);
}

/* The weights of 16 columns for step `i` of a line: 1 k of f32 and bf16, 2 k of int8. */
ALWAYS_INLINE void load_step(enum weight_format format, int i, const uint8_t *line, __m256i w[2])
{
    for (int half = 0; half < 2; half++) {
        const __m256i *whole = (const __m256i *)line + half;
        if (format == WEIGHT_F32)
            w[half] = _mm256_load_si256(whole);
        else if (format == WEIGHT_BF16 && i == 0) /* widened in one instruction with its load */
            w[half] = _mm256_unpacklo_epi16(_mm256_setzero_si256(), _mm256_load_si256(whole));
        else if (format == WEIGHT_BF16)
            w[half] = _mm256_unpackhi_epi16(_mm256_setzero_si256(), _mm256_load_si256(whole));
        else
            w[half] = _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)line + 2 * i + half));
    }
}

/* acc + w * x. int8: two 16-bit products summed, which is exact. Written out for floats: from the intrinsic,
 * gcc moves sums between registers and keeps one in memory, whose latency then is the speed of the loop. */
ALWAYS_INLINE __m256 take(enum weight_format format, __m256 acc, __m256i w, __m256i x)
{
    if (format == WEIGHT_INT8)
        return float_of(_mm256_add_epi32(integer_of(acc), _mm256_madd_epi16(w, x)));
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(acc) : "x"(w), "x"(x));
    return acc;
}

ALWAYS_INLINE void take_step(enum weight_format format, int i, const int rows, __m256 acc[][2],
                             const uint8_t *line, const uint8_t *x)
{
    __m256i weights[2];
    load_step(format, i, line, weights);
    UNROLL
    for (int r = 0; r < rows; r++) {
        const uint8_t *unit = x + (i * rows + r) * UNIT_BYTES;
        const __m256i operand = format == WEIGHT_INT8 ? broadcast_4_bytes(unit)
                                                      : integer_of(_mm256_broadcast_ss((const float *)unit));
        for (int half = 0; half < 2; half++) {
            acc[r][half] = take(format, acc[r][half], weights[half], operand);
            PIN(acc[r][half]);
        }
    }
}

ALWAYS_INLINE void take_line(enum weight_format format, const int rows, __m256 acc[][2], const uint8_t *line,
                             const uint8_t *x)
{
    take_step(format, 0, rows, acc, line, x);
    if (format != WEIGHT_F32)
        take_step(format, 1, rows, acc, line, x);
}

/* acc[row][half] takes all lines, and asks for `ahead` lines in each turn. A thread that shares its core with
 * another is fed half as many instructions, and then every one that is no product costs: so few in a turn. */
ALWAYS_INLINE void accumulate(enum weight_format format, const int rows, __m256 acc[][2],
                              const struct tile *t, const int ahead)
{
    const size_t unit_bytes = (size_t)(line_units(format) * rows * UNIT_BYTES);
    const uint8_t *w = t->w, *x = t->x, *prefetch = t->prefetch;
    int32_t line = 0;
    for (; line + TURN_LINES <= t->lines; line += TURN_LINES) {
        UNROLL
        for (int i = 0; i < ahead; i++)
            _mm_prefetch((const char *)prefetch + i * LINE_BYTES, _MM_HINT_T0);
        UNROLL
        for (int i = 0; i < TURN_LINES; i++)
            take_line(format, rows, acc, w + i * LINE_BYTES, x + (size_t)i * unit_bytes);
        w += TURN_LINES * LINE_BYTES, x += TURN_LINES * unit_bytes;
        prefetch += TURN_LINES * t->prefetch_step_bytes;
    }
    for (; line < t->lines; line++, w += LINE_BYTES, x += unit_bytes)
        take_line(format, rows, acc, w, x);
}

ALWAYS_INLINE float tail_scale(const struct tile *t, int row)
{
    float scale;
    memcpy(&scale, t->x_tail + row * UNIT_BYTES, sizeof scale);
    return scale;
}

/* Adds the bias and stores one row of the tile. */
ALWAYS_INLINE void store_row(const struct tile *t, int row, __m256 low, __m256 high)
{
    float *y = t->y + (size_t)row * t->y_stride;
    if (t->last && t->bias) {
        low = _mm256_add_ps(low, avx2_load(t->bias, t->columns));
        high = _mm256_add_ps(high, avx2_load(t->bias + 8, t->columns - 8));
    }
    avx2_store(y, t->columns, low);
    avx2_store(y + 8, t->columns - 8, high);
}

ALWAYS_INLINE __m256 initial(const struct tile *t, int row, int half)
{
    if (t->first)
        return _mm256_setzero_ps();
    return avx2_load(t->y + (size_t)row * t->y_stride + half * 8, t->columns - half * 8);
}

ALWAYS_INLINE __m256 scaled(const struct tile *t, int row, int half, __m256 sum)
{
    const __m256 scale = _mm256_load_ps((const float *)t->header + half * 8);
    return _mm256_mul_ps(_mm256_cvtepi32_ps(integer_of(sum)),
                         _mm256_mul_ps(scale, _mm256_set1_ps(tail_scale(t, row))));
}

/* f32, bf16, int8. */
ALWAYS_INLINE void plain_tile(enum weight_format format, const int rows, const struct tile *t)
{
    __m256 acc[TILE_ROWS][2];
    UNROLL
    for (int r = 0; r < rows; r++)
        acc[r][0] = initial(t, r, 0), acc[r][1] = initial(t, r, 1);
    if (t->prefetch_step_bytes == LINE_BYTES)
        accumulate(format, rows, acc, t, TURN_LINES);
    else
        accumulate(format, rows, acc, t, TURN_LINES / 2);
    UNROLL
    for (int r = 0; r < rows; r++) {
        if (format == WEIGHT_INT8 && t->last)
            acc[r][0] = scaled(t, r, 0, acc[r][0]), acc[r][1] = scaled(t, r, 1, acc[r][1]);
        store_row(t, r, acc[r][0], acc[r][1]);
    }
}

ALWAYS_INLINE __m256 load_bf16(const uint8_t *data)
{
    return float_of(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)data)), 16));
}

/* acc[row][half] takes 4 k in lanes of 16 bits. */
ALWAYS_INLINE void int4_step(const int rows, __m256i acc[][2], const uint8_t *w, const uint8_t *x)
{
    const __m256i nibble = _mm256_set1_epi8(0x0f), both = _mm256_load_si256((const __m256i *)w);
    const __m256i low = _mm256_and_si256(both, nibble);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
    UNROLL
    for (int r = 0; r < rows; r++) {
        const __m256i operand = broadcast_4_bytes(x + r * UNIT_BYTES);
        acc[r][0] = _mm256_add_epi16(acc[r][0], _mm256_maddubs_epi16(low, operand));
        PIN(acc[r][0]);
        acc[r][1] = _mm256_add_epi16(acc[r][1], _mm256_maddubs_epi16(high, operand));
        PIN(acc[r][1]);
    }
}

/* The same for five and six rows, which fill the registers: gcc moved a sum to the stack and back in each. */
#define UNPACK                               \
    "vmovdqa (%[w]), %%ymm13\n\t"            \
    "vpand %[nibbles], %%ymm13, %%ymm12\n\t" \
    "vpsrlw $4, %%ymm13, %%ymm13\n\t"        \
    "vpand %[nibbles], %%ymm13, %%ymm13\n\t"
#define ROW(at, low, high)                     \
    "vpbroadcastd " #at "(%[x]), %%ymm14\n\t"  \
    "vpmaddubsw %%ymm14, %%ymm12, %%ymm15\n\t" \
    "vpmaddubsw %%ymm14, %%ymm13, %%ymm14\n\t" \
    "vpaddw %%ymm15, %" #low ", %" #low "\n\t" \
    "vpaddw %%ymm14, %" #high ", %" #high "\n\t"
#define FIVE_ROWS UNPACK ROW(0, 0, 1) ROW(4, 2, 3) ROW(8, 4, 5) ROW(12, 6, 7) ROW(16, 8, 9)
#define SUMS(row) "+x"(acc[row][0]), "+x"(acc[row][1])
#define OPERANDS [w] "r"(w), [x] "r"(x), [nibbles] "m"(nibbles) : "xmm12", "xmm13", "xmm14", "xmm15", "memory"
ALWAYS_INLINE void int4_step_of_5_or_6(const int rows, __m256i acc[][2], const uint8_t *w, const uint8_t *x)
{
    static const _Alignas(32)
        uint8_t nibbles[32] = {15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
                               15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15};
    if (rows == 5)
        __asm__(FIVE_ROWS : SUMS(0), SUMS(1), SUMS(2), SUMS(3), SUMS(4) : OPERANDS);
    else
        __asm__(FIVE_ROWS ROW(20, 10, 11) : SUMS(0), SUMS(1), SUMS(2), SUMS(3), SUMS(4), SUMS(5) : OPERANDS);
}
#undef UNPACK
#undef ROW
#undef FIVE_ROWS
#undef SUMS
#undef OPERANDS

/* acc[row][half] takes a group. Lanes of 16 bits wrap, but end as exact sums: of 32 products of at most
 * 8 * 127 each, once the correction that they began with is in. */
ALWAYS_INLINE void int4_steps(const int rows, __m256i acc[][2], const uint8_t *w, const uint8_t *x)
{
    UNROLL
    for (int step = 0; step < 2 * INT4_GROUP_LINES; step++, w += LINE_BYTES / 2, x += rows * UNIT_BYTES) {
        if (rows >= 5)
            int4_step_of_5_or_6(rows, acc, w, x);
        else
            int4_step(rows, acc, w, x);
    }
}

/* One group of k, scaled into the running sum. */
ALWAYS_INLINE void int4_group(const int rows, __m256 sum[][2], const struct tile *t, int32_t group)
{
    const uint8_t *w = t->w + (size_t)group * INT4_GROUP_BYTES;
    const uint8_t *x = t->x + (size_t)(group * rows) * (INT4_GROUP_LINES * 2 * UNIT_BYTES);
    const uint8_t *correction = t->corrections + (size_t)(group * rows) * UNIT_BYTES;
    const __m256 scales[2] = {load_bf16(w), load_bf16(w + INT4_SCALE_BYTES / 2)};
    __m256i acc[TILE_ROWS][2];
    UNROLL
    for (int r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = broadcast_4_bytes(correction + r * UNIT_BYTES);
    int4_steps(rows, acc, w + INT4_SCALE_BYTES, x);
    UNROLL
    for (int r = 0; r < rows; r++)
        for (int half = 0; half < 2; half++) {
            const __m256i total = _mm256_madd_epi16(acc[r][half], _mm256_set1_epi16(1));
            sum[r][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total), scales[half], sum[r][half]);
        }
}

/* sum[row][half] takes all groups, and asks for `ahead` lines with each. */
ALWAYS_INLINE void int4_groups_of(const int rows, __m256 sum[][2], const struct tile *t, const int ahead)
{
    const uint8_t *prefetch = t->prefetch;
    for (int32_t group = 0; group < t->lines / INT4_GROUP_LINES; group++) {
        UNROLL
        for (int i = 0; i < ahead; i++)
            _mm_prefetch((const char *)prefetch + i * LINE_BYTES, _MM_HINT_T0);
        prefetch += t->prefetch_step_bytes;
        int4_group(rows, sum, t, group);
    }
}

ALWAYS_INLINE void int4_tile(const int rows, const struct tile *t)
{
    enum { ALL_LINES = (INT4_GROUP_BYTES + LINE_BYTES - 1) / LINE_BYTES };
    __m256 sum[TILE_ROWS][2];
    for (int r = 0; r < rows; r++)
        sum[r][0] = initial(t, r, 0), sum[r][1] = initial(t, r, 1);
    if (t->prefetch_step_bytes == INT4_GROUP_BYTES)
        int4_groups_of(rows, sum, t, ALL_LINES);
    else
        int4_groups_of(rows, sum, t, (ALL_LINES + 1) / 2);
    for (int r = 0; r < rows; r++) {
        const __m256 scale = _mm256_set1_ps(t->last ? tail_scale(t, r) : 1.0f);
        store_row(t, r, _mm256_mul_ps(sum[r][0], scale), _mm256_mul_ps(sum[r][1], scale));
    }
}

/* One function per format and height, so that accumulators live in registers. */
#define HEIGHTS(X, format) X(format, 2) X(format, 3) X(format, 4) X(format, 5) X(format, 6)
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
    size_t panel_bytes;
    struct cut tiles; /* of the rows */
};

static size_t line_offset(enum weight_format format, int32_t line)
{
    if (format == WEIGHT_INT4)
        return (size_t)(line / INT4_GROUP_LINES) * INT4_GROUP_BYTES;
    return (format == WEIGHT_INT8 ? INT8_HEADER_BYTES : 0) + (size_t)line * LINE_BYTES;
}

/* The units of a tile's rows from line `begin` on. */
static const uint8_t *tile_units(const struct product *p, int32_t tile, int32_t begin)
{
    const int32_t first = cut_at(p->tiles, tile), height = cut_at(p->tiles, tile + 1) - first;
    return (const uint8_t *)p->x->data + (size_t)first * row_bytes(p->w->format, p->w->k) +
           (size_t)(begin * line_units(p->w->format) * height) * UNIT_BYTES;
}

static const uint8_t *tile_tail(const struct product *p, int32_t first)
{
    const enum weight_format format = p->w->format;
    return (const uint8_t *)p->x->data + (size_t)p->x->rows * row_bytes(format, p->w->k) +
           (size_t)first * row_tail_bytes(format, p->w->k);
}

/* What tiles [first, first + count) of the rows have in common for all panels, for the lines of k from
 * `begin` to `end`. */
static void lay_tiles(const struct product *p, struct tile *list, int32_t first, int32_t count, int32_t begin,
                      int32_t end)
{
    const bool int4 = p->w->format == WEIGHT_INT4;
    for (int32_t i = 0; i < count; i++) {
        const int32_t row = cut_at(p->tiles, first + i), height = cut_at(p->tiles, first + i + 1) - row;
        const uint8_t *tail = tile_tail(p, row);
        list[i] = (struct tile){
            .run = tiles[p->w->format][height],
            .x = tile_units(p, first + i, begin),
            .x_tail = tail,
            .corrections = tail + (size_t)((1 + begin / INT4_GROUP_LINES) * height) * UNIT_BYTES,
            .y = p->y + (size_t)row * p->y_stride + (size_t)p->n_begin,
            .y_stride = p->y_stride,
            .lines = end - begin,
            .first = begin == 0,
            .last = end == panel_lines(p->w->format, p->w->k),
            .prefetch_step_bytes = (size_t)(int4 ? INT4_GROUP_BYTES : LINE_BYTES) / (size_t)count,
        };
    }
}

/* All panels of tiles [first, first + count) for lines [begin, end) of k. */
static void multiply_block(const struct product *p, int32_t first, int32_t count, int32_t begin, int32_t end)
{
    struct tile list[BLOCK_TILES];
    lay_tiles(p, list, first, count, begin, end);
    const int32_t steps = p->w->format == WEIGHT_INT4 ? (end - begin) / INT4_GROUP_LINES : end - begin;
    const size_t begin_bytes = line_offset(p->w->format, begin),
                 ahead_bytes = count == 1 ? STREAM_AHEAD_BYTES : p->panel_bytes,
                 share_bytes = (size_t)steps * list[0].prefetch_step_bytes; /* that a tile asks for */
    const uint8_t *header = (const uint8_t *)p->w->data + (size_t)(p->n_begin / COLUMNS) * p->panel_bytes;
    for (int32_t n = p->n_begin; n < p->n_end; n += COLUMNS, header += p->panel_bytes) {
        const uint8_t *w = header + begin_bytes;
        for (int32_t i = 0; i < count; i++) {
            struct tile *t = &list[i];
            t->header = header;
            t->w = w;
            t->prefetch = w + ahead_bytes + share_bytes * (size_t)i;
            t->columns = p->n_end - n < COLUMNS ? p->n_end - n : COLUMNS;
            t->bias = p->bias ? p->bias + n : NULL;
            t->run(t);
            t->y += COLUMNS;
        }
    }
}

/* ---- one row ----
 * The arithmetic is little and memory is all. A core that reads one run of memory waits for it; so several
 * panels are read side by side, each front to back, and asked for a little ahead. */

enum { MOST_ABREAST = 4, ROW_AHEAD_BYTES = 1024 };

/* Panel `p` of those side by side, which lie apart_bytes from each other. */
ALWAYS_INLINE struct tile tile_abreast(const struct tile *first, int p, size_t apart_bytes)
{
    struct tile t = *first;
    t.header += (size_t)p * apart_bytes;
    t.w += (size_t)p * apart_bytes;
    return t;
}

ALWAYS_INLINE void plain_abreast(enum weight_format format, const int abreast, const struct tile *first,
                                 size_t apart_bytes, __m256 acc[][2])
{
    const uint8_t *w = first->w, *x = first->x;
    for (int32_t line = 0; line < first->lines; line++) {
        UNROLL
        for (int p = 0; p < abreast; p++) {
            const uint8_t *mine = w + (size_t)p * apart_bytes;
            _mm_prefetch((const char *)mine + ROW_AHEAD_BYTES, _MM_HINT_T0);
            take_line(format, 1, &acc[p], mine, x);
        }
        w += LINE_BYTES, x += line_units(format) * UNIT_BYTES;
    }
    for (int p = 0; p < abreast && format == WEIGHT_INT8; p++) {
        const struct tile t = tile_abreast(first, p, apart_bytes);
        acc[p][0] = scaled(&t, 0, 0, acc[p][0]), acc[p][1] = scaled(&t, 0, 1, acc[p][1]);
    }
}

ALWAYS_INLINE void int4_abreast(const int abreast, const struct tile *first, size_t apart_bytes,
                                __m256 acc[][2])
{
    for (int32_t group = 0; group < first->lines / INT4_GROUP_LINES; group++) {
        UNROLL
        for (int p = 0; p < abreast; p++) {
            const struct tile t = tile_abreast(first, p, apart_bytes);
            const uint8_t *ahead = t.w + (size_t)group * INT4_GROUP_BYTES + ROW_AHEAD_BYTES;
            UNROLL
            for (size_t line = 0; line < INT4_GROUP_BYTES; line += LINE_BYTES)
                _mm_prefetch((const char *)ahead + line, _MM_HINT_T0);
            int4_group(1, &acc[p], &t, group);
        }
    }
    const __m256 scale = _mm256_set1_ps(tail_scale(first, 0));
    for (int p = 0; p < abreast; p++)
        acc[p][0] = _mm256_mul_ps(acc[p][0], scale), acc[p][1] = _mm256_mul_ps(acc[p][1], scale);
}

/* The panel of column n and those that follow it at distances of `apart` panels. */
ALWAYS_INLINE void multiply_abreast(enum weight_format format, const int abreast, const struct product *p,
                                    int32_t n, int32_t apart)
{
    const size_t apart_bytes = (size_t)apart * p->panel_bytes;
    struct tile t = {.header = (const uint8_t *)p->w->data + (size_t)(n / COLUMNS) * p->panel_bytes,
                     .x = p->x->data,
                     .x_tail = tile_tail(p, 0),
                     .lines = panel_lines(format, p->w->k),
                     .last = true};
    t.w = t.header + line_offset(format, 0);
    t.corrections = t.x_tail + UNIT_BYTES;
    __m256 acc[MOST_ABREAST][2];
    for (int i = 0; i < abreast; i++)
        acc[i][0] = acc[i][1] = _mm256_setzero_ps();
    if (format == WEIGHT_INT4)
        int4_abreast(abreast, &t, apart_bytes, acc);
    else
        plain_abreast(format, abreast, &t, apart_bytes, acc);
    for (int i = 0; i < abreast; i++, n += apart * COLUMNS) {
        t.columns = p->n_end - n < COLUMNS ? p->n_end - n : COLUMNS;
        t.bias = p->bias ? p->bias + n : NULL;
        t.y = p->y + n;
        store_row(&t, 0, acc[i][0], acc[i][1]);
    }
}

/* Runs of panels side by side, so that what is asked for ahead of a panel's end is the next one's begin. */
ALWAYS_INLINE void multiply_row(enum weight_format format, const struct product *p)
{
    int32_t left = (p->n_end - p->n_begin + COLUMNS - 1) / COLUMNS, n = p->n_begin;
    while (left > 0) {
        const int abreast = left >= 4 ? 4 : left >= 2 ? 2 : 1;
        const int32_t run = left / abreast;
        for (int32_t i = 0; i < run; i++, n += COLUMNS) {
            if (abreast == 4)
                multiply_abreast(format, 4, p, n, run);
            else if (abreast == 2)
                multiply_abreast(format, 2, p, n, run);
            else
                multiply_abreast(format, 1, p, n, run);
        }
        n += (abreast - 1) * run * COLUMNS;
        left -= abreast * run;
    }
}

#define DEFINE_ROW(format)                            \
    static void row_##format(const struct product *p) \
    {                                                 \
        multiply_row(WEIGHT_##format, p);             \
    }
DEFINE_ROW(F32)
DEFINE_ROW(BF16)
DEFINE_ROW(INT8)
DEFINE_ROW(INT4)

static void (*const rows_of_one[4])(const struct product *p) = {
    [WEIGHT_F32] = row_F32, [WEIGHT_BF16] = row_BF16, [WEIGHT_INT8] = row_INT8, [WEIGHT_INT4] = row_INT4};

void avx2_matmul(float *y, size_t y_stride, const struct weight *w, const struct activation *x,
                 const float *bias, int32_t n_begin, int32_t n_end)
{
    CHECK(x->k == w->k && x->format == w->format);
    CHECK(n_begin % COLUMNS == 0 && n_end <= w->n);
    const struct product p = {.y = y,
                              .y_stride = y_stride,
                              .w = w,
                              .x = x,
                              .bias = bias,
                              .n_begin = n_begin,
                              .n_end = n_end,
                              .panel_bytes = panel_bytes(w->format, w->k),
                              .tiles = activation_tiles(x->rows)};
    if (x->rows == 1) {
        rows_of_one[w->format](&p);
        return;
    }
    const struct cut rows = cut_evenly(p.tiles.parts, BLOCK_TILES);
    const int32_t lines = panel_lines(w->format, w->k);
    const bool whole_k = p.tiles.parts == 1 || w->format == WEIGHT_INT4; /* one pass, or sums leave y */
    const struct cut blocks = cut_evenly(lines, whole_k ? lines : BLOCK_LINES);
    for (int32_t r = 0; r < rows.parts; r++)
        for (int32_t b = 0; b < blocks.parts; b++)
            multiply_block(&p, cut_at(rows, r), cut_at(rows, r + 1) - cut_at(rows, r), cut_at(blocks, b),
                           cut_at(blocks, b + 1));
}
