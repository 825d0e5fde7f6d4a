// SPDX-License-Identifier: Apache-2.0
// The mixture-of-experts half of a layer: each row chooses experts, rows are grouped by expert, and the
// experts' products form one list that the kernel team shares (docs/adr/0007-moe.md). A row's choice, every
// product and the order in which a row sums its experts depend on that row alone. Private to engine/model.
#ifndef ENGINE_MODEL_MOE_H
#define ENGINE_MODEL_MOE_H

#include "engine/model/layout.h"
#include "engine/model/model.h"
#include "engine/model/product_list.h"
#include "engine/model/weights.h"

struct forward;

/* The rows of this step that chose one expert: slots [first, first + rows) of the grouped order. */
struct moe_group {
    const struct expert_weights *expert;
    int32_t expert_index, first, rows;
    struct activation in, hidden; /* rows of the norm; gated rows: operands of up and down */
    float *gate, *up;             /* [rows][width of the expert] */
    float *out;                   /* [rows][hidden] */
};

/* Step buffers. R rows, C choices of a row (with the expert that all rows have, where there is one), S = R *
 * C slots, G groups at most. */
struct moe_buffers {
    uint8_t *router_operands; /* [members][router_operand_bytes] */
    size_t router_operand_bytes;
    float *router_logits;           /* [R][experts] */
    int32_t *choices;               /* [R][C] expert; C - 1: the common one */
    float *weights;                 /* [R][C] */
    int32_t *slots;                 /* [R][C] where the grouped order has this choice */
    int32_t *slot_rows;             /* [S] row of a slot */
    struct moe_group *groups;       /* [G] most rows first */
    struct listed_product *inward;  /* [2 G] gate and up of every group */
    struct listed_product *outward; /* [G] down */
    int group_count;
    float *gate, *up; /* rows of all groups, one after the other */
    float *out;       /* [S][hidden] */
    uint8_t *operands;
    size_t operand_bytes;
};

/* Takes the buffers' places, or nothing for a dense model. */
void moe_layout(struct moe_buffers *out, const struct model *model, int members, struct layout *layout);
/* On every member, after this member has put the norm of its own rows into buffers.normed: replaces the
 * member's own rows there by the experts' weighted sum. */
void moe_forward(const struct forward *f, int32_t layer);

/* The `count` largest logits, largest first, the lower index first among equals, and the softmax of those
 * over all logits, or among themselves when `normalise`. */
void moe_choose(int32_t *choices, float *weights, int32_t count, const float *logits, int32_t experts,
                bool normalise);
/* One group for each expert that has rows, most rows first, the lower expert first among equals; only expert
 * and rows are set. Returns how many. */
int moe_order(struct moe_group *groups, const int32_t *rows, int32_t experts);

#endif
