// SPDX-License-Identifier: Apache-2.0
// What is known of a batch: how many jobs were submitted (key B of the status topic, written by `submit`) and
// what its results say, each counted once. The results are the authority, so the sums are theirs.
#ifndef WORKER_CLI_BATCH_STATUS_H
#define WORKER_CLI_BATCH_STATUS_H

#include "base/bytes.h"
#include "config/config.h"
#include "worker/cli/id_map.h"
#include "worker/intake/job.h"

struct batch_status {
    const char *batch_id;
    struct id_map seen; /* ids of results */
    int64_t total;      /* -1: unknown */
    int64_t created_ms; /* of the submit; -1: unknown */
    int64_t completed, failed, cancelled, expired;
    int64_t input_tokens, cached_tokens, output_tokens;
    int64_t first_ms, last_ms; /* timestamps of results; -1: none */
};

void batch_status_init(struct batch_status *status, const char *batch_id);
void batch_status_release(struct batch_status *status);
/* The value of key B. A value that is none is passed over. */
void batch_status_take_total(struct batch_status *status, const char *value, size_t bytes);
/* Any record of the results topic. Statuses: NO_MEMORY. */
MUST_CHECK enum status batch_status_take_result(struct batch_status *status, const struct job_record *record);
int64_t batch_status_answered(const struct batch_status *status);
/* "in_progress", "completed", or "validating" before the first answer: OpenAI's words. */
const char *batch_status_word(const struct batch_status *status);
/* OpenAI's Batch object with usage. */
void batch_status_write(const struct batch_status *status, struct bytes *out);
/* The value of key B. */
void batch_status_write_total(const char *batch_id, int64_t total, int64_t created_ms, struct bytes *out);

#endif
