// SPDX-License-Identifier: Apache-2.0
// A validated job: what one OpenAI Batch line asks for, ready for the engine. Built on the intake thread by
// job_parse, read-only afterwards; owned by one stage at a time (intake -> engine -> emit), freed by emit.
#ifndef WORKER_INTAKE_JOB_H
#define WORKER_INTAKE_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"
#include "engine/sampling.h"

enum job_kind { JOB_CHAT, JOB_COMPLETION, JOB_SCORE };

struct job_header { /* one Kafka header; value may be NULL */
    const char *name;
    const char *value;
    size_t value_bytes;
};

/* Where the bytes came from. Borrowed by job_parse, copied into the job. */
struct job_record {
    const char *value; /* NULL: tombstone */
    size_t value_bytes;
    const char *key;
    size_t key_bytes;
    const struct job_header *headers;
    size_t header_count;
    const char *cluster_id; /* "" for files */
    const char *topic;      /* file path for `batch` */
    int32_t partition;
    int64_t offset;       /* line number for `batch` */
    int64_t timestamp_ms; /* record's; -1: none */
};

struct job_prompt {
    const int32_t *tokens; /* [count] */
    size_t count;
    const char *text; /* for echo; NULL when the prompt was given as ids */
};

struct job {
    struct arena arena; /* owns everything below */
    enum job_kind kind;
    const char *id;         /* "batch_req_<hash>" */
    const char *request_id; /* "req_<hash>" */
    const char *custom_id;
    const char *batch_id;     /* "" when none */
    const char *tenant;       /* "" when none */
    const char *model;        /* as the job named it, or the first served name */
    const char *reply_topic;  /* NULL: results_topic */
    const char *traceparent;  /* NULL: none */
    const char *warnings;     /* millrace-warnings text, NULL: none */
    struct job_record source; /* copied: value not kept */
    const struct job_prompt *prompts;
    size_t prompt_count;
    size_t resumed_tokens; /* behind the only prompt's tokens: what another worker generated of it */
    struct sampling_params sampling;  /* holds a reference to its constraint */
    const struct constraint *catalog; /* that constraint, when it is a catalogue; else NULL */
    bool prompt_logprobs;             /* report them; echo with logprobs computes them too */
    bool echo, stream_requested, stream_usage, return_token_ids, tokens_as_ids;
    bool score_softmax, score_mean; /* scoring: among the labels; per token */
    int32_t top_logprobs;           /* chat: what to print; -1: logprobs off */
    bool has_seed;                  /* the job gave one */
    int64_t priority;
    int64_t deadline_ms; /* epoch; 0: none */
    bool keep_partial;   /* at the deadline, answer with what there is */
    const char *salt;
    size_t salt_bytes;
    int64_t created_s;   /* the record's timestamp in seconds */
    int64_t received_ns; /* monotonic, for queue and end-to-end times */
    uint32_t attempt;
    uint32_t stream_attempt; /* to readers: higher each time that the job comes back to this worker */
};

void job_close(struct job *job);
/* Whether what was generated of it so far says where it stands: one plain choice. */
bool job_is_resumable(const struct job *job);
/* It goes on behind these. False: no memory, and nothing has changed. */
bool job_resume(struct job *job, const int32_t *tokens, size_t count);

#endif
