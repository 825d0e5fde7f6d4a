// SPDX-License-Identifier: Apache-2.0
// One job's answer while it grows: engine events become text, logprobs, streamed chunks and finally the
// result line. Owned by the emit thread. Everything here is a pure function of the job and its events, so
// a redelivered job gives the same bytes.
#ifndef WORKER_INFER_GENERATION_H
#define WORKER_INFER_GENERATION_H

#include "base/bytes.h"
#include "engine/text/tokenizer.h"
#include "worker/infer/engine_loop.h"
#include "worker/intake/job.h"
#include "worker/intake/job_parse.h"

struct generation;

struct generation_context { /* shared, immutable */
    const struct tokenizer *tokenizer;
    const char *system_fingerprint; /* text */
    size_t max_result_bytes;
};

MUST_CHECK enum status generation_open(struct generation **out, const struct generation_context *context,
                                       struct job *job /* taken */, struct error *err);
void generation_close(struct generation *generation); /* and its job */
const struct job *generation_job(const struct generation *generation);

/* Applies one report item. When `chunks` is not NULL, appends each streamed chunk as u32le length + JSON
 * text (chat.completion.chunk or text_completion); call with NULL to skip formatting (nobody subscribes). */
MUST_CHECK enum status generation_apply(struct generation *generation, const struct engine_report_item *item,
                                        struct bytes *chunks, struct error *err);
bool generation_done(const struct generation *generation); /* every choice of every prompt has FINISHED */

/* What is published; header values for Kafka. */
struct result {
    struct bytes value;        /* the OpenAI Batch output line, no newline */
    const char *status;        /* "completed" | "failed" | "cancelled" | "expired" */
    const char *finish_reason; /* of choice 0, "" when not executed */
    char digest[65]; /* hex SHA-256 over choices and usage without prompt_tokens_details; "" for errors */
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
    int64_t ttft_ns, e2e_ns, queue_ns; /* -1: unknown */
};

void result_release(struct result *result);
/* The result of a finished job. */
MUST_CHECK enum status generation_result(struct generation *generation, struct result *out,
                                         struct error *err);
/* An error line: response.status_code 4xx/5xx with an OpenAI error body. custom_id may be NULL (unreadable).
 */
MUST_CHECK enum status result_from_fault(struct result *out, const struct job_identity *identity,
                                         const struct job_fault *fault, struct error *err);
/* Not executed: "response":null,"error":{code,message}; code batch_expired | batch_cancelled | … */
MUST_CHECK enum status result_not_executed(struct result *out, const struct job_identity *identity,
                                           const char *code, const char *message, struct error *err);

#endif
