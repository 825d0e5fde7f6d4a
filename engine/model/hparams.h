// SPDX-License-Identifier: Apache-2.0
// Hyperparameters of a decoder, read from config.json and generation_config.json; every family's details
// are fields here, so that the forward pass has no strings to compare.
#ifndef ENGINE_MODEL_HPARAMS_H
#define ENGINE_MODEL_HPARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum rope_scaling { ROPE_SCALING_NONE, ROPE_SCALING_LINEAR, ROPE_SCALING_LLAMA3, ROPE_SCALING_YARN };
enum { HPARAMS_MAX_EOS = 8 };

struct hparams {
    char architecture[64]; /* "Qwen3ForCausalLM" */
    int32_t vocab, hidden, intermediate, layers, heads, kv_heads, head_dim;
    int32_t max_context_tokens; /* max_position_embeddings */
    int32_t sliding_window;     /* 0: none */
    int32_t sliding_from_layer; /* Qwen2's max_window_layers: layers >= this slide */
    float norm_eps;
    bool qkv_bias, output_bias, mlp_bias, qk_norm, tied_embeddings;
    double rope_theta;
    enum rope_scaling rope_scaling;
    double rope_factor, rope_low_freq_factor, rope_high_freq_factor; /* llama3, linear */
    double rope_original_context, rope_beta_fast, rope_beta_slow;    /* yarn, llama3 */
    double rope_attention_factor; /* yarn: multiplies cos and sin; 1 otherwise */
    /* generation_config.json */
    int32_t bos; /* -1: none */
    int32_t eos[HPARAMS_MAX_EOS];
    int32_t eos_count;
    bool has_temperature, has_top_p, has_top_k, has_min_p, has_repetition_penalty;
    float temperature, top_p, min_p, repetition_penalty;
    int32_t top_k;
};

/* Reads model_dir/config.json and, when present, generation_config.json.
 * Statuses: NOT_FOUND, INVALID, UNSUPPORTED (architecture or feature, one clear sentence). */
MUST_CHECK enum status hparams_read(struct hparams *out, const char *model_dir, struct error *err);

#endif
