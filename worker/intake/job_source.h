// SPDX-License-Identifier: Apache-2.0
// Stage 1: the consumer group member that takes job records from Kafka. Always polled, also while paused, by
// the one thread that owns it (intake). Cooperative-sticky; offsets are committed by us, with metadata, never
// stored by librdkafka (2.0.2 drops metadata of stored offsets).
#ifndef WORKER_INTAKE_JOB_SOURCE_H
#define WORKER_INTAKE_JOB_SOURCE_H

#include "config/config.h"
#include "worker/intake/job.h"

enum { JOB_SOURCE_MAX_HEADERS = 64 };

struct job_source;
struct rd_kafka_s;
struct rd_kafka_topic_partition_list_s;

struct job_source_partition { /* as the group sees it */
    const char *topic;
    int32_t partition;
    int64_t offset;       /* assigned: committed offset, or -1; commit: offset to commit */
    const char *metadata; /* of the committed offset; NULL: none */
};

/* Called inside job_source_poll, on its thread. */
struct job_source_callbacks {
    void (*assigned)(void *context, const struct job_source_partition *partitions, size_t count);
    /* lost: another member has it already, nothing may be committed any more. */
    void (*revoked)(void *context, const struct job_source_partition *partition, bool lost);
    /* The answer to a commit that nobody waited for; failed: it has to be made again. */
    void (*commit_answered)(void *context, const struct job_source_partition *partition, bool failed);
    void *context;
};

MUST_CHECK enum status job_source_open(struct job_source **out, const struct config *config,
                                       const struct job_source_callbacks *callbacks, struct error *err);
/* Leaves the group. Revokes first: the callbacks run. */
void job_source_close(struct job_source *source);

/* Waits up to timeout_ms. True: *record is valid until the next poll. False with *err set (status not OK): a
 * fault of the source; UNAVAILABLE heals by itself, others are fatal. */
bool job_source_poll(struct job_source *source, int timeout_ms, struct job_record *record, struct error *err);
/* From now on a wait also ends when fd is readable; -1: none. */
void job_source_wake_on(struct job_source *source, int fd);
/* Stops or goes on taking records of one topic. Polling goes on either way. */
void job_source_pause(struct job_source *source, const char *topic, bool paused);
/* Commits offsets with metadata; waits for the broker's answer when `wait`. Of two commits that are on their
 * way at once either may be the last to arrive. */
enum status job_source_commit(struct job_source *source, const struct job_source_partition *partitions,
                              size_t count, bool wait, struct error *err);
/* Records in the assigned partitions that were not taken yet, from the client's statistics; -1: unknown. */
int64_t job_source_lag(struct job_source *source, const char *topic, int32_t partition, int64_t next_offset);
const char *job_source_cluster_id(struct job_source *source); /* "" until known */
/* For result_txn, which commits offsets in the producer's transaction: the rd_kafka_t, and a partition list
 * with metadata (destroyed by the caller). */
struct rd_kafka_s *job_source_client(struct job_source *source);
struct rd_kafka_topic_partition_list_s *job_source_list(const struct job_source_partition *partitions,
                                                        size_t count);

#endif
