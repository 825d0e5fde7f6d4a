// SPDX-License-Identifier: Apache-2.0
// Paged attention over bf16 keys and values on AMX tiles: 16 queries at a time meet 64 positions. The KV
// layout is the AVX-512 set's, whose groups of 16 tokens are tiles as they lie; f32 KV goes to its attention.
//
// Invariant: as in attention_avx512.c; a tile product computes its rows apart from each other, so a query's
// bytes do not depend on which queries share its tile.
#include "engine/kernels/attention_avx512.h"
#include "engine/kernels/products_amx.h"

enum { TILE_QUERIES = 16, TILE_UNITS = 16, HALF_UNITS = TILE_UNITS / 2, PASS_VECTORS = 4 };

/* Tiles 0-3 accumulate; 4 holds 16 units of the rows and 5 of the columns, 7 and 6 the same for 8 units. */
static void configure(int32_t queries)
{
    struct amx_tile_config config = {.palette = 1};
    const int32_t rows[] = {queries, queries, queries, queries, queries, TILE_UNITS, HALF_UNITS, queries};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        config.rows[i] = (uint8_t)rows[i];
        config.row_bytes[i] = i == 7 ? HALF_UNITS * UNIT_BYTES : VECTOR_BYTES;
    }
    amx_configure(&config);
}

struct scores {
    _Alignas(VECTOR_BYTES) float at[TILE_QUERIES][TILE_TOKENS];
};

#define SCORE_GROUP(sum, rows, columns, offset)                      \
    do {                                                             \
        _tile_loadd(columns, tile->k[sum] + (offset), VECTOR_BYTES); \
        _tile_dpbf16ps(sum, rows, columns);                          \
    } while (0)

/* q . k of the tile's 64 positions. */
static void score(const struct heads *h, int32_t first_query, const struct kv_tile *tile,
                  struct scores *scores)
{
    const size_t stride = (size_t)unit_stride(h);
    const uint8_t *q = h->units + (size_t)first_query * stride;
    const int32_t units = h->dim / 2;
    int32_t unit = 0;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (; unit + TILE_UNITS <= units; unit += TILE_UNITS) {
        const size_t offset = (size_t)unit * VECTOR_BYTES;
        _tile_loadd(4, q + (size_t)unit * UNIT_BYTES, stride);
        SCORE_GROUP(0, 4, 5, offset);
        SCORE_GROUP(1, 4, 5, offset);
        SCORE_GROUP(2, 4, 5, offset);
        SCORE_GROUP(3, 4, 5, offset);
    }
    if (unit < units) { /* head_dim is an odd multiple of 16 */
        const size_t offset = (size_t)unit * VECTOR_BYTES;
        _tile_loadd(7, q + (size_t)unit * UNIT_BYTES, stride);
        SCORE_GROUP(0, 7, 6, offset);
        SCORE_GROUP(1, 7, 6, offset);
        SCORE_GROUP(2, 7, 6, offset);
        SCORE_GROUP(3, 7, 6, offset);
    }
    _tile_stored(0, scores->at[0], sizeof scores->at[0]);
    _tile_stored(1, scores->at[0] + 16, sizeof scores->at[0]);
    _tile_stored(2, scores->at[0] + 32, sizeof scores->at[0]);
    _tile_stored(3, scores->at[0] + 48, sizeof scores->at[0]);
}

#define FOR_VECTORS(X)   \
    do {                 \
        X(0);            \
        if (vectors > 1) \
            X(1);        \
        if (vectors > 2) \
            X(2);        \
        if (vectors > 3) \
            X(3);        \
    } while (0)
#define LOAD_SUM(j) _tile_loadd(j, out + (j)*16, row_bytes)
#define STORE_SUM(j) _tile_stored(j, out + (j)*16, row_bytes)
#define MIX_GROUP(j)                                     \
    do {                                                 \
        _tile_loadd(6, v + (j)*VECTOR_BYTES, row_bytes); \
        _tile_dpbf16ps(j, 7, 6);                         \
    } while (0)

/* out[query][16 * vectors] += weights . V, already multiplied by the decay. */
ALWAYS_INLINE void mix(const int vectors, const struct heads *h, float *out, const struct kv_tile *tile,
                       const struct weights *weights, size_t column_bytes)
{
    const size_t row_bytes = (size_t)h->dim * UNIT_BYTES;
    FOR_VECTORS(LOAD_SUM);
    for (int32_t g = 0; g * GROUP_TOKENS < tile->tokens; g++) {
        const uint8_t *v = tile->v[g] + column_bytes;
        _tile_loadd(7, weights->units[0] + (size_t)g * HALF_UNITS * UNIT_BYTES, sizeof weights->units[0]);
        FOR_VECTORS(MIX_GROUP);
    }
    FOR_VECTORS(STORE_SUM);
}

static void attend(const struct heads *h, int32_t first, int32_t queries, const struct kv_tile *tile)
{
    struct scores scores;
    struct weights weights;
    score(h, first, tile, &scores);
    for (int32_t i = 0; i < queries; i++) {
        __m512 lanes[TILE_GROUPS];
        for (int g = 0; g < TILE_GROUPS; g++)
            lanes[g] = _mm512_load_ps(scores.at[i] + g * GROUP_TOKENS);
        const float decay = weigh(h, &h->queries[first + i], lanes, tile, weights.units[i]);
        float *out = h->acc + (size_t)(first + i) * (size_t)h->dim;
        for (int32_t d = 0; d < h->dim && decay != 1.0f; d += 16)
            _mm512_store_ps(out + d, _mm512_mul_ps(_mm512_load_ps(out + d), _mm512_set1_ps(decay)));
    }
    __asm__ volatile("" : : "r"(&weights), "r"(h->acc) : "memory"); /* gcc: tile loads read memory */
    float *out = h->acc + (size_t)first * (size_t)h->dim;
    int32_t d = 0;
    for (; d + PASS_VECTORS * 16 <= h->dim; d += PASS_VECTORS * 16)
        mix(PASS_VECTORS, h, out + d, tile, &weights, (size_t)d * UNIT_BYTES);
    for (; d < h->dim; d += 16)
        mix(1, h, out + d, tile, &weights, (size_t)d * UNIT_BYTES);
}

/* Values of a group whose last tokens are not stored, with zeros in their place: a weight of zero does not
 * cancel a stale infinity. */
static void copy_group(uint8_t *out, const uint8_t *v, int32_t tokens, int32_t dim)
{
    for (int32_t unit = 0; unit < HALF_UNITS; unit++) {
        const int32_t left = tokens - unit * 2;
        const __mmask32 kept = left >= 2 ? 0xffffffffu : left == 1 ? 0x55555555u : 0u;
        for (int32_t d = 0; d < dim; d += 16) {
            const size_t at = (size_t)(unit * dim + d) * UNIT_BYTES;
            _mm512_store_si512(out + at, _mm512_maskz_loadu_epi16(kept, v + at));
        }
    }
}

static void attend_span(const struct heads *h, const struct attention_span *span)
{
    _Alignas(VECTOR_BYTES) uint8_t rest[MAX_HEAD_DIM * UNIT_BYTES * HALF_UNITS];
    const int32_t begin = span->first * h->group, end = begin + span->rows * h->group;
    int32_t configured = 0, first = avx512_attention_first_tile(h, span);
    if (first >= span->end)
        return;
    struct kv_tile next = avx512_attention_tile(h, span, first);
    for (; first < span->end; first += TILE_TOKENS) {
        struct kv_tile tile = next;
        if (first + TILE_TOKENS < span->end)
            next = avx512_attention_tile(h, span, first + TILE_TOKENS);
        const int32_t partial = tile.tokens % GROUP_TOKENS;
        if (partial != 0) {
            copy_group(rest, tile.v[tile.tokens / GROUP_TOKENS], partial, h->dim);
            tile.v[tile.tokens / GROUP_TOKENS] = rest;
        }
        for (int32_t i = begin; i < end; i += TILE_QUERIES) {
            const int32_t queries = end - i < TILE_QUERIES ? end - i : TILE_QUERIES;
            if (!sees(h, i, i + queries, first))
                continue;
            if (configured != queries)
                configure(queries);
            configured = queries;
            attend(h, i, queries, &tile);
        }
    }
}

void amx_attention_spans(const struct attention_args *args, const struct attention_row *rows,
                         const struct attention_span *spans, int32_t span_count, int32_t kv_head_begin,
                         int32_t kv_head_end, void *scratch)
{
    if (args->kv_format != KV_BF16) {
        avx512_attention_spans(args, rows, spans, span_count, kv_head_begin, kv_head_end, scratch);
        return;
    }
    avx512_attention_frame(args, rows, spans, span_count, kv_head_begin, kv_head_end, scratch, attend_span);
    _tile_release();
}

void amx_attention(const struct attention_args *args, int32_t kv_head_begin, int32_t kv_head_end,
                   void *scratch)
{
    const struct attention_span whole = avx512_attention_whole(args);
    amx_attention_spans(args, NULL, &whole, 1, kv_head_begin, kv_head_end, scratch);
}
