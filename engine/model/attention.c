// SPDX-License-Identifier: Apache-2.0
// Items are (kv heads, task of the plan), taken by whoever is free. Segments of a context are merged in
// ascending order from states that each began empty: by the member that takes in all of them, or, of a split
// cluster, by the team when all are there. The bytes are the same.
#include "engine/model/attention.h"

#include <math.h>

#include "engine/kernels/cut.h"
#include "engine/kv/kv_cache.h"
#include "engine/model/forward.h"
#include "engine/model/layout.h"

enum {
    LEAST_ITEMS_PER_MEMBER = 12, /* when several kv heads are taken together */
    MOST_SPLIT_SEGMENTS = 64     /* of one row, when the states' buffer is sized */
};

/* ---- buffers ---- */

/* Splitting is for steps of fewer items than a team of this size wants: so many rows, at their longest. */
static int32_t state_rows(const struct hparams *h, int members)
{
    const int32_t items = members * ATTENTION_ITEMS_PER_MEMBER;
    const int32_t segments =
        (h->max_context_tokens + ATTENTION_SEGMENT_TOKENS - 1) / ATTENTION_SEGMENT_TOKENS;
    if (members == 1 || items <= h->kv_heads || segments <= 1)
        return 0;
    return (items + h->kv_heads - 1) / h->kv_heads *
           (segments < MOST_SPLIT_SEGMENTS ? segments : MOST_SPLIT_SEGMENTS);
}

void attention_layout(struct attention_buffers *out, const struct model *model, int members,
                      struct layout *layout)
{
    const struct hparams *h = &model->hparams;
    const int32_t rows = model->max_batch_tokens;
    const int32_t most_rows = rows < STEP_ATTENTION_ROWS ? rows : STEP_ATTENTION_ROWS;
    const size_t group = (size_t)(h->heads / h->kv_heads), state_bytes = attention_state_bytes(h->head_dim);
    out->state_rows = state_rows(h, members);
    out->scratch_bytes =
        layout_align(model->kernels->attention_scratch_bytes(h->heads, h->kv_heads, h->head_dim, most_rows));
    out->own_states_bytes = layout_align((size_t)most_rows * group * state_bytes);
    out->scratch = layout_take(layout, out->scratch_bytes * (size_t)members);
    out->own_states = layout_take(layout, 2 * out->own_states_bytes * (size_t)members);
    out->states = layout_take(layout, (size_t)out->state_rows * (size_t)h->heads * state_bytes);
    struct attention_plan *plan = &out->plan;
    plan->rows = layout_take(layout, (size_t)rows * sizeof *plan->rows);
    plan->spans = layout_take(layout, 2 * (size_t)rows * sizeof *plan->spans);
    plan->clusters = layout_take(layout, (size_t)rows * sizeof *plan->clusters);
    plan->parts = layout_take(layout, (size_t)rows * sizeof *plan->parts);
    plan->tasks = layout_take(layout, (size_t)(rows + out->state_rows) * sizeof *plan->tasks);
}

/* Clusters no larger than leaves every member a few items. */
void attention_begin(const struct forward *f)
{
    struct model *model = f->model;
    const int members = thread_team_size(model->team);
    const int64_t rows =
        (int64_t)f->rows * model->hparams.kv_heads / ((int64_t)members * ATTENTION_ITEMS_PER_MEMBER);
    const struct attention_plan_limits limits = {
        .block_tokens = f->kv->block_tokens,
        .tile_tokens = model->kernels->attention_tile_tokens,
        .part_rows = f->plan->attention_rows,
        .cluster_rows = rows < STEP_ATTENTION_ROWS ? (int32_t)rows : STEP_ATTENTION_ROWS,
        .segment_tokens = ATTENTION_SEGMENT_TOKENS,
        .members = members,
        .kv_heads = model->hparams.kv_heads,
        .state_rows = model->buffers.attention.state_rows};
    attention_plan_build(&model->buffers.attention.plan, f->batch, &limits);
}

/* ---- one item ---- */

/* A cluster in a layer. */
struct subject {
    const struct forward *f;
    const struct attention_cluster *cluster;
    const struct attention_row *rows;
    struct attention_args args;
    int32_t group;
};

static struct subject subject_of(const struct forward *f, int32_t index, int32_t layer)
{
    const struct model *model = f->model;
    const struct hparams *h = &model->hparams;
    const struct attention_plan *plan = &model->buffers.attention.plan;
    const struct attention_cluster *cluster = &plan->clusters[index];
    const struct attention_row *rows = plan->rows + cluster->first_row;
    const int32_t width = h->heads * h->head_dim;
    const size_t offset = cluster->parts > 1 ? 0 : (size_t)rows->row * (size_t)width;
    struct subject subject = {.f = f, .cluster = cluster, .rows = rows, .group = h->heads / h->kv_heads};
    subject.args = (struct attention_args){
        .q = model->buffers.q + offset,
        .out = model->buffers.attention_out + offset,
        .q_stride = width,
        .out_stride = width,
        .rows = cluster->rows,
        .first_position = rows->position,
        .end = cluster->segments * plan->segment_tokens,
        .block_table = cluster->window ? f->kv->consecutive : plan->spans[cluster->first_span].block_table,
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
    return subject;
}

/* What of the cluster's spans lies in the positions that `args` asks for. */
static int32_t clip_spans(struct attention_span *out, const struct subject *s,
                          const struct attention_args *args)
{
    const struct attention_span *spans = s->f->model->buffers.attention.plan.spans + s->cluster->first_span;
    int32_t count = 0;
    for (int32_t i = 0; i < s->cluster->spans; i++) {
        struct attention_span span = spans[i];
        span.begin = span.begin > args->begin ? span.begin : args->begin;
        span.end = span.end < args->end ? span.end : args->end;
        if (span.begin < span.end)
            out[count++] = span;
    }
    return count;
}

static void call_kernel(const struct subject *s, const struct attention_args *args, int32_t begin,
                        int32_t end)
{
    const struct model *model = s->f->model;
    const struct attention_buffers *b = &model->buffers.attention;
    void *scratch = b->scratch + (size_t)s->f->member * b->scratch_bytes;
    struct attention_span spans[2 * STEP_ATTENTION_ROWS];
    if (s->cluster->parts == 1)
        model->kernels->attention(args, begin, end, scratch);
    else
        model->kernels->attention_spans(args, s->rows, spans, clip_spans(spans, s, args), begin, end,
                                        scratch);
}

/* States of kv heads [begin, end) of one segment. */
static void attend_segment(const struct subject *s, int32_t segment, void *states, int32_t begin, int32_t end)
{
    const int32_t tokens = s->f->model->buffers.attention.plan.segment_tokens;
    struct attention_args args = s->args;
    args.states = states;
    args.begin = segment * tokens, args.end = args.begin + tokens;
    call_kernel(s, &args, begin, end);
}

/* The first that some row sees. */
static int32_t first_segment(const struct subject *s)
{
    const int32_t oldest = s->cluster->least_position - s->args.window + 1;
    return s->args.window > 0 && oldest > 0 ? oldest / s->f->model->buffers.attention.plan.segment_tokens : 0;
}

static float *out_of(const struct subject *s, int32_t kv_head, int32_t query)
{
    const int32_t width = s->args.out_stride, head = kv_head * s->group + query % s->group;
    return s->f->model->buffers.attention_out + (size_t)s->rows[query / s->group].row * (size_t)width +
           (size_t)head * (size_t)s->args.head_dim;
}

/* All segments of a kv head, one after the other. */
static void attend_in_turn(const struct subject *s, int32_t kv_head)
{
    const struct attention_buffers *b = &s->f->model->buffers.attention;
    const int32_t queries = s->cluster->rows * s->group, dim = s->args.head_dim, first = first_segment(s);
    uint8_t *total = b->own_states + 2 * (size_t)s->f->member * b->own_states_bytes;
    uint8_t *next = total + b->own_states_bytes;
    attend_segment(s, first, total, kv_head, kv_head + 1);
    for (int32_t segment = first + 1; segment < s->cluster->segments; segment++) {
        attend_segment(s, segment, next, kv_head, kv_head + 1);
        for (int32_t i = 0; i < queries; i++)
            attention_state_merge(attention_state_at(total, (size_t)i, dim),
                                  attention_state_at(next, (size_t)i, dim), dim);
    }
    for (int32_t i = 0; i < queries; i++)
        attention_state_finish(out_of(s, kv_head, i), attention_state_at(total, (size_t)i, dim), dim);
}

/* Of a split cluster: [kv heads][rows][heads of a kv head] of a segment, from kv_head on. */
static uint8_t *states_of(const struct subject *s, int32_t segment, int32_t kv_head)
{
    const size_t row = (size_t)(s->cluster->first_state + segment * s->cluster->rows);
    const size_t first = row * (size_t)s->args.heads + (size_t)(kv_head * s->cluster->rows * s->group);
    return s->f->model->buffers.attention.states + first * attention_state_bytes(s->args.head_dim);
}

static void attend(const struct forward *f, struct attention_task task, int32_t layer, int32_t begin,
                   int32_t end)
{
    const struct subject s = subject_of(f, task.cluster, layer);
    if (s.cluster->segments == 1)
        call_kernel(&s, &s.args, begin, end);
    else if (task.segment == ATTENTION_ALL_SEGMENTS)
        for (int32_t kv_head = begin; kv_head < end; kv_head++)
            attend_in_turn(&s, kv_head);
    else if (task.segment >= first_segment(&s))
        attend_segment(&s, task.segment, states_of(&s, task.segment, begin), begin, end);
}

/* ---- the phase ---- */

/* kv heads that a member takes together, because keys and values of one are asked for while the one before is
 * worked on: as many as leave every member enough items. */
static int32_t heads_together(const struct forward *f, int32_t tasks)
{
    const int32_t kv_heads = f->model->hparams.kv_heads;
    int32_t together = 1;
    while (kv_heads % (2 * together) == 0 &&
           tasks * (kv_heads / (2 * together)) >= thread_team_size(f->model->team) * LEAST_ITEMS_PER_MEMBER)
        together *= 2;
    return together;
}

/* This member's share of the queries of a split cluster. */
static void merge_cluster(const struct forward *f, int32_t cluster, int32_t layer)
{
    const struct subject s = subject_of(f, cluster, layer);
    const int32_t queries = s.cluster->rows * s.group, dim = s.args.head_dim;
    const struct cut cut = {.count = queries * s.args.kv_heads, .parts = f->members};
    for (int32_t i = cut_at(cut, f->member); i < cut_at(cut, f->member + 1); i++) {
        const size_t query = (size_t)(i % queries);
        int32_t segment = first_segment(&s);
        struct attention_state *total = attention_state_at(states_of(&s, segment, i / queries), query, dim);
        while (++segment < s.cluster->segments)
            attention_state_merge(total, attention_state_at(states_of(&s, segment, i / queries), query, dim),
                                  dim);
        attention_state_finish(out_of(&s, i / queries, (int32_t)query), total, dim);
    }
}

void attention_forward(const struct forward *f, int32_t layer)
{
    const struct attention_plan *plan = &f->model->buffers.attention.plan;
    const int32_t tasks = plan->task_count, together = heads_together(f, tasks);
    const int32_t items = f->model->hparams.kv_heads / together * tasks;
    for (int32_t i = thread_team_next(f->model->team); i < items; i = thread_team_next(f->model->team)) {
        const int32_t head = i / tasks * together;
        attend(f, plan->tasks[i % tasks], layer, head, head + together);
    }
    forward_barrier(f);
    if (plan->state_rows == 0)
        return;
    for (int32_t i = 0; i < plan->cluster_count; i++)
        if (plan->clusters[i].first_state >= 0)
            merge_cluster(f, i, layer);
    forward_barrier(f);
}
