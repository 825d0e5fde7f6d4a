// SPDX-License-Identifier: Apache-2.0
#include "engine/speculate/draft_gate.h"

#include <stdbool.h>
#include <stddef.h>

#define EVEN_ODDS 0.5  /* enough where nothing is known of prices */
#define LEAST_ODDS 0.2 /* whatever the prices: what is learnt of both is rough */

/* The sequence whose next guess is likeliest; NULL: none has a guess left. */
static struct draft_place *likeliest(struct draft_place *places, int32_t count)
{
    struct draft_place *best = NULL;
    for (int32_t i = 0; i < count; i++)
        if (places[i].drafts < places[i].most && (!best || places[i].chance > best->chance))
            best = &places[i];
    return best;
}

double draft_gate_choose(struct draft_place *places, int32_t count, const struct draft_step *step)
{
    double seconds = step->seconds, tokens = step->sequences;
    for (int32_t i = 0; i < count; i++) {
        places[i].drafts = 0;
        places[i].chance = prompt_lookup_chance(places[i].lookup, 0);
    }
    for (uint32_t left = step->rows; left > 0; left--) {
        struct draft_place *next = likeliest(places, count);
        if (!next || next->chance < LEAST_ODDS)
            return 0;
        const bool pays =
            step->seconds > 0 ? next->chance * seconds > step->row_price * tokens : next->chance >= EVEN_ODDS;
        if (!pays)
            return next->chance;
        seconds += step->row_price;
        tokens += next->chance;
        next->drafts++;
        next->chance *= prompt_lookup_chance(next->lookup, next->drafts);
    }
    return 0;
}
