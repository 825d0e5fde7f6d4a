// SPDX-License-Identifier: Apache-2.0
// What one partition's owner counts of each batch. The sums go on from where the last owner left them, and
// are written in the transaction of the results that they count: records B/topic/partition of the status
// topic. Pure; owner: the intake thread.
#ifndef WORKER_INTAKE_BATCH_TALLY_H
#define WORKER_INTAKE_BATCH_TALLY_H

#include "worker/batch_sums.h"
#include "worker/emit/finished_result.h"

enum { BATCH_TALLY_MOST = 65536 }; /* batches of one partition; of more no progress is written */

struct batch_tally;

MUST_CHECK enum status batch_tally_open(struct batch_tally **out, struct error *err);
void batch_tally_close(struct batch_tally *tally);
/* Forgets everything: from now on it is this partition's. */
void batch_tally_begin(struct batch_tally *tally, const char *topic, int32_t partition);
/* A record of the status topic; those of other partitions are passed over. The latest of a key counts. */
void batch_tally_restore(struct batch_tally *tally, const struct job_record *record);
/* A job of the batch is answered. An empty batch_id is no batch. */
void batch_tally_add(struct batch_tally *tally, const char *batch_id, const struct batch_sums *part);
/* The records of what has changed since batch_tally_written, at most `most`; owned by the caller. */
size_t batch_tally_changed(struct batch_tally *tally, const char *status_topic, struct finished_result **out,
                           size_t most);
void batch_tally_written(struct batch_tally *tally);

#endif
