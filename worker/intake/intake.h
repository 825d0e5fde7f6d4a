// SPDX-License-Identifier: Apache-2.0
// The intake thread: takes records from Kafka, parses them, hands jobs to the engine and faults to emit,
// keeps the offset ledgers and commits what is answered. It always polls, also while paused or draining.
#ifndef WORKER_INTAKE_INTAKE_H
#define WORKER_INTAKE_INTAKE_H

#include "worker/pipeline.h"

struct intake;

/* Statuses: CONFIG, NO_MEMORY, UNAVAILABLE. */
MUST_CHECK enum status intake_start(struct intake **out, struct pipeline_shared *shared, struct error *err);
/* Returns when the thread has drained (pipeline_shared.draining), committed and left the group; it has shut
 * `commands` then. */
void intake_join(struct intake *intake);

/* The same without a thread, turn by turn, for the simulation (tests/sim): open, turns until false, end (the
 * last commits, leaving the group), close. */
MUST_CHECK enum status intake_open(struct intake **out, struct pipeline_shared *shared, struct error *err);
bool intake_turn(struct intake *intake); /* false: drained */
void intake_end(struct intake *intake);
void intake_close(struct intake *intake);

#endif
