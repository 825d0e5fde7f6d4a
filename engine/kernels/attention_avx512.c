// SPDX-License-Identifier: Apache-2.0
// Paged attention on AVX-512, in tiles of 64 positions with an online softmax (Milakov and Gimelshein 2018;
// the blocking of Dao et al., "FlashAttention", 2022). Queries of one kv head (rows x its query heads) go
// past each tile together, six at a time in registers, so that a key or value is read once for all of them.
//
// Invariant: tiles lie at multiples of 64 positions from position 0, and a masked position or a whole masked
// tile changes no bit of a query's state: it is the same alone, in a chunk, and for any block_tokens.
#include <float.h>

#include "base/check.h"
#include "engine/kernels/attention_avx512.h"

/* With so few, as in decoding, a tile is used less long than it takes to come from memory. */
enum { TILE_QUERIES = 6, FEW_QUERIES = 32 };

size_t avx512_kv_block_bytes(enum kv_format format, int32_t block_tokens, int32_t kv_heads, int32_t head_dim)
{
    return 2 * group_bytes(format, head_dim) * (size_t)(block_tokens / GROUP_TOKENS) * (size_t)kv_heads;
}

/* x [head_dim] as units of `format`, zero up to the padded end. */
static void convert(uint8_t *units, enum kv_format format, const float *x, int32_t head_dim)
{
    for (int32_t d = 0; d < padded_dim(head_dim); d += 16) {
        const __m512 values = _mm512_maskz_loadu_ps(avx512_lanes(head_dim - d), x + d);
        if (format == KV_F32)
            _mm512_storeu_ps(units + (size_t)d * sizeof(float), values);
        else
            _mm256_storeu_si256((__m256i *)(units + (size_t)d * 2), (__m256i)_mm512_cvtneps_pbh(values));
    }
}

static void store_key(uint8_t *group, enum kv_format format, int32_t token, int32_t head_dim, const float *k)
{
    uint32_t units[MAX_HEAD_DIM];
    convert((uint8_t *)units, format, k, head_dim);
    uint32_t *keys = (uint32_t *)group + token;
    for (int32_t i = 0; i < padded_dim(head_dim) / unit_elements(format); i++)
        keys[i * GROUP_TOKENS] = units[i];
}

static void store_value(uint8_t *group, enum kv_format format, int32_t token, int32_t head_dim,
                        const float *v)
{
    uint16_t halves[2 * MAX_HEAD_DIM];
    const int32_t dim = padded_dim(head_dim);
    if (format == KV_F32) {
        convert(group + (size_t)token * (size_t)dim * UNIT_BYTES, format, v, head_dim);
        return;
    }
    convert((uint8_t *)halves, format, v, head_dim);
    uint16_t *values = (uint16_t *)group + token / 2 * 2 * dim + token % 2;
    for (int32_t d = 0; d < dim; d++)
        values[d * 2] = halves[d];
}

void avx512_kv_store(uint8_t *block, enum kv_format format, int32_t slot, int32_t block_tokens,
                     int32_t kv_heads, int32_t head_dim, const float *k, const float *v)
{
    CHECK(head_dim <= MAX_HEAD_DIM);
    const size_t stride = 2 * group_bytes(format, head_dim);
    for (int32_t head = 0; head < kv_heads; head++, k += head_dim, v += head_dim) {
        const int32_t index = head * (block_tokens / GROUP_TOKENS) + slot / GROUP_TOKENS;
        uint8_t *group = block + (size_t)index * stride;
        store_key(group, format, slot % GROUP_TOKENS, head_dim, k);
        store_value(group + group_bytes(format, head_dim), format, slot % GROUP_TOKENS, head_dim, v);
    }
}

static int32_t query_limit(int32_t heads, int32_t kv_heads, int32_t max_rows)
{
    return heads / kv_heads * max_rows;
}

size_t avx512_attention_scratch_bytes(int32_t heads, int32_t kv_heads, int32_t head_dim, int32_t max_rows)
{
    const size_t per_query = sizeof(struct query) + 2 * (size_t)padded_dim(head_dim) * UNIT_BYTES;
    return (size_t)query_limit(heads, kv_heads, max_rows) * per_query;
}

ALWAYS_INLINE enum weight_format step_format(enum kv_format format)
{
    return format == KV_BF16 ? WEIGHT_BF16 : WEIGHT_F32;
}

/* Converts the queries of h->kv_head and clears their state. */
static void start(const struct heads *h)
{
    const struct attention_args *args = h->args;
    for (int32_t i = 0; i < h->count; i++) {
        const int32_t index = i / h->group, head = h->kv_head * h->group + i % h->group;
        const struct attention_row row =
            h->rows ? h->rows[index]
                    : (struct attention_row){.row = index, .position = args->first_position + index};
        const float *q =
            args->q + (size_t)row.row * (size_t)args->q_stride + (size_t)head * (size_t)args->head_dim;
        convert(h->units + (size_t)i * (size_t)unit_stride(h), args->kv_format, q, args->head_dim);
        h->queries[i] = (struct query){
            .sum = _mm512_setzero_ps(), .max = -FLT_MAX, .row = row.row, .position = row.position};
    }
    memset(h->acc, 0, (size_t)h->count * (size_t)h->dim * sizeof *h->acc);
}

/* Writes their rows of the output, or their states. */
static void finish(const struct heads *h)
{
    const struct attention_args *args = h->args;
    for (int32_t i = 0; i < h->count; i++) {
        const int32_t head = h->kv_head * h->group + i % h->group;
        const float sum = _mm512_reduce_add_ps(h->queries[i].sum);
        __m512 scale = _mm512_set1_ps(1.0f / sum);
        float *out;
        if (h->states) {
            struct attention_state *state = attention_state_at(h->states, (size_t)i, args->head_dim);
            state->max = h->queries[i].max, state->sum = sum;
            scale = _mm512_set1_ps(1.0f), out = state->values;
        } else
            out = args->out + (size_t)h->queries[i].row * (size_t)args->out_stride +
                  (size_t)head * (size_t)args->head_dim;
        for (int32_t d = 0; d < args->head_dim; d += 16) {
            __m512 acc = _mm512_load_ps(h->acc + (size_t)i * (size_t)h->dim + d);
            /* VDPBF16PS flushes subnormal sums, masked tiles included: flush them for everyone. */
            const __mmask16 normal =
                _mm512_cmp_ps_mask(_mm512_abs_ps(acc), _mm512_set1_ps(FLT_MIN), _CMP_NLT_UQ);
            acc = _mm512_maskz_mul_ps(normal, acc, scale);
            _mm512_mask_storeu_ps(out + d, avx512_lanes(args->head_dim - d), acc);
        }
    }
}

struct kv_tile avx512_attention_tile(const struct heads *h, const struct attention_span *span, int32_t first)
{
    const struct attention_args *args = h->args;
    const size_t bytes = group_bytes(args->kv_format, args->head_dim);
    const int32_t tokens = span->end - first;
    struct kv_tile tile = {.first = first, .tokens = tokens < TILE_TOKENS ? tokens : TILE_TOKENS};
    const int32_t groups = (tile.tokens + GROUP_TOKENS - 1) / GROUP_TOKENS;
    for (int32_t g = 0; g < TILE_GROUPS; g++) {
        const int32_t position = first + (g < groups ? g : groups - 1) * GROUP_TOKENS;
        const uint8_t *block = args->layer_base + (size_t)span->block_table[position / args->block_tokens] *
                                                      args->block_stride_bytes;
        const int32_t index =
            h->kv_head * (args->block_tokens / GROUP_TOKENS) + position % args->block_tokens / GROUP_TOKENS;
        tile.k[g] = block + (size_t)index * 2 * bytes;
        tile.v[g] = tile.k[g] + bytes;
    }
    if (span->rows * h->group <= FEW_QUERIES)
        for (int32_t g = 0; g < groups; g++)
            for (size_t at = 0; at < 2 * bytes; at += VECTOR_BYTES)
                _mm_prefetch((const char *)tile.k[g] + at, _MM_HINT_T1);
    return tile;
}

/* scores[query][group] = q . k of 16 tokens each. */
ALWAYS_INLINE void score(enum kv_format format, const int queries, __m512 scores[][TILE_GROUPS],
                         const struct heads *h, int32_t first_query, const struct kv_tile *tile)
{
    const size_t stride = (size_t)unit_stride(h);
    const uint8_t *q = h->units + (size_t)first_query * stride;
    const uint8_t *k0 = tile->k[0], *k1 = tile->k[1], *k2 = tile->k[2], *k3 = tile->k[3];
    __m512 acc[TILE_QUERIES][TILE_GROUPS];
    UNROLL
    for (int i = 0; i < queries; i++)
        acc[i][0] = acc[i][1] = acc[i][2] = acc[i][3] = _mm512_setzero_ps();
    const size_t bytes = (size_t)(h->dim / unit_elements(format)) * VECTOR_BYTES;
    for (size_t at = 0; at < bytes; at += VECTOR_BYTES, q += UNIT_BYTES) {
        const __m512i k[TILE_GROUPS] = {_mm512_load_si512(k0 + at), _mm512_load_si512(k1 + at),
                                        _mm512_load_si512(k2 + at), _mm512_load_si512(k3 + at)};
        UNROLL
        for (int i = 0; i < queries; i++) {
            const __m512i unit = avx512_broadcast_unit(q + (size_t)i * stride);
            acc[i][0] = avx512_step(step_format(format), acc[i][0], k[0], unit);
            acc[i][1] = avx512_step(step_format(format), acc[i][1], k[1], unit);
            acc[i][2] = avx512_step(step_format(format), acc[i][2], k[2], unit);
            acc[i][3] = avx512_step(step_format(format), acc[i][3], k[3], unit);
        }
    }
    UNROLL
    for (int i = 0; i < queries; i++)
        for (int g = 0; g < TILE_GROUPS; g++)
            scores[i][g] = acc[i][g];
}

ALWAYS_INLINE void add_unit(enum kv_format format, const int queries, const int vectors, __m512 acc[][4],
                            const struct weights *weights, size_t unit, const __m512i v[4])
{
    UNROLL
    for (int i = 0; i < queries; i++) {
        const __m512i p = avx512_broadcast_unit(weights->units[i] + unit * UNIT_BYTES);
        UNROLL
        for (int j = 0; j < vectors; j++)
            acc[i][j] = avx512_step(step_format(format), acc[i][j], v[j], p);
    }
}

/* acc[query][d ..] = decay * acc + weights . V, for `vectors` x 16 dimensions. */
ALWAYS_INLINE void mix(enum kv_format format, const int queries, const int vectors, const struct heads *h,
                       float *out, const struct kv_tile *tile, const struct weights *weights, int32_t d)
{
    __m512 acc[TILE_QUERIES][4];
    __m512i v[4];
    UNROLL
    for (int i = 0; i < queries; i++)
        for (int j = 0; j < vectors; j++)
            acc[i][j] = _mm512_mul_ps(_mm512_load_ps(out + (size_t)i * (size_t)h->dim + d + j * 16),
                                      _mm512_set1_ps(weights->decay[i]));
    const size_t per_group = (size_t)(GROUP_TOKENS / unit_elements(format));
    const size_t row_bytes = (size_t)h->dim * UNIT_BYTES;
    const size_t whole = (size_t)(tile->tokens / unit_elements(format));
    for (size_t unit = 0; unit < whole; unit++) {
        const uint8_t *row =
            tile->v[unit / per_group] + unit % per_group * row_bytes + (size_t)d * UNIT_BYTES;
        UNROLL
        for (int j = 0; j < vectors; j++)
            v[j] = _mm512_load_si512(row + j * VECTOR_BYTES);
        add_unit(format, queries, vectors, acc, weights, unit, v);
    }
    if (format == KV_BF16 &&
        tile->tokens % 2 != 0) { /* the pair's second token is not stored: leave it out */
        const uint8_t *row =
            tile->v[whole / per_group] + whole % per_group * row_bytes + (size_t)d * UNIT_BYTES;
        for (int j = 0; j < vectors; j++)
            v[j] = _mm512_maskz_loadu_epi16(0x55555555u, row + j * VECTOR_BYTES);
        add_unit(format, queries, vectors, acc, weights, whole, v);
    }
    UNROLL
    for (int i = 0; i < queries; i++)
        for (int j = 0; j < vectors; j++)
            _mm512_store_ps(out + (size_t)i * (size_t)h->dim + d + j * 16, acc[i][j]);
}

ALWAYS_INLINE void attend_queries(enum kv_format format, const int queries, const struct heads *h,
                                  int32_t first_query, const struct kv_tile *tile)
{
    __m512 scores[TILE_QUERIES][TILE_GROUPS];
    struct weights weights;
    score(format, queries, scores, h, first_query, tile);
    for (int i = 0; i < queries; i++)
        weights.decay[i] = weigh(h, &h->queries[first_query + i], scores[i], tile, weights.units[i]);
    float *out = h->acc + (size_t)first_query * (size_t)h->dim;
    int32_t d = 0;
    for (; d + 64 <= h->dim; d += 64)
        mix(format, queries, 4, h, out, tile, &weights, d);
    for (; d < h->dim; d += 16)
        mix(format, queries, 1, h, out, tile, &weights, d);
}

/* One function per format and number of queries, so that accumulators live in registers. */
#define COUNTS(X, format) X(format, 1) X(format, 2) X(format, 3) X(format, 4) X(format, 5) X(format, 6)
#define DEFINE_ATTEND(format, queries)                                            \
    static void attend_##format##_##queries(const struct heads *h, int32_t first, \
                                            const struct kv_tile *tile)           \
    {                                                                             \
        attend_queries(KV_##format, queries, h, first, tile);                     \
    }
COUNTS(DEFINE_ATTEND, F32)
COUNTS(DEFINE_ATTEND, BF16)

#define LIST_ATTEND(format, queries) [KV_##format][queries] = attend_##format##_##queries,
static void (*const attend[2][TILE_QUERIES + 1])(const struct heads *h, int32_t first,
                                                 const struct kv_tile *tile) = {
    COUNTS(LIST_ATTEND, F32) COUNTS(LIST_ATTEND, BF16)};

int32_t avx512_attention_first_tile(const struct heads *h, const struct attention_span *span)
{
    if (h->args->window <= 0)
        return span->begin;
    const int32_t begin = span->first * h->group;
    const int32_t oldest = least_position(h, begin, begin + span->rows * h->group) - h->args->window + 1;
    return oldest > span->begin ? oldest / TILE_TOKENS * TILE_TOKENS : span->begin;
}

static void attend_span(const struct heads *h, const struct attention_span *span)
{
    const int32_t begin = span->first * h->group, end = begin + span->rows * h->group;
    int32_t first = avx512_attention_first_tile(h, span);
    if (first >= span->end)
        return;
    struct kv_tile next = avx512_attention_tile(h, span, first);
    for (; first < span->end; first += TILE_TOKENS) {
        const struct kv_tile tile = next;
        if (first + TILE_TOKENS < span->end)
            next = avx512_attention_tile(h, span, first + TILE_TOKENS);
        for (int32_t i = begin; i < end; i += TILE_QUERIES) {
            const int32_t last = i + TILE_QUERIES < end ? i + TILE_QUERIES : end;
            if (sees(h, i, last, first))
                attend[h->args->kv_format][last - i](h, i, &tile);
        }
    }
}

struct attention_span avx512_attention_whole(const struct attention_args *args)
{
    const int32_t last = args->first_position + args->rows;
    return (struct attention_span){.rows = args->rows,
                                   .begin = args->begin,
                                   .end = args->end < last ? args->end : last,
                                   .block_table = args->block_table};
}

void avx512_attention_frame(const struct attention_args *args, const struct attention_row *rows,
                            const struct attention_span *spans, int32_t span_count, int32_t kv_head_begin,
                            int32_t kv_head_end, void *scratch, avx512_attend_span *attend_each)
{
    const int32_t group = args->heads / args->kv_heads, count = group * args->rows;
    struct heads h = {
        .args = args, .rows = rows, .count = count, .group = group, .dim = padded_dim(args->head_dim)};
    h.queries = scratch;
    h.acc = (float *)(h.queries + count);
    h.units = (uint8_t *)(h.acc + (size_t)count * (size_t)h.dim);
    h.states = args->states;
    for (h.kv_head = kv_head_begin; h.kv_head < kv_head_end; h.kv_head++) {
        start(&h);
        for (int32_t i = 0; i < span_count; i++)
            attend_each(&h, &spans[i]);
        finish(&h);
        if (h.states)
            h.states += (size_t)count * attention_state_bytes(args->head_dim);
    }
}

void avx512_attention_spans(const struct attention_args *args, const struct attention_row *rows,
                            const struct attention_span *spans, int32_t span_count, int32_t kv_head_begin,
                            int32_t kv_head_end, void *scratch)
{
    avx512_attention_frame(args, rows, spans, span_count, kv_head_begin, kv_head_end, scratch, attend_span);
}

void avx512_attention(const struct attention_args *args, int32_t kv_head_begin, int32_t kv_head_end,
                      void *scratch)
{
    const struct attention_span whole = avx512_attention_whole(args);
    avx512_attention_spans(args, NULL, &whole, 1, kv_head_begin, kv_head_end, scratch);
}
