// SPDX-License-Identifier: Apache-2.0
// DESIGN: every taken record has a handle and an entry in `flights` until its result is acknowledged, its
// partition is taken away, or the worker gives it back. A partition's ledger learns of acknowledgements
// through the entry; an entry of a partition that was revoked meanwhile is gone, so a late acknowledgement
// finds nothing and harms nothing.
#include "worker/intake/intake.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/monotime.h"
#include "worker/emit/result_record.h"
#include "worker/emit/result_txn.h"
#include "worker/intake/cancellations.h"
#include "worker/intake/control_reader.h"
#include "worker/intake/job_source.h"
#include "worker/intake/offset_ledger.h"

enum {
    POLL_MS = 20,
    TICK_MS = 100,
    LOG_EVERY_MS = 10000,
    MAX_PARTITIONS = METRICS_MAX_PARTITIONS,
    MOST_IN_TXN = 1024,
    TXN_RETRY_MS = 500,
    LAST_COMMITS = 10,
    CONTROL_WAIT_MS = 5000 /* for the cancellations of old, before the first job */
};

struct partition {
    bool used;
    char topic[256];
    int32_t number;
    struct offset_ledger *ledger;
    int64_t committed; /* offset of the last commit */
    bool dirty;        /* answered something since the last commit */
    struct metrics_partition *metrics;
};

struct flight {      /* one taken job */
    uint64_t handle; /* 0: free */
    struct partition *partition;
    int64_t offset, timestamp_ms, deadline_ms;
    struct cancel_names names;
    bool cancellable, cancelled; /* cancellable: it was given to the engine, `names` is set */
};

struct intake {
    struct pipeline_shared *shared;
    pthread_t thread;
    struct job_source *source;
    struct partition partitions[MAX_PARTITIONS];
    struct flight *flights; /* [capacity] at handle % capacity, then linear */
    size_t flight_capacity, flight_count, max_flights;
    uint64_t next_handle;
    bool paused;
    struct control_reader *control;
    struct cancellations *cancellations;
    struct result_txn *txn;                     /* exactly once; NULL: at least once */
    struct finished_result *ready[MOST_IN_TXN]; /* answered in the ledgers, not committed yet */
    size_t ready_count;
    int64_t next_tick_ms, next_commit_ms, logged_ms;
};

void emit_order_free(struct emit_order *order)
{
    if (!order)
        return;
    if (order->type == EMIT_ANSWER)
        result_release(&order->result);
    free(order->key);
    free(order);
}

/* ---- flights ---- */

static struct flight *find_flight(struct intake *intake, uint64_t handle)
{
    for (size_t i = 0; i < intake->flight_capacity; i++) {
        struct flight *flight = &intake->flights[(handle + i) % intake->flight_capacity];
        if (flight->handle == handle)
            return flight;
    }
    return NULL;
}

static struct flight *add_flight(struct intake *intake, struct partition *partition,
                                 const struct job_record *record)
{
    uint64_t handle = ++intake->next_handle;
    size_t at = handle % intake->flight_capacity;
    CHECK(intake->flight_count < intake->flight_capacity);
    while (intake->flights[at].handle)
        at = (at + 1) % intake->flight_capacity;
    intake->flights[at] = (struct flight){.handle = handle,
                                          .partition = partition,
                                          .offset = record->offset,
                                          .timestamp_ms = record->timestamp_ms};
    intake->flight_count++;
    intake->shared->metrics->inflight_jobs = (int64_t)intake->flight_count;
    return &intake->flights[at];
}

static void remove_flight(struct intake *intake, struct flight *flight)
{
    flight->handle = 0;
    intake->flight_count--;
    intake->shared->metrics->inflight_jobs = (int64_t)intake->flight_count;
}

/* ---- messages ---- */

/* Orders and commands wait for room: both receivers always make progress. */
static void send_order(struct intake *intake, struct emit_order *order)
{
    CHECK(channel_send(intake->shared->orders, order, -1));
}

static void cancel(struct intake *intake, struct flight *flight, enum status reason)
{
    struct emit_order *order = calloc(1, sizeof *order);
    struct engine_command *command = calloc(1, sizeof *command);
    CHECK(order && command);
    *order = (struct emit_order){.type = EMIT_REASON, .job_handle = flight->handle, .reason = reason};
    *command = (struct engine_command){
        .type = ENGINE_COMMAND_CANCEL, .job_handle = flight->handle, .reason = reason};
    flight->cancelled = true;
    send_order(intake, order); /* before the command: emit must know the reason when the work has ended */
    CHECK(channel_send(intake->shared->commands, command, -1));
}

static void answer(struct intake *intake, uint64_t handle, const struct job_record *record,
                   struct result *result)
{
    struct emit_order *order = calloc(1, sizeof *order);
    CHECK(order != NULL);
    order->type = EMIT_ANSWER;
    order->job_handle = handle;
    order->result = *result;
    job_identity_read(&order->identity, record);
    order->source = *record;
    order->source.headers = NULL;
    order->source.header_count = 0;
    order->source.value = order->source.key = NULL;
    snprintf(order->topic, sizeof order->topic, "%s", record->topic);
    order->source.topic = order->topic;
    order->source.cluster_id = "";
    if (record->key && (order->key = malloc(record->key_bytes + 1))) {
        memcpy(order->key, record->key, record->key_bytes);
        order->key_bytes = record->key_bytes;
    }
    send_order(intake, order);
}

/* ---- partitions ---- */

static struct partition *find_partition(struct intake *intake, const char *topic, int32_t number)
{
    for (int i = 0; i < MAX_PARTITIONS; i++)
        if (intake->partitions[i].used && intake->partitions[i].number == number &&
            strcmp(intake->partitions[i].topic, topic) == 0)
            return &intake->partitions[i];
    return NULL;
}

static void take_assigned(void *context, const struct job_source_partition *assigned)
{
    struct intake *intake = context;
    struct partition *partition = find_partition(intake, assigned->topic, assigned->partition);
    for (int i = 0; i < MAX_PARTITIONS && !partition; i++)
        if (!intake->partitions[i].used)
            partition = &intake->partitions[i];
    CHECK(partition != NULL);
    intake->shared->connected = true;
    intake->shared->metrics->rebalances++;
    if (!partition->ledger) {
        struct error err;
        CHECK(offset_ledger_open(&partition->ledger,
                                 (size_t)intake->shared->config->limits.max_partition_window,
                                 &err) == STATUS_OK);
    }
    partition->used = true;
    snprintf(partition->topic, sizeof partition->topic, "%s", assigned->topic);
    partition->number = assigned->partition;
    partition->committed = assigned->offset;
    partition->dirty = false;
    partition->metrics = metrics_partition(intake->shared->metrics, assigned->topic, assigned->partition);
    if (offset_ledger_begin(partition->ledger, assigned->offset, assigned->metadata) != STATUS_OK)
        log_warn("intake",
                 "the offset map of %s/%d is of an unknown version and is ignored: some jobs run again",
                 assigned->topic, assigned->partition);
}

static size_t gather_commits(struct intake *intake, const struct partition *only,
                             struct job_source_partition *out, char (*metadata)[OFFSET_MAP_MAX_BYTES])
{
    size_t count = 0;
    for (int i = 0; i < MAX_PARTITIONS; i++) {
        struct partition *partition = &intake->partitions[i];
        if (!partition->used || !partition->dirty || (only && only != partition))
            continue;
        offset_ledger_metadata(partition->ledger, metadata[count]);
        out[count] =
            (struct job_source_partition){partition->topic, partition->number,
                                          offset_ledger_commit_offset(partition->ledger), metadata[count]};
        partition->committed = out[count].offset;
        partition->dirty = false;
        count++;
    }
    return count;
}

static struct job_source_partition commit_list[MAX_PARTITIONS]; /* the intake thread's only */
static char commit_metadata[MAX_PARTITIONS][OFFSET_MAP_MAX_BYTES];

static void mark_uncommitted(struct intake *intake, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct partition *partition = find_partition(intake, commit_list[i].topic, commit_list[i].partition);
        partition->dirty = true;
    }
    intake->shared->metrics->commit_failures++;
}

/* Without new answers nothing else would commit again, and a restart would repeat jobs. */
static void take_commit_failed(void *context, const struct job_source_partition *failed)
{
    struct intake *intake = context;
    struct partition *partition = find_partition(intake, failed->topic, failed->partition);
    if (partition)
        partition->dirty = true;
    intake->shared->metrics->commit_failures++;
}

static void commit_offsets(struct intake *intake, const struct partition *only, bool wait)
{
    struct error err;
    size_t count = gather_commits(intake, only, commit_list, commit_metadata);
    if (count == 0)
        return;
    if (job_source_commit(intake->source, commit_list, count, wait, &err) == STATUS_OK) {
        intake->shared->metrics->commits++;
        return;
    }
    log_warn("intake", "%s", err.text);
    mark_uncommitted(intake, count);
}

/* ---- exactly once ---- */

static void take_fault(struct intake *intake, const struct error *err);

/* A result becomes part of the next transaction. One of a job that is no longer ours is dropped. */
static void take_finished(struct intake *intake)
{
    struct finished_result *finished;
    while (intake->ready_count < MOST_IN_TXN && (finished = channel_receive(intake->shared->finished, 0))) {
        struct flight *flight = find_flight(intake, finished->job_handle);
        if (!flight) {
            finished_result_free(finished);
            continue;
        }
        offset_ledger_answer(flight->partition->ledger, flight->offset);
        flight->partition->dirty = true;
        finished->partition = flight->partition;
        remove_flight(intake, flight);
        intake->ready[intake->ready_count++] = finished;
    }
}

static void replace_too_large(struct intake *intake)
{
    for (size_t i = 0; i < intake->ready_count; i++)
        if (intake->ready[i]->too_large)
            intake->ready[i] = finished_result_shrink(intake->ready[i]);
}

static void drop_ready(struct intake *intake, bool committed)
{
    for (size_t i = 0; i < intake->ready_count; i++) {
        if (committed)
            intake->shared->metrics->results[intake->ready[i]->status]++;
        finished_result_free(intake->ready[i]);
    }
    intake->ready_count = 0;
}

/* Results and offsets in one transaction. What was aborted is kept and goes with the next one. */
static void commit_transaction(struct intake *intake)
{
    struct error err;
    take_finished(intake);
    replace_too_large(intake);
    size_t count = gather_commits(intake, NULL, commit_list, commit_metadata);
    if (count == 0 && intake->ready_count == 0)
        return;
    enum status status = result_txn_commit(intake->txn, intake->ready, intake->ready_count, intake->source,
                                           commit_list, count, &err);
    if (status == STATUS_OK) {
        intake->shared->metrics->commits++;
        drop_ready(intake, true);
        return;
    }
    mark_uncommitted(intake, count);
    intake->next_commit_ms = monotime_ms() + TXN_RETRY_MS;
    if (status != STATUS_TIMEOUT) {
        err.status = status == STATUS_UNAVAILABLE ? STATUS_INTERNAL : status;
        take_fault(intake, &err); /* the producer cannot go on: end, and start anew */
    }
}

static void commit(struct intake *intake, const struct partition *only, bool wait)
{
    if (intake->txn)
        commit_transaction(intake);
    else
        commit_offsets(intake, only, wait);
}

/* The partition's uncommitted results go with it: whoever has it now answers those jobs. */
static void drop_results_of(struct intake *intake, const struct partition *partition)
{
    size_t kept = 0;
    for (size_t i = 0; i < intake->ready_count; i++) {
        if (intake->ready[i]->partition == partition)
            finished_result_free(intake->ready[i]);
        else
            intake->ready[kept++] = intake->ready[i];
    }
    intake->ready_count = kept;
}

static void take_revoked(void *context, const struct job_source_partition *revoked, bool lost)
{
    struct intake *intake = context;
    struct partition *partition = find_partition(intake, revoked->topic, revoked->partition);
    if (!partition)
        return;
    intake->shared->metrics->rebalances++;
    if (!lost)
        commit(intake, partition, true);
    drop_results_of(intake, partition);
    for (size_t i = 0; i < intake->flight_capacity; i++) {
        struct flight *flight = &intake->flights[i];
        if (!flight->handle || flight->partition != partition)
            continue;
        cancel(intake, flight, STATUS_CLOSED);
        remove_flight(intake, flight);
    }
    if (partition->metrics)
        partition->metrics->lag = -1;
    partition->used = false;
}

/* ---- one record ---- */

static void refuse(struct intake *intake, struct flight *flight, const struct job_record *record,
                   const struct job_fault *fault)
{
    struct job_identity identity;
    struct result result;
    struct error err;
    job_identity_read(&identity, record);
    CHECK(result_from_fault(&result, &identity, fault, &err) == STATUS_OK);
    intake->shared->metrics->jobs_refused++;
    answer(intake, flight->handle, record, &result);
}

/* Answered without having run. */
static void turn_away(struct intake *intake, struct flight *flight, const struct job_record *record,
                      const char *code, const char *reason)
{
    struct job_identity identity;
    struct result result;
    struct error err;
    job_identity_read(&identity, record);
    CHECK(result_not_executed(&result, &identity, code, reason, &err) == STATUS_OK);
    answer(intake, flight->handle, record, &result);
}

static void start_job(struct intake *intake, struct flight *flight, struct job *job)
{
    struct engine_command *command = calloc(1, sizeof *command);
    CHECK(command != NULL);
    *command = (struct engine_command){.type = ENGINE_COMMAND_JOB, .job = job, .job_handle = flight->handle};
    flight->deadline_ms = job->deadline_ms;
    flight->cancellable = true;
    CHECK(channel_send(intake->shared->commands, command, -1));
}

/* A job that parsed: to the engine, or answered at once because it is too late for it. */
static void take_job(struct intake *intake, struct flight *flight, const struct job_record *record,
                     struct job *job)
{
    flight->names =
        (struct cancel_names){cancel_key(job->batch_id, NULL), cancel_key(job->batch_id, job->custom_id),
                              cancel_key_of_id(job->custom_id, strlen(job->custom_id))};
    bool expired = job->deadline_ms > 0 && job->deadline_ms <= walltime_ms();
    bool cancelled = cancellations_cover(intake->cancellations, &flight->names, record->timestamp_ms);
    if (!expired && !cancelled) {
        start_job(intake, flight, job);
        return;
    }
    job_close(job);
    if (cancelled)
        turn_away(intake, flight, record, "batch_cancelled", "the job was cancelled before it ran");
    else
        turn_away(intake, flight, record, "batch_expired", "the job's deadline had passed when it was taken");
}

/* kafka.tombstones: cancel. What it names was enqueued before it in this partition, so it runs or is done. */
static void take_tombstone(struct intake *intake, const struct partition *partition,
                           const struct job_record *record)
{
    if (strcmp(intake->shared->config->kafka.tombstones, "cancel") != 0 || !record->key)
        return;
    struct cancel_key key = cancel_key_of_id(record->key, record->key_bytes);
    for (size_t i = 0; i < intake->flight_capacity; i++) {
        struct flight *flight = &intake->flights[i];
        if (flight->handle && flight->partition == partition && flight->cancellable && !flight->cancelled &&
            memcmp(&flight->names.id, &key, sizeof key) == 0)
            cancel(intake, flight, STATUS_CANCELLED);
    }
}

static void take_record(struct intake *intake, const struct job_record *record)
{
    struct partition *partition = find_partition(intake, record->topic, record->partition);
    struct job_fault fault;
    struct job *job = NULL;
    CHECK(partition != NULL);
    if (!offset_ledger_take(partition->ledger, record->offset)) {
        intake->shared->metrics->jobs_repeated++;
        return;
    }
    intake->shared->metrics->jobs_consumed++;
    if (!record->value) {
        take_tombstone(intake, partition, record);
        offset_ledger_answer(partition->ledger, record->offset);
        partition->dirty = true;
        return;
    }
    struct flight *flight = add_flight(intake, partition, record);
    enum status status = job_parse(&job, intake->shared->parse, record, &fault);
    CHECK(status != STATUS_NO_MEMORY); /* restart: the record is not committed and comes again */
    if (status != STATUS_OK)
        refuse(intake, flight, record, &fault);
    else
        take_job(intake, flight, record, job);
}

/* ---- the loop ---- */

static void take_acks(struct intake *intake)
{
    for (struct emit_ack *ack; (ack = channel_receive(intake->shared->acks, 0));) {
        struct flight *flight = find_flight(intake, ack->job_handle);
        if (flight) {
            offset_ledger_answer(flight->partition->ledger, flight->offset);
            flight->partition->dirty = true;
            remove_flight(intake, flight);
        }
        free(ack);
    }
}

/* Full: fetching stops; a quarter free: it goes on. Between the two nothing changes, because a pause throws
 * away what was fetched ahead. */
static void balance(struct intake *intake)
{
    bool full = intake->flight_count >= intake->max_flights;
    for (int i = 0; i < MAX_PARTITIONS && !full; i++) {
        struct partition *partition = &intake->partitions[i];
        full = partition->used && offset_ledger_is_strained(partition->ledger);
    }
    bool roomy = intake->flight_count <= intake->max_flights * 3 / 4;
    bool pause = intake->shared->draining || full || (intake->paused && !roomy);
    if (pause == intake->paused)
        return;
    intake->paused = pause;
    intake->shared->metrics->paused = pause;
    job_source_pause(intake->source, pause);
}

static void check_deadlines(struct intake *intake, int64_t now_ms)
{
    for (size_t i = 0; i < intake->flight_capacity; i++) {
        struct flight *flight = &intake->flights[i];
        if (flight->handle && !flight->cancelled && flight->deadline_ms > 0 && flight->deadline_ms <= now_ms)
            cancel(intake, flight, STATUS_EXPIRED);
    }
}

static void check_cancellations(struct intake *intake)
{
    if (!control_reader_poll(intake->control, intake->cancellations, 0))
        return;
    for (size_t i = 0; i < intake->flight_capacity; i++) {
        struct flight *flight = &intake->flights[i];
        if (flight->handle && flight->cancellable && !flight->cancelled &&
            cancellations_cover(intake->cancellations, &flight->names, flight->timestamp_ms))
            cancel(intake, flight, STATUS_CANCELLED);
    }
}

static void measure(struct intake *intake)
{
    for (int i = 0; i < MAX_PARTITIONS; i++) {
        struct partition *partition = &intake->partitions[i];
        if (!partition->used || !partition->metrics)
            continue;
        partition->metrics->lag = job_source_lag(intake->source, partition->topic, partition->number,
                                                 offset_ledger_commit_offset(partition->ledger));
        int64_t oldest_ms = 0;
        for (size_t f = 0; f < intake->flight_capacity; f++) {
            const struct flight *flight = &intake->flights[f];
            if (flight->handle && flight->partition == partition && flight->timestamp_ms > 0 &&
                (oldest_ms == 0 || flight->timestamp_ms < oldest_ms))
                oldest_ms = flight->timestamp_ms;
        }
        partition->metrics->oldest_ms = oldest_ms;
    }
}

static void tick(struct intake *intake)
{
    int64_t now_ms = monotime_ms();
    intake->shared->intake_ms = now_ms;
    if (now_ms >= intake->next_commit_ms) {
        intake->next_commit_ms = now_ms + intake->shared->config->results.flush_ms;
        commit(intake, NULL, false);
    }
    if (now_ms < intake->next_tick_ms)
        return;
    intake->next_tick_ms = now_ms + TICK_MS;
    check_deadlines(intake, walltime_ms());
    check_cancellations(intake);
    measure(intake);
}

static void take_fault(struct intake *intake, const struct error *err)
{
    int64_t now_ms = monotime_ms();
    if (err->status != STATUS_UNAVAILABLE) {
        log_error("intake", "%s", err->text);
        intake->shared->failure = (int)err->status;
        intake->shared->draining = intake->shared->hurry = true;
        return;
    }
    if (strncmp(err->text, "offset out of range", 19) == 0)
        intake->shared->metrics->offset_resets++;
    if (now_ms - intake->logged_ms < LOG_EVERY_MS && intake->logged_ms)
        return;
    intake->logged_ms = now_ms;
    log_warn("intake", "%s", err->text);
}

/* The grace is over: what still runs is given back, another worker takes it. */
static void give_back(struct intake *intake)
{
    for (size_t i = 0; i < intake->flight_capacity; i++)
        if (intake->flights[i].handle) {
            cancel(intake, &intake->flights[i], STATUS_CLOSED);
            remove_flight(intake, &intake->flights[i]);
        }
}

static void *run(void *context)
{
    struct intake *intake = context;
    struct pipeline_shared *shared = intake->shared;
    control_reader_poll(intake->control, intake->cancellations, CONTROL_WAIT_MS);
    while (!shared->draining || intake->flight_count > 0) {
        struct job_record record;
        struct error err;
        balance(intake);
        if (job_source_poll(intake->source, channel_count(shared->acks) ? 0 : POLL_MS, &record, &err)) {
            shared->connected = true;
            if (!shared->draining) /* else it is not committed and comes to another worker */
                take_record(intake, &record);
        } else if (err.status != STATUS_OK) {
            take_fault(intake, &err);
        }
        take_acks(intake);
        tick(intake);
        if (shared->draining && shared->hurry)
            give_back(intake);
    }
    for (int i = 0; i < LAST_COMMITS && !shared->failure && (i == 0 || intake->ready_count > 0); i++)
        commit(intake, NULL, true);
    channel_shut(shared->commands);
    result_txn_close(intake->txn);
    drop_ready(intake, false);
    job_source_close(intake->source);
    control_reader_close(intake->control);
    return NULL;
}

enum status intake_start(struct intake **out, struct pipeline_shared *shared, struct error *err)
{
    *out = NULL;
    struct intake *intake = calloc(1, sizeof *intake);
    if (!intake)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the intake stage");
    intake->shared = shared;
    intake->max_flights = (size_t)shared->config->limits.max_inflight_jobs;
    intake->flight_capacity = intake->max_flights + 1024; /* what was fetched before a pause took effect */
    intake->flights = calloc(intake->flight_capacity, sizeof *intake->flights);
    struct job_source_callbacks callbacks = {take_assigned, take_revoked, take_commit_failed, intake};
    enum status status =
        intake->flights ? STATUS_OK : error_set(err, STATUS_NO_MEMORY, "no memory for the intake stage");
    if (status == STATUS_OK)
        status = cancellations_open(&intake->cancellations, err);
    if (status == STATUS_OK)
        status = control_reader_open(&intake->control, shared->config, err);
    if (status == STATUS_OK && shared->finished)
        status = result_txn_open(&intake->txn, shared->config, shared->worker_id, err);
    if (status == STATUS_OK)
        status = job_source_open(&intake->source, shared->config, &callbacks, err);
    if (status == STATUS_OK && pthread_create(&intake->thread, NULL, run, intake) != 0) {
        job_source_close(intake->source);
        status = error_set(err, STATUS_NO_MEMORY, "cannot start the intake thread");
    }
    if (status != STATUS_OK) {
        result_txn_close(intake->txn);
        control_reader_close(intake->control);
        cancellations_close(intake->cancellations);
        free(intake->flights);
        free(intake);
        return status;
    }
    *out = intake;
    return STATUS_OK;
}

void intake_join(struct intake *intake)
{
    if (!intake)
        return;
    pthread_join(intake->thread, NULL);
    for (int i = 0; i < MAX_PARTITIONS; i++)
        offset_ledger_close(intake->partitions[i].ledger);
    cancellations_close(intake->cancellations);
    free(intake->flights);
    free(intake);
}
