// SPDX-License-Identifier: Apache-2.0
// What the AVX-512 and the AMX attention share: the KV layout, the state of queries between tiles, and the
// softmax step. Each file gives it its own products.
//
// KV layout of one layer of one block: [kv_heads][block_tokens / 16] groups of 16 tokens, each K then V, in
// units of 4 bytes (1 f32 or 2 bf16), head_dim padded to a multiple of 16:
//   K [head_dim / per unit][16 tokens] a unit holds neighbouring dimensions of one token
//   V [16 tokens / per unit][head_dim] a unit holds neighbouring tokens of one dimension
#ifndef ENGINE_KERNELS_ATTENTION_AVX512_H
#define ENGINE_KERNELS_ATTENTION_AVX512_H

#include "engine/kernels/simd_avx512.h"

enum {
    GROUP_TOKENS = 16,
    TILE_TOKENS = AVX512_ATTENTION_TILE_TOKENS,
    TILE_GROUPS = TILE_TOKENS / GROUP_TOKENS,
    MAX_TILE_QUERIES = 16,
    UNIT_BYTES = 4,
    VECTOR_BYTES = 64,
    MAX_HEAD_DIM = 1024
};

static inline int32_t padded_dim(int32_t head_dim)
{
    return (head_dim + 15) / 16 * 16;
}

static inline int32_t unit_elements(enum kv_format format)
{
    return format == KV_BF16 ? 2 : 1;
}

/* K (or V) of 16 tokens of one head. */
static inline size_t group_bytes(enum kv_format format, int32_t head_dim)
{
    return (size_t)(padded_dim(head_dim) / unit_elements(format)) * VECTOR_BYTES;
}

/* State of a query between tiles. Query i of a call is row i / group, head i % group of the kv head. */
struct query {
    __m512 sum; /* of exponentials, by lane */
    float max;
    int32_t row, position;
};

/* One kv head's call, in the caller's scratch. */
struct heads {
    const struct attention_args *args;
    const struct attention_row *rows; /* NULL: consecutive positions */
    int32_t kv_head, count, group;    /* count = rows * group */
    int32_t dim;                      /* padded */
    struct query *queries;            /* [count] */
    uint8_t *units;                   /* [count][dim / per unit] of the query itself */
    float *acc;                       /* [count][dim] weighted sum of values */
    uint8_t *states;                  /* of the kv head's queries; NULL: their attention is asked for */
};

struct kv_tile {
    const uint8_t *k[TILE_GROUPS], *v[TILE_GROUPS]; /* groups past the last token repeat the last group */
    int32_t first;                                  /* position */
    int32_t tokens;                                 /* stored ones of this tile */
};

static inline int32_t unit_stride(const struct heads *h)
{
    return h->dim * UNIT_BYTES; /* room for f32, whatever the format */
}

/* Visible lanes of group g of the tile, for a query at `position`. */
static inline __mmask16 visible(const struct attention_args *args, int32_t position, int32_t group_first)
{
    const __mmask16 past = avx512_lanes(position + 1 - group_first);
    if (args->window <= 0)
        return past;
    return past & (__mmask16)~avx512_lanes(position - args->window + 1 - group_first);
}

/* Softmax step of one query over one tile: scores become weights in units of tokens; returns the factor that
 * brings earlier sums to the new maximum. bf16 weights are rounded before they are summed, so that they add
 * up to what divides them. */
ALWAYS_INLINE float weigh(const struct heads *h, struct query *query, const __m512 scores[TILE_GROUPS],
                          const struct kv_tile *tile, uint8_t *weights)
{
    const struct attention_args *args = h->args;
    __m512 s[TILE_GROUPS];
    __mmask16 mask[TILE_GROUPS];
    __m512 most = _mm512_set1_ps(query->max);
    for (int g = 0; g < TILE_GROUPS; g++) {
        mask[g] = visible(args, query->position, tile->first + g * GROUP_TOKENS);
        s[g] = _mm512_mul_ps(scores[g], _mm512_set1_ps(args->scale));
        most = _mm512_mask_max_ps(most, mask[g], most, s[g]);
    }
    const float max = _mm512_reduce_max_ps(most);
    const float decay = _mm512_cvtss_f32(avx512_exp(_mm512_set1_ps(query->max - max)));
    for (int g = 0; g < TILE_GROUPS; g++) {
        s[g] = _mm512_maskz_mov_ps(mask[g], avx512_exp(_mm512_sub_ps(s[g], _mm512_set1_ps(max))));
        if (args->kv_format == KV_F32) {
            _mm512_storeu_ps(weights + g * VECTOR_BYTES, s[g]);
            continue;
        }
        const __m256i half = (__m256i)_mm512_cvtneps_pbh(s[g]);
        _mm256_storeu_si256((__m256i *)(weights + g * VECTOR_BYTES / 2), half);
        s[g] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
    const __m512 sum = _mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3]));
    query->sum = _mm512_fmadd_ps(query->sum, _mm512_set1_ps(decay), sum);
    query->max = max;
    return decay;
}

struct weights { /* of one register tile of queries */
    _Alignas(VECTOR_BYTES) uint8_t units[MAX_TILE_QUERIES][TILE_TOKENS * UNIT_BYTES];
    float decay[MAX_TILE_QUERIES];
};

/* The least position of queries [first, last). */
static inline int32_t least_position(const struct heads *h, int32_t first, int32_t last)
{
    int32_t least = h->queries[first].position;
    for (int32_t i = first + 1; i < last; i++)
        least = h->queries[i].position < least ? h->queries[i].position : least;
    return least;
}

/* Queries [first, last) see something of the tile. Leaving out those that do not is only quicker. */
static inline bool sees(const struct heads *h, int32_t first, int32_t last, int32_t tile_first)
{
    const int32_t window = h->args->window;
    int32_t most = h->queries[first].position;
    for (int32_t i = first + 1; i < last; i++)
        most = h->queries[i].position > most ? h->queries[i].position : most;
    return most >= tile_first &&
           (window <= 0 || least_position(h, first, last) - window + 1 < tile_first + TILE_TOKENS);
}

/* The frame of a call, in attention_avx512.c: what differs is how the queries of a span meet its tiles. */
typedef void avx512_attend_span(const struct heads *h, const struct attention_span *span);
void avx512_attention_frame(const struct attention_args *args, const struct attention_row *rows,
                            const struct attention_span *spans, int32_t span_count, int32_t kv_head_begin,
                            int32_t kv_head_end, void *scratch, avx512_attend_span *attend_span);
struct attention_span avx512_attention_whole(const struct attention_args *args);
/* The first tile of the span that one of its queries can see: earlier ones are behind their windows. */
int32_t avx512_attention_first_tile(const struct heads *h, const struct attention_span *span);
/* The tile at position `first` of the span; asks for its bytes ahead of use where that pays. */
struct kv_tile avx512_attention_tile(const struct heads *h, const struct attention_span *span, int32_t first);

#endif
