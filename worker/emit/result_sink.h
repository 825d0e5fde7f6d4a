// SPDX-License-Identifier: Apache-2.0
// The producer: an idempotent Kafka producer whose every record is acknowledged to its sender. Used by the
// emit thread for results and by the verbs that send jobs. One owner thread.
#ifndef WORKER_EMIT_RESULT_SINK_H
#define WORKER_EMIT_RESULT_SINK_H

#include "config/config.h"
#include "worker/intake/job.h"

struct result_sink;

struct sink_record {
    const char *topic;
    const char *key; /* NULL: none */
    size_t key_bytes;
    const char *value; /* NULL: tombstone */
    size_t value_bytes;
    const struct job_header *headers; /* [header_count] */
    size_t header_count;
    void *tag; /* given back with the acknowledgement */
};

/* `acked` is called inside result_sink_poll/_flush once per sent record, in any order; error NULL: it is
 * stored. */

MUST_CHECK enum status result_sink_open(struct result_sink **out, const struct config *config,
                                        void (*acked)(void *context, void *tag, const struct error *error),
                                        void *context, struct error *err);
/* What is unsent is dropped: flush first. */
void result_sink_close(struct result_sink *sink);
/* Copies the record into the send queue. Statuses: OK, FULL (poll and try again), TOO_LARGE, others fatal. */
MUST_CHECK enum status result_sink_send(struct result_sink *sink, const struct sink_record *record,
                                        struct error *err);
/* Serves acknowledgements. Statuses: OK; FENCED, INTERNAL: the producer cannot go on. */
enum status result_sink_poll(struct result_sink *sink, int timeout_ms, struct error *err);
bool result_sink_flush(struct result_sink *sink, int timeout_ms); /* true: nothing is left unsent */
size_t result_sink_unsent(const struct result_sink *sink);
/* Cluster id and whether the topic exists; waits for the broker. */
MUST_CHECK enum status result_sink_check(struct result_sink *sink, int timeout_ms, char *cluster_id,
                                         size_t capacity, struct error *err);

#endif
