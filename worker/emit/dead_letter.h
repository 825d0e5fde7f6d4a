// SPDX-License-Identifier: Apache-2.0
// A dead letter: the job record as it came (key, value, headers) with the error headers of Kafka Connect
// (KIP-298) behind, as text. Without the job's answer it is never sent: both go in one transaction.
#ifndef WORKER_EMIT_DEAD_LETTER_H
#define WORKER_EMIT_DEAD_LETTER_H

#include "worker/emit/finished_result.h"

struct dead_letter_source {
    const struct config *config;
    const char *worker_id;
    const char *stage;     /* "run" */
    const char *exception; /* name of the kind: "job_poisoned" */
    const char *message;
};

/* NULL: kafka.dlt_topic is empty, none are kept. Never NULL for want of memory (the process ends). */
struct finished_result *dead_letter_new(const struct dead_letter_source *source,
                                        const struct job_record *record);
/* Is this header one of ours, not the job's? */
bool dead_letter_owns(const char *header_name);

#endif
