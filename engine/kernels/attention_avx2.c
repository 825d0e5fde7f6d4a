// SPDX-License-Identifier: Apache-2.0
// Paged attention on AVX2 and FMA, in tiles of 64 positions with an online softmax (Milakov and Gimelshein
// 2018; the blocking of Dao et al., "FlashAttention", 2022). Queries of one kv head (rows x its query heads)
// go past each tile together, up to six at a time in registers, so that a key or value is read once for all.
//
// Invariant: tiles lie at multiples of 64 positions from position 0; a score and an element of the output are
// one accumulator each, that takes dimensions (positions) in ascending order; a masked position or tile
// changes no bit of a query's state. So a query's bytes are the same alone, in a chunk, in any block size.
#include "engine/kernels/attention_avx2.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "engine/kernels/cut.h"
#include "engine/kernels/dtype.h"
#include "engine/kernels/simd_avx2.h"

enum {
    LANES = 8,
    CACHE_LINE_BYTES = 64,
    GROUP_TOKENS = 16,
    TILE_GROUPS = AVX2_ATTENTION_TILE_TOKENS / GROUP_TOKENS,
    TILE_TOKENS = AVX2_ATTENTION_TILE_TOKENS,
    TILE_QUERIES = 6,
    MAX_LINES = 4
};
/* sum += a * b in place. Written as an intrinsic, gcc 12 moves sums from register to register and spills. */
#define MULTIPLY_ADD(sum, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b))
/* An empty asm that "changes" a value: addresses are formed from it anew, not kept in registers. */
#define KEEP_WORD(x) __asm__("" : "+r"(x))

static int32_t padded_dim(int32_t head_dim)
{
    return (head_dim + 15) / 16 * 16;
}

/* Bytes of a lane of a line: an element, or two of bf16. */
ALWAYS_INLINE size_t lane_bytes(enum kv_format format)
{
    return format == KV_INT8 ? 1 : 4;
}

/* Lines of 16 lanes that K (or V) of 16 tokens fill, without scales. */
static size_t values_bytes(enum kv_format format, int32_t head_dim)
{
    const size_t bytes = (size_t)padded_dim(head_dim) * GROUP_TOKENS * lane_bytes(format);
    return format == KV_BF16 ? bytes / 2 : bytes;
}

/* K (or V) of 16 tokens of one head. */
static size_t half_group_bytes(enum kv_format format, int32_t head_dim)
{
    return values_bytes(format, head_dim) + (format == KV_INT8 ? GROUP_TOKENS * sizeof(float) : 0);
}

size_t avx2_kv_block_bytes(enum kv_format format, int32_t block_tokens, int32_t kv_heads, int32_t head_dim)
{
    return 2 * half_group_bytes(format, head_dim) * (size_t)(block_tokens / GROUP_TOKENS) * (size_t)kv_heads;
}

static void store_f32(float *k_out, float *v_out, int32_t token, int32_t head_dim, const float *k,
                      const float *v)
{
    const int32_t dim = padded_dim(head_dim);
    for (int32_t d = 0; d < dim; d++) {
        k_out[d * GROUP_TOKENS + token] = d < head_dim ? k[d] : 0.0f;
        v_out[token * dim + d] = d < head_dim ? v[d] : 0.0f;
    }
}

/* As dtype_bf16_from_f32, in the low half of each lane. */
static __m256i bf16_of(__m256 v)
{
    const __m256i bits = _mm256_castps_si256(v), high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
    const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    return _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
}

static void store_bf16(uint16_t *k_out, uint16_t *v_out, int32_t token, int32_t head_dim, const float *k,
                       const float *v)
{
    const int32_t dim = padded_dim(head_dim);
    _Alignas(32) uint32_t keys[LANES], values[LANES];
    for (int32_t d = 0; d < dim; d += LANES) {
        _mm256_store_si256((__m256i *)keys, bf16_of(avx2_load(k + d, head_dim - d)));
        _mm256_store_si256((__m256i *)values, bf16_of(avx2_load(v + d, head_dim - d)));
        for (int32_t i = 0; i < LANES; i += 2) {
            const uint32_t pair = keys[i] | keys[i + 1] << 16;
            memcpy(k_out + ((d + i) / 2 * GROUP_TOKENS + token) * 2, &pair, sizeof pair);
        }
        for (int32_t i = 0; i < LANES; i++)
            v_out[(token / 2 * dim + d + i) * 2 + token % 2] = (uint16_t)values[i];
    }
}

/* x as whole multiples of the scale that is returned, from -127 to 127, as the generic set rounds them. */
static float quantise(int8_t *out, size_t stride, const float *x, int32_t head_dim)
{
    float max = 0.0f;
    for (int32_t d = 0; d < head_dim; d++)
        max = fmaxf(max, fabsf(x[d]));
    const float inverse = max > 0.0f ? 127.0f / max : 0.0f;
    for (int32_t d = 0; d < padded_dim(head_dim); d++)
        out[(size_t)d * stride] = d < head_dim ? (int8_t)rintf(x[d] * inverse) : 0;
    return max / 127.0f;
}

static void store_int8(uint8_t *k_out, uint8_t *v_out, int32_t token, int32_t head_dim, const float *k,
                       const float *v)
{
    const size_t scales = values_bytes(KV_INT8, head_dim);
    ((float *)(k_out + scales))[token] = quantise((int8_t *)k_out + token, GROUP_TOKENS, k, head_dim);
    ((float *)(v_out + scales))[token] =
        quantise((int8_t *)v_out + token * padded_dim(head_dim), 1, v, head_dim);
}

void avx2_kv_store(uint8_t *block, enum kv_format format, int32_t slot, int32_t block_tokens,
                   int32_t kv_heads, int32_t head_dim, const float *k, const float *v)
{
    const size_t half = half_group_bytes(format, head_dim);
    const int32_t token = slot % GROUP_TOKENS;
    for (int32_t head = 0; head < kv_heads; head++, k += head_dim, v += head_dim) {
        uint8_t *group =
            block + (size_t)(head * (block_tokens / GROUP_TOKENS) + slot / GROUP_TOKENS) * 2 * half;
        if (format == KV_F32)
            store_f32((float *)group, (float *)(group + half), token, head_dim, k, v);
        else if (format == KV_INT8)
            store_int8(group, group + half, token, head_dim, k, v);
        else
            store_bf16((uint16_t *)group, (uint16_t *)(group + half), token, head_dim, k, v);
    }
}

/* State of a query between tiles. Query i of a call is row i / group, head i % group of the kv head. */
struct query {
    __m256 sum; /* of exponentials, by lane */
    float max;  /* of scores times log2(e) */
    int32_t row, position;
};

/* One kv head's call, in the caller's scratch. */
struct heads {
    const struct attention_args *args;
    const struct attention_row *rows; /* NULL: consecutive positions */
    int32_t kv_head, count, group;    /* count = rows * group */
    int32_t dim;                      /* padded */
    size_t half_bytes;
    struct query *queries; /* [count] */
    float *q;              /* [count][dim] multiplied by the scale and log2(e) */
    float *acc;            /* [count][dim] weighted sum of values */
    uint8_t *states;       /* of the kv head's queries; NULL: their attention is asked for */
};

/* Where 64 positions lie, and those that come after them (or the same again). */
struct tile {
    const uint8_t *groups[TILE_GROUPS], *next[TILE_GROUPS];
    int32_t first; /* position */
};

size_t avx2_attention_scratch_bytes(int32_t heads, int32_t kv_heads, int32_t head_dim, int32_t max_rows)
{
    const size_t per_query = sizeof(struct query) + 2 * (size_t)padded_dim(head_dim) * sizeof(float);
    return (size_t)(heads / kv_heads) * (size_t)max_rows * per_query;
}

/* Lines of 16 lanes that `queries` queries keep accumulators for: enough to hide the latency of a step. */
ALWAYS_INLINE int lines_of(const int queries)
{
    return queries == 1 ? 4 : queries == 2 ? 2 : 1;
}

/* What a product of rows of x with stored lines goes through, element after element. */
struct depth {
    const float *x; /* [queries][x_stride] */
    size_t x_stride;
    const uint8_t *lines[MAX_LINES], *next[MAX_LINES]; /* next: will be wanted soon */
    size_t next_bytes;                                 /* of each next[], from pair to pair */
    size_t pair_bytes;                                 /* from elements i, i + 1 to i + 2, i + 3 */
    size_t second_bytes;                               /* from element i to i + 1; bf16: none */
    int32_t elements;
};

/* Element 0 or 1 of a pair, widened. */
ALWAYS_INLINE __m256 load_element(enum kv_format format, const int element, const uint8_t *at, size_t second)
{
    if (format == KV_F32)
        return _mm256_load_ps((const float *)(at + (element == 1 ? second : 0)));
    if (format == KV_INT8)
        return _mm256_cvtepi32_ps(
            _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(at + (element == 1 ? second : 0)))));
    const __m256i pair = _mm256_load_si256((const __m256i *)at);
    return _mm256_castsi256_ps(element == 0 ? _mm256_slli_epi32(pair, 16)
                                            : _mm256_and_si256(pair, _mm256_set1_epi32((int)0xffff0000u)));
}

/* Bytes of two elements of a line. */
ALWAYS_INLINE size_t pair_line_bytes(enum kv_format format)
{
    return 2 * LANES * lane_bytes(format) * (format == KV_BF16 ? 1 : 2);
}

/* One element for queries [first, last), which lie at x. */
ALWAYS_INLINE void step(const int lines, const int first, const int last, __m256 acc[][2 * MAX_LINES],
                        const __m256 vectors[2 * MAX_LINES], const float *x, size_t stride)
{
    UNROLL
    for (int i = first; i < last; i++) {
        const __m256 value = _mm256_broadcast_ss(x + (size_t)(i - first) * stride);
        UNROLL
        for (int v = 0; v < 2 * lines; v++)
            MULTIPLY_ADD(acc[i][v], value, vectors[v]);
    }
}

ALWAYS_INLINE void take_element(enum kv_format format, const int queries, const int lines, const int element,
                                __m256 acc[][2 * MAX_LINES], const struct depth *depth, const float *x,
                                size_t at)
{
    const int half = queries < 3 ? queries : 3; /* x86 reaches three rows from one pointer */
    size_t stride = depth->x_stride;
    const float *rest = x + 3 * stride;
    __m256 vectors[2 * MAX_LINES];
    UNROLL
    for (int v = 0; v < 2 * lines; v++)
        vectors[v] = load_element(format, element,
                                  depth->lines[v / 2] + at + (size_t)(v % 2) * LANES * lane_bytes(format),
                                  depth->second_bytes);
    KEEP_WORD(stride);
    step(lines, 0, half, acc, vectors, x + element, stride);
    step(lines, half, queries, acc, vectors, rest + element, stride);
}

/* A pair of bf16 for six queries and 16 lanes, as take_element does it twice. Here compilers left a quarter
 * of the loop's time with moves between registers and with addresses. `rest`: x of the fourth query. */
ALWAYS_INLINE void take_pair_of_6(__m256 acc[][2 * MAX_LINES], const float *x, const float *rest,
                                  size_t stride_bytes, const uint8_t *line, __m256i high_halves)
{
#define QUERY(at, first, second)                    \
    "vbroadcastss " at ", %%ymm15\n\t"              \
    "vfmadd231ps %%ymm15, %%ymm13, %" #first "\n\t" \
    "vfmadd231ps %%ymm15, %%ymm14, %" #second "\n\t"
#define ELEMENT(at)                  \
    QUERY(at "(%[x])", 0, 1)         \
    QUERY(at "(%[x],%[s])", 2, 3)    \
    QUERY(at "(%[x],%[s],2)", 4, 5)  \
    QUERY(at "(%[rest])", 6, 7)      \
    QUERY(at "(%[rest],%[s])", 8, 9) \
    QUERY(at "(%[rest],%[s],2)", 10, 11)
#define WIDEN_FIRST                    \
    "vmovdqa (%[line]), %%ymm13\n\t"   \
    "vmovdqa 32(%[line]), %%ymm14\n\t" \
    "vpslld $16, %%ymm13, %%ymm13\n\t" \
    "vpslld $16, %%ymm14, %%ymm14\n\t"
#define WIDEN_SECOND                        \
    "vpand (%[line]), %[high], %%ymm13\n\t" \
    "vpand 32(%[line]), %[high], %%ymm14\n\t"
    __asm__(WIDEN_FIRST ELEMENT("0") WIDEN_SECOND ELEMENT("4")
            : "+x"(acc[0][0]), "+x"(acc[0][1]), "+x"(acc[1][0]), "+x"(acc[1][1]), "+x"(acc[2][0]),
              "+x"(acc[2][1]), "+x"(acc[3][0]), "+x"(acc[3][1]), "+x"(acc[4][0]), "+x"(acc[4][1]),
              "+x"(acc[5][0]), "+x"(acc[5][1])
            : [x] "r"(x), [rest] "r"(rest), [s] "r"(stride_bytes), [line] "r"(line), [high] "x"(high_halves)
            : "xmm13", "xmm14", "xmm15", "memory");
#undef WIDEN_FIRST
#undef WIDEN_SECOND
#undef ELEMENT
#undef QUERY
}

/* accumulate() for bf16, six queries and whole groups of 16 elements. */
ALWAYS_INLINE void accumulate_6(__m256 acc[][2 * MAX_LINES], const struct depth *depth)
{
    const float *x = depth->x, *rest = x + 3 * depth->x_stride;
    const uint8_t *line = depth->lines[0], *next = depth->next[0];
    const __m256i high_halves = _mm256_set1_epi32((int)0xffff0000u);
    for (int32_t left = depth->elements; left > 0; left -= GROUP_TOKENS, x += GROUP_TOKENS,
                 rest += GROUP_TOKENS, line += GROUP_TOKENS / 2 * depth->pair_bytes,
                 next += GROUP_TOKENS / 2 * depth->next_bytes) {
        UNROLL
        for (size_t pair = 0; pair < GROUP_TOKENS / 2; pair++) {
            take_pair_of_6(acc, x + 2 * pair, rest + 2 * pair, depth->x_stride * sizeof *x,
                           line + pair * depth->pair_bytes, high_halves);
            _mm_prefetch((const char *)next + pair * depth->next_bytes, _MM_HINT_T0);
        }
    }
}

/* acc[query][vector] += x[query][e] * line[vector][e], e ascending. */
ALWAYS_INLINE void accumulate(enum kv_format format, const int queries, const int lines,
                              __m256 acc[][2 * MAX_LINES], const struct depth *depth)
{
    if (format == KV_BF16 && queries == 6 && depth->elements % GROUP_TOKENS == 0) {
        accumulate_6(acc, depth);
        return;
    }
    const float *x = depth->x;
    size_t at = 0, next = 0;
    for (int32_t left = depth->elements; left > 1; left -= 2, x += 2, at += depth->pair_bytes) {
        take_element(format, queries, lines, 0, acc, depth, x, at);
        take_element(format, queries, lines, 1, acc, depth, x, at);
        UNROLL
        for (int l = 0; l < lines; l++) {
            _mm_prefetch((const char *)depth->next[l] + next, _MM_HINT_T0);
            if (format == KV_F32)
                _mm_prefetch((const char *)depth->next[l] + next + CACHE_LINE_BYTES, _MM_HINT_T0);
        }
        next += depth->next_bytes;
    }
    if (depth->elements % 2 != 0) /* the pair's second token may not be stored: leave it out */
        take_element(format, queries, lines, 0, acc, depth, x, at);
}

struct scores {
    _Alignas(CACHE_LINE_BYTES) float at[TILE_QUERIES][TILE_TOKENS];
};

/* scores[query][..] = q . k of groups g to g + lines - 1. */
ALWAYS_INLINE void score(enum kv_format format, const int queries, const int lines, const struct heads *h,
                         int32_t first_query, const struct tile *tile, int32_t g, struct scores *scores)
{
    struct depth depth = {.x = h->q + (size_t)first_query * (size_t)h->dim,
                          .x_stride = (size_t)h->dim,
                          .pair_bytes = pair_line_bytes(format),
                          .second_bytes = GROUP_TOKENS * lane_bytes(format),
                          .next_bytes = pair_line_bytes(format),
                          .elements = h->dim};
    __m256 acc[TILE_QUERIES][2 * MAX_LINES];
    UNROLL
    for (int l = 0; l < lines; l++)
        depth.lines[l] = tile->groups[g + l], depth.next[l] = tile->next[g + l];
    UNROLL
    for (int i = 0; i < queries; i++)
        for (int v = 0; v < 2 * lines; v++)
            acc[i][v] = _mm256_setzero_ps();
    accumulate(format, queries, lines, acc, &depth);
    UNROLL
    for (int i = 0; i < queries; i++)
        for (int v = 0; v < 2 * lines; v++)
            _mm256_store_ps(scores->at[i] + g * GROUP_TOKENS + v * LANES, acc[i][v]);
}

/* Minus infinity for those of `tokens` positions from `first` on that the query must not look at. */
static void mask(const struct attention_args *args, int32_t position, float *scores, int32_t first,
                 int32_t tokens)
{
    const int32_t seen = position + 1 - first;
    const int32_t gone = args->window > 0 ? seen - args->window : 0;
    for (int32_t i = 0; i < gone && i < tokens; i++)
        scores[i] = -INFINITY;
    for (int32_t i = seen > 0 ? seen : 0; i < tokens; i++)
        scores[i] = -INFINITY;
}

/* The query's maximum with scores of `tokens` positions (whole groups); returns how far it was below. */
static float raise_max(struct query *query, const float *scores, int32_t tokens)
{
    __m256 most = _mm256_set1_ps(query->max);
    for (int32_t i = 0; i < tokens; i += LANES)
        most = _mm256_max_ps(most, _mm256_load_ps(scores + i));
    const float before = query->max;
    query->max = avx2_max(most);
    return before - query->max;
}

/* 2^x for x <= 0, lane by lane, within 2e-7 of it down to 2^-126; exactly 0 for minus infinity, 1 for 0. The
 * polynomial is the best of degree 5 in relative error on [-1/2, 1/2] that is 1 at 0. */
ALWAYS_INLINE __m256 exp2_of_negative(__m256 x)
{
    const __m256 shift = _mm256_set1_ps(0x1.8p23f); /* adding it rounds to an integer, left in the low bits */
    const __m256 bounded = _mm256_max_ps(_mm256_set1_ps(-127.0f), x); /* NaN stays */
    const __m256 shifted = _mm256_add_ps(bounded, shift);
    const __m256 r = _mm256_sub_ps(bounded, _mm256_sub_ps(shifted, shift));
    __m256 p = _mm256_set1_ps(0x1.5bba18p-10f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.3cea88p-7f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.c6b752p-5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.ebf9bcp-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.62e42ap-1f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    const __m256i power = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), power));
}

/* Softmax step of one query: scores become weights; earlier sums are brought to the new maximum by `decay`.
 */
static void weigh(struct query *query, float *scores, int32_t tokens, float decay)
{
    __m256 sum = _mm256_setzero_ps();
    for (int32_t i = 0; i < tokens; i += LANES) {
        const __m256 p =
            exp2_of_negative(_mm256_sub_ps(_mm256_load_ps(scores + i), _mm256_set1_ps(query->max)));
        _mm256_store_ps(scores + i, p);
        sum = _mm256_add_ps(sum, p);
    }
    query->sum = _mm256_fmadd_ps(query->sum, _mm256_set1_ps(decay), sum);
}

/* acc[query][d ..] = decay * acc + weights . V of `tokens` positions, for `lines` x 16 dimensions. */
ALWAYS_INLINE void mix(enum kv_format format, const int queries, const int lines, const struct heads *h,
                       float *out, const struct tile *tile, int32_t tokens, const struct scores *weights,
                       const float *decay, int32_t d)
{
    const size_t columns = (size_t)h->dim * lane_bytes(format);
    struct depth depth = {.x_stride = TILE_TOKENS,
                          .pair_bytes = columns * (format == KV_BF16 ? 1 : 2),
                          .second_bytes = columns,
                          .next_bytes = (size_t)lines * pair_line_bytes(format)};
    /* The next tile's V is asked for in the order in which it lies, a part with each group that is used here.
     */
    const int32_t parts = h->dim / (16 * lines), first_part = d / (16 * lines) * TILE_GROUPS;
    const size_t part_bytes = (size_t)(GROUP_TOKENS / 2 * lines) * pair_line_bytes(format);
    size_t next_at = (size_t)(first_part % parts) * part_bytes;
    int32_t next_group = first_part / parts;
    __m256 acc[TILE_QUERIES][2 * MAX_LINES];
    UNROLL
    for (int i = 0; i < queries; i++)
        for (int v = 0; v < 2 * lines; v++)
            acc[i][v] = _mm256_mul_ps(_mm256_load_ps(out + (size_t)i * (size_t)h->dim + d + v * LANES),
                                      _mm256_set1_ps(decay[i]));
    for (int32_t g = 0; g * GROUP_TOKENS < tokens; g++) {
        const int32_t left = tokens - g * GROUP_TOKENS;
        depth.elements = left < GROUP_TOKENS ? left : GROUP_TOKENS;
        depth.x = weights->at[0] + g * GROUP_TOKENS;
        UNROLL
        for (int l = 0; l < lines; l++) {
            const size_t at = h->half_bytes + ((size_t)d + (size_t)l * 2 * LANES) * lane_bytes(format);
            depth.lines[l] = tile->groups[g] + at;
            depth.next[l] =
                tile->next[next_group] + h->half_bytes + next_at + (size_t)l * pair_line_bytes(format);
        }
        next_at += part_bytes;
        if (next_at == (size_t)parts * part_bytes)
            next_at = 0, next_group++;
        accumulate(format, queries, lines, acc, &depth);
    }
    UNROLL
    for (int i = 0; i < queries; i++)
        for (int v = 0; v < 2 * lines; v++)
            _mm256_store_ps(out + (size_t)i * (size_t)h->dim + d + v * LANES, acc[i][v]);
}

/* Scores, or weights, of whole groups times the scales of their keys, or values. */
static void apply_scales(const struct heads *h, float *scores, const struct tile *tile, int32_t groups,
                         size_t half)
{
    const size_t at = half + values_bytes(KV_INT8, h->args->head_dim);
    for (int32_t g = 0; g < groups; g++, scores += GROUP_TOKENS)
        for (int32_t i = 0; i < GROUP_TOKENS; i += LANES) {
            const __m256 scales = _mm256_load_ps((const float *)(tile->groups[g] + at) + i);
            _mm256_store_ps(scores + i, _mm256_mul_ps(_mm256_load_ps(scores + i), scales));
        }
}

/* Queries from first_query on, of which the furthest sees `tokens` positions of the tile. */
ALWAYS_INLINE void attend_queries(enum kv_format format, const int queries, const struct heads *h,
                                  int32_t first_query, const struct tile *tile, int32_t tokens)
{
    const int lines = lines_of(queries);
    const int32_t groups = (tokens + GROUP_TOKENS - 1) / GROUP_TOKENS;
    struct scores scores;
    _Alignas(32) float decay[LANES] = {0};
    int32_t g = 0, d = 0;
    for (; g + lines <= groups; g += lines)
        score(format, queries, lines, h, first_query, tile, g, &scores);
    for (; g < groups; g++)
        score(format, queries, 1, h, first_query, tile, g, &scores);
    for (int i = 0; i < queries; i++) {
        struct query *query = &h->queries[first_query + i];
        if (format == KV_INT8)
            apply_scales(h, scores.at[i], tile, groups, 0);
        mask(h->args, query->position, scores.at[i], tile->first, groups * GROUP_TOKENS);
        decay[i] = raise_max(query, scores.at[i], groups * GROUP_TOKENS);
    }
    _mm256_store_ps(decay, exp2_of_negative(_mm256_load_ps(decay)));
    for (int i = 0; i < queries; i++) {
        weigh(&h->queries[first_query + i], scores.at[i], groups * GROUP_TOKENS, decay[i]);
        if (format == KV_INT8)
            apply_scales(h, scores.at[i], tile, groups, h->half_bytes);
    }
    float *out = h->acc + (size_t)first_query * (size_t)h->dim;
    for (; d + lines * 16 <= h->dim; d += lines * 16)
        mix(format, queries, lines, h, out, tile, tokens, &scores, decay, d);
    for (; d < h->dim; d += 16)
        mix(format, queries, 1, h, out, tile, tokens, &scores, decay, d);
}

/* One function per format and number of queries, so that accumulators live in registers. */
#define COUNTS(X, format) X(format, 1) X(format, 2) X(format, 3) X(format, 4) X(format, 5) X(format, 6)
#define DEFINE_ATTEND(format, queries)                                                  \
    static void attend_##format##_##queries(const struct heads *h, int32_t first_query, \
                                            const struct tile *tile, int32_t tokens)    \
    {                                                                                   \
        attend_queries(KV_##format, queries, h, first_query, tile, tokens);             \
    }
COUNTS(DEFINE_ATTEND, F32)
COUNTS(DEFINE_ATTEND, BF16)
COUNTS(DEFINE_ATTEND, INT8)

#define LIST_ATTEND(format, queries) [KV_##format][queries] = attend_##format##_##queries,
static void (*const attend[3][TILE_QUERIES + 1])(const struct heads *h, int32_t first_query,
                                                 const struct tile *tile, int32_t tokens) = {
    COUNTS(LIST_ATTEND, F32) COUNTS(LIST_ATTEND, BF16) COUNTS(LIST_ATTEND, INT8)};

/* Positions of a tile that queries [first, last) see, counted from its start: 0 when none does. */
static int32_t tokens_seen(const struct heads *h, int32_t first, int32_t last, int32_t tile_first)
{
    int32_t least = h->queries[first].position, most = least;
    for (int32_t i = first + 1; i < last; i++) {
        least = h->queries[i].position < least ? h->queries[i].position : least;
        most = h->queries[i].position > most ? h->queries[i].position : most;
    }
    const int32_t window = h->args->window, tokens = most + 1 - tile_first;
    if (tokens <= 0 || (window > 0 && least - window + 1 >= tile_first + TILE_TOKENS))
        return 0;
    return tokens < TILE_TOKENS ? tokens : TILE_TOKENS;
}

static const uint8_t *group_at(const struct heads *h, const int32_t *block_table, int32_t position)
{
    const struct attention_args *args = h->args;
    const int32_t in_block = position % args->block_tokens;
    const int32_t index = h->kv_head * (args->block_tokens / GROUP_TOKENS) + in_block / GROUP_TOKENS;
    return args->layer_base + (size_t)block_table[position / args->block_tokens] * args->block_stride_bytes +
           (size_t)index * 2 * h->half_bytes;
}

/* Groups of the span from position `first` on; past its end the first one again. */
static void find_groups(const struct heads *h, const struct attention_span *span, int32_t first,
                        const uint8_t *groups[TILE_GROUPS])
{
    for (int32_t g = 0; g < TILE_GROUPS; g++)
        groups[g] = first + g * GROUP_TOKENS < span->end
                        ? group_at(h, span->block_table, first + g * GROUP_TOKENS)
                        : groups[0];
}

/* The first tile of the span that some query [first, last) can see: earlier ones are behind their windows. */
static int32_t first_tile(const struct heads *h, const struct attention_span *span, int32_t first,
                          int32_t last)
{
    if (h->args->window <= 0)
        return span->begin;
    int32_t position = h->queries[first].position;
    for (int32_t i = first + 1; i < last; i++)
        position = h->queries[i].position < position ? h->queries[i].position : position;
    const int32_t oldest = position - h->args->window + 1;
    return oldest > span->begin ? oldest / TILE_TOKENS * TILE_TOKENS : span->begin;
}

/* What comes after a span: the span of a head. */
struct sequel {
    const struct heads *head;
    const struct attention_span *span; /* NULL: nothing that is known */
};

/* The sequel's first groups are asked for during the span's last tile. */
static void attend_span(const struct heads *h, const struct attention_span *span, struct sequel sequel)
{
    const int32_t begin = span->first * h->group, count = span->rows * h->group;
    const struct cut cut = cut_evenly(count, TILE_QUERIES);
    struct tile tile = {.first = first_tile(h, span, begin, begin + count)};
    if (tile.first >= span->end)
        return;
    find_groups(h, span, tile.first, tile.next);
    for (; tile.first < span->end; tile.first += TILE_TOKENS) {
        memcpy(tile.groups, tile.next, sizeof tile.groups);
        if (tile.first + TILE_TOKENS < span->end)
            find_groups(h, span, tile.first + TILE_TOKENS, tile.next);
        else if (sequel.span)
            find_groups(sequel.head, sequel.span, sequel.span->begin, tile.next);
        for (int32_t part = 0; part < cut.parts; part++) {
            const int32_t first = begin + cut_at(cut, part), last = begin + cut_at(cut, part + 1);
            const int32_t tokens = tokens_seen(h, first, last, tile.first);
            if (tokens > 0)
                attend[h->args->kv_format][last - first](h, first, &tile, tokens);
        }
    }
}

/* Scales the queries of h->kv_head, so that weights are powers of 2, and clears their state. */
static void start(const struct heads *h)
{
    const struct attention_args *args = h->args;
    const float log2_e = 0x1.715476p+0f, scale = args->scale * log2_e;
    for (int32_t i = 0; i < h->count; i++) {
        const int32_t index = i / h->group, head = h->kv_head * h->group + i % h->group;
        const struct attention_row row =
            h->rows ? h->rows[index]
                    : (struct attention_row){.row = index, .position = args->first_position + index};
        const float *from =
            args->q + (size_t)row.row * (size_t)args->q_stride + (size_t)head * (size_t)args->head_dim;
        float *q = h->q + (size_t)i * (size_t)h->dim;
        for (int32_t d = 0; d < h->dim; d++)
            q[d] = d < args->head_dim ? from[d] * scale : 0.0f;
        h->queries[i] = (struct query){
            .sum = _mm256_setzero_ps(), .max = -FLT_MAX, .row = row.row, .position = row.position};
    }
    memset(h->acc, 0, (size_t)h->count * (size_t)h->dim * sizeof *h->acc);
}

static void finish(const struct heads *h)
{
    const struct attention_args *args = h->args;
    const float ln_2 = 0x1.62e43p-1f;
    for (int32_t i = 0; i < h->count; i++) {
        const int32_t head = h->kv_head * h->group + i % h->group;
        const float *acc = h->acc + (size_t)i * (size_t)h->dim;
        const float sum = avx2_sum(h->queries[i].sum);
        float scale = 1.0f / sum, *out;
        if (h->states) {
            struct attention_state *state = attention_state_at(h->states, (size_t)i, args->head_dim);
            state->max = h->queries[i].max * ln_2, state->sum = sum;
            scale = 1.0f, out = state->values;
        } else
            out = args->out + (size_t)h->queries[i].row * (size_t)args->out_stride +
                  (size_t)head * (size_t)args->head_dim;
        for (int32_t d = 0; d < args->head_dim; d++)
            out[d] = acc[d] * scale + 0.0f; /* one zero: a masked position may have changed the sign */
    }
}

void avx2_attention_spans(const struct attention_args *args, const struct attention_row *rows,
                          const struct attention_span *spans, int32_t span_count, int32_t kv_head_begin,
                          int32_t kv_head_end, void *scratch)
{
    const int32_t group = args->heads / args->kv_heads, count = group * args->rows;
    struct heads h = {
        .args = args, .rows = rows, .count = count, .group = group, .dim = padded_dim(args->head_dim)};
    h.half_bytes = half_group_bytes(args->kv_format, args->head_dim);
    h.queries = scratch;
    h.q = (float *)(h.queries + count);
    h.acc = h.q + (size_t)count * (size_t)h.dim;
    h.states = args->states;
    struct heads next = h;
    for (h.kv_head = kv_head_begin; h.kv_head < kv_head_end; h.kv_head++) {
        next.kv_head = h.kv_head + 1;
        start(&h);
        for (int32_t i = 0; i + 1 < span_count; i++)
            attend_span(&h, &spans[i], (struct sequel){&h, &spans[i + 1]});
        attend_span(&h, &spans[span_count - 1],
                    (struct sequel){&next, next.kv_head < kv_head_end ? spans : NULL});
        finish(&h);
        if (h.states)
            h.states += (size_t)count * attention_state_bytes(args->head_dim);
    }
}

void avx2_attention(const struct attention_args *args, int32_t kv_head_begin, int32_t kv_head_end,
                    void *scratch)
{
    const int32_t last = args->first_position + args->rows;
    const struct attention_span span = {.rows = args->rows,
                                        .begin = args->begin,
                                        .end = args->end < last ? args->end : last,
                                        .block_table = args->block_table};
    avx2_attention_spans(args, NULL, &span, 1, kv_head_begin, kv_head_end, scratch);
}
