// SPDX-License-Identifier: Apache-2.0
// A result on its way to the broker, kept until the broker has it: a deep copy of the record, so that it can
// be sent again. At least once it stays with emit; exactly once it goes to intake, which puts it into a
// transaction. A dead letter travels the same way, ahead of the answer of its job.
#ifndef WORKER_EMIT_FINISHED_RESULT_H
#define WORKER_EMIT_FINISHED_RESULT_H

#include "worker/emit/result_sink.h"
#include "worker/intake/job_parse.h"

enum finished_kind {
    FINISHED_RESULT,
    FINISHED_DEAD_LETTER,
    FINISHED_GIVEN_BACK, /* no result: another worker goes on; the record is its checkpoint, or has no topic
                          */
    FINISHED_STATUS      /* a record of the status topic: progress, or a checkpoint's end */
};

struct finished_result {
    enum finished_kind kind;
    uint64_t job_handle;          /* 0: of no job that is in flight */
    int status;                   /* enum metrics_result */
    const void *partition;        /* intake's mark of where the job came from */
    struct job_identity identity; /* not of a dead letter */
    struct result_cost {
        uint64_t prompt_tokens, cached_tokens, completion_tokens;
    } cost;                     /* as the result line says */
    bool charged;               /* its processor time is counted */
    struct job_record *storage; /* owned: what `record` points to */
    struct sink_record record;  /* its tag is this result */
    bool too_large;             /* the broker refused its size */
    struct finished_result
        *after;                   /* a dead letter's answer: owned, sent once this is; NULL: no dead letter */
    struct finished_result *next; /* in its owner's list */
};

/* Deep copy; NULL: no memory. */
struct finished_result *finished_result_new(uint64_t job_handle, const struct sink_record *record);
void finished_result_free(struct finished_result *finished);
/* The broker's own limit is below results.max_bytes: the same job's answer as a line that fits, or the dead
 * letter without its value. Takes `finished`. */
struct finished_result *finished_result_shrink(struct finished_result *finished);

#endif
