// SPDX-License-Identifier: Apache-2.0
// The parameters of a decoder: matrices packed for one kernel set, vectors widened to f32, all in one block
// of memory; the embedding table stays in the mapped checkpoint and is read row by row.
#ifndef ENGINE_MODEL_WEIGHTS_H
#define ENGINE_MODEL_WEIGHTS_H

#include "engine/kernels/kernels.h"
#include "engine/kernels/thread_team.h"
#include "engine/model/hparams.h"
#include "engine/model/safetensors.h"
#include "engine/model/weight_cache.h"

/* int4 keeps matrices with rows shorter than two of its groups in int8: models that narrow have no redundancy
 * to lose (with 4 bits throughout, stories260k's perplexity rises by 16 %, so by 1 %: docs/perf.md), and
 * their matrices are so small that half their bytes save nothing. */
enum { WEIGHTS_INT4_MIN_K = 128 };

/* The format of a matrix of a model with weights in `format`, and of the rows that are multiplied with it: of
 * k alone, so that matrices that read the same rows agree. */
static inline enum weight_format weights_format(enum weight_format format, int32_t k)
{
    return format == WEIGHT_INT4 && k < WEIGHTS_INT4_MIN_K ? WEIGHT_INT8 : format;
}

struct expert_weights {
    struct weight gate, up; /* [width][hidden] */
    struct weight down;     /* [hidden][width] */
};

struct layer_weights {
    float *input_norm, *post_norm;            /* [hidden] */
    struct weight q, k, v;                    /* [heads * head_dim | kv_heads * head_dim][hidden] */
    struct weight o;                          /* [hidden][heads * head_dim] */
    struct weight gate, up;                   /* [intermediate][hidden] */
    struct weight down;                       /* [hidden][intermediate] */
    float *q_bias, *k_bias, *v_bias, *o_bias; /* NULL: none */
    float *gate_bias, *up_bias, *down_bias;   /* NULL: none */
    float *q_norm, *k_norm;                   /* [head_dim]; NULL: none */
    /* Of a sparse layer, which has no gate, up, down of its own: */
    struct weight router, shared_gate; /* [experts][hidden], [1][hidden]; f32 */
    struct expert_weights shared;      /* an expert of every row */
    struct expert_weights *experts;    /* [experts]; NULL: a dense layer */
};

struct weights {
    const struct tensor *embedding; /* [vocab][hidden], in the checkpoint */
    struct layer_weights *layers;   /* [layers] */
    struct expert_weights *experts; /* [sparse layers][experts]; NULL: none */
    float *final_norm;              /* [hidden] */
    struct weight head;             /* [vocab][hidden] */
    uint8_t *memory;
    size_t memory_bytes;
    bool cached; /* memory was read from the weight cache */
};

/* What loading needs besides the destination; borrowed. */
struct weights_source {
    const struct hparams *hparams;
    const struct kernels *kernels;
    enum weight_format format;
    const struct safetensors *checkpoint;
    struct thread_team *team;
    struct weight_cache *cache;                                                 /* NULL: none */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes); /* NULL: none */
    void *progress_context;
};

/* Bytes that weights_load will take, from the shapes alone. */
size_t weights_bytes(const struct hparams *hparams, const struct kernels *kernels, enum weight_format format);
/* Checks every tensor and packs them, or reads what the cache holds of them. `tensors` becomes the digest of
 * names, types, shapes and bytes of all of them. Statuses: INVALID (missing tensor, wrong shape), UNSUPPORTED
 * (dtype), NO_MEMORY. Release in any case. */
MUST_CHECK enum status weights_load(struct weights *out, const struct weights_source *source,
                                    uint8_t tensors[SHA256_BYTES], struct error *err);
void weights_release(struct weights *weights);

#endif
