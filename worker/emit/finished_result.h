// SPDX-License-Identifier: Apache-2.0
// A result on its way to the broker, kept until the broker has it: a deep copy of the record, so that it can
// be sent again. At least once it stays with emit; exactly once it goes to intake, which puts it into a
// transaction.
#ifndef WORKER_EMIT_FINISHED_RESULT_H
#define WORKER_EMIT_FINISHED_RESULT_H

#include "worker/emit/result_sink.h"
#include "worker/intake/job_parse.h"

struct finished_result {
    uint64_t job_handle;
    int status;            /* enum metrics_result */
    const void *partition; /* intake's mark of where the job came from */
    struct job_identity identity;
    struct sink_record record;    /* points into this allocation; its tag is this result */
    bool too_large;               /* the broker refused its size */
    struct finished_result *next; /* in its owner's list */
};

/* Deep copy; NULL: no memory. */
struct finished_result *finished_result_new(uint64_t job_handle, const struct sink_record *record);
void finished_result_free(struct finished_result *finished);
/* The broker's own limit is below results.max_bytes: the same job's answer as a line that fits. Takes
 * `finished`. */
struct finished_result *finished_result_shrink(struct finished_result *finished);

#endif
