// SPDX-License-Identifier: Apache-2.0
// The worker: its stages, wired. Reading worker.c from top to bottom is reading the way of a job.
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"

struct worker;

/* Opens the model, then starts engine, emit, intake and HTTP. Statuses: CONFIG, UNAVAILABLE, those of the
 * model. */
MUST_CHECK enum status worker_open(struct worker **out, const struct config *config, struct error *err);
/* Stops taking jobs; running ones finish. Any thread. */
void worker_drain(struct worker *worker);
/* The grace is over: running jobs are given back unanswered, with checkpoints where that can be. Any thread.
 */
void worker_end_grace(struct worker *worker);
/* They are given back as they are, now. Any thread. */
void worker_hurry(struct worker *worker);
/* True while the stages run; false once everything has drained (or failed). */
bool worker_running(const struct worker *worker);
/* How long the engine's present step has taken; 0: it is between steps. Any thread. */
int64_t worker_step_ms(const struct worker *worker);
/* Waits for the stages in order of the flow and frees everything. The status of a fatal fault, or OK. */
enum status worker_close(struct worker *worker, struct error *err);

#endif
