// SPDX-License-Identifier: Apache-2.0
// Any bytes as config.json, and what follows a 0x1e byte as generation_config.json: refused with a sentence,
// or numbers with which sizes and frequencies can be computed without overflow, division by zero or NaN.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "engine/model/hparams.h"
#include "engine/model/rope.h"
#include "engine/model/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *separator = size > 0 ? memchr(data, 0x1e, size) : NULL;
    const size_t config_bytes = separator ? (size_t)(separator - data) : size;
    const char *generation = separator ? (const char *)separator + 1 : NULL;
    struct hparams hparams;
    struct error err = {0};
    if (hparams_parse(&hparams, (const char *)data, config_bytes, generation,
                      separator ? size - config_bytes - 1 : 0, &err) != STATUS_OK) {
        CHECK(err.text[0] != '\0');
        return 0;
    }
    CHECK(hparams.heads % hparams.kv_heads == 0 && hparams.head_dim % 2 == 0);
    CHECK(weights_bytes(&hparams, &kernels_generic, WEIGHT_F32) > 0);
    float frequencies[512], cosine[512], sine[512];
    CHECK(hparams.head_dim / 2 <= 512);
    rope_frequencies(frequencies, &hparams);
    rope_position(cosine, sine, frequencies, hparams.head_dim / 2, hparams.max_context_tokens - 1, 1.0f);
    for (int32_t i = 0; i < hparams.head_dim / 2; i++)
        CHECK(isfinite(frequencies[i]) && fabsf(cosine[i]) <= 1.0f && fabsf(sine[i]) <= 1.0f);
    for (int32_t layer = 0; layer < hparams.layers; layer++)
        CHECK(hparams_layer_window(&hparams, layer) >= 0);
    return 0;
}
