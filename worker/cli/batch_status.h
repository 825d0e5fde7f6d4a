// SPDX-License-Identifier: Apache-2.0
// What is known of a batch. How many jobs were submitted is key B of the status topic, written by `submit`;
// what became of them is in the records B/topic/partition that workers write with their results, or is
// counted from the results themselves, each once. Both give the same sums.
#ifndef WORKER_CLI_BATCH_STATUS_H
#define WORKER_CLI_BATCH_STATUS_H

#include "base/bytes.h"
#include "config/config.h"
#include "worker/batch_sums.h"
#include "worker/cli/id_map.h"
#include "worker/intake/job.h"

struct batch_status {
    const char *batch_id;
    struct batch_sums sums;
    struct id_map parts;       /* keys B/topic/partition seen, to `latest` */
    struct batch_sums *latest; /* [part_count], by order of first sight; owned */
    size_t part_count;
    struct id_map seen; /* ids of results */
};

void batch_status_init(struct batch_status *status, const char *batch_id);
void batch_status_release(struct batch_status *status);
/* Any record of the status topic; the latest of a key counts. Statuses: NO_MEMORY. */
MUST_CHECK enum status batch_status_take_status(struct batch_status *status, const struct job_record *record);
/* After the last record of the status topic. False: no worker has written progress, the results must be
 * counted. */
bool batch_status_sum_parts(struct batch_status *status);
/* Any record of the results topic. Statuses: NO_MEMORY. */
MUST_CHECK enum status batch_status_take_result(struct batch_status *status, const struct job_record *record);
/* The value of key B. */
void batch_status_write_total(const char *batch_id, int64_t total, int64_t created_ms, struct bytes *out);

#endif
