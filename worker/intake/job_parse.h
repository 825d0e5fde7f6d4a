// SPDX-License-Identifier: Apache-2.0
// Bytes of one Kafka record (or one line of a file) -> struct job, or a fault in OpenAI's error shape. Runs
// on the intake thread (and in `submit`, which validates with this same parser). Bad input never stops
// anyone.
#ifndef WORKER_INTAKE_JOB_PARSE_H
#define WORKER_INTAKE_JOB_PARSE_H

#include "config/config.h"
#include "engine/model/hparams.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "worker/intake/job.h"

struct catalog_store;
struct grammar_store;

struct job_parse_context { /* immutable; shared */
    const struct config *config;
    const struct hparams *hparams;
    const struct tokenizer *tokenizer;
    const struct chat_template *chat_template; /* NULL: chat jobs are a 400 that says so */
    const char *const *served_names;           /* [served_count], >= 1 */
    size_t served_count;
    int32_t max_context_tokens;
    struct catalog_store *catalogs; /* NULL: none are configured; the one thread that parses uses it */
    struct grammar_store *grammars; /* likewise; NULL: structured output is refused */
};

struct job_fault {
    int http_status; /* 400, 404, 413 */
    char message[512];
    char type[48];  /* "invalid_request_error" */
    char param[64]; /* "" -> null */
    char code[48];  /* "" -> null */
};

/* What can be said of a record even when it is no job. Strings live in the identity. */
struct job_identity {
    char id[80]; /* "batch_req_…": cluster id, topic, partition, offset and SHA-256 of the value */
    char request_id[80];
    char custom_id[513]; /* "" when unreadable: then the result's custom_id is null */
    bool has_custom_id;
    char batch_id[257];
    int64_t created_s;
};

/* What to answer when a job that parsed could not run: 400 for a REJECT status, else 500. */
void job_fault_from_error(struct job_fault *fault, const struct error *err);

void job_identity_read(struct job_identity *out, const struct job_record *record);
/* Statuses: OK; REJECT class (fault filled: answer it and go on); NO_MEMORY. */
MUST_CHECK enum status job_parse(struct job **out, const struct job_parse_context *context,
                                 const struct job_record *record, struct job_fault *fault);

#endif
