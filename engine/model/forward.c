// SPDX-License-Identifier: Apache-2.0
// The forward pass, stage 6, on the kernel team: one fork, then every member walks the layers, meeting at a
// barrier after each phase. Phases split either rows, outputs of a product, or what rows attend to;
// every element is computed by one member with an order that its row's own data fixes, so neither the split
// nor the batch around a row can change its bytes.
#include "engine/model/forward.h"

#include <string.h>

#include "base/check.h"
#include "engine/kernels/cut.h"
#include "engine/kernels/dtype.h"
#include "engine/kv/kv_cache.h"
#include "engine/model/layout.h"
#include "engine/model/rope.h"

/* ---- operands ---- */

/* Rows of `source` that a phase multiplies. */
struct operand {
    enum step_phase phase;
    const float *source;
    int32_t k;
};

static size_t part_bytes(const struct model *model, struct cut parts, int32_t k)
{
    const int32_t most_rows = (parts.count + parts.parts - 1) / parts.parts;
    return layout_align(
        model->kernels->activation_bytes(weights_format(model->weight_format, k), most_rows, k));
}

static struct cut parts_of(const struct forward *f, enum step_phase phase)
{
    return (struct cut){.count = f->rows, .parts = f->plan->cuts[phase].row_parts};
}

/* The widest that any step has. */
static size_t operand_bytes(const struct model *model)
{
    size_t bytes = 0;
    for (int i = 0; i < model->plans.count; i++)
        for (int phase = 0; phase < STEP_PHASES; phase++) {
            const struct step_plan *plan = &model->plans.plans[i];
            const struct cut parts = {.count = plan->rows, .parts = plan->cuts[phase].row_parts};
            const struct step_shape shape = step_phase_shape(&model->hparams, (enum step_phase)phase);
            if (shape.products > 0)
                bytes = layout_max(bytes, (size_t)parts.parts * part_bytes(model, parts, shape.depth));
        }
    return bytes;
}

static struct activation operand_part(const struct forward *f, const struct operand *x, int32_t part)
{
    const struct cut parts = parts_of(f, x->phase);
    const int32_t first = cut_at(parts, part);
    return (struct activation){.format = weights_format(f->model->weight_format, x->k),
                               .rows = cut_at(parts, part + 1) - first,
                               .k = x->k,
                               .source = x->source + (size_t)first * (size_t)x->k,
                               .data = f->model->buffers.operands +
                                       (size_t)part * part_bytes(f->model, parts, x->k)};
}

static void prepare_row(const struct forward *f, const struct operand *x, int32_t row)
{
    const struct cut parts = parts_of(f, x->phase);
    const int32_t part = cut_part(parts, row), first = cut_at(parts, part);
    struct activation rows = operand_part(f, x, part);
    f->model->kernels->activation_prepare(&rows, row - first, row - first + 1);
}

/* Products of prepared rows. */
static void multiply(const struct forward *f, const struct operand *x, const struct product *products)
{
    struct listed_product list[STEP_MAX_PRODUCTS * STEP_MAX_ROW_PARTS];
    const struct step_cut *cut = &f->plan->cuts[x->phase];
    const int count = step_phase_shape(&f->model->hparams, x->phase).products;
    for (int32_t part = 0, row = 0; part < cut->row_parts; part++) {
        const struct activation rows = operand_part(f, x, part);
        for (int i = 0; i < count; i++) {
            struct listed_product *p = &list[part * count + i];
            *p = (struct listed_product){.product = products[i], .x = rows, .piece = cut->pieces[i]};
            p->product.y += (size_t)row * (size_t)p->product.weight->n;
        }
        row += rows.rows;
    }
    product_list_run_equal(list, cut->row_parts * count, f->model->kernels, f->model->team, f->member);
}

/* ---- buffers ---- */

void forward_layout(struct forward_buffers *out, const struct model *model, int members, uint8_t *base)
{
    const struct hparams *h = &model->hparams;
    const int32_t rows = model->max_batch_tokens;
    const size_t column_bytes = (size_t)rows * sizeof(float);
    const size_t hidden_bytes = column_bytes * (size_t)h->hidden,
                 mlp_bytes = column_bytes * (size_t)step_phase_shape(h, STEP_GATE_UP).widths[0];
    const size_t q_bytes = column_bytes * (size_t)(h->heads * h->head_dim);
    const size_t kv_bytes = column_bytes * (size_t)(h->kv_heads * h->head_dim);
    const size_t rope_bytes = column_bytes * (size_t)(h->head_dim / 2);
    struct layout layout = {.base = base};
    out->x = layout_take(&layout, hidden_bytes);
    out->normed = layout_take(&layout, hidden_bytes);

    struct layout mlp = layout, experts = layout; /* start where q starts */
    out->q = layout_take(&layout, q_bytes);
    out->k = layout_take(&layout, kv_bytes);
    out->v = layout_take(&layout, kv_bytes);
    out->attention_out = layout_take(&layout, q_bytes);
    out->gate = layout_take(&mlp, mlp_bytes);
    out->up = layout_take(&mlp, mlp_bytes);
    moe_layout(&out->moe, model, members, &experts);
    layout.at_bytes = layout_max(layout_max(layout.at_bytes, mlp.at_bytes), experts.at_bytes);

    out->cos = layout_take(&layout, rope_bytes);
    out->sin = layout_take(&layout, rope_bytes);
    out->operands = layout_take(&layout, operand_bytes(model));
    attention_layout(&out->attention, model, members, &layout);
    out->memory = base;
    out->memory_bytes = layout.at_bytes;
}

/* ---- phases ---- */

/* x = the token's embedding; cosines and sines of its position. */
static void embed_rows(const struct forward *f)
{
    const struct model *model = f->model;
    const struct tensor *table = model->weights.embedding;
    const int32_t hidden = model->hparams.hidden, half = model->hparams.head_dim / 2;
    int32_t begin, end;
    forward_rows(f, &begin, &end);
    for (int32_t row = begin; row < end; row++) {
        CHECK(f->batch->tokens[row] >= 0 && f->batch->tokens[row] < model->hparams.vocab);
        size_t first = (size_t)f->batch->tokens[row] * (size_t)hidden;
        float *x = model->buffers.x + (size_t)row * (size_t)hidden;
        for (int32_t i = 0; i < hidden; i++)
            x[i] = dtype_load(table->data, first + (size_t)i, table->dtype);
        rope_position(model->buffers.cos + (size_t)row * (size_t)half,
                      model->buffers.sin + (size_t)row * (size_t)half, model->inverse_frequencies, half,
                      f->batch->positions[row], (float)model->hparams.rope_attention_factor);
    }
}

enum residual { RESIDUAL_KEEP, RESIDUAL_ADD };

/* x += the last product (when there was one); normed = norm(x). */
static void norm_row(const struct forward *f, const float *weight, enum residual residual, int32_t row)
{
    const struct model *model = f->model;
    const int32_t hidden = model->hparams.hidden;
    float *x = model->buffers.x + (size_t)row * (size_t)hidden;
    float *normed = model->buffers.normed + (size_t)row * (size_t)hidden;
    if (residual == RESIDUAL_ADD)
        model->kernels->add(x, normed, hidden);
    model->kernels->rms_norm(normed, x, weight, hidden, model->hparams.norm_eps);
}

static void norm_own_rows(const struct forward *f, const float *weight)
{
    int32_t begin, end;
    forward_rows(f, &begin, &end);
    for (int32_t row = begin; row < end; row++)
        norm_row(f, weight, RESIDUAL_ADD, row);
}

/* The same, and ready for the next product while the row is near. */
static struct operand norm_rows(const struct forward *f, const float *weight, enum residual residual,
                                enum step_phase phase)
{
    const struct operand x = {phase, f->model->buffers.normed, f->model->hparams.hidden};
    int32_t begin, end;
    forward_rows(f, &begin, &end);
    for (int32_t row = begin; row < end; row++) {
        norm_row(f, weight, residual, row);
        prepare_row(f, &x, row);
    }
    forward_barrier(f);
    return x;
}

static void norm_heads(const struct model *model, float *x, int32_t heads, const float *weight)
{
    for (int32_t head = 0; head < heads; head++, x += model->hparams.head_dim)
        model->kernels->rms_norm(x, x, weight, model->hparams.head_dim, model->hparams.norm_eps);
}

/* Norms and rotates one row's queries and keys, and puts keys and values into its KV block. */
static void finish_row(const struct forward *f, const struct layer_weights *w, int32_t row, uint8_t *block,
                       int32_t slot)
{
    const struct model *model = f->model;
    const struct hparams *h = &model->hparams;
    const struct forward_buffers *b = &model->buffers;
    const int32_t half = h->head_dim / 2;
    float *q = b->q + (size_t)row * (size_t)(h->heads * h->head_dim);
    float *k = b->k + (size_t)row * (size_t)(h->kv_heads * h->head_dim);
    const float *v = b->v + (size_t)row * (size_t)(h->kv_heads * h->head_dim);
    if (h->qk_norm) {
        norm_heads(model, q, h->heads, w->q_norm);
        norm_heads(model, k, h->kv_heads, w->k_norm);
    }
    const float *cosine = b->cos + (size_t)row * (size_t)half, *sine = b->sin + (size_t)row * (size_t)half;
    model->kernels->rope(q, h->heads, h->head_dim, cosine, sine);
    model->kernels->rope(k, h->kv_heads, h->head_dim, cosine, sine);
    model->kernels->kv_store(block, model->kv_format, slot, f->kv->block_tokens, h->kv_heads, h->head_dim, k,
                             v);
}

static void finish_rows(const struct forward *f, const struct layer_weights *w, int32_t layer)
{
    int32_t begin, end;
    forward_rows(f, &begin, &end);
    for (int32_t i = 0; i < f->batch->sequence_count; i++) {
        const struct batch_sequence *sequence = &f->batch->sequences[i];
        int32_t row = sequence->first_row > begin ? sequence->first_row : begin;
        int32_t row_end = sequence->first_row + sequence->rows;
        for (; row < row_end && row < end; row++) {
            int32_t position = sequence->context_tokens + row - sequence->first_row;
            uint8_t *block = kv_cache_block(f->kv, sequence->block_table[position / f->kv->block_tokens]);
            finish_row(f, w, row, block + (size_t)layer * f->kv->layer_bytes, position % f->kv->block_tokens);
        }
    }
    forward_barrier(f);
}

/* In the last layer nothing behind attention is needed of rows without logits: moves the others up. */
static void keep_logit_rows(struct forward *f)
{
    const struct forward_buffers *b = &f->model->buffers;
    const size_t hidden = (size_t)f->model->hparams.hidden;
    const size_t width = (size_t)f->model->hparams.heads * (size_t)f->model->hparams.head_dim;
    if (f->member == 0 && f->batch->logit_count < f->rows)
        for (int32_t i = 0; i < f->batch->logit_count; i++) {
            size_t row = (size_t)f->batch->logit_rows[i], to = (size_t)i; /* ascending: to <= row */
            memmove(b->x + to * hidden, b->x + row * hidden, hidden * sizeof(float));
            memmove(b->attention_out + to * width, b->attention_out + row * width, width * sizeof(float));
        }
    f->rows = f->batch->logit_count;
    f->plan = step_plans_find(&f->model->plans, f->rows);
    forward_barrier(f);
}

static void attention_half(struct forward *f, int32_t layer)
{
    const struct model *model = f->model;
    const struct layer_weights *w = &model->weights.layers[layer];
    const struct forward_buffers *b = &model->buffers;
    const struct product products[] = {
        {&w->q, w->q_bias, b->q}, {&w->k, w->k_bias, b->k}, {&w->v, w->v_bias, b->v}};
    const struct operand normed =
        norm_rows(f, w->input_norm, layer > 0 ? RESIDUAL_ADD : RESIDUAL_KEEP, STEP_QKV);
    multiply(f, &normed, products);
    forward_barrier(f);
    finish_rows(f, w, layer);
    const bool last = layer == model->hparams.layers - 1;
    if (last && f->batch->logit_count == 0) {
        f->rows = 0; /* keys and values are stored: nothing else was asked */
        return;
    }
    attention_forward(f, layer);
    if (last)
        keep_logit_rows(f);
    const struct operand attended = {STEP_O, b->attention_out, w->o.k};
    int32_t begin, end;
    forward_rows(f, &begin, &end);
    for (int32_t row = begin; row < end; row++)
        prepare_row(f, &attended, row);
    forward_barrier(f);
    multiply(f, &attended, &(struct product){&w->o, w->o_bias, b->normed});
    forward_barrier(f);
}

static void dense_half(const struct forward *f, int32_t layer)
{
    const struct model *model = f->model;
    const struct layer_weights *w = &model->weights.layers[layer];
    const struct forward_buffers *b = &model->buffers;
    const int32_t width = model->hparams.intermediate;
    const struct product products[] = {{&w->gate, w->gate_bias, b->gate}, {&w->up, w->up_bias, b->up}};
    const struct operand normed = norm_rows(f, w->post_norm, RESIDUAL_ADD, STEP_GATE_UP);
    const struct operand gated = {STEP_DOWN, b->gate, width};
    multiply(f, &normed, products);
    forward_barrier(f);
    int32_t begin, end;
    forward_rows(f, &begin, &end);
    for (int32_t row = begin; row < end; row++) {
        float *gate = b->gate + (size_t)row * (size_t)width;
        model->kernels->swiglu(gate, gate, b->up + (size_t)row * (size_t)width, width);
        prepare_row(f, &gated, row);
    }
    forward_barrier(f);
    multiply(f, &gated, &(struct product){&w->down, w->down_bias, b->normed});
    forward_barrier(f);
}

static void mlp_half(const struct forward *f, int32_t layer)
{
    const struct layer_weights *w = &f->model->weights.layers[layer];
    if (!w->experts) {
        dense_half(f, layer);
        return;
    }
    norm_own_rows(f, w->post_norm);
    moe_forward(f, layer);
}

static void forward_member(void *context, int member, int members)
{
    struct forward f = *(const struct forward *)context;
    f.member = member, f.members = members;
    const struct model *model = f.model;
    embed_rows(&f);
    for (int32_t layer = 0; layer < model->hparams.layers; layer++) {
        attention_half(&f, layer);
        if (f.rows == 0)
            return;
        mlp_half(&f, layer);
    }
    const struct operand normed = norm_rows(&f, model->weights.final_norm, RESIDUAL_ADD, STEP_HEAD);
    multiply(&f, &normed, &(struct product){&model->weights.head, NULL, f.logits});
}

void model_forward(struct model *model, struct kv_cache *kv, const struct batch *batch, float *logits)
{
    CHECK(batch->row_count > 0 && batch->row_count <= model->max_batch_tokens);
    CHECK(batch->logit_count >= 0 && batch->logit_count <= model->max_logit_rows);
    CHECK(kv->layers == model->hparams.layers &&
          kv->block_bytes == model_block_bytes(model, kv->block_tokens));
    struct forward forward = {
        .model = model, .kv = kv, .batch = batch, .logits = logits, .rows = batch->row_count};
    forward.plan = step_plans_find(&model->plans, forward.rows);
    attention_begin(&forward);
    thread_team_run(model->team, forward_member, &forward);
}
