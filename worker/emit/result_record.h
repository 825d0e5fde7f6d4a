// SPDX-License-Identifier: Apache-2.0
// A result as a Kafka record: key, value and the headers of docs/formats/result.md. Emit thread.
#ifndef WORKER_EMIT_RESULT_RECORD_H
#define WORKER_EMIT_RESULT_RECORD_H

#include "worker/emit/result_sink.h"
#include "worker/pipeline.h"

enum { RESULT_RECORD_HEADERS = 96, RESULT_RECORD_TEXT_BYTES = 8192, RESULT_RECORD_COPIED_BYTES = 4096 };

struct result_record {
    struct sink_record record;
    struct job_header headers[RESULT_RECORD_HEADERS];
    char text[RESULT_RECORD_TEXT_BYTES]; /* storage of header values */
    size_t text_bytes;
};

struct result_record_source {
    const struct config *config;
    const char *worker_id;
    const struct result *result;
    const struct job_identity *identity; /* of an unreadable record; NULL with a job */
    const struct job *job;               /* NULL for an unreadable record */
    const struct job_record *record;     /* topic, partition, offset, timestamp, key, headers */
    uint32_t attempt;
};

/* Fills *out; everything it points to lives in *out or in the source. */
void result_record_fill(struct result_record *out, const struct result_record_source *source);

#endif
