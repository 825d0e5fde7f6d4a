// SPDX-License-Identifier: Apache-2.0
// One MoE layer in phases that the members meet between: route own rows | group (member 0: counting sort,
// list of products) | convert gathered rows | gate and up of all experts | SwiGLU, convert | down of all
// experts | sum own rows. Rows are gathered by index while they are converted; nothing is copied for it.
#include "engine/model/moe.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "engine/kernels/exp.h"
#include "engine/model/forward.h"

/* ---- sizes ---- */

static int32_t choices_of(const struct hparams *h)
{
    return h->experts_per_token + (h->shared_expert_width > 0);
}

static int32_t groups_of(const struct hparams *h)
{
    return h->experts + (h->shared_expert_width > 0);
}

/* Of the gate (or up) of all groups. */
static size_t width_floats(const struct hparams *h, int32_t rows)
{
    return (size_t)rows *
           ((size_t)h->experts_per_token * (size_t)h->expert_width + (size_t)h->shared_expert_width);
}

/* Operands of all groups: each begins anew, which costs at most one more row and an alignment each. */
static size_t group_operand_bytes(const struct model *model, int32_t rows, int32_t groups, int32_t k)
{
    const struct kernels *kernels = model->kernels;
    const int32_t used = rows < groups ? rows : groups;
    const enum weight_format format = weights_format(model->weight_format, k);
    return layout_align(kernels->activation_bytes(format, rows, k)) +
           (size_t)used * layout_align(kernels->activation_bytes(format, 1, k));
}

static size_t all_operand_bytes(const struct model *model)
{
    const struct hparams *h = &model->hparams;
    const int32_t rows = model->max_batch_tokens, chosen = rows * h->experts_per_token;
    const int32_t shared = h->shared_expert_width;
    const size_t inward = group_operand_bytes(model, rows * choices_of(h), groups_of(h), h->hidden);
    const size_t outward = group_operand_bytes(model, chosen, h->experts, h->expert_width) +
                           (shared > 0 ? group_operand_bytes(model, rows, 1, shared) : 0);
    return layout_max(inward, outward);
}

void moe_layout(struct moe_buffers *out, const struct model *model, int members, struct layout *layout)
{
    const struct hparams *h = &model->hparams;
    *out = (struct moe_buffers){0};
    if (h->experts == 0)
        return;
    const int32_t rows = model->max_batch_tokens, own_rows = (rows + members - 1) / members;
    const size_t slots = (size_t)rows * (size_t)choices_of(h), groups = (size_t)groups_of(h);
    out->router_operand_bytes =
        layout_align(model->kernels->activation_bytes(WEIGHT_F32, own_rows, h->hidden));
    out->router_operands = layout_take(layout, out->router_operand_bytes * (size_t)members);
    out->router_logits = layout_take(layout, (size_t)rows * (size_t)h->experts * sizeof(float));
    out->choices = layout_take(layout, slots * sizeof *out->choices);
    out->weights = layout_take(layout, slots * sizeof *out->weights);
    out->slots = layout_take(layout, slots * sizeof *out->slots);
    out->slot_rows = layout_take(layout, slots * sizeof *out->slot_rows);
    out->groups = layout_take(layout, groups * sizeof *out->groups);
    out->inward = layout_take(layout, 2 * groups * sizeof *out->inward);
    out->outward = layout_take(layout, groups * sizeof *out->outward);
    out->gate = layout_take(layout, width_floats(h, rows) * sizeof(float));
    out->up = layout_take(layout, width_floats(h, rows) * sizeof(float));
    out->out = layout_take(layout, slots * (size_t)h->hidden * sizeof(float));
    out->operand_bytes = all_operand_bytes(model);
    out->operands = layout_take(layout, out->operand_bytes);
}

/* ---- routing ---- */

/* The index of the largest logit that is not taken, the lowest among equals; some index also among NaNs. */
static int32_t best_of(const float *logits, const bool *taken, int32_t experts)
{
    int32_t best = -1;
    for (int32_t i = 0; i < experts; i++)
        if (!taken[i] && (best < 0 || logits[i] > logits[best]))
            best = i;
    return best;
}

void moe_choose(int32_t *choices, float *weights, int32_t count, const float *logits, int32_t experts,
                bool normalise)
{
    bool taken[HPARAMS_MAX_EXPERTS] = {false};
    float sum = 0.0f;
    for (int32_t i = 0; i < count; i++) {
        choices[i] = best_of(logits, taken, experts);
        taken[choices[i]] = true;
        weights[i] = exp_f32(logits[choices[i]] - logits[choices[0]]);
        sum += weights[i];
    }
    for (int32_t i = 0; !normalise && i < experts; i++)
        sum += taken[i] ? 0.0f : exp_f32(logits[i] - logits[choices[0]]);
    for (int32_t i = 0; i < count; i++)
        weights[i] /= sum;
}

/* The router's products of this member's rows: few columns, so rows are what is split. */
static void route_rows(const struct forward *f, const struct layer_weights *w)
{
    const struct model *model = f->model;
    const struct hparams *h = &model->hparams;
    const struct moe_buffers *b = &model->buffers.moe;
    const int32_t count = choices_of(h);
    int32_t begin, end;
    forward_rows(f, &begin, &end);
    if (begin == end)
        return;
    struct activation x = {.format = WEIGHT_F32,
                           .rows = end - begin,
                           .k = h->hidden,
                           .source = model->buffers.normed + (size_t)begin * (size_t)h->hidden,
                           .data = b->router_operands + (size_t)f->member * b->router_operand_bytes};
    float *logits = b->router_logits + (size_t)begin * (size_t)h->experts;
    model->kernels->activation_prepare(&x, 0, x.rows);
    model->kernels->matmul(logits, (size_t)h->experts, &w->router, &x, NULL, 0, h->experts);
    if (h->shared_expert_width > 0) /* its gate goes where its weight will be */
        model->kernels->matmul(b->weights + (size_t)begin * (size_t)count + count - 1, (size_t)count,
                               &w->shared_gate, &x, NULL, 0, 1);
    for (int32_t row = begin; row < end; row++, logits += h->experts) {
        int32_t *choices = b->choices + (size_t)row * (size_t)count;
        float *weights = b->weights + (size_t)row * (size_t)count;
        moe_choose(choices, weights, h->experts_per_token, logits, h->experts, h->norm_topk);
        if (h->shared_expert_width > 0) {
            choices[count - 1] = h->experts;
            weights[count - 1] = 1.0f / (1.0f + exp_f32(-weights[count - 1]));
        }
    }
}

/* ---- grouping, on member 0 ---- */

int moe_order(struct moe_group *groups, const int32_t *rows, int32_t experts)
{
    int count = 0;
    for (int32_t expert = 0; expert < experts; expert++) {
        if (rows[expert] == 0)
            continue;
        int at = count++;
        for (; at > 0 && groups[at - 1].rows < rows[expert]; at--)
            groups[at] = groups[at - 1];
        groups[at] = (struct moe_group){.expert_index = expert, .rows = rows[expert]};
    }
    return count;
}

/* Gives the groups their weights, their slots and their places in the buffers. */
static void place_groups(const struct model *model, struct moe_buffers *b, const struct layer_weights *w)
{
    const struct hparams *h = &model->hparams;
    const enum weight_format in_format = weights_format(model->weight_format, h->hidden);
    size_t in_bytes = 0, hidden_bytes = 0, floats = 0;
    int32_t slot = 0;
    for (int i = 0; i < b->group_count; i++) {
        struct moe_group *g = &b->groups[i];
        g->expert = g->expert_index < h->experts ? &w->experts[g->expert_index] : &w->shared;
        const int32_t width = g->expert->gate.n;
        const enum weight_format hidden_format = weights_format(model->weight_format, width);
        g->first = slot;
        g->gate = b->gate + floats, g->up = b->up + floats;
        g->out = b->out + (size_t)slot * (size_t)h->hidden;
        g->in = (struct activation){.format = in_format,
                                    .rows = g->rows,
                                    .k = h->hidden,
                                    .source = model->buffers.normed,
                                    .data = b->operands + in_bytes,
                                    .source_rows = b->slot_rows + slot};
        g->hidden = (struct activation){.format = hidden_format,
                                        .rows = g->rows,
                                        .k = width,
                                        .source = g->gate,
                                        .data = b->operands + hidden_bytes};
        in_bytes += layout_align(model->kernels->activation_bytes(in_format, g->rows, h->hidden));
        hidden_bytes += layout_align(model->kernels->activation_bytes(hidden_format, g->rows, width));
        floats += (size_t)g->rows * (size_t)width;
        slot += g->rows;
    }
    CHECK(in_bytes <= b->operand_bytes && hidden_bytes <= b->operand_bytes);
}

static void list_products(struct moe_buffers *b, int32_t granule, int members)
{
    for (int i = 0; i < b->group_count; i++) {
        const struct moe_group *g = &b->groups[i];
        const struct expert_weights *e = g->expert;
        b->inward[2 * i] = (struct listed_product){.product = {&e->gate, NULL, g->gate}, .x = g->in};
        b->inward[2 * i + 1] = (struct listed_product){.product = {&e->up, NULL, g->up}, .x = g->in};
        b->outward[i] = (struct listed_product){.product = {&e->down, NULL, g->out}, .x = g->hidden};
    }
    product_list_cut(b->inward, 2 * b->group_count, granule, members * PRODUCT_LIST_PIECES);
    product_list_cut(b->outward, b->group_count, granule, members * PRODUCT_LIST_PIECES);
}

static void count_load(struct model *model, int32_t layer, const int32_t *rows)
{
    const int32_t experts = model->hparams.experts;
    uint64_t *totals = model->expert_rows + (size_t)layer * (size_t)experts;
    int32_t hottest = 0;
    for (int32_t expert = 0; expert < experts; expert++) {
        totals[expert] += (uint64_t)rows[expert];
        model->expert_load.rows += (uint64_t)rows[expert];
        model->expert_load.touched += rows[expert] > 0;
        hottest = rows[expert] > hottest ? rows[expert] : hottest;
    }
    model->expert_load.hottest_rows += (uint64_t)hottest;
    model->expert_load.layer_steps++;
}

/* A counting sort of the choices by group; within one, rows ascend. */
static void group_rows(const struct forward *f, const struct layer_weights *w, int32_t layer)
{
    struct model *model = f->model;
    struct moe_buffers *b = &model->buffers.moe;
    const int32_t count = choices_of(&model->hparams), all = f->rows * count;
    int32_t rows[HPARAMS_MAX_EXPERTS + 1] = {0}, next[HPARAMS_MAX_EXPERTS + 1];
    for (int32_t i = 0; i < all; i++)
        rows[b->choices[i]]++;
    b->group_count = moe_order(b->groups, rows, groups_of(&model->hparams));
    place_groups(model, b, w);
    for (int i = 0; i < b->group_count; i++)
        next[b->groups[i].expert_index] = b->groups[i].first;
    for (int32_t i = 0; i < all; i++) {
        b->slots[i] = next[b->choices[i]]++;
        b->slot_rows[b->slots[i]] = i / count;
    }
    list_products(b, model->kernels->n_granule, f->members);
    count_load(model, layer, rows);
}

/* ---- products ---- */

/* Calls work(rows [begin, end) of a group) for this member's share of the slots. */
static void share_slots(const struct forward *f, void (*work)(const struct model *model, struct moe_group *g,
                                                              int32_t begin, int32_t end))
{
    struct moe_buffers *b = &f->model->buffers.moe;
    const int64_t slots = (int64_t)f->rows * choices_of(&f->model->hparams);
    const int32_t from = (int32_t)(slots * f->member / f->members),
                  to = (int32_t)(slots * (f->member + 1) / f->members);
    for (int i = 0; i < b->group_count; i++) {
        struct moe_group *g = &b->groups[i];
        const int32_t begin = from > g->first ? from - g->first : 0;
        const int32_t end = to - g->first < g->rows ? to - g->first : g->rows;
        if (begin < end)
            work(f->model, g, begin, end);
    }
}

static void gather(const struct model *model, struct moe_group *g, int32_t begin, int32_t end)
{
    model->kernels->activation_prepare(&g->in, begin, end);
}

static void gate_rows(const struct model *model, struct moe_group *g, int32_t begin, int32_t end)
{
    const size_t width = (size_t)g->hidden.k;
    for (int32_t row = begin; row < end; row++) {
        float *gate = g->gate + (size_t)row * width;
        model->kernels->swiglu(gate, gate, g->up + (size_t)row * width, g->hidden.k);
    }
    model->kernels->activation_prepare(&g->hidden, begin, end);
}

/* normed = the weighted sum of the row's experts, in the order of its choices. */
static void sum_rows(const struct forward *f)
{
    const struct moe_buffers *b = &f->model->buffers.moe;
    const size_t hidden = (size_t)f->model->hparams.hidden;
    const int32_t count = choices_of(&f->model->hparams);
    int32_t begin, end;
    forward_rows(f, &begin, &end);
    for (int32_t row = begin; row < end; row++) {
        float *restrict y = f->model->buffers.normed + (size_t)row * hidden;
        memset(y, 0, hidden * sizeof *y);
        for (int32_t i = row * count; i < (row + 1) * count; i++) {
            const float *restrict x = b->out + (size_t)b->slots[i] * hidden, weight = b->weights[i];
            for (size_t j = 0; j < hidden; j++)
                y[j] += weight * x[j];
        }
    }
}

void moe_forward(const struct forward *f, int32_t layer)
{
    struct model *model = f->model;
    const struct moe_buffers *b = &model->buffers.moe;
    const struct layer_weights *w = &model->weights.layers[layer];
    route_rows(f, w);
    forward_barrier(f);
    if (f->member == 0)
        group_rows(f, w, layer);
    forward_barrier(f);
    share_slots(f, gather);
    forward_barrier(f);
    product_list_run(b->inward, 2 * b->group_count, model->kernels, model->team);
    forward_barrier(f);
    share_slots(f, gate_rows);
    forward_barrier(f);
    product_list_run(b->outward, b->group_count, model->kernels, model->team);
    forward_barrier(f);
    sum_rows(f);
}
