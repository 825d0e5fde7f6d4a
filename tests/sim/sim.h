// SPDX-License-Identifier: Apache-2.0
// The simulation: the whole worker (intake, engine loop with a real engine, KV bridge and tier, emit, token
// stream) in one thread on a virtual clock, three of them against a Kafka, a Redis and a ZeroMQ in memory,
// with faults drawn from a seed. What is real and what is not: docs/sim.md.
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include "engine/engine.h"
#include "kvtier/host_store.h"
#include "kvtier/kvtier.h"
#include "worker/emit/emit.h"
#include "worker/infer/kv_bridge.h"
#include "worker/intake/intake.h"
#include "worker/intake/job_parse.h"
#include "worker/intake/offset_ledger.h"

enum {
    SIM_PARTITIONS = 3,
    SIM_MOST_JOBS = 120,
    SIM_MOST_MEMBERS = 400, /* of one seed: every start is a new one */
    SIM_MOST_CANCELS = 32,
    SIM_WORKERS = 3,
    SIM_SESSION_MS = 1500,
    SIM_BODIES = 48,
    SIM_CHOICES = 2,
    SIM_TEXT_BYTES = 512,
    SIM_BLOCK_TOKENS = 16,
    SIM_MOST_BATCH_TOKENS = 96,
    SIM_MOST_SEQUENCES = 8,
    SIM_MOST_DUE = 8,
    SIM_MOST_STOPPING = 32,
    SIM_MOST_STREAMS = 16
};
#define SIM_EPOCH_MS 1700000000000 /* wall time of the virtual clock's zero */

enum sim_bug { /* planted on demand, to see that each is found */
               BUG_NONE,
               BUG_COMMIT_EARLY,       /* offsets are committed although the results were not acknowledged */
               BUG_MAP_DROPPED,        /* the committed metadata is not given to the next owner */
               BUG_LOST_IGNORED,       /* a member that the group has expelled may still commit */
               BUG_PAST_UNFINISHED,    /* the committed offset passes an unfinished job */
               BUG_START_UNRECORDED,   /* a job starts before its attempt is on record */
               BUG_PROGRESS_FORGOTTEN, /* the next owner counts from nothing */
               BUG_CHECKPOINT_KEPT,    /* a checkpoint outlives its job */
               BUG_CHECKPOINT_WRONG,   /* a checkpoint's last token is another */
               BUG_CORRUPT_TAKEN,      /* what Redis returns is not verified */
               BUG_FETCH_LOST,         /* a fetch does not come back, and its reservation stays */
               BUG_CANCEL_LOST,        /* the engine does not hear of a cancellation */
               BUG_FREED_TWICE,        /* a block is released once more than it was taken */
               BUG_CHUNK_TWICE,        /* a chunk is published under two numbers */
               BUG_GAP_HIDDEN,         /* what a reader missed is not asked for, and not said */
               BUGS
};

struct sim_body { /* of a job, and what a worker that has nothing else to do answers to it */
    char json[1024];
    char digest[65];
    char *choices; /* the bytes of the line */
    char text[SIM_CHOICES][SIM_TEXT_BYTES];
    long prompt_tokens, completion_tokens;
};

struct sim_job {
    char name[16], value[1200]; /* custom_id, and the record's value */
    int body, partition;
    int64_t offset;
    bool poison;
    char priority[8], deadline[24]; /* headers; "": none */
    int64_t deadline_ms;
    bool cancelled;
    int answers, poisoned, dead_letters, crashes;
    bool completed;
    char checkpoint[768]; /* committed; "": none */
    struct sim_stream {   /* what was published of it: two workers may run it until one knows better */
        uint64_t epoch, next;
        uint32_t attempt;
        bool begun, ended;
    } streams[SIM_MOST_STREAMS]; /* the latest */
    int stream_turn;
};

struct sim_partition {
    int jobs[SIM_MOST_JOBS]; /* in offset order */
    int count;
    int64_t end;       /* of the log */
    int64_t committed; /* -1: never */
    char metadata[OFFSET_MAP_MAX_BYTES];
    char progress[1024];              /* of its batch, as committed; "": none */
    int results;                      /* committed for its jobs */
    long input_tokens, output_tokens; /* as the committed lines say */
    int owner, target;                /* members, -1: none */
};

struct sim_member { /* what the group knows of a started worker */
    bool used, in_group, dead;
    bool has[SIM_PARTITIONS];
    int64_t position[SIM_PARTITIONS];
    int64_t seen_ms; /* its last poll */
    int cancels_read;
    int unaware;   /* polls until an expelled one hears of it: its commits are refused meanwhile */
    bool *crashed; /* the process ends, set by a fault in the middle of a call */
};

struct sim_faults { /* per million */
    unsigned abort, crash_before, crash_after, kill, stall, outage, roll, cancel;
    unsigned slow_stage; /* one stage of a worker sits a turn out */
    unsigned redis_outage, redis_lose, redis_corrupt, redis_break, redis_full, redis_empty, redis_slow;
    unsigned reader_stall, reader_cut, reader_restart, chunk_lost;
};

struct sim {
    uint64_t seed, random;
    int64_t now_ns;
    enum sim_bug bug;
    bool trace;
    struct sim_faults faults;
    struct sim_partition partitions[SIM_PARTITIONS];
    struct sim_job jobs[SIM_MOST_JOBS];
    int job_count;
    struct sim_member members[SIM_MOST_MEMBERS];
    int member_count, joining; /* joining: the member of the worker being opened */
    struct {
        char value[64];
        int64_t at_ms;
    } cancels[SIM_MOST_CANCELS]; /* the control topic */
    int cancel_count;
    int64_t down_until_ns; /* the broker answers nobody */
    bool deaf;             /* a dead worker is being cleared away: nothing of it reaches the world */
    char violation[256];   /* the first one; "": none */
    struct offset_ledger *reader;
};

extern struct sim sim; /* the seed under way */

/* What all seeds together have come to: a simulation in which nothing is preempted finds nothing there. */
#define SIM_SEEN_KAFKA(X) X(starts) X(deaths) X(drains) X(aborts) X(expelled_commits)
#define SIM_SEEN_JOBS(X) X(completed) X(cancelled) X(expired) X(poisoned) X(resumed)
#define SIM_SEEN_ENGINE(X) X(steps) X(preemptions) X(prefix_hits) X(host_promoted)
#define SIM_SEEN_TIER(X) X(tier_loaded) X(tier_corrupt) X(tier_timeouts) X(leases_elsewhere)
#define SIM_SEEN_STREAM(X) X(chunks) X(whole_texts) X(replays) X(gaps_told)
#define SIM_SEEN(X) SIM_SEEN_KAFKA(X) SIM_SEEN_JOBS(X) SIM_SEEN_ENGINE(X) SIM_SEEN_TIER(X) SIM_SEEN_STREAM(X)
#define SIM_SEEN_FIELD(name) uint64_t name;
extern struct sim_seen {
    SIM_SEEN(SIM_SEEN_FIELD)
} sim_seen;

/* sim_main.c */
uint64_t sim_random(uint64_t below);
bool sim_chance(unsigned per_million);
void sim_violate(const char *format, ...) PRINTF_LIKE(1, 2);
void sim_trace(const char *format, ...) PRINTF_LIKE(1, 2);
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

/* sim_model.c: one tiny model of random weights, the bodies of jobs, and their answers. */
void sim_model_open(void);
void sim_model_close(void);
struct sim_body *sim_body(int index);
struct json;
void sim_add_text(char text[SIM_TEXT_BYTES], const struct json *node); /* U+0000 as 0 */
struct engine *sim_engine_open(const struct engine_options *options);  /* model and tokenizer are filled in */
extern struct job_parse_context sim_parse;
extern struct generation_context sim_generation;

/* sim_worker.c: one worker, its stages turned one after the other. */
struct sim_worker {
    int member;
    char name[16], live[32], replay[32];
    struct config config;
    struct engine_options engine_options;
    size_t host_blocks; /* 0: no host memory */
    bool tier_enabled;
    struct pipeline_shared shared;
    struct metrics metrics;
    struct engine *engine;
    struct channel *engine_in, *loaded;
    struct kvtier *tier;
    struct host_store *host;
    struct kv_bridge *bridge;
    struct engine_loop *loop;
    struct emit *emit;
    struct intake *intake; /* NULL: not started */
    bool crashed, rolling;
    int64_t start_ms, stalled_until_ms, tier_slow_until_ms;
    struct { /* poison that runs: the worker ends when its turns are over */
        uint64_t handle;
        struct sim_job *job;
        int turns;
    } due[SIM_MOST_DUE];
    struct { /* cancelled, and perhaps in the engine still */
        uint64_t handle;
        int turns;
    } stopping[SIM_MOST_STOPPING];
};
void sim_worker_turn(struct sim_worker *worker);
void sim_worker_end(struct sim_worker *worker); /* in good order, or cleared away after a crash */
/* The stages behind the intake alone, for the answers that others are compared with. */
void sim_stages_open(struct sim_worker *worker);
void sim_stages_close(struct sim_worker *worker);

/* sim_redis.c */
struct tier_store *sim_redis_open(void);
void sim_redis_clear(void);
void sim_redis_hurt(void); /* once per turn: outages, losses */

/* sim_zmq.c: sockets. What waits for an answer lets `sim_zmq_wait` run others meanwhile. */
void sim_zmq_turn(void);                          /* broken links are made again */
void sim_zmq_cut(const char *address);            /* and what was on its way is lost */
extern void (*sim_zmq_wait)(const char *address); /* whoever is bound there gets a turn */

/* sim_reader.c: one reader of tokens per worker, the product's stream client. */
void sim_readers_open(const struct sim_worker *workers);
void sim_readers_close(void);
void sim_readers_turn(void);
void sim_stream_published(const char *topic, size_t topic_bytes, uint64_t seq, uint64_t epoch,
                          uint32_t attempt, uint32_t flags);

#endif
