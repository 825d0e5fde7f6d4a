// SPDX-License-Identifier: Apache-2.0
// A loaded model: hyperparameters, packed weights, the forward pass. Opened once, read-only afterwards but
// for its step buffers, which belong to the engine thread.
#ifndef ENGINE_MODEL_MODEL_H
#define ENGINE_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/batch.h"
#include "engine/kernels/kernels.h"
#include "engine/model/expert_load.h"
#include "engine/model/hparams.h"

struct model;
struct thread_team; /* engine/kernels/thread_team.h */
struct kv_cache;    /* engine/kv/kv_cache.h */

struct model_options {
    const char *model_dir;
    const char *kernels;       /* "auto" | "generic" | "openblas" | "avx2" | "avx512" */
    const char *weight_format; /* "auto" (checkpoint's) | "f32" | "bf16" | "int8" | "int4" */
    const char *kv_format;     /* "auto" (f32 for f32 checkpoints, else bf16) | "f32" | "bf16" | "int8" */
    const char *weight_cache;  /* directory that keeps packed weights for the next start; NULL, "": none */
    int threads;               /* kernel team, this thread included; >= 1 */
    int32_t max_batch_tokens;  /* rows per forward: sizes the step buffers */
    int32_t max_logit_rows;
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes); /* NULL: none */
    void *progress_context;
};

/* Memory of a model from config.json alone (the directory needs no weights). */
struct model_plan {
    struct hparams hparams;
    const char *kernels, *weight_format, *kv_format; /* what "auto" becomes */
    const char *narrow_weight_format; /* of matrices too narrow for weight_format; NULL: there are none */
    uint64_t weight_bytes;            /* packed matrices and vectors */
    uint64_t
        embedding_bytes;     /* the table in the checkpoint file, of which only looked-up rows are resident */
    uint64_t buffer_bytes;   /* step buffers */
    uint64_t kv_token_bytes; /* one token in the KV cache, all layers */
};

/* Statuses: NOT_FOUND, INVALID, UNSUPPORTED, NO_MEMORY. Where weight_format or kv_format is "auto", the type
 * that config.json gives stands for the tensors' own. */
MUST_CHECK enum status model_plan(const struct model_options *options, struct model_plan *out,
                                  struct error *err);

/* Statuses: NOT_FOUND, INVALID (config, safetensors), UNSUPPORTED (architecture, dtype, feature; one clear
 * sentence), NO_MEMORY. */
MUST_CHECK enum status model_open(struct model **out, const struct model_options *options, struct error *err);
/* The same with random bf16 weights for benchmarks and tests; options->model_dir is not read.
 * Statuses: INVALID, UNSUPPORTED, NO_MEMORY. */
MUST_CHECK enum status model_open_synthetic(struct model **out, const struct hparams *hparams,
                                            const struct model_options *options, uint64_t seed,
                                            struct error *err);
void model_close(struct model *model);

const struct hparams *model_hparams(const struct model *model);
/* SHA-256 over weights, formats, architecture, rope, KV layout, kernel set and numerics version. */
const uint8_t *model_fingerprint(const struct model *model); /* [32] */
uint64_t model_weight_bytes(const struct model *model);
enum model_weight_origin {
    MODEL_WEIGHTS_PACKED, /* from the checkpoint */
    MODEL_WEIGHTS_KEPT,   /* likewise, and written to the weight cache */
    MODEL_WEIGHTS_READ    /* the weight cache had them */
};
/* *trouble: why a weight cache that was asked for was not used, or "". */
enum model_weight_origin model_weight_origin(const struct model *model, const char **trouble);
uint64_t model_buffer_bytes(const struct model *model);
const char *model_kernels_name(const struct model *model);
const char *model_weight_format_name(const struct model *model);
const char *model_kv_format_name(const struct model *model);
int model_threads(const struct model *model);
/* The kernel team, idle between forwards; of the thread that runs model_forward. */
struct thread_team *model_team(const struct model *model);
/* All zero for a dense model. On the thread that runs model_forward. */
struct expert_load model_expert_load(const struct model *model);
/* Rows that each expert of a layer has had: [experts]. NULL: a dense model. */
const uint64_t *model_expert_rows(const struct model *model, int32_t layer);

/* Bytes of one KV block of block_tokens tokens, all layers; the payload's layout is the kernel set's. */
size_t model_block_bytes(const struct model *model, int32_t block_tokens);

/* Runs the batch: writes K/V of every row into kv, and logits of the asked rows. Never fails: everything
 * it needs was allocated at open. logits: [batch->logit_count][vocab] f32. */
void model_forward(struct model *model, struct kv_cache *kv, const struct batch *batch, float *logits);

#endif
