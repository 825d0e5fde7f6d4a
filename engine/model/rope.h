// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding: the frequencies of a model, scaled as its configuration says, and the cosines
// and sines of one position. Computed without libm's sine and cosine, whose last bit depends on the CPU.
// Sources: Su et al. 2021 (RoPE), Peng et al. 2023 (YaRN), Meta's Llama 3.1 rule as in transformers.
#ifndef ENGINE_MODEL_ROPE_H
#define ENGINE_MODEL_ROPE_H

#include <stdint.h>

#include "engine/model/hparams.h"

/* inverse_frequencies: [head_dim / 2]. */
void rope_frequencies(float *inverse_frequencies, const struct hparams *hparams);
/* cos, sin: [half], each times attention_factor. */
void rope_position(float *cos, float *sin, const float *inverse_frequencies, int32_t half, int32_t position,
                   float attention_factor);

#endif
