// SPDX-License-Identifier: Apache-2.0
// The op table: every piece of arithmetic of the forward pass, one table per kernel set. kernels_generic is
// plain C and the oracle; the others are chosen at run time by CPU features.
//
// Reproducibility rule that every op keeps: each output element is computed by one thread, with a reduction
// order that depends on the operand's shape (k, head_dim, position) alone: never on the number of rows,
// the row's index, the chunking, the batch's other rows or the number of threads.
#ifndef ENGINE_KERNELS_KERNELS_H
#define ENGINE_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/kernels/attention_state.h"

enum dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };                          /* of a checkpoint tensor */
enum weight_format { WEIGHT_F32, WEIGHT_BF16, WEIGHT_INT8, WEIGHT_INT4 }; /* of a packed matrix */
enum kv_format { KV_F32, KV_BF16, KV_INT8 }; /* int8: one scale per token, kv head, and K or V */

/* A matrix [n][k] packed for one kernel set: y[row][n] = sum_k x[row][k] * w[n][k]. */
struct weight {
    enum weight_format format;
    int32_t n, k;
    void *data; /* layout private to the kernel set; 64-byte aligned */
};

/* Activation rows converted once to the operand form that a weight format wants (plain f32, rounded to
 * bf16, quantised per row …), then used by every matrix that reads the same rows. */
struct activation {
    enum weight_format format;
    int32_t rows, k;
    const float *source;        /* [rows][k]: formats that need no conversion read it directly */
    void *data;                 /* activation_bytes(), laid out for just these rows; 64-byte aligned */
    const int32_t *source_rows; /* [rows] row r is row source_rows[r] of source; NULL: it is row r */
};

/* Row `row` before its conversion: [k]. */
static inline const float *activation_source(const struct activation *x, int32_t row)
{
    const int32_t from = x->source_rows ? x->source_rows[row] : row;
    return x->source + (size_t)from * (size_t)x->k;
}

struct attention_args {
    const float *q; /* [rows][heads * head_dim], rope applied; row stride q_stride floats */
    float *out;     /* [rows][heads * head_dim]; row stride out_stride floats */
    void *states;   /* NULL, or where struct attention_state go instead: [kv heads of the call][rows][heads of
                       a kv head] */
    int32_t q_stride, out_stride;
    int32_t rows;               /* consecutive positions of one sequence */
    int32_t first_position;     /* row r attends to positions 0 .. first_position + r */
    int32_t begin, end;         /* and takes in those of [begin, end); begin is a multiple of 64 */
    const int32_t *block_table; /* physical block per block_tokens positions */
    const uint8_t *layer_base;  /* block b of this layer starts at layer_base + b * block_stride_bytes */
    size_t block_stride_bytes;
    int32_t block_tokens; /* multiple of 16 */
    int32_t heads, kv_heads, head_dim;
    int32_t window; /* sliding window in tokens, 0: none */
    float scale;
    enum kv_format kv_format;
};

/* A row of attention_spans. */
struct attention_row {
    int32_t row;      /* of q and out */
    int32_t position; /* attends to positions 0 .. position */
};

/* Rows [first, first + rows) of a call take in positions [begin, end), which lie in blocks of one table that
 * all of them share. */
struct attention_span {
    int32_t first, rows, begin, end;
    const int32_t *block_table;
};

struct kernels {
    const char *name;
    bool (*supported)(void); /* this CPU can run it */
    bool (*has_format)(enum weight_format format);

    /* Weights. src is row-major [n][k] of `dtype` and row stride k. */
    size_t (*weight_bytes)(enum weight_format format, int32_t n, int32_t k);
    int32_t n_granule; /* packing and matmul ranges of n start and end at multiples of this (or at n) */
    void (*weight_pack)(struct weight *w, const void *src, enum dtype dtype, int32_t n_begin, int32_t n_end);

    /* Activations. prepare converts rows [row_begin, row_end). */
    size_t (*activation_bytes)(enum weight_format format, int32_t rows, int32_t k);
    void (*activation_prepare)(struct activation *x, int32_t row_begin, int32_t row_end);

    /* y[row * y_stride + n] for all rows of x and n in [n_begin, n_end). bias: [n] or NULL. */
    void (*matmul)(float *y, size_t y_stride, const struct weight *w, const struct activation *x,
                   const float *bias, int32_t n_begin, int32_t n_end);

    /* Row ops; y may be x, and y may be gate. */
    void (*rms_norm)(float *y, const float *x, const float *weight, int32_t n, float eps);
    /* Rotates x [heads][head_dim] in place, halves layout (x[i], x[i + head_dim/2]); cos, sin: [head_dim/2].
     */
    void (*rope)(float *x, int32_t heads, int32_t head_dim, const float *cos, const float *sin);
    void (*swiglu)(float *y, const float *gate, const float *up, int32_t n); /* silu(gate) * up */
    void (*add)(float *y, const float *x, int32_t n);                        /* y += x */

    bool has_kv_int8; /* every set has f32 and bf16 */
    /* KV cache: bytes of one layer of one block, storing one token, attending. */
    size_t (*kv_block_bytes)(enum kv_format format, int32_t block_tokens, int32_t kv_heads, int32_t head_dim);
    /* k, v: [kv_heads * head_dim] of one token; slot: index within the block. */
    void (*kv_store)(uint8_t *block, enum kv_format format, int32_t slot, int32_t block_tokens,
                     int32_t kv_heads, int32_t head_dim, const float *k, const float *v);
    /* For kv heads [begin, end) and all their query heads. scratch: attention_scratch_bytes() per thread. */
    size_t (*attention_scratch_bytes)(int32_t heads, int32_t kv_heads, int32_t head_dim, int32_t max_rows);
    void (*attention)(const struct attention_args *args, int32_t kv_head_begin, int32_t kv_head_end,
                      void *scratch);
    /* Optional: args->rows rows of any sequences, each through its spans, which follow one another from the
     * first position that is taken in, in `spans` in this order and begin at multiples of
     * attention_tile_tokens; one set of keys and values is read once for the rows of a span. Gives the bytes
     * of `attention`. first_position, begin, end and block_table of args are not used. */
    void (*attention_spans)(const struct attention_args *args, const struct attention_row *rows,
                            const struct attention_span *spans, int32_t span_count, int32_t kv_head_begin,
                            int32_t kv_head_end, void *scratch);
    int32_t attention_tile_tokens; /* 0: no attention_spans */
};

extern const struct kernels kernels_generic;
extern const struct kernels kernels_openblas; /* f32 only: cblas_sgemm on fixed tiles */
#if defined(__x86_64__)
extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512;
extern const struct kernels kernels_amx; /* avx512 with bf16 and int8 products on tiles */
#endif

/* y[rows][y_stride] = x[rows][k] * w[n][k]^T by plain cblas_sgemm on the calling thread: what the products of
 * the sets are compared with in `millrace bench products`. */
void kernels_openblas_product(float *y, int32_t y_stride, const float *w, const float *x, int32_t rows,
                              int32_t n, int32_t k);

/* By name; "auto": the best supported one. NULL: unknown name, or this CPU cannot run it. */
const struct kernels *kernels_find(const char *name);

#endif
