// SPDX-License-Identifier: Apache-2.0
// Hyperparameters of a decoder, read from config.json and generation_config.json; every family's details
// are fields here, so that the forward pass has no strings to compare.
#ifndef ENGINE_MODEL_HPARAMS_H
#define ENGINE_MODEL_HPARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/kernels/kernels.h"

enum rope_scaling { ROPE_SCALING_NONE, ROPE_SCALING_LINEAR, ROPE_SCALING_LLAMA3, ROPE_SCALING_YARN };
enum expert_naming { EXPERT_NAMING_QWEN, EXPERT_NAMING_MIXTRAL }; /* of a checkpoint's tensors */
enum {
    HPARAMS_MAX_EOS = 8,
    HPARAMS_MAX_LAYERS = 512,
    HPARAMS_MAX_EXPERTS = 512,
    HPARAMS_MAX_CHOICES = 64 /* experts of one token */
};

struct hparams {
    char architecture[64]; /* "Qwen3ForCausalLM" */
    int32_t vocab, hidden, intermediate, layers, heads, kv_heads, head_dim;
    int32_t max_context_tokens;                     /* max_position_embeddings */
    int32_t sliding_window;                         /* tokens, the row's own included; 0: none */
    uint8_t sliding_layers[HPARAMS_MAX_LAYERS / 8]; /* bit i: layer i slides; see hparams_layer_window */
    /* Mixture of experts; experts 0: every layer is dense */
    int32_t experts, experts_per_token, expert_width;
    int32_t shared_expert_width;                   /* of an expert that every row has; 0: none */
    uint8_t sparse_layers[HPARAMS_MAX_LAYERS / 8]; /* see hparams_layer_is_sparse */
    enum expert_naming expert_naming;
    bool norm_topk; /* the chosen experts' weights sum to 1 */
    float norm_eps;
    bool qkv_bias, output_bias, mlp_bias, qk_norm, tied_embeddings;
    enum dtype checkpoint_dtype; /* what config.json says of the weights (F32 when silent); for plans only */
    double rope_theta;
    enum rope_scaling rope_scaling;
    double rope_factor;                                 /* linear, llama3, yarn; 1 otherwise */
    double rope_low_freq_factor, rope_high_freq_factor; /* llama3 */
    double rope_original_context;                       /* yarn, llama3 */
    double rope_beta_fast, rope_beta_slow;              /* yarn */
    bool rope_truncate;                                 /* yarn: whole dimensions bound the ramp */
    double rope_attention_factor;                       /* yarn: multiplies cos and sin; 1 otherwise */
    /* generation_config.json */
    int32_t bos; /* -1: none */
    int32_t eos[HPARAMS_MAX_EOS];
    int32_t eos_count;
    bool has_temperature, has_top_p, has_top_k, has_min_p, has_repetition_penalty;
    float temperature, top_p, min_p, repetition_penalty;
    int32_t top_k;
};

/* Reads model_dir/config.json and, when present, generation_config.json.
 * Statuses: NOT_FOUND, INVALID, UNSUPPORTED (architecture or feature, one clear sentence), NO_MEMORY, IO. */
MUST_CHECK enum status hparams_read(struct hparams *out, const char *model_dir, struct error *err);
/* Same from memory (tests, fuzzing); `generation` may be NULL. */
MUST_CHECK enum status hparams_parse(struct hparams *out, const char *config, size_t config_bytes,
                                     const char *generation, size_t generation_bytes, struct error *err);
/* Sliding window of one layer in tokens, 0: the layer sees everything. */
int32_t hparams_layer_window(const struct hparams *hparams, int32_t layer);
/* The layer's MLP is a mixture of experts. */
bool hparams_layer_is_sparse(const struct hparams *hparams, int32_t layer);

#endif
