// SPDX-License-Identifier: Apache-2.0
// The flattened step: rows of several sequences laid one after the other. Built by the scheduler, read by
// the model. All arrays belong to the scheduler and live until the next step.
#ifndef ENGINE_BATCH_H
#define ENGINE_BATCH_H

#include <stdint.h>

struct batch_sequence {
    int32_t first_row;
    int32_t rows;               /* new tokens in this step */
    int32_t context_tokens;     /* tokens already in the KV cache; row i has position context_tokens + i */
    const int32_t *block_table; /* physical block ids covering context_tokens + rows */
    const uint8_t *window;      /* the same blocks one after another, to read from; NULL: by the table */
};

struct batch {
    int32_t row_count;
    const int32_t *tokens;    /* [row_count] */
    const int32_t *positions; /* [row_count] */
    int32_t sequence_count;
    const struct batch_sequence *sequences; /* [sequence_count] */
    int32_t logit_count;
    const int32_t *logit_rows; /* [logit_count] rows whose logits are wanted, ascending */
};

#endif
