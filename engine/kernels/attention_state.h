// SPDX-License-Identifier: Apache-2.0
// What a query has taken in of some positions, so that a long context can be attended to in segments: each
// from a state of its own, side by side or in turn, then merged in ascending order. Merging is the same
// plain C for every kernel set and whoever calls it, so that who took in a segment changes no byte.
#ifndef ENGINE_KERNELS_ATTENTION_STATE_H
#define ENGINE_KERNELS_ATTENTION_STATE_H

#include <stddef.h>
#include <stdint.h>

struct attention_state {
    float max, sum; /* of the scores; of e^(score - max): 0 when no position was seen */
    float values[]; /* [head_dim] sum of values times e^(score - max) */
};

static inline size_t attention_state_bytes(int32_t head_dim)
{
    return sizeof(struct attention_state) + (size_t)head_dim * sizeof(float);
}

static inline struct attention_state *attention_state_at(void *states, size_t index, int32_t head_dim)
{
    return (struct attention_state *)((uint8_t *)states + index * attention_state_bytes(head_dim));
}

/* Takes the positions of `next`, which come after those of `total`, into `total`. A state that saw nothing
 * changes no bit, and what is merged into one is taken as it is. */
void attention_state_merge(struct attention_state *total, const struct attention_state *next,
                           int32_t head_dim);
/* out[head_dim] = the attention of a query that has taken in all its positions. */
void attention_state_finish(float *out, const struct attention_state *total, int32_t head_dim);

#endif
