// SPDX-License-Identifier: Apache-2.0
// The forward pass, stage 6, on the kernel team: one fork, then every member walks the layers, meeting at a
// barrier after each phase. Phases split either rows, outputs of a product, or (cluster, kv head) pairs;
// every element is computed by one member with an order that its row's own data fixes, so neither the split
// nor the batch around a row can change its bytes.
#include "engine/model/forward.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "engine/kernels/dtype.h"
#include "engine/kv/kv_cache.h"
#include "engine/model/layout.h"
#include "engine/model/rope.h"

enum { MAX_PRODUCTS = 3 /* of the same rows */, ITEMS_PER_MEMBER = 2 };

/* 0: every layer has experts. */
static int32_t dense_width(const struct hparams *h)
{
    for (int32_t layer = 0; layer < h->layers; layer++)
        if (!hparams_layer_is_sparse(h, layer))
            return h->intermediate;
    return 0;
}

static size_t operand_bytes(const struct model *model)
{
    const struct hparams *h = &model->hparams;
    const int32_t width = dense_width(h), depths[] = {h->hidden, h->heads * h->head_dim, width};
    size_t bytes = 0;
    for (size_t i = 0; i < (width > 0 ? 3 : 2); i++)
        bytes = layout_max(bytes, model->kernels->activation_bytes(model->weight_format,
                                                                   model->max_batch_tokens, depths[i]));
    return bytes;
}

static void take_plan(struct attention_plan *plan, struct layout *layout, size_t rows)
{
    plan->rows = layout_take(layout, rows * sizeof *plan->rows);
    plan->spans = layout_take(layout, 2 * rows * sizeof *plan->spans);
    plan->clusters = layout_take(layout, rows * sizeof *plan->clusters);
    plan->parts = layout_take(layout, rows * sizeof *plan->parts);
}

void forward_layout(struct forward_buffers *out, const struct model *model, int members, uint8_t *base)
{
    const struct hparams *h = &model->hparams;
    const int32_t rows = model->max_batch_tokens;
    const size_t column_bytes = (size_t)rows * sizeof(float);
    const size_t hidden_bytes = column_bytes * (size_t)h->hidden,
                 mlp_bytes = column_bytes * (size_t)dense_width(h);
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
    out->scratch_bytes = layout_align(model->kernels->attention_scratch_bytes(
        h->heads, h->kv_heads, h->head_dim, rows < FORWARD_ATTENTION_ROWS ? rows : FORWARD_ATTENTION_ROWS));
    out->scratch = layout_take(&layout, out->scratch_bytes * (size_t)members);
    take_plan(&out->attention, &layout, (size_t)rows);
    out->memory = base;
    out->memory_bytes = layout.at_bytes;
}

static struct activation activation_of(const struct forward *f, const float *source, int32_t k)
{
    return (struct activation){.format = f->model->weight_format,
                               .rows = f->rows,
                               .k = k,
                               .source = source,
                               .data = f->model->buffers.operands};
}

static void prepare_rows(const struct forward *f, const float *source, int32_t k)
{
    int32_t begin, end;
    forward_rows(f, &begin, &end);
    struct activation x = activation_of(f, source, k);
    if (begin < end)
        f->model->kernels->activation_prepare(&x, begin, end);
}

/* Products of the rows that `prepare_rows` converted last. */
static void multiply(const struct forward *f, const float *source, int32_t k, const struct product *products,
                     int count)
{
    struct listed_product list[MAX_PRODUCTS];
    CHECK(count <= MAX_PRODUCTS);
    for (int i = 0; i < count; i++)
        list[i] = (struct listed_product){.product = products[i], .x = activation_of(f, source, k)};
    product_list_cut(list, count, f->model->kernels->n_granule, f->members);
    product_list_run(list, count, f->model->kernels, f->model->team);
}

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
static void norm_own_rows(const struct forward *f, const float *weight, enum residual residual)
{
    const struct model *model = f->model;
    const struct forward_buffers *b = &model->buffers;
    const int32_t hidden = model->hparams.hidden;
    int32_t begin, end;
    forward_rows(f, &begin, &end);
    for (int32_t row = begin; row < end; row++) {
        float *x = b->x + (size_t)row * (size_t)hidden, *normed = b->normed + (size_t)row * (size_t)hidden;
        if (residual == RESIDUAL_ADD)
            model->kernels->add(x, normed, hidden);
        model->kernels->rms_norm(normed, x, weight, hidden, model->hparams.norm_eps);
    }
}

/* The same, ready for the next product. */
static void norm_rows(const struct forward *f, const float *weight, enum residual residual)
{
    norm_own_rows(f, weight, residual);
    prepare_rows(f, f->model->buffers.normed, f->model->hparams.hidden);
    forward_barrier(f);
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

static void attend(const struct forward *f, const struct attention_cluster *cluster, int32_t layer,
                   int32_t kv_head)
{
    const struct model *model = f->model;
    const struct hparams *h = &model->hparams;
    const struct attention_plan *plan = &model->buffers.attention;
    const struct attention_row *rows = plan->rows + cluster->first_row;
    const struct attention_span *spans = plan->spans + cluster->first_span;
    const int32_t width = h->heads * h->head_dim;
    const size_t offset = cluster->parts > 1 ? 0 : (size_t)rows->row * (size_t)width;
    const struct attention_args args = {
        .q = model->buffers.q + offset,
        .out = model->buffers.attention_out + offset,
        .q_stride = width,
        .out_stride = width,
        .rows = cluster->rows,
        .first_position = rows->position,
        .block_table = cluster->window ? f->kv->consecutive : spans->block_table,
        .layer_base =
            (cluster->window ? cluster->window : f->kv->memory) + (size_t)layer * f->kv->layer_bytes,
        .block_stride_bytes = f->kv->block_bytes,
        .block_tokens = f->kv->block_tokens,
        .heads = h->heads,
        .kv_heads = h->kv_heads,
        .head_dim = h->head_dim,
        .window = hparams_layer_window(h, layer),
        .scale = (float)(1.0 / sqrt((double)h->head_dim)),
        .kv_format = model->kv_format,
    };
    void *scratch = model->buffers.scratch + (size_t)f->member * model->buffers.scratch_bytes;
    if (cluster->parts == 1)
        model->kernels->attention(&args, kv_head, kv_head + 1, scratch);
    else
        model->kernels->attention_spans(&args, rows, spans, cluster->spans, kv_head, kv_head + 1, scratch);
}

/* Items are (kv head, cluster), taken by whoever is free. */
static void attend_rows(const struct forward *f, int32_t layer)
{
    const struct attention_plan *plan = &f->model->buffers.attention;
    const int32_t items = f->model->hparams.kv_heads * plan->cluster_count;
    for (int32_t i = thread_team_next(f->model->team); i < items; i = thread_team_next(f->model->team))
        attend(f, &plan->clusters[i % plan->cluster_count], layer, i / plan->cluster_count);
    forward_barrier(f);
}

/* Clusters no larger than leaves every member a few items. */
static void plan_attention(const struct forward *f)
{
    const struct model *model = f->model;
    const int64_t rows = (int64_t)f->rows * model->hparams.kv_heads /
                         ((int64_t)thread_team_size(model->team) * ITEMS_PER_MEMBER);
    const struct attention_plan_limits limits = {
        .block_tokens = f->kv->block_tokens,
        .tile_tokens = model->kernels->attention_tile_tokens,
        .part_rows = FORWARD_ATTENTION_ROWS,
        .cluster_rows = rows < FORWARD_ATTENTION_ROWS ? (int32_t)rows : FORWARD_ATTENTION_ROWS};
    attention_plan_build(&f->model->buffers.attention, f->batch, &limits);
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
    forward_barrier(f);
}

static void attention_half(struct forward *f, int32_t layer)
{
    const struct model *model = f->model;
    const struct layer_weights *w = &model->weights.layers[layer];
    const struct forward_buffers *b = &model->buffers;
    const struct product products[] = {
        {&w->q, w->q_bias, b->q}, {&w->k, w->k_bias, b->k}, {&w->v, w->v_bias, b->v}};
    norm_rows(f, w->input_norm, layer > 0 ? RESIDUAL_ADD : RESIDUAL_KEEP);
    multiply(f, b->normed, model->hparams.hidden, products, 3);
    forward_barrier(f);
    finish_rows(f, w, layer);
    const bool last = layer == model->hparams.layers - 1;
    if (last && f->batch->logit_count == 0) {
        f->rows = 0; /* keys and values are stored: nothing else was asked */
        return;
    }
    attend_rows(f, layer);
    if (last)
        keep_logit_rows(f);
    prepare_rows(f, b->attention_out, w->o.k);
    forward_barrier(f);
    multiply(f, b->attention_out, w->o.k, &(struct product){&w->o, w->o_bias, b->normed}, 1);
    forward_barrier(f);
}

static void dense_half(const struct forward *f, int32_t layer)
{
    const struct model *model = f->model;
    const struct layer_weights *w = &model->weights.layers[layer];
    const struct forward_buffers *b = &model->buffers;
    const int32_t width = model->hparams.intermediate;
    const struct product products[] = {{&w->gate, w->gate_bias, b->gate}, {&w->up, w->up_bias, b->up}};
    norm_rows(f, w->post_norm, RESIDUAL_ADD);
    multiply(f, b->normed, model->hparams.hidden, products, 2);
    forward_barrier(f);
    int32_t begin, end;
    forward_rows(f, &begin, &end);
    for (int32_t row = begin; row < end; row++) {
        float *gate = b->gate + (size_t)row * (size_t)width;
        model->kernels->swiglu(gate, gate, b->up + (size_t)row * (size_t)width, width);
    }
    prepare_rows(f, b->gate, width);
    forward_barrier(f);
    multiply(f, b->gate, width, &(struct product){&w->down, w->down_bias, b->normed}, 1);
    forward_barrier(f);
}

static void mlp_half(const struct forward *f, int32_t layer)
{
    const struct layer_weights *w = &f->model->weights.layers[layer];
    if (!w->experts) {
        dense_half(f, layer);
        return;
    }
    norm_own_rows(f, w->post_norm, RESIDUAL_ADD);
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
    norm_rows(&f, model->weights.final_norm, RESIDUAL_ADD);
    multiply(&f, model->buffers.normed, model->hparams.hidden,
             &(struct product){&model->weights.head, NULL, f.logits}, 1);
}

void model_forward(struct model *model, struct kv_cache *kv, const struct batch *batch, float *logits)
{
    CHECK(batch->row_count > 0 && batch->row_count <= model->max_batch_tokens);
    CHECK(batch->logit_count >= 0 && batch->logit_count <= model->max_logit_rows);
    CHECK(kv->layers == model->hparams.layers &&
          kv->block_bytes == model_block_bytes(model, kv->block_tokens));
    struct forward forward = {
        .model = model, .kv = kv, .batch = batch, .logits = logits, .rows = batch->row_count};
    plan_attention(&forward);
    thread_team_run(model->team, forward_member, &forward);
}
