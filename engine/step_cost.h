// SPDX-License-Identifier: Apache-2.0
// What a step of given work takes, learnt from what steps took: seconds are taken to be a sum of six
// non-negative prices, fitted to the last hundred steps or so by weighted least squares (relative errors, old
// steps fade). The scheduler asks how many rows of a prompt fit into a step; only the order of work depends
// on the answer, never a byte. Owner: the engine thread. No clock: whoever steps the engine tells.
#ifndef ENGINE_STEP_COST_H
#define ENGINE_STEP_COST_H

#include <stdint.h>

/* In the order in which they are fitted: what one step alone could explain is laid on prompt rows first, so
 * that chunks are small until steps have told prices apart. */
enum step_price {
    STEP_PREFILL_ROWS,   /* rows of prompts */
    STEP_PREFILL_PAIRS,  /* pairs of such a row and a position that it attends to */
    STEP_DRAFT_ROWS,     /* rows of guesses behind them (engine/speculate/) */
    STEP_DECODE_ROWS,    /* rows of sequences that generate */
    STEP_DECODE_CONTEXT, /* positions that those rows attend to */
    STEP_FIXED,          /* 1 */
    STEP_PRICES
};

struct step_work {
    double amount[STEP_PRICES];
};

struct step_cost {
    double price[STEP_PRICES];             /* seconds per unit; all 0 until a step is noted */
    double gram[STEP_PRICES][STEP_PRICES]; /* sums of products of amounts, each over its step's seconds */
    double right[STEP_PRICES];             /* sums of amounts, likewise */
    double most_gram[STEP_PRICES];         /* the largest that gram[i][i] has been */
    double most_rows;                      /* prompt rows of the largest step noted */
};

void step_work_add_decode(struct step_work *work, uint32_t context_tokens, uint32_t drafts);
void step_work_add_prefill(struct step_work *work, uint32_t context_tokens, uint32_t rows);
void step_cost_note(struct step_cost *cost, const struct step_work *work, double seconds);
double step_cost_seconds(const struct step_cost *cost, const struct step_work *work);
/* Rows of a prompt with `context_tokens` before them that take at most `seconds` more in a step that has
 * `work` already; at most `most`. Trusts the prices no further than a step of twice the rows seen so far. */
uint32_t step_cost_rows(const struct step_cost *cost, const struct step_work *work, uint32_t context_tokens,
                        double seconds, uint32_t most);

#endif
