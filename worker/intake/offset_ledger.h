// SPDX-License-Identifier: Apache-2.0
// What became of the offsets of a partition. Jobs finish out of order: the offset to commit is the lowest one
// not answered; what is known of those above it travels in the commit metadata: which are answered, so that a
// restart repeats none, and which may have been running, so that a job that kills its worker is found out.
// Owner: the intake thread. One ledger per assigned partition.
//
// Attempts: a job may start only below a reservation that has been committed. Whoever finds a reservation in
// the metadata knows that its maker ended without a farewell: every open offset below it has been attempted.
// Jobs that were attempted before start only after their new count was committed (offset_ledger_strike).
//
// Metadata: base64 of version byte 2, the reservation's end relative to the committed offset (0: none), then
// runs of equal offsets as LEB128 varints of length << 2 | state: 0 open, 1 answered, 2 open and attempted
// once, 3 open and attempted as often as the next varint says. An unknown version is ignored with a warning.
#ifndef WORKER_INTAKE_OFFSET_LEDGER_H
#define WORKER_INTAKE_OFFSET_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { OFFSET_MAP_VERSION = 2, OFFSET_MAP_MAX_BYTES = 4096, OFFSET_LEDGER_MOST_ATTEMPTS = 100 };

struct offset_ledger;

/* `window`: offsets between the lowest unanswered one and the newest taken. */
MUST_CHECK enum status offset_ledger_open(struct offset_ledger **out, size_t window, struct error *err);
void offset_ledger_close(struct offset_ledger *ledger);
/* The partition begins at `committed` with the answered offsets of `metadata` (may be NULL). Statuses: OK;
 * INVALID: the metadata was not understood and is ignored. */
enum status offset_ledger_begin(struct offset_ledger *ledger, int64_t committed, const char *metadata);
/* A record arrived. Offsets skipped over (transaction markers, compaction) count as answered. False: it is
 * answered already; do not run it again. */
bool offset_ledger_take(struct offset_ledger *ledger, int64_t offset);
/* Room for this offset within the window and the metadata? */
bool offset_ledger_has_room(const struct offset_ledger *ledger, int64_t offset);
/* Half the window or three quarters of the metadata are used: stop fetching. */
bool offset_ledger_is_strained(const struct offset_ledger *ledger);
void offset_ledger_answer(struct offset_ledger *ledger, int64_t offset);
/* How often workers ended while this open offset was, or may have been, running. */
unsigned offset_ledger_attempts(const struct offset_ledger *ledger, int64_t offset);
/* Written ahead of the start of an open offset that was attempted before; taken back when it is given away.
 */
void offset_ledger_strike(struct offset_ledger *ledger, int64_t offset);
void offset_ledger_forgive(struct offset_ledger *ledger, int64_t offset);
/* Offsets below `until` may start as soon as metadata written from now on is committed. Never goes back. */
void offset_ledger_reserve(struct offset_ledger *ledger, int64_t until);
int64_t offset_ledger_reserved(const struct offset_ledger *ledger);
/* Nothing of this partition runs any more: the next metadata carries no reservation. True: that is news. */
bool offset_ledger_leave(struct offset_ledger *ledger);
int64_t offset_ledger_commit_offset(const struct offset_ledger *ledger); /* -1: nothing was taken yet */
int64_t offset_ledger_next(const struct offset_ledger *ledger);          /* one past the newest taken; -1 */
size_t offset_ledger_open_count(const struct offset_ledger *ledger);     /* taken and not answered */
/* Writes the metadata text for commit_offset; returns its length, at most OFFSET_MAP_MAX_BYTES - 1. */
size_t offset_ledger_metadata(const struct offset_ledger *ledger, char out[OFFSET_MAP_MAX_BYTES]);

#endif
