// SPDX-License-Identifier: Apache-2.0
// Reads a whole topic without a group, read_committed: for the verbs that follow results or look back at what
// was sent. One owner thread.
#ifndef WORKER_TOPIC_READER_H
#define WORKER_TOPIC_READER_H

#include "config/config.h"
#include "worker/intake/job.h"

enum { TOPIC_READER_MAX_PARTITIONS = 1024, TOPIC_READER_MAX_HEADERS = 96 };

struct topic_reader;

struct topic_offsets { /* one per partition */
    int32_t count;
    int64_t offsets[TOPIC_READER_MAX_PARTITIONS];
};

/* Waits at most timeout_ms for the broker. `from` NULL: from the beginning. Statuses: UNAVAILABLE, NOT_FOUND
 * (no such topic), CONFIG. */
MUST_CHECK enum status topic_reader_open(struct topic_reader **out, const struct config *config,
                                         const char *topic, const struct topic_offsets *from, int timeout_ms,
                                         struct error *err);
void topic_reader_close(struct topic_reader *reader);
/* True: *record is valid until the next call. False: nothing within timeout_ms. */
bool topic_reader_next(struct topic_reader *reader, int timeout_ms, struct job_record *record);
/* Everything that was there at the last look has been read. */
bool topic_reader_at_end(const struct topic_reader *reader);
/* Everything has been read that was there at the first look, also of transactions that were open then. */
bool topic_reader_passed_all(struct topic_reader *reader);
/* One past the newest record of each partition. */
MUST_CHECK enum status topic_reader_ends(struct topic_reader *reader, struct topic_offsets *out,
                                         struct error *err);
const char *topic_reader_cluster_id(const struct topic_reader *reader);
/* Records that the worker group has not committed yet, over all partitions; -1: unknown. */
int64_t topic_reader_group_backlog(struct topic_reader *reader);

#endif
