// SPDX-License-Identifier: Apache-2.0
// The attention of a layer on the kernel team. Private to engine/model.
#ifndef ENGINE_MODEL_ATTENTION_H
#define ENGINE_MODEL_ATTENTION_H

#include "engine/model/attention_plan.h"

struct forward;
struct layout;
struct model;

struct attention_buffers {
    struct attention_plan plan; /* of the step at hand */
    uint8_t *scratch;           /* [members][scratch_bytes] of the kernel set */
    uint8_t *own_states;        /* [members][2][own_states_bytes] a member's segments so far, and one more */
    uint8_t *states;            /* [state_rows][heads] of clusters that are split */
    size_t scratch_bytes, own_states_bytes;
    int32_t state_rows;
};

/* Takes the buffers of `members` members from `layout`. */
void attention_layout(struct attention_buffers *out, const struct model *model, int members,
                      struct layout *layout);
/* Before a step, on the engine thread: plans it. */
void attention_begin(const struct forward *f);
/* On every member: attention_out = the attention of q to the layer's keys and values. */
void attention_forward(const struct forward *f, int32_t layer);

#endif
