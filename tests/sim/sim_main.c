// SPDX-License-Identifier: Apache-2.0
// One seed: a producer, three workers and their readers, and everything that goes wrong. Invariants:
//   a job has at most one committed result, and in the end exactly one;
//   a result has the bytes of a worker that was left alone, unless the job was cancelled or late;
//   the committed offset and map never call a job answered that is not;
//   the committed progress of a partition's batch counts exactly its committed results and their tokens;
//   a job goes on behind exactly the tokens that are committed for it; an answered one has no checkpoint;
//   no job starts before its attempt is committed, so a crash is never forgotten;
//   a job that ends its workers is answered job_poisoned with its dead letter, after as many ends as allowed,
//   and no innocent job ever is; in the end every offset is at the log's end and nothing is reserved;
//   the engine's own invariants hold after each step; a worker that ends has no block, request or byte
//   reserved; what a reader put together without being told of a gap is the text of the answer; chunks are
//   numbered without holes and none follows the last of its attempt; a worker publishes one attempt at a
//   time; a cancelled job is out of the engine with the next step; no send waits for a reader; no CHECK
//   fails.
// usage: sim [--seeds N] [--first N] [--bug NAME] [--trace]     one seed again: --first N --seeds 1 --trace
//        sim --find-bugs [--seeds N]                            each planted bug is found within N seeds
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/monotime.h"
#include "tests/sim/sim.h"

enum { SEEN_FROM = 500, MOST_TURNS = 60000, CHECK_EVERY = 32, ATTEMPTS = 3, MANY_ATTEMPTS = 100 };

struct sim sim;
struct sim_seen sim_seen;
static struct sim_worker workers[SIM_WORKERS];
static const struct config *defaults;
static struct config config; /* a copy that seeds change */
static bool killing;         /* workers of this seed end for no fault of a job's */
static bool in_seed;
static jmp_buf out_of_seed;

static const char *const bug_names[BUGS] = {"none",
                                            "commit-early",
                                            "map-dropped",
                                            "lost-ignored",
                                            "past-unfinished",
                                            "start-unrecorded",
                                            "progress-forgotten",
                                            "checkpoint-kept",
                                            "checkpoint-wrong",
                                            "corrupt-taken",
                                            "fetch-lost",
                                            "cancel-lost",
                                            "freed-twice",
                                            "chunk-twice",
                                            "gap-hidden"};

/* ---- chance and time ---- */

uint64_t sim_random(uint64_t below)
{
    sim.random ^= sim.random << 13;
    sim.random ^= sim.random >> 7;
    sim.random ^= sim.random << 17;
    return sim.random % below;
}

bool sim_chance(unsigned per_million)
{
    return sim_random(1000000) < per_million;
}

void sim_violate(const char *format, ...)
{
    va_list args;
    if (sim.violation[0])
        return;
    va_start(args, format);
    vsnprintf(sim.violation, sizeof sim.violation, format, args);
    va_end(args);
}

int64_t sim_now_ms(void)
{
    return sim.now_ns / 1000000;
}

bool sim_broker_down(void)
{
    return sim.now_ns < sim.down_until_ns;
}

static int64_t virtual_ns(void *context)
{
    (void)context;
    return sim.now_ns;
}

static int64_t virtual_wall_ms(void *context)
{
    (void)context;
    return SIM_EPOCH_MS + sim_now_ms();
}

void sim_trace(const char *format, ...)
{
    va_list args;
    if (!sim.trace)
        return;
    va_start(args, format);
    printf("%8lld ms  ", (long long)sim_now_ms());
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

/* A CHECK of the product that fails is a violation like any other, with its seed. */
_Noreturn void check_failed(const char *expression, const char *file, int line)
{
    if (!in_seed) {
        fprintf(stderr, "CHECK(%s) failed at %s:%d\n", expression, file, line);
        abort();
    }
    sim_violate("CHECK(%s) failed at %s:%d", expression, file, line);
    longjmp(out_of_seed, 1);
}

/* ---- what goes wrong ---- */

static void hurt(struct sim_worker *worker)
{
    if (!worker->intake || worker->rolling)
        return;
    if (sim_chance(sim.faults.kill)) {
        worker->crashed = true;
    } else if (sim_chance(sim.faults.stall)) {
        worker->stalled_until_ms = sim_now_ms() + 500 + (int64_t)sim_random(4000);
    } else if (sim_chance(sim.faults.redis_slow)) {
        worker->tier_slow_until_ms = sim_now_ms() + (int64_t)sim_random(400);
    } else if (sim_chance(sim.faults.roll)) {
        worker->rolling = true;
        worker->shared.draining = true;
        worker->shared.hurry = sim_random(6) == 0;
        worker->shared.grace_over = sim_random(3) != 0;
    }
}

static void cancel_one(int produced)
{
    int index = produced ? (int)sim_random((uint64_t)produced) : 0;
    struct sim_job *job = &sim.jobs[index];
    if (!produced || job->poison || sim.cancel_count == SIM_MOST_CANCELS || !sim_chance(sim.faults.cancel))
        return;
    int at = sim.cancel_count++;
    job->cancelled = true;
    sim_trace("producer: cancels %s", job->name);
    snprintf(sim.cancels[at].value, sizeof sim.cancels[at].value,
             "{\"batch_id\":\"night\",\"custom_id\":\"j%d\"}", index);
    sim.cancels[at].at_ms = SIM_EPOCH_MS + sim_now_ms();
}

static void set_body(int index, int body)
{
    struct sim_job *job = &sim.jobs[index];
    job->body = body;
    snprintf(job->value, sizeof job->value,
             "{\"custom_id\":\"j%d\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{%s}}", index,
             sim_body(body)->json);
}

static unsigned draw(unsigned choices, unsigned step)
{
    return (unsigned)sim_random(choices) * step;
}

static void draw_faults(void)
{
    const bool poison = sim.seed % 4 == 0;
    sim.faults = (struct sim_faults){.abort = draw(3, 100000),
                                     .roll = draw(3, 800),
                                     .outage = draw(2, 400),
                                     .cancel = draw(3, 20000),
                                     .slow_stage = draw(4, 100000),
                                     .redis_outage = draw(3, 1000),
                                     .redis_lose = draw(3, 20000),
                                     .redis_corrupt = draw(3, 50000),
                                     .redis_break = draw(3, 20000),
                                     .redis_full = draw(2, 5000),
                                     .redis_empty = draw(3, 1000),
                                     .redis_slow = draw(3, 5000),
                                     .reader_stall = draw(3, 3000),
                                     .reader_cut = draw(3, 2000),
                                     .reader_restart = draw(3, 1000),
                                     .chunk_lost = draw(3, 10000)};
    if (!poison) {
        sim.faults.crash_before = draw(3, 4000);
        sim.faults.crash_after = draw(3, 4000);
        sim.faults.kill = draw(3, 600);
        sim.faults.stall = draw(3, 600);
    } else if (sim.faults.roll > 0) {
        sim.faults.outage = 0; /* who leaves while Kafka is away cannot say farewell: that counts as an end */
    }
    killing = sim.faults.kill + sim.faults.stall + sim.faults.crash_before + sim.faults.crash_after > 0;
    for (uint64_t i = 0, count = poison ? 1 + sim_random(3) : 0; i < count; i++) {
        int index = (int)sim_random((uint64_t)sim.job_count);
        sim.jobs[index].poison = true;
        set_body(index, sim.jobs[index].body | 1); /* one that is not over before it does harm */
    }
    config.limits.max_attempts = poison ? ATTEMPTS : MANY_ATTEMPTS;
    config.limits.max_inflight_jobs = 8 + (int64_t)sim_random(40);
}

/* Small enough that blocks, seats and the bounds of queues are fought for. */
static void draw_worker(struct sim_worker *worker, int number)
{
    *worker = (struct sim_worker){.config = config};
    snprintf(worker->name, sizeof worker->name, "w%d", number);
    snprintf(worker->live, sizeof worker->live, "inproc://live-%d", number);
    snprintf(worker->replay, sizeof worker->replay, "inproc://replay-%d", number);
    worker->config.stream.bind = worker->live;
    worker->config.stream.replay_bind = worker->replay;
    worker->config.stream.high_water_mark = 8 + (int64_t)sim_random(100);
    worker->config.stream.replay_bytes = 4096 << sim_random(6);
    worker->tier_enabled = sim_random(4) != 0;
    worker->host_blocks = sim_random(2) ? 0 : 1 + sim_random(16);
    worker->engine_options =
        (struct engine_options){.block_tokens = SIM_BLOCK_TOKENS,
                                .kv_blocks = 14 + (int32_t)sim_random(20),
                                .max_sequences = 2 + (int32_t)sim_random(SIM_MOST_SEQUENCES - 1),
                                .max_batch_tokens = 16 + (int32_t)sim_random(SIM_MOST_BATCH_TOKENS - 15),
                                .max_chunk_tokens = 1 + (int32_t)sim_random(64),
                                .max_waiting = 2 + (int32_t)sim_random(30),
                                .prefix_cache = sim_random(8) != 0,
                                .step_target_ns = sim_random(2) ? 0 : 8000000,
                                .speculative_tokens = sim_random(2) ? 0 : 1 + (int32_t)sim_random(8),
                                .force_preempt_every = sim_random(2) ? 0 : 3 + (int32_t)sim_random(20)};
}

static void make_jobs(void)
{
    sim.job_count = 10 + (int)sim_random(SIM_MOST_JOBS / 2);
    for (int i = 0; i < sim.job_count; i++) {
        struct sim_job *job = &sim.jobs[i];
        *job = (struct sim_job){.partition = (int)sim_random(SIM_PARTITIONS)};
        snprintf(job->name, sizeof job->name, "j%d", i);
        set_body(i, (int)sim_random(SIM_BODIES));
        if (sim_random(3) == 0)
            snprintf(job->priority, sizeof job->priority, "%d", (int)sim_random(5) - 2);
    }
}

/* A job reaches the log; now and then a transaction marker takes an offset. */
static void produce(int index)
{
    struct sim_job *job = &sim.jobs[index];
    struct sim_partition *partition = &sim.partitions[job->partition];
    job->offset = partition->end + (sim_random(5) == 0);
    partition->end = job->offset + 1;
    partition->jobs[partition->count++] = index;
    if (sim.faults.cancel && !job->poison && sim_random(10) == 0) {
        job->deadline_ms = SIM_EPOCH_MS + sim_now_ms() + (int64_t)sim_random(1500);
        snprintf(job->deadline, sizeof job->deadline, "%lld", (long long)job->deadline_ms);
    }
}

/* ---- invariants ---- */

static void check_commits(int produced)
{
    for (int i = 0; i < produced; i++) {
        unsigned attempts;
        const struct sim_job *job = &sim.jobs[i];
        if (job->answers == 0 && sim.partitions[job->partition].committed >= 0 &&
            sim_committed_says_answered(job, &attempts))
            sim_violate("%s (partition %d, offset %lld) is committed as answered and has no result",
                        job->name, job->partition, (long long)job->offset);
    }
}

static void check_end(void)
{
    for (int i = 0; i < sim.job_count; i++) {
        const struct sim_job *job = &sim.jobs[i];
        bool poisoned = job->poison && !killing;
        if (job->checkpoint[0])
            sim_violate("%s is over and its checkpoint is not", job->name);
        else if (job->answers != 1)
            sim_violate("%s has %d results in the end", job->name, job->answers);
        else if (job->poisoned != poisoned)
            sim_violate("%s is %s and was %s", job->name, job->poison ? "poison" : "innocent",
                        job->poisoned ? "set aside" : "answered");
        else if (poisoned && job->crashes > ATTEMPTS)
            sim_violate("%s ended %d workers", job->name, job->crashes);
    }
    for (int p = 0; p < SIM_PARTITIONS; p++) {
        const struct sim_partition *partition = &sim.partitions[p];
        if (partition->count && partition->committed != partition->end)
            sim_violate("partition %d ends at %lld and is committed to %lld", p, (long long)partition->end,
                        (long long)partition->committed);
        else if (partition->metadata[0])
            sim_violate("partition %d ends with the map \"%s\"", p, partition->metadata);
    }
}

/* ---- a seed ---- */

static int answered(void)
{
    int count = 0;
    for (int i = 0; i < sim.job_count; i++)
        count += sim.jobs[i].answers > 0;
    return count;
}

static void advance(void)
{
    sim.now_ns += (int64_t)(1 + sim_random(8)) * 1000000;
    sim_expel_silent();
    sim_redis_hurt();
    if (sim_chance(sim.faults.outage))
        sim.down_until_ns = sim.now_ns + (int64_t)sim_random(2000) * 1000000;
}

/* A reader waits for an answer: emit's thread goes on meanwhile. */
static void serve_replay(const char *address)
{
    for (int i = 0; i < SIM_WORKERS; i++)
        if (strcmp(workers[i].replay, address) == 0 && workers[i].intake && !workers[i].crashed &&
            sim_now_ms() >= workers[i].stalled_until_ms)
            emit_turn(workers[i].emit);
}

static void turn_all(void)
{
    advance();
    for (int i = 0; i < SIM_WORKERS && !sim.violation[0]; i++) {
        hurt(&workers[i]);
        sim_worker_turn(&workers[i]);
    }
    if (!sim.violation[0])
        sim_readers_turn();
}

static void drain_all(void)
{
    sim.faults = (struct sim_faults){.abort = sim.faults.abort};
    for (int left = SIM_WORKERS, turns = 0; left > 0 && turns < MOST_TURNS && !sim.violation[0]; turns++) {
        left = 0;
        for (int i = 0; i < SIM_WORKERS; i++) {
            workers[i].start_ms = INT64_MAX;
            workers[i].shared.draining = true;
            left += workers[i].intake != NULL;
        }
        turn_all();
    }
}

static void begin_seed(uint64_t seed, enum sim_bug bug)
{
    sim = (struct sim){.seed = seed,
                       .random = seed * 0x9E3779B97F4A7C15u + 1,
                       .now_ns = 1000000000,
                       .bug = bug,
                       .trace = sim.trace,
                       .reader = sim.reader};
    for (int i = 0; i < 8; i++)
        sim_random(2);
    for (int p = 0; p < SIM_PARTITIONS; p++)
        sim.partitions[p] = (struct sim_partition){.committed = -1, .owner = -1, .target = -1};
    make_jobs();
    draw_faults();
    for (int i = 0; i < SIM_WORKERS; i++)
        draw_worker(&workers[i], i);
    sim_readers_open(workers);
}

static void play(void)
{
    int produced = 0, turns = 0;
    for (; answered() < sim.job_count && turns < MOST_TURNS && !sim.violation[0]; turns++) {
        while (produced < sim.job_count && sim_random(3))
            produce(produced++);
        cancel_one(produced);
        turn_all();
        if (turns % CHECK_EVERY == 0)
            check_commits(produced);
        if (sim.member_count > SIM_MOST_MEMBERS - 20)
            sim.faults.kill = sim.faults.crash_before = sim.faults.crash_after = sim.faults.roll = 0;
    }
    check_commits(produced);
    if (turns == MOST_TURNS)
        sim_violate("%d of %d jobs answered, and nothing moves", answered(), sim.job_count);
    drain_all();
    if (!sim.violation[0])
        check_end();
}

/* After a violation nothing is cleared away: the process ends with it. */
static bool run_seed(uint64_t seed, enum sim_bug bug)
{
    begin_seed(seed, bug);
    in_seed = true;
    if (setjmp(out_of_seed) == 0)
        play();
    in_seed = false;
    if (sim.violation[0])
        return false;
    for (int i = 0; i < SIM_WORKERS; i++)
        CHECK(!workers[i].intake);
    sim_readers_close();
    sim_redis_clear();
    return true;
}

static enum sim_bug bug_of(const char *name)
{
    for (int i = 0; i < BUGS; i++)
        if (strcmp(name, bug_names[i]) == 0)
            return (enum sim_bug)i;
    fprintf(stderr, "no such bug: %s\n", name);
    exit(64);
}

/* True: no seed found anything. */
static bool run_seeds(uint64_t first, uint64_t count, enum sim_bug bug)
{
    for (uint64_t seed = first; seed < first + count; seed++)
        if (!run_seed(seed, bug)) {
            printf("seed %llu: %s\n", (unsigned long long)seed, sim.violation);
            return false;
        }
    return true;
}

/* Every planted bug must be found within `count` seeds, each by a process of its own. */
static int find_bugs(uint64_t count)
{
    int unseen = 0;
    for (int bug = BUG_NONE + 1; bug < BUGS; bug++) {
        int status = 0;
        printf("%s: ", bug_names[bug]);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            bool found = !run_seeds(1, count, (enum sim_bug)bug);
            fflush(stdout);
            _exit(found);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
            continue;
        printf("not found in %llu seeds\n", (unsigned long long)count);
        unseen++;
    }
    return unseen;
}

/* False: something of it never happened, in so many seeds. */
static bool print_seen(bool all)
{
    bool complete = true;
#define PRINT_SEEN(name)                                             \
    printf("  %s %llu\n", #name, (unsigned long long)sim_seen.name); \
    complete = complete && sim_seen.name > 0;
    SIM_SEEN(PRINT_SEEN)
#undef PRINT_SEEN
    if (all && !complete)
        printf("what is 0 was not simulated\n");
    return complete || !all;
}

static void open_all(void)
{
    static const struct monotime_source source = {virtual_ns, virtual_wall_ms, NULL};
    struct error err;
    mallopt(M_MMAP_THRESHOLD, 1 << 17);  /* large tables of which little is used come as untouched pages */
    log_set_level((enum log_level) - 1); /* what goes wrong here is meant to */
    CHECK(config_open(&defaults, &(struct config_source){.ignore_environment = true}, &err) == STATUS_OK);
    config = *defaults;
    CHECK(offset_ledger_open(&sim.reader, (size_t)config.limits.max_partition_window, &err) == STATUS_OK);
    monotime_replace(&source);
    sim_zmq_wait = serve_replay;
    sim_parse.config = &config;
    sim_model_open();
}

int main(int argc, char **argv)
{
    uint64_t first = 1, seeds = 1000;
    enum sim_bug bug = BUG_NONE;
    bool find = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--find-bugs") == 0)
            find = true;
        else if (strcmp(argv[i], "--trace") == 0)
            sim.trace = true;
        else if (i + 1 == argc)
            return 64;
        else if (strcmp(argv[i], "--seeds") == 0)
            seeds = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--first") == 0)
            first = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--bug") == 0)
            bug = bug_of(argv[++i]);
    }
    open_all();
    int failed = find ? find_bugs(seeds) : !run_seeds(first, seeds, bug);
    if (!failed && !find)
        printf("%llu seeds from %llu, no violation\n", (unsigned long long)seeds, (unsigned long long)first);
    if (!failed && !find && bug == BUG_NONE)
        failed = !print_seen(seeds >= SEEN_FROM);
    offset_ledger_close(sim.reader);
    sim_model_close();
    config_close(defaults);
    return failed ? 1 : 0;
}
