// SPDX-License-Identifier: Apache-2.0
// The forward pass, stage 6, on the kernel team: one fork, then every member walks the layers, meeting at a
// barrier after each phase. Phases split either rows, outputs of a product, or (sequence, kv head) pairs;
// every element is computed by one member with an order that its row's own data fixes, so neither the split
// nor the batch around a row can change its bytes.
#include "engine/model/forward.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "engine/kernels/dtype.h"
#include "engine/kv/kv_cache.h"
#include "engine/model/rope.h"

enum { ALIGNMENT_BYTES = 64, CHUNKS_PER_MEMBER = 8 };

/* One member's view of one call; all members hold the same values but `member`. */
struct forward {
    struct model *model;
    struct kv_cache *kv;
    const struct batch *batch;
    float *logits;
    int member, members;
    int32_t rows; /* the batch's, and from the last layer's MLP on only those whose logits are wanted */
};

/* A product of the rows that `prepare_rows` converted last. */
struct product {
    const struct weight *weight;
    const float *bias; /* [n] or NULL */
    float *y;          /* [rows][n] */
};

static size_t align_up(size_t bytes)
{
    return (bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
}

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Hands out aligned pieces of one block of memory, or only counts when there is none yet. */
struct layout {
    uint8_t *base; /* NULL: counting */
    size_t at_bytes;
};

static void *take(struct layout *layout, size_t bytes)
{
    void *piece = layout->base ? layout->base + layout->at_bytes : NULL;
    layout->at_bytes += align_up(bytes);
    return piece;
}

static size_t operand_bytes(const struct model *model)
{
    const struct hparams *h = &model->hparams;
    const int32_t depths[] = {h->hidden, h->heads * h->head_dim, h->intermediate};
    size_t bytes = 0;
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++)
        bytes = max_size(bytes, model->kernels->activation_bytes(model->weight_format,
                                                                 model->max_batch_tokens, depths[i]));
    return bytes;
}

void forward_layout(struct forward_buffers *out, const struct model *model, int members, uint8_t *base)
{
    const struct hparams *h = &model->hparams;
    const int32_t rows = model->max_batch_tokens;
    const size_t column_bytes = (size_t)rows * sizeof(float);
    const size_t hidden_bytes = column_bytes * (size_t)h->hidden,
                 mlp_bytes = column_bytes * (size_t)h->intermediate;
    const size_t q_bytes = column_bytes * (size_t)(h->heads * h->head_dim);
    const size_t kv_bytes = column_bytes * (size_t)(h->kv_heads * h->head_dim);
    const size_t rope_bytes = column_bytes * (size_t)(h->head_dim / 2);
    struct layout layout = {.base = base};
    out->x = take(&layout, hidden_bytes);
    out->normed = take(&layout, hidden_bytes);

    struct layout mlp = layout; /* starts where q starts */
    out->q = take(&layout, q_bytes);
    out->k = take(&layout, kv_bytes);
    out->v = take(&layout, kv_bytes);
    out->attention_out = take(&layout, q_bytes);
    out->gate = take(&mlp, mlp_bytes);
    out->up = take(&mlp, mlp_bytes);
    layout.at_bytes = max_size(layout.at_bytes, mlp.at_bytes);

    out->cos = take(&layout, rope_bytes);
    out->sin = take(&layout, rope_bytes);
    out->operands = take(&layout, operand_bytes(model));
    out->scratch_bytes = align_up(model->kernels->attention_scratch_bytes(
        h->heads, h->kv_heads, h->head_dim, rows < FORWARD_ATTENTION_ROWS ? rows : FORWARD_ATTENTION_ROWS));
    out->scratch = take(&layout, out->scratch_bytes * (size_t)members);
    out->memory = base;
    out->memory_bytes = layout.at_bytes;
}

/* This member's share of the rows. */
static void row_range(const struct forward *f, int32_t *begin, int32_t *end)
{
    *begin = (int32_t)((int64_t)f->rows * f->member / f->members);
    *end = (int32_t)((int64_t)f->rows * (f->member + 1) / f->members);
}

static void barrier(const struct forward *f)
{
    thread_team_barrier(f->model->team);
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
    row_range(f, &begin, &end);
    struct activation x = activation_of(f, source, k);
    if (begin < end)
        f->model->kernels->activation_prepare(&x, begin, end);
}

/* The chunks of all products form one list, taken by whoever is free. */
static void multiply(const struct forward *f, const float *source, int32_t k, const struct product *products,
                     int count)
{
    const struct kernels *kernels = f->model->kernels;
    const int32_t granule = kernels->n_granule;
    const struct activation x = activation_of(f, source, k);
    int64_t granules = 0;
    for (int i = 0; i < count; i++)
        granules += (products[i].weight->n + granule - 1) / granule;
    const int64_t chunks = f->members == 1 ? 1 : (int64_t)f->members * CHUNKS_PER_MEMBER;
    const int32_t chunk = (int32_t)((granules + chunks - 1) / chunks) * granule;
    int index = thread_team_next(f->model->team);
    for (int i = 0, first = 0; i < count; i++) {
        const struct product *p = &products[i];
        int last = first + (p->weight->n + chunk - 1) / chunk; /* this product's chunks: [first, last) */
        for (; index < last; index = thread_team_next(f->model->team)) {
            int32_t begin = (index - first) * chunk;
            int32_t end = begin + chunk < p->weight->n ? begin + chunk : p->weight->n;
            kernels->matmul(p->y, (size_t)p->weight->n, p->weight, &x, p->bias, begin, end);
        }
        first = last;
    }
}

/* x = the token's embedding; cosines and sines of its position. */
static void embed_rows(const struct forward *f)
{
    const struct model *model = f->model;
    const struct tensor *table = model->weights.embedding;
    const int32_t hidden = model->hparams.hidden, half = model->hparams.head_dim / 2;
    int32_t begin, end;
    row_range(f, &begin, &end);
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

/* x += the last product (when there was one); normed = norm(x), ready for the next product. */
static void norm_rows(const struct forward *f, const float *weight, enum residual residual)
{
    const struct model *model = f->model;
    const struct forward_buffers *b = &model->buffers;
    const int32_t hidden = model->hparams.hidden;
    int32_t begin, end;
    row_range(f, &begin, &end);
    for (int32_t row = begin; row < end; row++) {
        float *x = b->x + (size_t)row * (size_t)hidden, *normed = b->normed + (size_t)row * (size_t)hidden;
        if (residual == RESIDUAL_ADD)
            model->kernels->add(x, normed, hidden);
        model->kernels->rms_norm(normed, x, weight, hidden, model->hparams.norm_eps);
    }
    prepare_rows(f, b->normed, hidden);
    barrier(f);
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
    row_range(f, &begin, &end);
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
    barrier(f);
}

/* `run` counts the sequence's rows by FORWARD_ATTENTION_ROWS. */
static void attend(const struct forward *f, const struct batch_sequence *sequence, int32_t layer, int32_t run,
                   int32_t kv_head)
{
    const struct model *model = f->model;
    const struct hparams *h = &model->hparams;
    const int32_t first = run * FORWARD_ATTENTION_ROWS, left = sequence->rows - first;
    const int32_t width = h->heads * h->head_dim;
    const size_t offset = (size_t)(sequence->first_row + first) * (size_t)width;
    const struct attention_args args = {
        .q = model->buffers.q + offset,
        .out = model->buffers.attention_out + offset,
        .q_stride = width,
        .out_stride = width,
        .rows = left < FORWARD_ATTENTION_ROWS ? left : FORWARD_ATTENTION_ROWS,
        .first_position = sequence->context_tokens + first,
        .block_table = sequence->window ? f->kv->consecutive : sequence->block_table,
        .layer_base =
            (sequence->window ? sequence->window : f->kv->memory) + (size_t)layer * f->kv->layer_bytes,
        .block_stride_bytes = f->kv->block_bytes,
        .block_tokens = f->kv->block_tokens,
        .heads = h->heads,
        .kv_heads = h->kv_heads,
        .head_dim = h->head_dim,
        .window = hparams_layer_window(h, layer),
        .scale = (float)(1.0 / sqrt((double)h->head_dim)),
        .kv_format = model->kv_format,
    };
    model->kernels->attention(&args, kv_head, kv_head + 1,
                              model->buffers.scratch + (size_t)f->member * model->buffers.scratch_bytes);
}

static int32_t attention_runs(const struct batch_sequence *sequence)
{
    return (sequence->rows + FORWARD_ATTENTION_ROWS - 1) / FORWARD_ATTENTION_ROWS;
}

/* Items are (kv head, sequence, run of rows), numbered in that order and taken by whoever is free: sequences
 * that share blocks read one head's keys and values one after the other, while they are in the cache. */
static void attend_rows(const struct forward *f, int32_t layer)
{
    const struct batch_sequence *sequences = f->batch->sequences;
    int64_t runs = 0;
    for (int32_t i = 0; i < f->batch->sequence_count; i++)
        runs += attention_runs(&sequences[i]);
    int64_t index = thread_team_next(f->model->team);
    for (int32_t kv_head = 0; kv_head < f->model->hparams.kv_heads; kv_head++) {
        int64_t first = kv_head * runs; /* item of run 0 of the sequence at hand */
        for (int32_t i = 0; i < f->batch->sequence_count; i++) {
            const int64_t last = first + attention_runs(&sequences[i]);
            for (; index < last; index = thread_team_next(f->model->team))
                attend(f, &sequences[i], layer, (int32_t)(index - first), kv_head);
            first = last;
        }
    }
    barrier(f);
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
    barrier(f);
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
    barrier(f);
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
    barrier(f);
    multiply(f, b->attention_out, w->o.k, &(struct product){&w->o, w->o_bias, b->normed}, 1);
    barrier(f);
}

static void mlp_half(const struct forward *f, int32_t layer)
{
    const struct model *model = f->model;
    const struct layer_weights *w = &model->weights.layers[layer];
    const struct forward_buffers *b = &model->buffers;
    const int32_t width = model->hparams.intermediate;
    const struct product products[] = {{&w->gate, w->gate_bias, b->gate}, {&w->up, w->up_bias, b->up}};
    norm_rows(f, w->post_norm, RESIDUAL_ADD);
    multiply(f, b->normed, model->hparams.hidden, products, 2);
    barrier(f);
    int32_t begin, end;
    row_range(f, &begin, &end);
    for (int32_t row = begin; row < end; row++) {
        float *gate = b->gate + (size_t)row * (size_t)width;
        model->kernels->swiglu(gate, gate, b->up + (size_t)row * (size_t)width, width);
    }
    prepare_rows(f, b->gate, width);
    barrier(f);
    multiply(f, b->gate, width, &(struct product){&w->down, w->down_bias, b->normed}, 1);
    barrier(f);
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
    thread_team_run(model->team, forward_member, &forward);
}
