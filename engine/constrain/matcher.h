// SPDX-License-Identifier: Apache-2.0
// Runs a grammar over bytes, as an automaton that is built while it is walked: a state is a set of
// (instruction, stack of calls), and what a state does with a byte is worked out once. States are numbers
// that keep their meaning for the matcher's life. One thread at a time.
#ifndef ENGINE_CONSTRAIN_MATCHER_H
#define ENGINE_CONSTRAIN_MATCHER_H

#include "engine/constrain/grammar.h"

enum {
    MATCHER_START = 0,
    MATCHER_MAX_BYTES = 128 << 20,   /* of tables */
    MATCHER_MAX_WAYS_SEEN = 1 << 25, /* while all states are made: about a second */
    MATCHER_MAX_DEPTH = 256,         /* calls within calls: deeper nesting is not followed */
    MATCHER_MAX_WAYS = 4096          /* of one state: more are not followed */
};
#define MATCHER_DEAD UINT32_MAX

struct matcher;

/* Takes the grammar over, also when it fails. Statuses: NO_MEMORY. */
MUST_CHECK enum status matcher_open(struct matcher **out, struct grammar *grammar, struct error *err);
void matcher_close(struct matcher *matcher);
uint32_t matcher_step(struct matcher *matcher, uint32_t state, unsigned char byte); /* or MATCHER_DEAD */
/* Steps along bytes: path[0] is where it begins, path[n] the state behind n bytes. Returns how many were
 * allowed. */
size_t matcher_walk(struct matcher *matcher, uint32_t *path, const unsigned char *bytes, size_t count);
bool matcher_accepts(const struct matcher *matcher, uint32_t state);
/* A state that allows the same next GRAMMAR_ALIKE_BYTES bytes: one for all places of a long repetition. */
uint32_t matcher_alike(struct matcher *matcher, uint32_t state);
uint32_t matcher_states(const struct matcher *matcher);
/* Calls deeper than MATCHER_MAX_DEPTH were met: there a text may come to where nothing is allowed. */
bool matcher_was_cut(const struct matcher *matcher);
/* A bound or memory was passed: what it says from now on may forbid too much. */
bool matcher_is_over(const struct matcher *matcher);
/* So near to a bound that a new text had better begin with a new matcher; any thread. */
bool matcher_is_worn(const struct matcher *matcher);
size_t matcher_bytes(const struct matcher *matcher); /* of its tables; any thread */

#endif
