// SPDX-License-Identifier: Apache-2.0
// Checkpoints of random values for benchmarks and tests: any shape, without a file.
#ifndef ENGINE_MODEL_SYNTHETIC_H
#define ENGINE_MODEL_SYNTHETIC_H

#include "engine/model/hparams.h"

struct synthetic {
    void *memory; /* a whole safetensors file, bf16 */
    size_t bytes;
};

/* The same seed gives the same bytes. Statuses: NO_MEMORY. Close in any case. */
MUST_CHECK enum status synthetic_open(struct synthetic *out, const struct hparams *hparams, uint64_t seed,
                                      struct error *err);
void synthetic_close(struct synthetic *synthetic);

#endif
