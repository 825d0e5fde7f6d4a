// SPDX-License-Identifier: Apache-2.0
// The way of a job:
//   Kafka -> intake (take, parse, tokenize) -> commands -> engine (schedule, forward, sample) -> reports
//         -> emit (text, stream, publish) -> Kafka; the broker's acknowledgement -> acks -> intake (ledger,
//         commit)
//   with the KV tier beside the engine: blocks in before a prompt is computed, blocks out after it was.
// Shutdown follows the same order: intake drains and leaves the group, the engine finishes what it has, emit
// flushes, the tier writes what is queued, HTTP ends last so that a drain can be watched.
#include "worker/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/monotime.h"
#include "kvtier/redis_store.h"
#include "worker/cli/setup.h"
#include "worker/emit/emit.h"
#include "worker/emit/result_txn.h"
#include "worker/health.h"
#include "worker/infer/kv_bridge.h"
#include "worker/intake/intake.h"
#include "worker/status_page.h"

enum { REPORTS_QUEUED = 64, STUCK_MS = 30000, TIER_FETCHES = 64, TIER_DRAIN_MS = 3000, ID_BYTES = 128 };
#define TIER_FETCH_BYTES ((size_t)512 << 20)

struct worker {
    const struct config *config;
    struct setup *setup;
    struct metrics metrics;
    struct pipeline_shared shared;
    struct channel *loaded;   /* tier -> engine: struct kvtier_fetch */
    struct kvtier *tier;      /* NULL: disabled */
    struct host_store *host;  /* NULL: none */
    struct kv_events *events; /* NULL: nobody is told */
    struct kv_bridge *bridge; /* NULL: none of them */
    struct engine_loop *loop;
    struct emit *emit;
    struct intake *intake;
    struct health *health;
    struct snapshot block_map;
    int64_t started_ms;
    char id[ID_BYTES];
};

/* ---- HTTP ---- */

static void render_metrics(void *context, struct bytes *out)
{
    struct worker *worker = context;
    struct engine_stats engine;
    struct kvtier_stats tier;
    struct kv_bridge_stats bridge;
    struct kv_events_stats events;
    struct metrics_sources sources = {.engine = &engine};
    engine_loop_stats(worker->loop, &engine);
    if (worker->tier) {
        kvtier_stats_read(worker->tier, &tier);
        sources.tier = &tier;
    }
    if (worker->bridge) {
        kv_bridge_stats_read(worker->bridge, &bridge);
        sources.bridge = &bridge;
    }
    if (worker->events) {
        kv_events_stats_read(worker->events, &events);
        sources.events = &events;
    }
    metrics_render(&worker->metrics, &sources, walltime_ms(), out);
}

/* Alive: both I/O loops turn, and the engine's step ends. A lost Kafka or Redis stops none of them. */
static bool is_live(void *context)
{
    const struct worker *worker = context;
    int64_t now_ms = monotime_ms();
    return now_ms - worker->shared.intake_ms < STUCK_MS && now_ms - worker->shared.emit_ms < STUCK_MS &&
           worker_step_ms(worker) < STUCK_MS;
}

static bool is_ready(void *context)
{
    const struct worker *worker = context;
    return worker->shared.connected && !worker->shared.draining && is_live(context);
}

static void render_people(struct worker *worker,
                          void (*render)(const struct status_page_source *source, struct bytes *out),
                          struct bytes *out)
{
    struct engine_stats engine;
    struct kvtier_stats tier;
    engine_loop_stats(worker->loop, &engine);
    if (worker->tier)
        kvtier_stats_read(worker->tier, &tier);
    const struct status_page_source source = {.shared = &worker->shared,
                                              .block_map = &worker->block_map,
                                              .engine = &engine,
                                              .tier = worker->tier ? &tier : NULL,
                                              .started_ms = worker->started_ms,
                                              .ready = is_ready(worker)};
    render(&source, out);
}

static void render_state(void *context, struct bytes *out)
{
    render_people(context, status_page_state, out);
}

static void render_jobs(void *context, struct bytes *out)
{
    render_people(context, status_page_jobs, out);
}

static enum status open_http(struct worker *worker, struct error *err)
{
    bool page = worker->config->status_page.enabled;
    struct health_source source = {.metrics = render_metrics,
                                   .live = is_live,
                                   .ready = is_ready,
                                   .state = page ? render_state : NULL,
                                   .jobs = render_jobs,
                                   .page_is_public = worker->config->status_page.public,
                                   .context = worker};
    if (!worker->config->http.enabled)
        return STATUS_OK;
    enum status status =
        health_open(&worker->health, worker->config->http.bind, (int)worker->config->http.port, &source, err);
    if (status == STATUS_OK)
        log_info("worker", "http on %s:%d", worker->config->http.bind, health_port(worker->health));
    return status;
}

/* ---- tier ---- */

static enum status open_stores(const struct config *config, struct kvtier_options *options, struct error *err)
{
    struct redis_store_options redis = {.address = config->kvtier.address,
                                        .user = config->kvtier.user,
                                        .password = config->kvtier.password,
                                        .ttl_s = config->kvtier.ttl_s,
                                        .cluster = config->kvtier.cluster};
    enum status status = redis_store_open(&options->reader, &redis, err);
    redis.writer = true;
    if (status == STATUS_OK && (status = redis_store_open(&options->writer, &redis, err)) != STATUS_OK)
        options->reader->close(options->reader);
    return status;
}

static enum status open_tier(struct worker *worker, struct error *err)
{
    const struct config *config = worker->config;
    struct kvtier_options options = {.max_put_bytes = (size_t)config->kvtier.queue_mb << 20,
                                     .max_fetch_bytes = TIER_FETCH_BYTES,
                                     .max_fetches = TIER_FETCHES};
    enum status status = channel_open(&worker->loaded, TIER_FETCHES, err);
    if (status == STATUS_OK)
        status = open_stores(config, &options, err);
    options.done = worker->loaded;
    return status == STATUS_OK ? kvtier_open(&worker->tier, &options, err) : status;
}

static enum status open_events(struct worker *worker, struct error *err)
{
    const struct config *config = worker->config;
    const struct kv_events_options options = {.bind = config->kv_events.bind,
                                              .replay_bind = config->kv_events.replay_bind,
                                              .topic = config->kv_events.topic,
                                              .security = stream_security_of(config),
                                              .replay_bytes = (size_t)config->kv_events.replay_bytes};
    return kv_events_open(&worker->events, &options, err);
}

/* What holds KV blocks outside the engine, and what joins it to the engine. */
static enum status open_kv(struct worker *worker, struct error *err)
{
    const struct config *config = worker->config;
    struct engine *engine = worker->setup->engine;
    enum status status = STATUS_OK;
    if (config->kvtier.enabled)
        status = open_tier(worker, err);
    if (status == STATUS_OK && config->kvtier.host_mb > 0)
        status = host_store_open(&worker->host, (size_t)config->kvtier.host_mb << 20,
                                 engine_block_bytes(engine), err);
    if (status == STATUS_OK && *config->kv_events.bind)
        status = open_events(worker, err);
    if (status != STATUS_OK || (!worker->tier && !worker->host && !worker->events))
        return status;
    struct kv_bridge_options bridge = {.engine = engine,
                                       .tier = worker->tier,
                                       .done = worker->loaded,
                                       .host = worker->host,
                                       .events = worker->events,
                                       .block_tokens = (int32_t)config->engine.block_tokens,
                                       .max_context_tokens = worker->setup->parse.max_context_tokens,
                                       .singleflight = config->kvtier.singleflight};
    return kv_bridge_open(&worker->bridge, &bridge, err);
}

/* ---- life ---- */

static enum status open_channels(struct worker *worker, struct error *err)
{
    size_t jobs =
        (size_t)worker->config->limits.max_inflight_jobs + 2048; /* every job in flight, twice over */
    struct pipeline_shared *shared = &worker->shared;
    enum status status = channel_open(&shared->commands, 2 * jobs, err);
    if (status == STATUS_OK)
        status = channel_open(&shared->reports, REPORTS_QUEUED, err);
    if (status == STATUS_OK)
        status = channel_open(&shared->orders, 2 * jobs, err);
    if (status == STATUS_OK)
        status = channel_open(&shared->acks, jobs, err);
    if (status == STATUS_OK && strcmp(worker->config->kafka.delivery, "exactly-once") == 0)
        status = channel_open(&shared->finished, jobs, err);
    return status;
}

static void name_worker(struct worker *worker)
{
    char host[64] = "host";
    gethostname(host, sizeof host - 1);
    if (*worker->config->worker.id)
        snprintf(worker->id, sizeof worker->id, "%s", worker->config->worker.id);
    else
        snprintf(worker->id, sizeof worker->id, "%s-%d", host, (int)getpid());
    snprintf(worker->metrics.model, sizeof worker->metrics.model, "%s", worker->setup->parse.served_names[0]);
}

/* Ascends from start to start; two workers that start in the same millisecond differ too. Below 2^53, so that
 * every JSON reader keeps it. */
static uint64_t new_epoch(int64_t started_ms)
{
    uint16_t random;
    if (getentropy(&random, sizeof random) != 0)
        random = (uint16_t)getpid();
    return (uint64_t)started_ms << 12 | (random & 0xfff);
}

static void share(struct worker *worker)
{
    struct pipeline_shared *shared = &worker->shared;
    shared->config = worker->config;
    shared->parse = &worker->setup->parse;
    shared->generation = &worker->setup->generation;
    shared->metrics = &worker->metrics;
    shared->worker_id = worker->id;
    worker->started_ms = walltime_ms();
    shared->epoch = new_epoch(worker->started_ms);
    shared->intake_ms = shared->emit_ms = monotime_ms();
}

static enum status start_stages(struct worker *worker, struct error *err)
{
    struct engine_loop_options loop = {.engine = worker->setup->engine,
                                       .in = worker->shared.commands,
                                       .out = worker->shared.reports,
                                       .bridge = worker->bridge,
                                       .block_map = &worker->block_map,
                                       .max_choices = (size_t)worker->config->engine.max_waiting};
    enum status status = engine_loop_start(&worker->loop, &loop, err);
    if (status == STATUS_OK)
        status = emit_start(&worker->emit, &worker->shared, err);
    if (status == STATUS_OK)
        status = open_http(worker, err);
    if (status == STATUS_OK)
        status = intake_start(&worker->intake, &worker->shared, err);
    return status;
}

static void log_start(const struct worker *worker)
{
    struct bytes text;
    bytes_init(&text, 1024);
    setup_describe(worker->setup, &text);
    log_info("worker", "%s started: %s", worker->id, text.data ? text.data : "");
    log_info("worker", "group %s on %s, delivery %s", worker->config->kafka.group_id,
             worker->config->kafka.bootstrap_servers, worker->config->kafka.delivery);
    bytes_reset(&text);
    setup_describe_memory(worker->setup, &text);
    log_info("worker", "%s", text.data ? text.data : "");
    bytes_release(&text);
}

enum status worker_open(struct worker **out, const struct config *config, struct error *err)
{
    *out = NULL;
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a worker");
    worker->config = config;
    struct setup_options setup = {
        .config = config, .with_engine = true, .show_progress = isatty(STDERR_FILENO)};
    enum status status = setup_open(&worker->setup, &setup, err);
    if (status == STATUS_OK) {
        name_worker(worker);
        share(worker);
        status = open_channels(worker, err);
    }
    if (status == STATUS_OK)
        status = open_kv(worker, err);
    if (status == STATUS_OK)
        status = start_stages(worker, err);
    if (status != STATUS_OK) {
        struct error unused;
        worker_close(worker, &unused);
        return status;
    }
    log_start(worker);
    *out = worker;
    return STATUS_OK;
}

void worker_drain(struct worker *worker)
{
    worker->shared.draining = true;
}

void worker_end_grace(struct worker *worker)
{
    worker->shared.grace_over = true;
    worker->shared.draining = true;
}

void worker_hurry(struct worker *worker)
{
    worker->shared.hurry = true;
    worker->shared.draining = true;
}

bool worker_running(const struct worker *worker)
{
    return !channel_is_shut(worker->shared.reports);
}

int64_t worker_step_ms(const struct worker *worker)
{
    int64_t began_ms = engine_loop_step_began_ms(worker->loop);
    return began_ms ? monotime_ms() - began_ms : 0;
}

/* Messages that nobody will read any more. */
static void drain_leftovers(struct pipeline_shared *shared)
{
    for (struct engine_report *report; shared->reports && (report = channel_receive(shared->reports, 0));)
        engine_report_free(report);
    for (struct emit_order *order; shared->orders && (order = channel_receive(shared->orders, 0));)
        emit_order_free(order);
    for (struct finished_result *finished;
         shared->finished && (finished = channel_receive(shared->finished, 0));)
        finished_result_free(finished);
    for (struct emit_ack *ack; shared->acks && (ack = channel_receive(shared->acks, 0));)
        free(ack);
}

static void close_channels(struct worker *worker)
{
    drain_leftovers(&worker->shared);
    channel_close(worker->shared.commands);
    channel_close(worker->shared.reports);
    channel_close(worker->shared.orders);
    channel_close(worker->shared.acks);
    channel_close(worker->shared.finished);
    channel_close(worker->loaded);
}

enum status worker_close(struct worker *worker, struct error *err)
{
    if (worker->intake)
        intake_join(worker->intake);
    else if (worker->shared.commands)
        channel_shut(worker->shared.commands);
    if (worker->shared.acks)
        channel_shut(worker->shared.acks); /* late acknowledgements find no reader */
    if (worker->shared.finished)
        channel_shut(worker->shared.finished);
    engine_loop_join(worker->loop);
    if (worker->shared.reports)
        channel_shut(worker->shared.reports);
    emit_join(worker->emit);
    health_close(worker->health);
    kv_bridge_close(worker->bridge);
    kvtier_close(worker->tier, TIER_DRAIN_MS);
    host_store_close(worker->host);
    kv_events_close(worker->events);
    close_channels(worker);
    snapshot_release(&worker->shared.jobs);
    snapshot_release(&worker->block_map);
    setup_close(worker->setup);
    enum status status = (enum status)worker->shared.failure;
    free(worker);
    return status == STATUS_OK
               ? STATUS_OK
               : error_set(err, status, "stopped after a fatal fault: %s", status_text(status));
}
