// SPDX-License-Identifier: Apache-2.0
// What intake.c (taking, starting, the loop) and intake_commit.c (offsets and transactions) share. Private to
// them.
#ifndef WORKER_INTAKE_INTAKE_INTERNAL_H
#define WORKER_INTAKE_INTAKE_INTERNAL_H

#include <pthread.h>

#include "worker/emit/result_txn.h"
#include "worker/intake/batch_tally.h"
#include "worker/intake/checkpoints.h"
#include "worker/intake/flights.h"
#include "worker/intake/intake.h"
#include "worker/intake/job_source.h"
#include "worker/intake/offset_ledger.h"

enum {
    MAX_PARTITIONS = METRICS_MAX_PARTITIONS,
    MOST_IN_TXN = 1024,
    MOST_PER_JOB = 3, /* of them: dead letter, result, end of its checkpoint */
    TXN_RETRY_MS = 500,
    RESERVE_OFFSETS = 128 /* known records behind the newest taken that may start without another commit */
};

/* One job topic's part of what may be in flight, by its weight: a backlog on one never keeps another out. */
struct lane {
    const char *topic;
    size_t share, count; /* flights at most, and now */
    bool paused;
    int64_t committed_ms; /* when answers of it were committed last */
    int64_t answered_ms;  /* when the first answer since was taken; 0: there is none */
};

struct partition {
    bool used;
    struct lane *lane;
    char topic[256];
    int32_t number;
    struct offset_ledger *ledger;
    bool left;                 /* going away: nothing starts any more */
    int64_t sent_until;        /* reservation in the commit being made */
    int64_t safe_until;        /* jobs below may start: this reservation is committed */
    bool dirty;                /* answered something since the last commit */
    int commits_sent;          /* at least once: not answered yet, nobody waits for them */
    bool commits_crossed;      /* another commit was made meanwhile */
    struct batch_tally *tally; /* exactly once; else NULL */
    bool tallied;              /* what earlier owners counted is known: progress is written */
    struct metrics_partition *metrics;
};

struct intake {
    struct pipeline_shared *shared;
    pthread_t thread;
    struct job_source *source;
    struct partition partitions[MAX_PARTITIONS];
    int partition_end; /* used ones lie below */
    struct flights *flights;
    struct lane *lanes; /* [kafka.topics.count] */
    size_t max_flights;
    bool closing;
    struct control_reader *control;
    struct cancellations *cancellations;
    struct checkpoints *checkpoints;            /* of jobs that earlier owners gave back */
    struct result_txn *txn;                     /* exactly once; NULL: at least once */
    struct finished_result *ready[MOST_IN_TXN]; /* answered in the ledgers, not committed yet */
    size_t ready_count;
    uint32_t taken_away; /* partitions, so far: what comes back of them is another attempt to readers */
    int64_t core_ns;     /* processor time when it was last shared out */
    int64_t next_tick_ms, retry_ms, next_start_ms, logged_ms;
};

/* intake_commit.c */
struct partition *intake_find_partition(struct intake *intake, const char *topic,
                                        int32_t number); /* NULL: not ours */
struct partition *intake_partition_of(struct intake *intake, const struct flight *flight);
void intake_remove_flight(struct intake *intake, struct flight *flight);
/* The flight has its answer: it waits for a commit, and has left the flights. */
void intake_note_answer(struct intake *intake, struct flight *flight);
/* Results and offsets, or offsets alone, of all partitions or of one. False: it has to be made again. */
bool intake_commit(struct intake *intake, const struct partition *only, bool wait);
void intake_take_commit_answer(void *context, const struct job_source_partition *answered, bool failed);
/* Exactly once: results that emit has finished become part of the next transaction. */
void intake_take_finished(struct intake *intake);
void intake_drop_ready(struct intake *intake, bool committed);
/* The partition's uncommitted results go with it: whoever has it now answers those jobs. */
void intake_drop_results_of(struct intake *intake, const struct partition *partition);

/* intake.c: the job did not fail here: its attempt is not held against it. */
void intake_forgive(struct intake *intake, struct flight *flight);
/* Says it; a fault that does not heal by itself ends the worker. */
void intake_take_fault(struct intake *intake, const struct error *err);

#endif
