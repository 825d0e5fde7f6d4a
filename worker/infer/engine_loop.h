// SPDX-License-Identifier: Apache-2.0
// The engine thread: takes owned jobs from `in`, keeps the engine stepping, hands each step's events to
// `out` as one owned message. It never does I/O and never waits while the engine has work.
//   intake -> in: struct engine_command *      out -> emit: struct engine_report *
#ifndef WORKER_INFER_ENGINE_LOOP_H
#define WORKER_INFER_ENGINE_LOOP_H

#include "base/channel.h"
#include "engine/engine.h"
#include "worker/intake/job.h"

enum engine_command_type { ENGINE_COMMAND_JOB, ENGINE_COMMAND_CANCEL };

struct engine_command {
    enum engine_command_type type;
    struct job *job;             /* JOB: owned */
    uint64_t job_handle;         /* JOB: chosen by the sender, unique; CANCEL: which */
    enum status reason;          /* CANCEL: STATUS_CANCELLED, STATUS_EXPIRED, or STATUS_CLOSED: given back */
    struct engine_command *next; /* the loop's: jobs that wait for room */
};

/* A job's items: ACCEPTED first; then REFUSED, or tokens and one FINISHED per choice of each prompt. */
enum engine_report_item_type {
    REPORT_ACCEPTED,
    REPORT_REFUSED,
    REPORT_TOKEN,
    REPORT_PROMPT_TOKEN,
    REPORT_FINISHED
};

struct engine_report_item {
    enum engine_report_item_type type;
    uint64_t job_handle;
    struct job *job;           /* ACCEPTED: ownership passes to the receiver (emit) */
    uint32_t prompt_index;     /* which prompt of the job */
    struct engine_event event; /* TOKEN.. FINISHED; event.top points into the report */
    struct error error;        /* REFUSED; FINISHED(CANCELLED): its status is the command's reason */
    uint32_t tier_tokens;      /* FINISHED: prompt tokens whose blocks came from the KV tier */
    /* FINISHED because the job goes to another worker, which can resume it: what was generated of it; owned,
     * freed with the report. */
    int32_t *so_far;
    size_t so_far_count;
};

struct engine_report {
    struct engine_report_item *items;
    size_t count;
    struct engine_logprob *logprobs; /* storage of the items' top lists */
    int64_t step_end_ns;             /* monotonic */
};

void engine_report_free(struct engine_report *report); /* jobs inside are not freed */

struct engine_loop;
struct kv_bridge; /* worker/infer/kv_bridge.h */

struct engine_loop_options {
    struct engine *engine; /* owned by the loop's thread while it runs */
    struct channel *in, *out;
    struct kv_bridge *bridge;   /* NULL: no KV tier */
    struct snapshot *block_map; /* engine_block_map as JSON text, for whoever looks; NULL: nobody */
    size_t max_choices; /* choices of all jobs in the engine at once; at most engine_options.max_waiting */
};

MUST_CHECK enum status engine_loop_start(struct engine_loop **out, const struct engine_loop_options *options,
                                         struct error *err);
/* After channel_shut(in): finishes what is running, shuts `out`, joins. */
void engine_loop_join(struct engine_loop *loop);

/* The same without a thread, turn by turn, for the simulation (tests/sim): open, turns until false, which
 * shuts `out`, close. A turn waits for room in `out` only. */
MUST_CHECK enum status engine_loop_open(struct engine_loop **out, const struct engine_loop_options *options,
                                        struct error *err);
bool engine_loop_turn(struct engine_loop *loop);
/* Some of the job's requests are in the engine. */
bool engine_loop_runs(const struct engine_loop *loop, uint64_t job_handle);
void engine_loop_close(struct engine_loop *loop);

/* Monotonic time at which the present step began; 0: between steps. Any thread. */
int64_t engine_loop_step_began_ms(const struct engine_loop *loop);
/* Last copy of the engine's counters, any thread. */
void engine_loop_stats(struct engine_loop *loop, struct engine_stats *out);

#endif
