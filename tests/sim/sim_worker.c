// SPDX-License-Identifier: Apache-2.0
// One worker without threads: the stages that worker.c starts, opened and closed in its order, each turned in
// its turn. Commands pass through here on their way from intake to the engine, so that what starts can be
// compared with what is committed. model_forward and block_pool_release are wrapped: a step takes time on the
// virtual clock, and the masks of constraints are made in place.
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "engine/constrain/mask_ahead.h"
#include "engine/kv/block_pool.h"
#include "engine/model/model.h"
#include "tests/sim/sim.h"

enum { REPORTS_QUEUED = 16, TIER_FETCHES = 8, STEP_NS = 1000000, ROW_NS = 200000, MOST_ENDING = 20000 };

/* ---- what is not the worker's own: time, and the thread that makes masks ---- */

void __real_model_forward(struct model *model, struct kv_cache *kv, const struct batch *batch, float *logits);
void __wrap_model_forward(struct model *model, struct kv_cache *kv, const struct batch *batch, float *logits);

void __wrap_model_forward(struct model *model, struct kv_cache *kv, const struct batch *batch, float *logits)
{
    if (!sim.deaf)
        sim.now_ns += STEP_NS + (int64_t)batch->row_count * ROW_NS;
    __real_model_forward(model, kv, batch, logits);
}

void __real_block_pool_release(struct block_pool *pool, int32_t block);
void __wrap_block_pool_release(struct block_pool *pool, int32_t block);

void __wrap_block_pool_release(struct block_pool *pool, int32_t block)
{
    __real_block_pool_release(pool, block);
    if (sim.bug == BUG_FREED_TWICE && block_pool_references(pool, block) > 0 && sim_random(8) == 0)
        __real_block_pool_release(pool, block);
}

enum status mask_ahead_open(struct mask_ahead **out, size_t most, struct error *err)
{
    (void)most;
    (void)err;
    *out = NULL;
    return STATUS_OK;
}

void mask_ahead_close(struct mask_ahead *ahead)
{
    (void)ahead;
}

void mask_ahead_note(struct mask_ahead *ahead, struct constraint *constraint, uint32_t state)
{
    (void)ahead;
    (void)constraint;
    (void)state;
}

void mask_ahead_start(struct mask_ahead *ahead)
{
    (void)ahead;
}

void mask_ahead_wait(struct mask_ahead *ahead)
{
    (void)ahead;
}

/* ---- the stages behind the intake ---- */

static void open_tier(struct sim_worker *worker)
{
    struct error err;
    struct kvtier_options options = {.reader = sim_redis_open(),
                                     .writer = sim_redis_open(),
                                     .max_put_bytes = 24 * engine_block_bytes(worker->engine),
                                     .max_fetch_bytes = 16 * engine_block_bytes(worker->engine),
                                     .max_fetches = TIER_FETCHES,
                                     .threadless = true};
    CHECK(channel_open(&worker->loaded, TIER_FETCHES, &err) == STATUS_OK);
    options.done = worker->loaded;
    CHECK(kvtier_open(&worker->tier, &options, &err) == STATUS_OK);
}

static void open_kv(struct sim_worker *worker)
{
    struct error err;
    size_t block_bytes = engine_block_bytes(worker->engine);
    if (worker->tier_enabled)
        open_tier(worker);
    if (worker->host_blocks)
        CHECK(host_store_open(&worker->host, worker->host_blocks * block_bytes, block_bytes, &err) ==
              STATUS_OK);
    if (!worker->tier && !worker->host)
        return;
    struct kv_bridge_options options = {.engine = worker->engine,
                                        .tier = worker->tier,
                                        .done = worker->loaded,
                                        .host = worker->host,
                                        .block_tokens = SIM_BLOCK_TOKENS,
                                        .max_context_tokens = sim_parse.max_context_tokens,
                                        .land_bytes = 2 * block_bytes, /* so that loads land in pieces */
                                        .singleflight = true};
    CHECK(kv_bridge_open(&worker->bridge, &options, &err) == STATUS_OK);
}

static struct channel *open_channel(size_t capacity)
{
    struct channel *channel;
    struct error err;
    CHECK(channel_open(&channel, capacity, &err) == STATUS_OK);
    return channel;
}

void sim_stages_open(struct sim_worker *worker)
{
    struct error err;
    struct pipeline_shared *shared = &worker->shared;
    memset(worker->stopping, 0, sizeof worker->stopping);
    shared->config = &worker->config;
    shared->parse = &sim_parse;
    shared->generation = &sim_generation;
    shared->metrics = &worker->metrics;
    shared->worker_id = worker->name;
    shared->epoch = (uint64_t)walltime_ms() << 12 | (uint64_t)(unsigned char)worker->name[1];
    shared->commands = open_channel(4096);
    shared->reports = open_channel(REPORTS_QUEUED);
    shared->orders = open_channel(4096);
    shared->acks = open_channel(16);
    shared->finished = open_channel(4096);
    worker->engine_in = open_channel(4096);
    worker->engine = sim_engine_open(&worker->engine_options);
    open_kv(worker);
    const struct engine_loop_options loop = {.engine = worker->engine,
                                             .in = worker->engine_in,
                                             .out = shared->reports,
                                             .bridge = worker->bridge,
                                             .max_choices = (size_t)worker->engine_options.max_waiting};
    CHECK(engine_loop_open(&worker->loop, &loop, &err) == STATUS_OK);
    CHECK(emit_open(&worker->emit, shared, &err) == STATUS_OK);
}

/* ---- commands on their way to the engine ---- */

static void check_start(const struct sim_worker *worker, const struct job *job)
{
    unsigned attempts;
    const struct sim_job *known = sim_find_job(job->custom_id, strlen(job->custom_id));
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

static void note_poison(struct sim_worker *worker, uint64_t handle, struct sim_job *job)
{
    for (int i = 0; i < SIM_MOST_DUE && job->poison; i++)
        if (worker->due[i].handle == 0) {
            worker->due[i].handle = handle;
            worker->due[i].job = job;
            worker->due[i].turns = 1 + (int)sim_random(4);
            return;
        }
}

static void forget_poison(struct sim_worker *worker, uint64_t handle)
{
    for (int i = 0; i < SIM_MOST_DUE; i++)
        if (worker->due[i].handle == handle)
            worker->due[i].handle = 0;
}

static void note_cancelled(struct sim_worker *worker, uint64_t handle)
{
    for (int i = 0; i < SIM_MOST_STOPPING; i++)
        if (worker->stopping[i].handle == 0) {
            worker->stopping[i].handle = handle;
            worker->stopping[i].turns = 0;
            return;
        }
}

/* The step that follows a cancellation ends what it cancels. */
static void check_cancelled(struct sim_worker *worker)
{
    for (int i = 0; i < SIM_MOST_STOPPING; i++) {
        const uint64_t handle = worker->stopping[i].handle;
        if (handle == 0)
            continue;
        if (!engine_loop_runs(worker->loop, handle))
            worker->stopping[i].handle = 0;
        else if (channel_count(worker->engine_in) == 0 && ++worker->stopping[i].turns > 1)
            sim_violate("%s: job %llu was cancelled and still runs", worker->name,
                        (unsigned long long)handle);
    }
}

static void relay(struct sim_worker *worker)
{
    for (struct engine_command *command; (command = channel_receive(worker->shared.commands, 0));) {
        if (command->type == ENGINE_COMMAND_JOB) {
            const char *name = command->job->custom_id;
            sim_trace("%s: %s starts behind %zu tokens", worker->name, name, command->job->resumed_tokens);
            sim_seen.resumed += command->job->resumed_tokens > 0;
            if (!sim.deaf)
                check_start(worker, command->job);
            note_poison(worker, command->job_handle, sim_find_job(name, strlen(name)));
        } else {
            forget_poison(worker, command->job_handle);
            note_cancelled(worker, command->job_handle);
            if (sim.bug == BUG_CANCEL_LOST && !sim.deaf) {
                free(command);
                continue;
            }
        }
        CHECK(channel_try_send(worker->engine_in, command));
    }
    if (channel_is_shut(worker->shared.commands))
        channel_shut(worker->engine_in);
}

static void take_poison(struct sim_worker *worker)
{
    for (int i = 0; i < SIM_MOST_DUE && !worker->crashed; i++)
        if (worker->due[i].handle && worker->due[i].turns-- == 0) {
            worker->due[i].job->crashes++;
            worker->crashed = true;
            sim_trace("%s: ended by %s", worker->name, worker->due[i].job->name);
        }
}

/* ---- turns ---- */

static void turn_tier(struct sim_worker *worker)
{
    if (!worker->tier || sim_now_ms() < worker->tier_slow_until_ms)
        return;
    kvtier_read_one(worker->tier);
    for (int i = 0; i < 4 && kvtier_write_one(worker->tier); i++)
        ;
    if (sim.bug == BUG_FETCH_LOST && sim_random(16) == 0)
        kvtier_fetch_free(channel_receive(worker->loaded, 0));
}

static bool turn_engine(struct sim_worker *worker)
{
    if (channel_count(worker->shared.reports) == REPORTS_QUEUED)
        return true; /* it waits for emit */
    bool more = engine_loop_turn(worker->loop);
    engine_check_invariants(worker->engine);
    if (!sim.deaf)
        check_cancelled(worker);
    return more;
}

static bool sits_out(void)
{
    return sim_chance(sim.faults.slow_stage);
}

static void start(struct sim_worker *worker)
{
    struct error err;
    sim_stages_open(worker);
    worker->member = sim_join(&worker->crashed);
    sim_trace("%s: member %d starts", worker->name, worker->member);
    sim_seen.starts++;
    CHECK(intake_open(&worker->intake, &worker->shared, &err) == STATUS_OK);
}

void sim_worker_turn(struct sim_worker *worker)
{
    if (!worker->intake) {
        if (sim_now_ms() >= worker->start_ms)
            start(worker);
        return;
    }
    if (sim_now_ms() < worker->stalled_until_ms)
        return;
    relay(worker);
    if (!sits_out())
        turn_tier(worker);
    if (!sits_out())
        turn_engine(worker);
    take_poison(worker);
    if (!worker->crashed && !sits_out())
        emit_turn(worker->emit);
    bool more = worker->crashed || sits_out() || intake_turn(worker->intake);
    if (worker->crashed || worker->shared.failure || !more)
        sim_worker_end(worker);
}

/* ---- the end ---- */

/* What is left in the stages when everything has ended. */
static void check_empty(const struct sim_worker *worker)
{
    struct engine_stats engine;
    struct kvtier_stats tier;
    engine_stats_read(worker->engine, &engine);
    if (engine.running || engine.waiting || engine.blocks_used)
        sim_violate("%s ends with %d running, %d waiting and %d blocks in use", worker->name, engine.running,
                    engine.waiting, engine.blocks_used);
    if (worker->bridge && kv_bridge_held(worker->bridge))
        sim_violate("%s ends with %zu requests held", worker->name, kv_bridge_held(worker->bridge));
    if (!worker->tier)
        return;
    kvtier_stats_read(worker->tier, &tier);
    if (tier.loading_bytes || tier.storing_bytes)
        sim_violate("%s ends with %llu bytes reserved to load and %llu to store", worker->name,
                    (unsigned long long)tier.loading_bytes, (unsigned long long)tier.storing_bytes);
}

static void say_stuck(const struct sim_worker *worker)
{
    struct kv_bridge_stats stats = {0};
    if (worker->bridge)
        kv_bridge_stats_read(worker->bridge, &stats);
    sim_violate("%s does not end: held are %d queued, %d loading, %d elsewhere, %d behind, %d ready",
                worker->name, stats.held[KV_BRIDGE_STATE_queued], stats.held[KV_BRIDGE_STATE_loading],
                stats.held[KV_BRIDGE_STATE_elsewhere], stats.held[KV_BRIDGE_STATE_behind],
                stats.held[KV_BRIDGE_STATE_ready]);
}

static void run_out(struct sim_worker *worker)
{
    int turns = 0;
    bool more = true;
    for (; more && turns < MOST_ENDING; turns++) {
        relay(worker);
        turn_tier(worker);
        more = turn_engine(worker);
        emit_turn(worker->emit);
        sim.now_ns += sim.deaf ? 0 : 1000000;
    }
    if (more)
        say_stuck(worker);
    while (!sim.violation[0] && emit_turn(worker->emit))
        ;
}

static void close_channel(struct channel **channel)
{
    channel_close(*channel);
    *channel = NULL;
}

static void count_seen(const struct sim_worker *worker)
{
    struct engine_stats engine;
    struct kvtier_stats tier;
    struct kv_bridge_stats bridge;
    engine_stats_read(worker->engine, &engine);
    sim_seen.steps += engine.steps;
    sim_seen.preemptions += engine.preemptions;
    sim_seen.prefix_hits += engine.prefix_hits_tokens;
    sim_seen.chunks += worker->metrics.stream_chunks;
    sim_seen.replays += worker->metrics.stream_replays;
    if (worker->bridge) {
        kv_bridge_stats_read(worker->bridge, &bridge);
        sim_seen.host_promoted += bridge.host.promoted;
    }
    if (!worker->tier)
        return;
    kvtier_stats_read(worker->tier, &tier);
    sim_seen.tier_loaded += tier.hit_blocks;
    sim_seen.tier_corrupt += tier.miss_blocks[TIER_MISS_corrupt];
    sim_seen.tier_timeouts += tier.miss_blocks[TIER_MISS_timeout];
    sim_seen.leases_elsewhere += tier.leases_elsewhere;
}

/* In the order of worker_close; everything that could run has run out. */
void sim_stages_close(struct sim_worker *worker)
{
    run_out(worker);
    if (sim.violation[0])
        return; /* what is stuck cannot be closed: the process ends with this seed */
    emit_close(worker->emit);
    engine_loop_close(worker->loop);
    while (worker->tier && (kvtier_read_one(worker->tier) || kvtier_write_one(worker->tier)))
        ;
    check_empty(worker);
    count_seen(worker);
    if (sim.violation[0])
        return;
    kv_bridge_close(worker->bridge);
    kvtier_close(worker->tier, 0);
    host_store_close(worker->host);
    engine_close(worker->engine);
    for (struct finished_result *finished; (finished = channel_receive(worker->shared.finished, 0));)
        finished_result_free(finished);
    for (struct emit_order *order; (order = channel_receive(worker->shared.orders, 0));)
        emit_order_free(order);
    close_channel(&worker->shared.commands);
    close_channel(&worker->shared.reports);
    close_channel(&worker->shared.orders);
    close_channel(&worker->shared.acks);
    close_channel(&worker->shared.finished);
    close_channel(&worker->engine_in);
    channel_close(worker->loaded);
    snapshot_release(&worker->shared.jobs);
}

/* What a dead process leaves undone is cancelled, so that its memory can be freed; nothing of it is heard. */
static void clear_away(struct sim_worker *worker)
{
    worker->shared.draining = worker->shared.hurry = true;
    sim.members[worker->member].dead = true;
    sim.deaf = true;
    for (int i = 0; i < 4 && intake_turn(worker->intake); i++)
        ;
}

void sim_worker_end(struct sim_worker *worker)
{
    bool died = worker->crashed || worker->shared.failure;
    sim_trace("%s: member %d %s", worker->name, worker->member, died ? "dies" : "ends");
    sim_seen.deaths += died;
    sim_seen.drains += !died;
    if (died)
        clear_away(worker);
    worker->tier_slow_until_ms = 0;
    intake_end(worker->intake);
    intake_close(worker->intake);
    channel_shut(worker->shared.finished);
    sim_stages_close(worker);
    sim.deaf = false;
    struct sim_worker next = {.config = worker->config,
                              .engine_options = worker->engine_options,
                              .host_blocks = worker->host_blocks,
                              .tier_enabled = worker->tier_enabled,
                              .start_ms = sim_now_ms() + (int64_t)sim_random(1500)};
    memcpy(next.name, worker->name, sizeof next.name);
    memcpy(next.live, worker->live, sizeof next.live);
    memcpy(next.replay, worker->replay, sizeof next.replay);
    *worker = next;
    worker->config.stream.bind = worker->live;
    worker->config.stream.replay_bind = worker->replay;
}
