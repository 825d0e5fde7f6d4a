// SPDX-License-Identifier: Apache-2.0
// The emit thread: turns engine reports into streamed chunks and result records, and acknowledgements of the
// broker into acks for intake. Owns the generations (and through them the jobs), the producer and the ZeroMQ
// sockets.
#ifndef WORKER_EMIT_EMIT_H
#define WORKER_EMIT_EMIT_H

#include "worker/pipeline.h"

struct emit;

/* Statuses: CONFIG, UNAVAILABLE (stream address), NO_MEMORY. */
MUST_CHECK enum status emit_start(struct emit **out, struct pipeline_shared *shared, struct error *err);
/* Returns when `reports` is shut and drained and every result was acknowledged, or flush_ms passed. */
void emit_join(struct emit *emit);

/* The same without a thread, turn by turn, for the simulation (tests/sim): open, turns until false, close. A
 * turn never waits for work. */
MUST_CHECK enum status emit_open(struct emit **out, struct pipeline_shared *shared, struct error *err);
bool emit_turn(struct emit *emit);
void emit_close(struct emit *emit);

#endif
