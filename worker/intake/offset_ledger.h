// SPDX-License-Identifier: Apache-2.0
// Which offsets of a partition are answered. Jobs finish out of order: the offset to commit is the lowest one
// not answered, and the answered ones above it travel in the commit metadata, so that a restart repeats as
// few as possible. Owner: the intake thread. One ledger per assigned partition.
//
// Metadata: base64 of version byte 1, then run lengths as LEB128 varints, first the run of unanswered offsets
// from the committed one on, then answered, and so on; the last run is of answered ones. An unknown version
// is ignored: its jobs are answered again, with the same bytes.
#ifndef WORKER_INTAKE_OFFSET_LEDGER_H
#define WORKER_INTAKE_OFFSET_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { OFFSET_MAP_VERSION = 1, OFFSET_MAP_MAX_BYTES = 4096 };

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
int64_t offset_ledger_commit_offset(const struct offset_ledger *ledger); /* -1: nothing was taken yet */
size_t offset_ledger_open_count(const struct offset_ledger *ledger);     /* taken and not answered */
/* Writes the metadata text for commit_offset; returns its length, at most OFFSET_MAP_MAX_BYTES - 1. */
size_t offset_ledger_metadata(const struct offset_ledger *ledger, char out[OFFSET_MAP_MAX_BYTES]);

#endif
