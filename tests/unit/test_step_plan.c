// SPDX-License-Identifier: Apache-2.0
// How evenly a step's work comes out over a team, counted: with teams of up to 32 members, for every number
// of rows, no plan is more than 5 % from the best of all cuts. That no byte depends on a plan is shown by
// test_model_bytes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/model/step_plan.h"

enum { MAX_ROWS = 512, MOST_ROWS = 256 };

static const struct hparams shapes[] = {
    {.hidden = 256,
     .heads = 4,
     .kv_heads = 2,
     .head_dim = 64,
     .intermediate = 704,
     .vocab = 4096,
     .layers = 1},
    {.hidden = 1024,
     .heads = 16,
     .kv_heads = 8,
     .head_dim = 128,
     .intermediate = 3072,
     .vocab = 4096,
     .layers = 1},
    {.hidden = 896,
     .heads = 14,
     .kv_heads = 2,
     .head_dim = 64,
     .intermediate = 4864,
     .vocab = 4096,
     .layers = 1},
    {.hidden = 2048,
     .heads = 32,
     .kv_heads = 8,
     .head_dim = 64,
     .intermediate = 8192,
     .vocab = 4096,
     .layers = 1},
    {.hidden = 1536,
     .heads = 12,
     .kv_heads = 2,
     .head_dim = 128,
     .intermediate = 8960,
     .vocab = 4096,
     .layers = 1},
};
static const int teams[] = {1, 2, 3, 4, 8, 16, 24, 32};
static const int32_t granules[] = {16, 32}; /* AVX2; AVX-512 and AMX */
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* No cut leaves the busiest member less: single panels of columns in every number of row parts. */
static int64_t best_busiest(const struct step_shape *shape, int32_t rows, struct step_team team)
{
    int64_t best = INT64_MAX;
    for (int32_t parts = 1; parts <= STEP_MAX_ROW_PARTS && parts <= rows; parts++) {
        const struct step_cut cut = {.row_parts = parts,
                                     .pieces = {team.granule, team.granule, team.granule}};
        const int64_t busiest = step_cut_busiest(&cut, shape, rows, team);
        best = busiest < best ? busiest : best;
    }
    return best;
}

static double worst_distance(const struct hparams *h, struct step_team team)
{
    static struct step_plans plans;
    double worst = 0.0;
    step_plans_build(&plans, h, team, MAX_ROWS);
    for (int32_t rows = 1; rows <= MOST_ROWS; rows++)
        for (int phase = 0; phase < STEP_PHASES; phase++) {
            const struct step_shape shape = step_phase_shape(h, (enum step_phase)phase);
            const struct step_cut *cut = &step_plans_find(&plans, rows)->cuts[phase];
            const double distance =
                (double)step_cut_busiest(cut, &shape, rows, team) / (double)best_busiest(&shape, rows, team);
            worst = distance > worst ? distance : worst;
        }
    return worst;
}

static void no_plan_is_far_from_the_best_cut(void **state)
{
    (void)state;
    double worst = 0.0;
    for (size_t shape = 0; shape < COUNT(shapes); shape++)
        for (size_t granule = 0; granule < COUNT(granules); granule++)
            for (size_t i = 0; i < COUNT(teams); i++) {
                const struct step_team team = {.members = teams[i], .granule = granules[granule]};
                const double distance = worst_distance(&shapes[shape], team);
                worst = distance > worst ? distance : worst;
            }
    print_message("the farthest plan leaves the busiest member %.3f times what the best cut does\n", worst);
    assert_true(worst <= 1.05);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_plan_is_far_from_the_best_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
