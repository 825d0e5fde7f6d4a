// SPDX-License-Identifier: Apache-2.0
// The inside of struct model, shared by model.c (opens and closes it) and forward.c (runs it). Private to
// engine/model.
#ifndef ENGINE_MODEL_FORWARD_H
#define ENGINE_MODEL_FORWARD_H

#include "base/block_key.h"
#include "engine/kernels/thread_team.h"
#include "engine/model/attention.h"
#include "engine/model/model.h"
#include "engine/model/moe.h"
#include "engine/model/step_plan.h"
#include "engine/model/synthetic.h"
#include "engine/model/weights.h"

/* Step buffers: one block of memory, R = max_batch_tokens rows. q..attention_out and gate, up are never alive
 * together and share their place, and so do the buffers of experts:
 *   x | normed | q k v attention_out  or  gate up  or  moe | cos sin | operands | attention */
struct forward_buffers {
    float *x;             /* [R][hidden] residual stream */
    float *normed;        /* [R][hidden] normalised rows; then the output of o and down */
    float *q;             /* [R][heads * head_dim] */
    float *k, *v;         /* [R][kv_heads * head_dim] */
    float *attention_out; /* [R][heads * head_dim] */
    float *gate, *up;     /* [R][intermediate] */
    struct moe_buffers moe;
    float *cos, *sin;  /* [R][head_dim / 2] */
    uint8_t *operands; /* activation data of the widest product */
    struct attention_buffers attention;
    uint8_t *memory;
    size_t memory_bytes;
};

struct model {
    struct hparams hparams;
    const struct kernels *kernels;
    enum weight_format weight_format;
    enum kv_format kv_format;
    int32_t max_batch_tokens, max_logit_rows;
    struct thread_team *team;
    struct safetensors *checkpoint; /* holds the embedding table */
    struct synthetic synthetic;     /* what the checkpoint borrows, when it is no file */
    struct weights weights;
    enum model_weight_origin weight_origin;
    struct error cache_trouble;
    float *inverse_frequencies; /* [head_dim / 2] */
    struct step_plans plans;
    struct forward_buffers buffers;
    struct expert_load expert_load;
    uint64_t *expert_rows; /* [layers][experts]; NULL: a dense model */
    uint8_t fingerprint[SHA256_BYTES];
};

/* One member's view of one call; all members hold the same values but `member`. */
struct forward {
    struct model *model;
    struct kv_cache *kv;
    const struct batch *batch;
    float *logits;
    int member, members;
    int32_t rows; /* the batch's, and from the last layer's MLP on only those whose logits are wanted */
    const struct step_plan *plan; /* for `rows` */
};

/* This member's share of the rows. */
static inline void forward_rows(const struct forward *f, int32_t *begin, int32_t *end)
{
    *begin = (int32_t)((int64_t)f->rows * f->member / f->members);
    *end = (int32_t)((int64_t)f->rows * (f->member + 1) / f->members);
}

static inline void forward_barrier(const struct forward *f)
{
    thread_team_barrier(f->model->team);
}

/* Lays the buffers out from `base` (NULL: only sizes) for the model's hparams, kernels, formats, limits and
 * plans. */
void forward_layout(struct forward_buffers *out, const struct model *model, int members, uint8_t *base);

#endif
