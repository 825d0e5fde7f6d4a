// SPDX-License-Identifier: Apache-2.0
// What is published for a job: one OpenAI Batch output line and the values of its Kafka headers. Lines that
// carry no generation are made here: faults and jobs that were not executed.
#ifndef WORKER_INFER_RESULT_H
#define WORKER_INFER_RESULT_H

#include "base/bytes.h"
#include "worker/intake/job_parse.h"

struct result {
    struct bytes value;        /* the OpenAI Batch output line, no newline */
    const char *status;        /* "completed" | "failed" | "cancelled" | "expired" */
    const char *finish_reason; /* of choice 0, "" when not executed */
    char digest[65]; /* hex SHA-256 over choices and usage without prompt_tokens_details; "" for errors */
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
    uint64_t tier_tokens;              /* of the prompt, from the KV tier */
    int64_t ttft_ns, e2e_ns, queue_ns; /* -1: unknown */
};

void result_release(struct result *result);
/* An error line: response.status_code 4xx/5xx with an OpenAI error body; custom_id is null when unreadable.
 */
MUST_CHECK enum status result_from_fault(struct result *out, const struct job_identity *identity,
                                         const struct job_fault *fault, struct error *err);
/* Not executed: "response":null,"error":{code,message}; code batch_expired | batch_cancelled | … */
MUST_CHECK enum status result_not_executed(struct result *out, const struct job_identity *identity,
                                           const char *code, const char *message, struct error *err);
/* The identity of a job that parsed. */
void result_identity_of(struct job_identity *out, const struct job *job);
/* Before the body of a response: {"id":…,"custom_id":…,"response":{"status_code":…,"request_id":…,"body": */
void result_append_head(struct bytes *out, const struct job_identity *identity, int http_status);
/* Behind it. `code` NULL: "error":null. */
void result_append_tail(struct bytes *out, const char *code, const char *message);

#endif
