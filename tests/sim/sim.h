// SPDX-License-Identifier: Apache-2.0
// The simulation: the worker's real intake (flights, ledgers, commits, poison) against a Kafka that keeps
// transactions, groups and generations in memory, in one thread, on a virtual clock, with faults drawn from a
// seed.
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include "worker/intake/intake.h"
#include "worker/intake/offset_ledger.h"

enum {
    SIM_PARTITIONS = 3,
    SIM_MOST_JOBS = 200,
    SIM_MOST_MEMBERS = 400, /* of one seed: every start is a new one */
    SIM_WORKERS = 3,
    SIM_SESSION_MS = 1500
};

enum sim_bug { /* planted on demand, to see that each is found */
               BUG_NONE,
               BUG_COMMIT_EARLY,       /* offsets are committed although the results were not acknowledged */
               BUG_MAP_DROPPED,        /* the committed metadata is not given to the next owner */
               BUG_LOST_IGNORED,       /* a member that the group has expelled may still commit */
               BUG_PAST_UNFINISHED,    /* the committed offset passes an unfinished job */
               BUG_START_UNRECORDED,   /* a job starts before its attempt is on record */
               BUG_PROGRESS_FORGOTTEN, /* the next owner counts from nothing */
               BUG_CHECKPOINT_KEPT,    /* a checkpoint outlives its job */
               BUGS
};

struct sim_job {
    char name[16], value[40]; /* custom_id, and the record's value */
    int partition;
    int64_t offset;
    bool poison;
    int answers, poisoned, dead_letters, crashes;
    char checkpoint[512]; /* committed; "": none */
};

struct sim_partition {
    int jobs[SIM_MOST_JOBS]; /* in offset order */
    int count;
    int64_t end;       /* of the log */
    int64_t committed; /* -1: never */
    char metadata[OFFSET_MAP_MAX_BYTES];
    char progress[1024]; /* of its batch, as committed; "": none */
    int results;         /* committed for its jobs */
    int owner, target;   /* members, -1: none */
};

struct sim_member { /* what the group knows of a started worker */
    bool used, in_group, dead;
    bool has[SIM_PARTITIONS];
    int64_t position[SIM_PARTITIONS];
    int64_t seen_ms; /* its last poll */
    bool *crashed;   /* the process ends, set by a fault in the middle of a call */
};

struct sim_faults { /* per million */
    unsigned abort, crash_before, crash_after, kill, stall, outage, roll;
};

struct sim {
    uint64_t seed, random;
    int64_t now_ns;
    enum sim_bug bug;
    struct sim_faults faults;
    struct sim_partition partitions[SIM_PARTITIONS];
    struct sim_job jobs[SIM_MOST_JOBS];
    int job_count;
    struct sim_member members[SIM_MOST_MEMBERS];
    int member_count, joining; /* joining: the member of the worker being opened */
    int64_t down_until_ns;     /* the broker answers nobody */
    char violation[256];       /* the first one; "": none */
    struct offset_ledger *reader;
};

extern struct sim sim; /* the seed under way */

uint64_t sim_random(uint64_t below);
bool sim_chance(unsigned per_million);
void sim_violate(const char *format, ...) PRINTF_LIKE(1, 2);
int64_t sim_now_ms(void);
bool sim_broker_down(void);

/* sim_kafka.c */
int sim_join(bool *crashed); /* a new member, for the next job_source_open */
void sim_expel_silent(void); /* members that have not polled for the session's time */
void sim_rebalance(void);
struct sim_job *sim_find_job(const char *name, size_t bytes);
size_t sim_checkpoint_tokens(const struct sim_job *job); /* how many are committed */
/* What the committed offset and map say of a job: answered, or attempted how often. */
bool sim_committed_says_answered(const struct sim_job *job, unsigned *attempts);

#endif
