// SPDX-License-Identifier: Apache-2.0
// What the stages of the worker hand to each other, and what they share. Channels carry owned messages:
//   intake -> engine: struct engine_command     engine -> emit: struct engine_report
//   intake -> emit:   struct emit_order         emit -> intake: struct emit_ack
#ifndef WORKER_PIPELINE_H
#define WORKER_PIPELINE_H

#include "base/channel.h"
#include "base/snapshot.h"
#include "worker/emit/finished_result.h"
#include "worker/infer/generation.h"
#include "worker/metrics.h"

enum emit_order_type {
    EMIT_ANSWER, /* publish this ready result */
    EMIT_REASON  /* the job is being cancelled: what to publish when its engine work has ended */
};

struct emit_order {
    enum emit_order_type type;
    uint64_t job_handle;
    struct result result;         /* ANSWER: owned */
    struct job_identity identity; /* ANSWER */
    struct job_record source;     /* ANSWER: topic and headers are not kept: NULL and none */
    char topic[256];              /* ANSWER: of the source */
    char *key;                    /* ANSWER: of the job record; owned, NULL for none */
    size_t key_bytes;
    uint32_t attempt;                    /* ANSWER */
    struct finished_result *dead_letter; /* ANSWER: owned, goes with it; NULL: none */
    enum status reason;                  /* REASON: EXPIRED, CANCELLED, or CLOSED (publish nothing) */
};

void emit_order_free(struct emit_order *order);

struct emit_ack { /* the broker has the job's result */
    uint64_t job_handle;
};

struct pipeline_shared { /* read by several stages; atomics where written while threads run */
    const struct config *config;
    const struct job_parse_context *parse;
    const struct generation_context *generation;
    struct metrics *metrics;
    struct channel *commands, *reports, *orders, *acks;
    struct channel *finished; /* exactly once, emit -> intake: struct finished_result; NULL: at least once */
    struct snapshot jobs;     /* JSON array of running jobs, written by emit while somebody looks */
    const char *worker_id;
    uint64_t epoch;
    _Atomic bool draining;              /* stop taking jobs */
    _Atomic bool grace_over;            /* give running jobs back, with checkpoints */
    _Atomic bool hurry;                 /* give them back as they are, at once */
    _Atomic bool connected;             /* a broker has answered */
    _Atomic int64_t intake_ms, emit_ms; /* last turn of each loop */
    _Atomic int failure;                /* enum status of a fatal fault, 0: none */
};

#endif
