// SPDX-License-Identifier: Apache-2.0
#include "engine/step_cost.h"

#include <stdbool.h>

enum { SWEEPS = 16, FIRST_ROWS = 32 };
#define FADE 0.98    /* of a step's weight, with each step after it */
#define INERTIA 1e-6 /* how firmly a price stays where no recent step says anything about it */

void step_work_add_decode(struct step_work *work, uint32_t context_tokens, uint32_t drafts)
{
    work->amount[STEP_FIXED] = 1;
    work->amount[STEP_DRAFT_ROWS] += drafts;
    work->amount[STEP_DECODE_ROWS] += 1;
    work->amount[STEP_DECODE_CONTEXT] += context_tokens + 1.0;
}

void step_work_add_prefill(struct step_work *work, uint32_t context_tokens, uint32_t rows)
{
    work->amount[STEP_FIXED] = 1;
    work->amount[STEP_PREFILL_ROWS] += rows;
    work->amount[STEP_PREFILL_PAIRS] += rows * (context_tokens + (rows + 1.0) / 2);
}

/* One price that fits best while the others stay; proximal: without evidence it does not move. */
static void fit_price(struct step_cost *cost, int i)
{
    const double inertia = INERTIA * cost->most_gram[i];
    double rest = cost->right[i] + inertia * cost->price[i];
    for (int j = 0; j < STEP_PRICES; j++)
        rest -= j == i ? 0 : cost->gram[i][j] * cost->price[j];
    const double weight = cost->gram[i][i] + inertia;
    cost->price[i] = weight > 0 && rest > 0 ? rest / weight : 0;
}

void step_cost_note(struct step_cost *cost, const struct step_work *work, double seconds)
{
    if (!(seconds > 0))
        return;
    for (int i = 0; i < STEP_PRICES; i++) {
        const double amount = work->amount[i] / seconds;
        for (int j = 0; j < STEP_PRICES; j++)
            cost->gram[i][j] = FADE * cost->gram[i][j] + amount * work->amount[j] / seconds;
        cost->right[i] = FADE * cost->right[i] + amount;
        if (cost->gram[i][i] > cost->most_gram[i])
            cost->most_gram[i] = cost->gram[i][i];
    }
    for (int sweep = 0; sweep < SWEEPS; sweep++)
        for (int i = 0; i < STEP_PRICES; i++)
            fit_price(cost, i);
    if (work->amount[STEP_PREFILL_ROWS] > cost->most_rows)
        cost->most_rows = work->amount[STEP_PREFILL_ROWS];
}

double step_cost_seconds(const struct step_cost *cost, const struct step_work *work)
{
    double seconds = 0;
    for (int i = 0; i < STEP_PRICES; i++)
        seconds += cost->price[i] * work->amount[i];
    return seconds;
}

static bool fits(const struct step_cost *cost, uint32_t context_tokens, uint32_t rows, double seconds)
{
    struct step_work chunk = {0};
    step_work_add_prefill(&chunk, context_tokens, rows);
    return step_cost_seconds(cost, &chunk) - cost->price[STEP_FIXED] <= seconds;
}

uint32_t step_cost_rows(const struct step_cost *cost, const struct step_work *work, uint32_t context_tokens,
                        double seconds, uint32_t most)
{
    const double known = (2 * cost->most_rows > FIRST_ROWS ? 2 * cost->most_rows : FIRST_ROWS) -
                         work->amount[STEP_PREFILL_ROWS];
    if (most > known)
        most = known > 0 ? (uint32_t)known : 0;
    uint32_t rows = 0; /* the most that are known to fit; what does not fit is above `most` */
    while (rows < most) {
        const uint32_t middle = rows + (most - rows + 1) / 2;
        if (fits(cost, context_tokens, middle, seconds))
            rows = middle;
        else
            most = middle - 1;
    }
    return rows;
}
