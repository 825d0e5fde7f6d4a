// SPDX-License-Identifier: Apache-2.0
// How the kernel team shares a step, decided once at start for every number of rows and then replayed: into
// which pieces of columns and runs of rows each phase's products are cut, and how many rows attend together.
// No byte depends on a plan, so it may depend on anything: here on counts alone
// (docs/adr/0011-step-plans.md).
#ifndef ENGINE_MODEL_STEP_PLAN_H
#define ENGINE_MODEL_STEP_PLAN_H

#include "engine/model/hparams.h"
#include "engine/model/product_list.h"

/* Phases of a layer that are products of the same rows, and the output projection. */
enum step_phase { STEP_QKV, STEP_O, STEP_GATE_UP, STEP_DOWN, STEP_HEAD, STEP_PHASES };
enum {
    STEP_MAX_PRODUCTS = 3,   /* of a phase */
    STEP_MAX_ROW_PARTS = 8,  /* of a phase */
    STEP_MAX_BUCKETS = 44,   /* of rows, up to 2^20 */
    STEP_ATTENTION_ROWS = 48 /* in one attention call, at most: whole tiles of 6, 12 and 16 rows */
};

struct step_shape { /* of a phase: widths [products] of products with `depth` inputs */
    int32_t products, depth, widths[STEP_MAX_PRODUCTS];
};

struct step_cut {
    int32_t row_parts;                 /* runs of rows, each converted and multiplied for itself */
    int32_t pieces[STEP_MAX_PRODUCTS]; /* columns that a member takes at a time */
};

struct step_plan {
    int32_t rows;           /* for steps of at most so many */
    int32_t attention_rows; /* of one sequence in one attention call, at most */
    struct step_cut cuts[STEP_PHASES];
};

struct step_plans {
    struct step_plan plans[STEP_MAX_BUCKETS]; /* by rows */
    int count;
};

struct step_team {
    int members;
    int32_t granule; /* of columns, the kernel set's */
};

/* No products: the model has no such phase, since every layer has experts. */
struct step_shape step_phase_shape(const struct hparams *h, enum step_phase phase);

void step_plans_build(struct step_plans *out, const struct hparams *h, struct step_team team,
                      int32_t max_rows);
/* The plan for a step of `rows` rows, at most those of step_plans_build. */
const struct step_plan *step_plans_find(const struct step_plans *plans, int32_t rows);

/* What the busiest member does in a phase of `rows` rows, counted as in product_list_busiest. */
int64_t step_cut_busiest(const struct step_cut *cut, const struct step_shape *shape, int32_t rows,
                         struct step_team team);

#endif
