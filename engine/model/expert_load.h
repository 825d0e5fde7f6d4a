// SPDX-License-Identifier: Apache-2.0
// How rows spread over the experts of a mixture, counted by the forward pass.
#ifndef ENGINE_MODEL_EXPERT_LOAD_H
#define ENGINE_MODEL_EXPERT_LOAD_H

#include <stdint.h>

/* Summed over steps and sparse layers since the model was opened; all zero for a dense model. An expert that
 * every row has is not counted. Busiest over mean is hottest_rows * experts / rows. */
struct expert_load {
    uint64_t layer_steps;  /* sparse layers run */
    uint64_t rows;         /* rows given to experts: each row counts once per choice */
    uint64_t touched;      /* experts that had rows */
    uint64_t hottest_rows; /* rows of the expert that had most */
};

#endif
