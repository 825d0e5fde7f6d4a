// SPDX-License-Identifier: Apache-2.0
// Which guesses a step computes. Those most likely to come true are added, of all sequences together, while
// the tokens that the step is expected to give per second rise: (sequences + expected guesses that come true)
// over (seconds of the step + a row's price for each guess). Where rows are nearly free, a guess of even odds
// is worth it; where the step is bound by arithmetic, hardly any is. Changes how long a text takes, never its
// bytes.
#ifndef ENGINE_SPECULATE_DRAFT_GATE_H
#define ENGINE_SPECULATE_DRAFT_GATE_H

#include <stdint.h>

#include "engine/speculate/prompt_lookup.h"

struct draft_place {
    const struct prompt_lookup *lookup;
    uint32_t most;   /* guesses */
    uint32_t drafts; /* chosen */
    double chance;   /* that all of them come true, and the next one */
};

struct draft_step {
    double sequences; /* that get a token in it whatever is guessed */
    double seconds;   /* that it takes without guesses; 0: not known */
    double row_price; /* seconds of a guess's row */
    uint32_t rows;    /* for guesses, at most */
};

/* Chooses drafts for each place. Returns the largest chance of a guess that was turned away for its price; 0:
 * none was. */
double draft_gate_choose(struct draft_place *places, int32_t count, const struct draft_step *step);

#endif
