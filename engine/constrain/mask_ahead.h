// SPDX-License-Identifier: Apache-2.0
// Masks that a step will need, made by a thread of their own while the model computes: what may follow is
// known before the logits are. The engine thread notes states, starts, computes, waits, and finds the masks
// made. From start to wait the constraints that were noted belong to that thread, otherwise to the engine
// thread: they are handed over and back through channels.
#ifndef ENGINE_CONSTRAIN_MASK_AHEAD_H
#define ENGINE_CONSTRAIN_MASK_AHEAD_H

#include "base/error.h"
#include "engine/constrain/constraint.h"

struct mask_ahead;

/* `most`: states of one step; more are not noted. Statuses: NO_MEMORY. */
MUST_CHECK enum status mask_ahead_open(struct mask_ahead **out, size_t most, struct error *err);
void mask_ahead_close(struct mask_ahead *ahead);
/* Before start. A constraint whose tokens are few has no mask to be made. */
void mask_ahead_note(struct mask_ahead *ahead, struct constraint *constraint, uint32_t state);
void mask_ahead_start(struct mask_ahead *ahead);
void mask_ahead_wait(struct mask_ahead *ahead);

#endif
