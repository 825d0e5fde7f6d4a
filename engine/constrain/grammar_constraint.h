// SPDX-License-Identifier: Apache-2.0
// A grammar as a constraint over tokens: which tokens keep the text inside the grammar. Shared by all jobs
// that ask for the same grammar. Masks are made when a state is first asked for, and the latest are kept.
#ifndef ENGINE_CONSTRAIN_GRAMMAR_CONSTRAINT_H
#define ENGINE_CONSTRAIN_GRAMMAR_CONSTRAINT_H

#include "engine/constrain/constraint.h"
#include "engine/constrain/grammar.h"
#include "engine/constrain/vocab_order.h"

enum { GRAMMAR_MASKS_KEPT = 512 };

/* Takes the grammar over, also when it fails; `order` is borrowed. `vocab`: bits of a mask. Statuses:
 * NO_MEMORY. */
MUST_CHECK enum status grammar_constraint_open(struct constraint **out, struct grammar *grammar,
                                               const struct vocab_order *order, int32_t vocab,
                                               struct error *err);
/* A job that starts had better have a new one: see matcher_is_worn; any thread. */
bool grammar_constraint_is_worn(const struct constraint *constraint);
size_t grammar_constraint_bytes(const struct constraint *constraint); /* any thread */

#endif
