// SPDX-License-Identifier: Apache-2.0
// Tries every number of row parts with every number of pieces for a member and keeps what leaves the busiest
// member least to do. Of cuts that differ by less than a hundredth the first is kept: whole rows, since each
// part reads the weights again, and small pieces, since a member may be disturbed at any time.
#include "engine/model/step_plan.h"

#include "base/check.h"
#include "engine/kernels/cut.h"
#include "engine/model/attention_plan.h"

enum { MAX_PIECES_PER_MEMBER = 16, LEAST_ATTENTION_ROWS = 8 };

/* 0: every layer has experts. */
static int32_t dense_width(const struct hparams *h)
{
    for (int32_t layer = 0; layer < h->layers; layer++)
        if (!hparams_layer_is_sparse(h, layer))
            return h->intermediate;
    return 0;
}

struct step_shape step_phase_shape(const struct hparams *h, enum step_phase phase)
{
    const int32_t q = h->heads * h->head_dim, kv = h->kv_heads * h->head_dim, mlp = dense_width(h);
    switch (phase) {
    case STEP_QKV:
        return (struct step_shape){3, h->hidden, {q, kv, kv}};
    case STEP_O:
        return (struct step_shape){1, q, {h->hidden}};
    case STEP_GATE_UP:
        return (struct step_shape){mlp > 0 ? 2 : 0, h->hidden, {mlp, mlp}};
    case STEP_DOWN:
        return (struct step_shape){mlp > 0 ? 1 : 0, mlp, {h->hidden}};
    default:
        return (struct step_shape){1, h->hidden, {h->vocab}};
    }
}

/* The products of a phase as the team will find them, as far as cutting and counting look at them. */
struct sketch {
    struct weight weights[STEP_MAX_PRODUCTS];
    struct listed_product list[STEP_MAX_PRODUCTS * STEP_MAX_ROW_PARTS];
    int count;
};

static void sketch_phase(struct sketch *sketch, const struct step_shape *shape, int32_t rows,
                         int32_t row_parts)
{
    const struct cut parts = {.count = rows, .parts = row_parts};
    sketch->count = 0;
    for (int32_t i = 0; i < shape->products; i++)
        sketch->weights[i] = (struct weight){.n = shape->widths[i], .k = shape->depth};
    for (int32_t part = 0; part < row_parts; part++)
        for (int32_t i = 0; i < shape->products; i++)
            sketch->list[sketch->count++] =
                (struct listed_product){.product = {.weight = &sketch->weights[i]},
                                        .x = {.rows = cut_at(parts, part + 1) - cut_at(parts, part)}};
}

int64_t step_cut_busiest(const struct step_cut *cut, const struct step_shape *shape, int32_t rows,
                         struct step_team team)
{
    struct sketch sketch;
    sketch_phase(&sketch, shape, rows, cut->row_parts);
    for (int i = 0; i < sketch.count; i++)
        sketch.list[i].piece = cut->pieces[i % shape->products];
    return product_list_busiest(sketch.list, sketch.count, team.granule, team.members);
}

/* The cut that costs least. */
static struct step_cut choose_cut(const struct step_shape *shape, int32_t rows, struct step_team team)
{
    struct step_cut best = {.row_parts = 1};
    int64_t best_cost = INT64_MAX;
    const int32_t least_rows = rows <= 4 ? rows : rows - rows / 3; /* of a step with this plan */
    for (int32_t parts = 1; parts <= STEP_MAX_ROW_PARTS && parts <= least_rows; parts++)
        for (int pieces = team.members == 1 ? 1 : MAX_PIECES_PER_MEMBER; pieces > 0; pieces--) {
            struct step_cut cut = {.row_parts = parts};
            struct sketch sketch;
            sketch_phase(&sketch, shape, rows, parts);
            product_list_cut(sketch.list, sketch.count, team.granule, team.members * pieces);
            for (int32_t i = 0; i < shape->products; i++)
                cut.pieces[i] = sketch.list[i].piece;
            const int64_t cost = step_cut_busiest(&cut, shape, rows, team);
            if (cost < best_cost - best_cost / 100)
                best = cut, best_cost = cost;
        }
    return best;
}

/* Small enough that every member gets a few items of a lone prompt, not so small that keys and values are
 * read for a handful of queries. */
static int32_t attention_rows(const struct hparams *h, int32_t rows, int members)
{
    const int64_t share = (int64_t)rows * h->kv_heads / ((int64_t)members * ATTENTION_ITEMS_PER_MEMBER);
    if (share < LEAST_ATTENTION_ROWS)
        return LEAST_ATTENTION_ROWS;
    return share < STEP_ATTENTION_ROWS ? (int32_t)share : STEP_ATTENTION_ROWS;
}

static void build_plan(struct step_plan *plan, const struct hparams *h, int32_t rows, struct step_team team)
{
    *plan = (struct step_plan){.rows = rows, .attention_rows = attention_rows(h, rows, team.members)};
    for (int phase = 0; phase < STEP_PHASES; phase++) {
        const struct step_shape shape = step_phase_shape(h, (enum step_phase)phase);
        if (shape.products > 0)
            plan->cuts[phase] = choose_cut(&shape, rows, team);
    }
}

/* 1, 2, 3, 4, 6, 8, 12, …: no step has less than two thirds of the rows that its plan was made for. */
static int32_t next_bucket(int32_t rows)
{
    const bool power = (rows & (rows - 1)) == 0;
    return rows < 3 ? rows + 1 : power ? rows / 2 * 3 : rows / 3 * 4;
}

void step_plans_build(struct step_plans *out, const struct hparams *h, struct step_team team,
                      int32_t max_rows)
{
    out->count = 0;
    for (int32_t rows = 1;; rows = next_bucket(rows)) {
        CHECK(out->count < STEP_MAX_BUCKETS);
        build_plan(&out->plans[out->count++], h, rows < max_rows ? rows : max_rows, team);
        if (rows >= max_rows)
            return;
    }
}

const struct step_plan *step_plans_find(const struct step_plans *plans, int32_t rows)
{
    const struct step_plan *plan = plans->plans;
    while (plan->rows < rows)
        plan++;
    CHECK(plan < plans->plans + plans->count);
    return plan;
}
