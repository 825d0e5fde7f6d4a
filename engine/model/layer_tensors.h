// SPDX-License-Identifier: Apache-2.0
// The checkpoint tensors of one layer: one list that planning, loading and synthetic checkpoints share. Where
// a tensor goes is an offset into struct layer_weights or struct expert_weights.
#ifndef ENGINE_MODEL_LAYER_TENSORS_H
#define ENGINE_MODEL_LAYER_TENSORS_H

#include "engine/model/hparams.h"

enum { LAYER_TENSORS_MAX = 20, EXPERT_TENSORS = 3, TENSOR_NAME_BYTES = 96 };

struct layer_tensor {
    char name[TENSOR_NAME_BYTES];
    int32_t n, k;  /* a matrix [n][k]; a vector [n] when k is 0 */
    bool exact;    /* packed in f32 whatever the weight format */
    size_t offset; /* of a struct weight, or of a float * for a vector */
};

/* Everything of a layer but its experts; returns how many. Offsets into struct layer_weights. */
size_t layer_tensors(struct layer_tensor out[LAYER_TENSORS_MAX], const struct hparams *hparams,
                     int32_t layer);
/* The matrices of one expert of a sparse layer. Offsets into struct expert_weights. */
void expert_tensors(struct layer_tensor out[EXPERT_TENSORS], const struct hparams *hparams, int32_t layer,
                    int32_t expert);

#endif
