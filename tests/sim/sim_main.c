// SPDX-License-Identifier: Apache-2.0
// One seed: producers, three workers whose engines are timers, and everything that goes wrong. Invariants:
//   a job has at most one committed result, and in the end exactly one;
//   the committed offset and map never call a job answered that is not;
//   the committed progress of a partition's batch counts exactly its committed results;
//   a job goes on behind exactly the tokens that are committed for it; an answered one has no checkpoint;
//   no job starts before its attempt is committed, so a crash is never forgotten;
//   a job that ends its workers is answered job_poisoned with its dead letter, after as many ends as allowed,
//   and no innocent job ever is; in the end every offset is at the log's end and nothing is reserved.
// usage: sim [--seeds N] [--first N] [--bug NAME [--find]]      one seed again: --first N --seeds 1
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/monotime.h"
#include "tests/sim/sim.h"
#include "worker/intake/checkpoints.h"

enum {
    MOST_TOKENS = 20,
    TOKEN_MS = 10,
    MOST_TURNS = 400000,
    MOST_RUNNING = 256,
    CHECK_EVERY = 64,
    ATTEMPTS = 3,
    MANY_ATTEMPTS = 100
};

struct running {
    uint64_t handle; /* 0: free */
    struct job *job;
    int64_t start_ms, done_ms;
};

struct worker {
    struct pipeline_shared shared;
    struct metrics metrics;
    struct intake *intake; /* NULL: not started */
    int member;
    bool crashed, rolling;
    int64_t start_ms, stalled_until_ms;
    struct running running[MOST_RUNNING];
};

struct sim sim;
static struct worker workers[SIM_WORKERS];
static struct config config;
static const struct generation_context generation = {.system_fingerprint = "sim"};

static const char *const bug_names[BUGS] = {"none",
                                            "commit-early",
                                            "map-dropped",
                                            "lost-ignored",
                                            "past-unfinished",
                                            "start-unrecorded",
                                            "progress-forgotten",
                                            "checkpoint-kept"};

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
    return 1700000000000 + sim_now_ms();
}

/* ---- the engine: a timer per job ---- */

static void check_start(const struct worker *worker, const struct job *job)
{
    unsigned attempts;
    const struct sim_job *known = sim_find_job(job->custom_id, strlen(job->custom_id));
    for (size_t i = 0; i < job->resumed_tokens; i++)
        if (job->prompts[0].tokens[1 + i] != (int32_t)i)
            sim_violate("%s goes on behind tokens that are not its own", known->name);
    if (!sim.members[worker->member].in_group)
        return; /* it does not know yet that others have its jobs */
    if (sim_committed_says_answered(known, &attempts))
        sim_violate("%s starts although it is answered", known->name);
    else if (attempts == 0)
        sim_violate("%s starts and no commit knows of it", known->name);
    else if (job->resumed_tokens != sim_checkpoint_tokens(known))
        sim_violate("%s goes on behind %zu tokens, and %zu are committed", known->name, job->resumed_tokens,
                    sim_checkpoint_tokens(known));
}

static void begin_job(struct worker *worker, struct engine_command *command)
{
    for (int i = 0; i < MOST_RUNNING; i++) {
        struct running *running = &worker->running[i];
        if (running->handle)
            continue;
        *running = (struct running){command->job_handle, command->job, sim_now_ms(),
                                    sim_now_ms() + 5 + (int64_t)sim_random(300)};
        check_start(worker, command->job);
        return;
    }
    CHECK(!"more jobs than may be in flight");
}

static void end_running(struct running *running)
{
    job_close(running->job);
    running->handle = 0;
}

/* As emit does it: the job comes back with what was generated of it, now and then with nothing. */
static void give_back(struct worker *worker, const struct running *running)
{
    int32_t tokens[MOST_TOKENS];
    const struct job *job = running->job;
    size_t count = job->resumed_tokens + (size_t)((sim_now_ms() - running->start_ms) / TOKEN_MS);
    count = count < MOST_TOKENS ? count : MOST_TOKENS;
    for (size_t i = 0; i < count; i++)
        tokens[i] = (int32_t)i;
    static const struct sink_record nothing;
    struct finished_result *back = count > 0
                                       ? checkpoint_new(running->handle, job, generation.system_fingerprint,
                                                        config.kafka.status_topic, tokens, count)
                                       : finished_result_new(running->handle, &nothing);
    CHECK(back != NULL);
    back->kind = FINISHED_GIVEN_BACK;
    CHECK(channel_try_send(worker->shared.finished, back));
}

static void cancel_job(struct worker *worker, uint64_t handle, enum status reason)
{
    for (int i = 0; i < MOST_RUNNING; i++)
        if (worker->running[i].handle == handle) {
            if (reason == STATUS_CLOSED)
                give_back(worker, &worker->running[i]);
            end_running(&worker->running[i]);
        }
}

static void take_commands(struct worker *worker)
{
    for (struct engine_command *command; (command = channel_receive(worker->shared.commands, 0));) {
        if (command->type == ENGINE_COMMAND_JOB)
            begin_job(worker, command);
        else
            cancel_job(worker, command->job_handle, command->reason);
        free(command);
    }
}

/* ---- emit: results become finished results ---- */

static struct finished_result *finish(uint64_t handle, const char *custom_id, const char *value)
{
    const struct sink_record record = {.topic = "millrace.results",
                                       .key = custom_id,
                                       .key_bytes = strlen(custom_id),
                                       .value = value,
                                       .value_bytes = strlen(value)};
    struct finished_result *finished = finished_result_new(handle, &record);
    CHECK(finished != NULL);
    snprintf(finished->identity.batch_id, sizeof finished->identity.batch_id, "night");
    return finished;
}

static void take_orders(struct worker *worker)
{
    for (struct emit_order *order; (order = channel_receive(worker->shared.orders, 0));) {
        if (order->type == EMIT_ANSWER) {
            struct finished_result *finished =
                finish(order->job_handle, order->identity.custom_id, order->result.value.data);
            struct finished_result *dead = order->dead_letter;
            order->dead_letter = NULL;
            if (dead)
                dead->after = finished;
            CHECK(channel_try_send(worker->shared.finished, dead ? dead : finished));
        }
        emit_order_free(order);
    }
}

static void finish_jobs(struct worker *worker)
{
    for (int i = 0; i < MOST_RUNNING && !worker->crashed; i++) {
        struct running *running = &worker->running[i];
        if (running->handle == 0 || running->done_ms > sim_now_ms())
            continue;
        struct sim_job *job = sim_find_job(running->job->custom_id, strlen(running->job->custom_id));
        if (job->poison) {
            job->crashes++;
            worker->crashed = true;
            return;
        }
        CHECK(channel_try_send(worker->shared.finished, finish(running->handle, job->name, "{}")));
        end_running(running);
    }
}

/* ---- a worker's life ---- */

static void start_worker(struct worker *worker)
{
    struct error err;
    memset(worker, 0, sizeof *worker);
    worker->shared.config = &config;
    worker->shared.metrics = &worker->metrics;
    worker->shared.worker_id = "sim";
    worker->shared.generation = &generation;
    CHECK(channel_open(&worker->shared.commands, 4096, &err) == STATUS_OK);
    CHECK(channel_open(&worker->shared.orders, 4096, &err) == STATUS_OK);
    CHECK(channel_open(&worker->shared.acks, 16, &err) == STATUS_OK);
    CHECK(channel_open(&worker->shared.finished, 4096, &err) == STATUS_OK);
    worker->member = sim_join(&worker->crashed);
    CHECK(intake_open(&worker->intake, &worker->shared, &err) == STATUS_OK);
}

static void throw_away(struct worker *worker)
{
    take_orders(worker);
    for (struct engine_command *command; (command = channel_receive(worker->shared.commands, 0));
         free(command))
        job_close(command->job);
    for (struct finished_result *finished; (finished = channel_receive(worker->shared.finished, 0));)
        finished_result_free(finished);
    for (int i = 0; i < MOST_RUNNING; i++)
        if (worker->running[i].handle)
            end_running(&worker->running[i]);
    channel_close(worker->shared.commands);
    channel_close(worker->shared.orders);
    channel_close(worker->shared.acks);
    channel_close(worker->shared.finished);
}

/* In good order, or with everything that a dead process leaves undone. */
static void end_worker(struct worker *worker)
{
    sim.members[worker->member].dead = worker->crashed || worker->shared.failure;
    intake_end(worker->intake);
    intake_close(worker->intake);
    throw_away(worker);
    worker->intake = NULL;
    worker->start_ms = sim_now_ms() + (int64_t)sim_random(1500);
}

static void turn(struct worker *worker)
{
    if (!worker->intake) {
        if (sim_now_ms() >= worker->start_ms)
            start_worker(worker);
        return;
    }
    if (sim_now_ms() < worker->stalled_until_ms)
        return;
    take_commands(worker);
    take_orders(worker);
    finish_jobs(worker);
    bool more = worker->crashed || intake_turn(worker->intake);
    if (worker->crashed || worker->shared.failure || !more)
        end_worker(worker);
}

/* ---- what goes wrong ---- */

static void hurt(struct worker *worker)
{
    if (!worker->intake || worker->rolling)
        return;
    if (sim_chance(sim.faults.kill)) {
        worker->crashed = true;
    } else if (sim_chance(sim.faults.stall)) {
        worker->stalled_until_ms = sim_now_ms() + 500 + (int64_t)sim_random(4000);
    } else if (sim_chance(sim.faults.roll)) {
        worker->rolling = true;
        worker->shared.draining = true;
        worker->shared.hurry = sim_random(3) == 0;
        worker->shared.grace_over = sim_random(2) == 0;
    }
}

static void draw_faults(void)
{
    const bool poison = sim.seed % 4 == 0;
    config.limits.max_attempts = poison ? ATTEMPTS : MANY_ATTEMPTS;
    config.limits.max_inflight_jobs = 8 + (int64_t)sim_random(40);
    sim.faults = (struct sim_faults){.abort = (unsigned)sim_random(3) * 100000,
                                     .roll = (unsigned)sim_random(2) * 100,
                                     .outage = (unsigned)sim_random(2) * 100};
    if (poison) {
        if (sim.faults.roll > 0)
            sim.faults.outage =
                0; /* who leaves while Kafka is away cannot say farewell: that counts as an end */
        for (uint64_t i = 0, count = 1 + sim_random(3); i < count; i++)
            sim.jobs[sim_random((uint64_t)sim.job_count)].poison = true;
        return;
    }
    sim.faults.crash_before = (unsigned)sim_random(3) * 4000;
    sim.faults.crash_after = (unsigned)sim_random(3) * 4000;
    sim.faults.kill = (unsigned)sim_random(3) * 150;
    sim.faults.stall = (unsigned)sim_random(3) * 200;
}

static void make_jobs(void)
{
    sim.job_count = 20 + (int)sim_random(SIM_MOST_JOBS - 20);
    for (int i = 0; i < sim.job_count; i++) {
        struct sim_job *job = &sim.jobs[i];
        *job = (struct sim_job){.partition = (int)sim_random(SIM_PARTITIONS)};
        snprintf(job->name, sizeof job->name, "j%d", i);
        snprintf(job->value, sizeof job->value, "{\"custom_id\":\"j%d\"}", i);
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
        bool poisoned = job->poison && sim.faults.kill + sim.faults.stall == 0;
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
    if (sim_chance(sim.faults.outage))
        sim.down_until_ns = sim.now_ns + (int64_t)sim_random(2000) * 1000000;
}

static void drain_all(void)
{
    sim.faults = (struct sim_faults){.abort = sim.faults.abort};
    for (int i = 0; i < SIM_WORKERS; i++)
        workers[i].shared.draining = true;
    for (int left = SIM_WORKERS, turns = 0; left > 0 && turns < MOST_TURNS; turns++) {
        advance();
        left = 0;
        for (int i = 0; i < SIM_WORKERS; i++) {
            workers[i].start_ms = INT64_MAX;
            turn(&workers[i]);
            left += workers[i].intake != NULL;
        }
    }
}

static void begin_seed(uint64_t seed, enum sim_bug bug)
{
    struct offset_ledger *reader = sim.reader;
    sim = (struct sim){.seed = seed,
                       .random = seed * 0x9E3779B97F4A7C15u + 1,
                       .now_ns = 1000000000,
                       .bug = bug,
                       .reader = reader};
    for (int i = 0; i < 8; i++)
        sim_random(2);
    for (int p = 0; p < SIM_PARTITIONS; p++)
        sim.partitions[p] = (struct sim_partition){.committed = -1, .owner = -1, .target = -1};
    memset(workers, 0, sizeof workers);
    make_jobs();
    draw_faults();
}

static bool run_seed(uint64_t seed, enum sim_bug bug)
{
    int produced = 0, turns = 0;
    begin_seed(seed, bug);
    for (; answered() < sim.job_count && turns < MOST_TURNS && !sim.violation[0]; turns++) {
        advance();
        while (produced < sim.job_count && sim_random(3))
            produce(produced++);
        for (int i = 0; i < SIM_WORKERS; i++) {
            hurt(&workers[i]);
            turn(&workers[i]);
        }
        if (turns % CHECK_EVERY == 0)
            check_commits(produced);
        if (sim.member_count > SIM_MOST_MEMBERS - 20)
            sim.faults.kill = sim.faults.crash_before = sim.faults.crash_after = sim.faults.roll = 0;
    }
    check_commits(produced);
    bool kills = sim.faults.kill + sim.faults.stall != 0;
    if (turns == MOST_TURNS)
        sim_violate("%d of %d jobs answered, and nothing moves", answered(), sim.job_count);
    drain_all();
    sim.faults.kill = kills;
    if (!sim.violation[0])
        check_end();
    for (int i = 0; i < SIM_WORKERS; i++)
        if (workers[i].intake)
            end_worker(&workers[i]);
    return !sim.violation[0];
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

/* Every planted bug must be found within `count` seeds. */
static int find_bugs(uint64_t count)
{
    int unseen = 0;
    for (int bug = BUG_NONE + 1; bug < BUGS; bug++) {
        printf("%s: ", bug_names[bug]);
        if (run_seeds(1, count, (enum sim_bug)bug)) {
            printf("not found in %llu seeds\n", (unsigned long long)count);
            unseen++;
        }
    }
    return unseen;
}

int main(int argc, char **argv)
{
    const struct config *defaults;
    struct error err;
    uint64_t first = 1, seeds = 1000;
    enum sim_bug bug = BUG_NONE;
    bool find = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--find-bugs") == 0)
            find = true;
        else if (i + 1 == argc)
            return 64;
        else if (strcmp(argv[i], "--seeds") == 0)
            seeds = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--first") == 0)
            first = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--bug") == 0)
            bug = bug_of(argv[++i]);
    }
    const struct monotime_source source = {virtual_ns, virtual_wall_ms, NULL};
    log_set_level((enum log_level) - 1); /* what goes wrong here is meant to */
    CHECK(config_open(&defaults, &(struct config_source){.ignore_environment = true}, &err) == STATUS_OK);
    config = *defaults;
    CHECK(offset_ledger_open(&sim.reader, (size_t)config.limits.max_partition_window, &err) == STATUS_OK);
    monotime_replace(&source);
    int failed = find ? find_bugs(seeds) : !run_seeds(first, seeds, bug);
    if (!failed && !find)
        printf("%llu seeds from %llu, no violation\n", (unsigned long long)seeds, (unsigned long long)first);
    offset_ledger_close(sim.reader);
    config_close(defaults);
    return failed ? 1 : 0;
}
