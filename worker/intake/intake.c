// SPDX-License-Identifier: Apache-2.0
// DESIGN: every taken record has a handle and an entry in `flights` until its result is acknowledged, its
// partition is taken away, or the worker gives it back. A partition's ledger learns of acknowledgements
// through the entry; an entry of a partition that was revoked meanwhile is gone, so a late acknowledgement
// finds nothing and harms nothing.
// Before a job starts, the ledger's reservation or strike that names it has been committed: whatever kills
// this process, the next owner knows who may have done it. A job found guilty is answered and kept as a dead
// letter.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/monotime.h"
#include "base/trace.h"
#include "worker/emit/dead_letter.h"
#include "worker/emit/result_record.h"
#include "worker/intake/cancellations.h"
#include "worker/intake/control_reader.h"
#include "worker/intake/intake_internal.h"
#include "worker/intake/record_copy.h"
#include "worker/intake/status_topic.h"

enum {
    MOST_PER_TURN = 64,
    TICK_MS = 100,
    LAST_SHARE = 4, /* of results.flush_ms: so long the last answer of a topic waits behind a commit */
    LOG_EVERY_MS = 10000,
    LAST_COMMITS = 10,
    SPARE_FLIGHTS = 1024,  /* every topic may have one, however small its share */
    CONTROL_WAIT_MS = 5000 /* for the cancellations of old, before the first job */
};

void emit_order_free(struct emit_order *order)
{
    if (!order)
        return;
    if (order->type == EMIT_ANSWER)
        result_release(&order->result);
    finished_result_free(order->dead_letter);
    free(order->key);
    free(order);
}

/* ---- messages ---- */

/* Orders and commands wait for room: both receivers always make progress. */
static void send_order(struct intake *intake, struct emit_order *order)
{
    CHECK(channel_send(intake->shared->orders, order, -1));
}

static void cancel(struct intake *intake, struct flight *flight, enum status reason)
{
    if (!flight->cancellable) /* the engine has never heard of it */
        return;
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

static void answer(struct intake *intake, const struct flight *flight, const struct job_record *record,
                   struct result *result, struct finished_result *dead_letter)
{
    struct emit_order *order = calloc(1, sizeof *order);
    CHECK(order != NULL);
    order->type = EMIT_ANSWER;
    order->job_handle = flight->handle;
    order->attempt = flight->attempts;
    order->dead_letter = dead_letter;
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

static struct lane *lane_of(struct intake *intake, const char *topic)
{
    for (size_t i = 0; i < intake->shared->config->kafka.topics.count; i++)
        if (strcmp(intake->lanes[i].topic, topic) == 0)
            return &intake->lanes[i];
    UNREACHABLE(); /* only what was subscribed to is assigned */
}

static void begin_partition(struct intake *intake, const struct job_source_partition *assigned)
{
    struct partition *partition = intake_find_partition(intake, assigned->topic, assigned->partition);
    for (int i = 0; i < MAX_PARTITIONS && !partition; i++)
        if (!intake->partitions[i].used)
            partition = &intake->partitions[i];
    CHECK(partition != NULL);
    int end = (int)(partition - intake->partitions) + 1;
    intake->partition_end = end > intake->partition_end ? end : intake->partition_end;
    intake->shared->metrics->rebalances++;
    if (!partition->ledger) {
        struct error err;
        CHECK(offset_ledger_open(&partition->ledger,
                                 (size_t)intake->shared->config->limits.max_partition_window,
                                 &err) == STATUS_OK);
        CHECK(!intake->txn || batch_tally_open(&partition->tally, &err) == STATUS_OK);
    }
    partition->used = true;
    snprintf(partition->topic, sizeof partition->topic, "%s", assigned->topic);
    partition->number = assigned->partition;
    partition->lane = lane_of(intake, assigned->topic);
    partition->sent_until = partition->safe_until = 0;
    partition->dirty = partition->left = partition->tallied = false;
    partition->metrics = metrics_partition(intake->shared->metrics, assigned->topic, assigned->partition);
    if (offset_ledger_begin(partition->ledger, assigned->offset, assigned->metadata) != STATUS_OK)
        log_warn("intake",
                 "the offset map of %s/%d is of an unknown version and is ignored: some jobs run again",
                 assigned->topic, assigned->partition);
    if (partition->tally)
        batch_tally_begin(partition->tally, assigned->topic, assigned->partition);
}

static void restore_checkpoint(struct intake *intake, const struct job_record *record)
{
    char topic[256];
    int32_t number;
    int64_t offset;
    if (!checkpoint_key_read(record->key, record->key_bytes, topic, &number, &offset))
        return;
    const struct partition *partition = intake_find_partition(intake, topic, number);
    if (partition && !partition->tallied)
        checkpoints_take(intake->checkpoints, record);
}

/* A record of the status topic. */
static void restore(void *context, const struct job_record *record)
{
    struct intake *intake = context;
    restore_checkpoint(intake, record);
    for (int i = 0; i < intake->partition_end; i++) {
        struct partition *partition = &intake->partitions[i];
        if (partition->used && !partition->tallied)
            batch_tally_restore(partition->tally, record);
    }
}

/* What earlier owners counted and left, before the first job: sums and jobs go on from there. */
static void read_status(struct intake *intake)
{
    struct error err;
    if (!intake->shared->config->kafka.status_topic[0])
        return;
    enum status status = status_topic_read(intake->shared->config, restore, intake, &err);
    if (status != STATUS_OK)
        log_warn("intake", "the progress of batches is not written: %s", err.text);
    for (int i = 0; i < intake->partition_end && status == STATUS_OK; i++)
        intake->partitions[i].tallied = intake->partitions[i].used;
}

static void take_assigned(void *context, const struct job_source_partition *assigned, size_t count)
{
    struct intake *intake = context;
    intake->shared->connected = true;
    for (size_t i = 0; i < count; i++)
        begin_partition(intake, &assigned[i]);
    if (intake->txn && count > 0)
        read_status(intake);
}

static void strike(struct intake *intake, struct flight *flight)
{
    if (flight->attempts == 0) /* the partition's reservation speaks for it */
        return;
    offset_ledger_strike(intake_partition_of(intake, flight)->ledger, flight->offset);
    flight->struck = true;
}

void intake_forgive(struct intake *intake, struct flight *flight)
{
    if (flight->struck)
        offset_ledger_forgive(intake_partition_of(intake, flight)->ledger, flight->offset);
    flight->struck = false;
}

static void take_answers(struct intake *intake);

/* A farewell: what ran here and goes to another worker has not been attempted, it was given away. */
static void leave(struct intake *intake, struct partition *partition)
{
    size_t at = 0;
    for (struct flight *flight; (flight = flights_each(intake->flights, &at));)
        if (flight->partition == partition)
            intake_forgive(intake, flight);
    partition->left = true;
    partition->dirty |= offset_ledger_leave(partition->ledger);
}

/* Unsaid, it would be held against the jobs that ran here. */
static void commit_farewell(struct intake *intake, const struct partition *only)
{
    for (int i = 0; i < LAST_COMMITS && !intake->shared->failure; i++)
        if (intake_commit(intake, only, true) && intake->ready_count == 0)
            return;
}

static void take_revoked(void *context, const struct job_source_partition *revoked, bool lost)
{
    struct intake *intake = context;
    struct partition *partition = intake_find_partition(intake, revoked->topic, revoked->partition);
    size_t at = 0;
    if (!partition)
        return;
    intake->shared->metrics->rebalances++;
    intake->taken_away++;
    take_answers(intake);
    if (!lost && !intake->closing) {
        leave(intake, partition);
        commit_farewell(intake, partition);
    }
    intake_drop_results_of(intake, partition);
    for (struct flight *flight; (flight = flights_each(intake->flights, &at));) {
        if (flight->partition != partition)
            continue;
        cancel(intake, flight, STATUS_CLOSED);
        intake_remove_flight(intake, flight);
    }
    if (partition->metrics)
        partition->metrics->lag = -1;
    checkpoints_forget(intake->checkpoints, partition->topic, partition->number);
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
    answer(intake, flight, record, &result, NULL);
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
    answer(intake, flight, record, &result, NULL);
}

/* It has ended one worker after the other: no other shall try. */
static void bury(struct intake *intake, struct flight *flight, const struct job_record *record)
{
    struct job_identity identity;
    struct job_fault fault = {.http_status = 500, .type = "server_error", .code = "job_poisoned"};
    struct dead_letter_source source = {.config = intake->shared->config,
                                        .worker_id = intake->shared->worker_id,
                                        .stage = "run",
                                        .exception = fault.code,
                                        .message = fault.message};
    struct result result;
    struct error err;
    snprintf(fault.message, sizeof fault.message,
             "%u workers ended while they ran this job; it is not tried again", flight->attempts);
    job_identity_read(&identity, record);
    CHECK(result_from_fault(&result, &identity, &fault, &err) == STATUS_OK);
    log_error("intake", "%s/%d offset %lld: job_poisoned: %s", record->topic, record->partition,
              (long long)record->offset, fault.message);
    answer(intake, flight, record, &result, dead_letter_new(&source, record));
}

static void start_job(struct intake *intake, struct flight *flight, struct job *job)
{
    struct engine_command *command = calloc(1, sizeof *command);
    CHECK(command != NULL);
    *command = (struct engine_command){.type = ENGINE_COMMAND_JOB, .job = job, .job_handle = flight->handle};
    job->attempt = flight->attempts;
    job->stream_attempt = flight->attempts + intake->taken_away;
    if (checkpoints_has(intake->checkpoints, job->source.topic, job->source.partition, job->source.offset))
        checkpoints_resume(intake->checkpoints, job, intake->shared->generation->system_fingerprint);
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
    size_t at = 0;
    for (struct flight *flight; (flight = flights_each(intake->flights, &at));)
        if (flight->partition == partition && flight->cancellable && !flight->cancelled &&
            memcmp(&flight->names.id, &key, sizeof key) == 0)
            cancel(intake, flight, STATUS_CANCELLED);
}

static void run_record(struct intake *intake, struct flight *flight, const struct job_record *record)
{
    struct job_fault fault;
    struct job *job = NULL;
    int64_t begin_ns = monotime_ns();
    enum status status = job_parse(&job, intake->shared->parse, record, &fault);
    trace_span(TRACE_INTAKE, "parse", begin_ns, "bytes", (int64_t)record->value_bytes);
    CHECK(status != STATUS_NO_MEMORY); /* restart: the record is not committed and comes again */
    if (status != STATUS_OK)
        refuse(intake, flight, record, &fault);
    else
        take_job(intake, flight, record, job);
}

/* True: it has as many jobs running as it may. */
static bool set_tenant(struct intake *intake, struct flight *flight, const struct job_record *record)
{
    for (size_t i = 0; i < record->header_count && intake->shared->config->worker.trust_headers; i++)
        if (strcmp(record->headers[i].name, "millrace-tenant") == 0 && record->headers[i].value)
            return flights_set_tenant(intake->flights, flight, record->headers[i].value,
                                      record->headers[i].value_bytes);
    return false;
}

static void take_record(struct intake *intake, const struct job_record *record)
{
    struct partition *partition = intake_find_partition(intake, record->topic, record->partition);
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
    unsigned attempts = offset_ledger_attempts(partition->ledger, record->offset);
    bool go = attempts == 0 && flights_are_free(intake->flights) && record->offset < partition->safe_until;
    struct flight *flight = flights_add(intake->flights, record, partition, attempts);
    go = !set_tenant(intake, flight, record) && go;
    partition->lane->count++;
    intake->shared->metrics->inflight_jobs = (int64_t)flights_count(intake->flights);
    if (attempts >= (unsigned)intake->shared->config->limits.max_attempts) {
        bury(intake, flight, record);
    } else if (go) {
        run_record(intake, flight, record);
    } else {
        struct job_record *held = record_copy(record);
        CHECK(held != NULL);
        flights_hold(intake->flights, flight, held);
    }
}

/* ---- jobs that wait for their turn ---- */

static bool is_on_record(struct intake *intake, const struct flight *flight)
{
    return flight->attempts == 0 && flight->offset < intake_partition_of(intake, flight)->safe_until;
}

/* Answers go with the commit that is about to be made: their topics' next ones have time. */
static void postpone_commits(struct intake *intake)
{
    int64_t now_ms = monotime_ms();
    for (int i = 0; i < intake->partition_end; i++)
        if (intake->partitions[i].used && intake->partitions[i].dirty)
            intake->partitions[i].lane->committed_ms = now_ms;
}

/* When what the topic has to commit is committed. Where no other job runs there is hardly any answer to wait
 * for: soon after the last commit. Else many go together: flush_ms after the last commit, and the first one
 * waits for those of the next steps even if nothing was committed for long, for jobs that began together
 * often end together. No answer waits longer than flush_ms; the last part is left for the transaction. */
static int64_t commit_time(const struct intake *intake, const struct lane *lane)
{
    int64_t flush_ms = intake->shared->config->results.flush_ms, last_ms = flush_ms / LAST_SHARE;
    if (lane->count == 0)
        return lane->committed_ms + last_ms;
    int64_t time_ms = lane->committed_ms + flush_ms, gathered_ms = lane->answered_ms + flush_ms - last_ms;
    return time_ms > gathered_ms ? time_ms : gathered_ms;
}

/* Puts on record that these are about to start. False: the broker did not take it, nothing may start. */
static bool write_ahead(struct intake *intake, struct flight *const *wave, size_t count)
{
    bool known = true;
    for (size_t i = 0; i < count; i++)
        known = known && is_on_record(intake, wave[i]);
    if (known)
        return true;
    postpone_commits(intake);
    for (size_t i = 0; i < count; i++) {
        if (is_on_record(intake, wave[i]))
            continue;
        strike(intake, wave[i]);
        intake_partition_of(intake, wave[i])->dirty = true;
    }
    if (intake_commit(intake, NULL, true))
        return true;
    for (size_t i = 0; i < count; i++)
        intake_forgive(intake, wave[i]);
    return false;
}

static void start_held(struct intake *intake)
{
    struct flight *wave[FLIGHTS_WAVE];
    int64_t now_ms = monotime_ms();
    if (flights_held(intake->flights) == 0 || now_ms < intake->next_start_ms)
        return;
    for (size_t count; (count = flights_wave(intake->flights, wave)) > 0;) {
        if (!write_ahead(intake, wave, count)) {
            intake->next_start_ms = now_ms + TXN_RETRY_MS;
            return;
        }
        for (size_t i = 0; i < count; i++) {
            struct job_record *record = flights_release(intake->flights, wave[i]);
            run_record(intake, wave[i], record);
            free(record);
        }
    }
}

/* ---- the loop ---- */

static void take_acks(struct intake *intake)
{
    for (struct emit_ack *ack; (ack = channel_receive(intake->shared->acks, 0));) {
        struct flight *flight = flights_find(intake->flights, ack->job_handle);
        if (flight)
            intake_note_answer(intake, flight);
        free(ack);
    }
}

static void take_answers(struct intake *intake)
{
    if (intake->txn)
        intake_take_finished(intake);
    else
        take_acks(intake);
}

static bool is_strained(const struct intake *intake, const struct lane *lane)
{
    for (int i = 0; i < intake->partition_end; i++) {
        const struct partition *partition = &intake->partitions[i];
        if (partition->used && partition->lane == lane && offset_ledger_is_strained(partition->ledger))
            return true;
    }
    return false;
}

/* No more is taken from a topic than its share may be in flight. */
static void balance(struct intake *intake)
{
    bool any = false;
    for (size_t i = 0; i < intake->shared->config->kafka.topics.count; i++) {
        struct lane *lane = &intake->lanes[i];
        bool pause = intake->shared->draining || lane->count >= lane->share || is_strained(intake, lane);
        any = any || pause;
        if (pause == lane->paused)
            continue;
        lane->paused = pause;
        job_source_pause(intake->source, lane->topic, pause);
    }
    intake->shared->metrics->paused = any;
}

static void check_deadlines(struct intake *intake, int64_t now_ms)
{
    size_t at = 0;
    for (struct flight *flight; (flight = flights_each(intake->flights, &at));)
        if (!flight->cancelled && flight->deadline_ms > 0 && flight->deadline_ms <= now_ms)
            cancel(intake, flight, STATUS_EXPIRED);
}

static void check_cancellations(struct intake *intake)
{
    if (!control_reader_poll(intake->control, intake->cancellations, 0))
        return;
    size_t at = 0;
    for (struct flight *flight; (flight = flights_each(intake->flights, &at));)
        if (flight->cancellable && !flight->cancelled &&
            cancellations_cover(intake->cancellations, &flight->names, flight->timestamp_ms))
            cancel(intake, flight, STATUS_CANCELLED);
}

static void measure(struct intake *intake)
{
    for (int i = 0; i < intake->partition_end; i++) {
        struct partition *partition = &intake->partitions[i];
        if (!partition->used || !partition->metrics)
            continue;
        partition->metrics->lag = job_source_lag(intake->source, partition->topic, partition->number,
                                                 offset_ledger_commit_offset(partition->ledger));
        int64_t oldest_ms = 0;
        size_t at = 0;
        for (const struct flight *flight; (flight = flights_each(intake->flights, &at));)
            if (flight->partition == partition && flight->timestamp_ms > 0 &&
                (oldest_ms == 0 || flight->timestamp_ms < oldest_ms))
                oldest_ms = flight->timestamp_ms;
        partition->metrics->oldest_ms = oldest_ms;
    }
}

/* Each topic's answers wait for their own kind only, whatever other topics do. */
static bool commit_is_due(const struct intake *intake, int64_t now_ms)
{
    for (int i = 0; i < intake->partition_end && now_ms >= intake->retry_ms; i++) {
        const struct partition *partition = &intake->partitions[i];
        if (partition->used && partition->dirty && now_ms >= commit_time(intake, partition->lane))
            return true;
    }
    return false;
}

static void tick(struct intake *intake)
{
    int64_t now_ms = monotime_ms();
    intake->shared->intake_ms = now_ms;
    if (commit_is_due(intake, now_ms)) {
        postpone_commits(intake);
        intake_commit(intake, NULL, false);
    }
    if (flights_count(intake->flights) == 0 && intake->ready_count == 0)
        intake->core_ns = monotime_core_ns(); /* idle time is nobody's */
    if (now_ms < intake->next_tick_ms)
        return;
    intake->next_tick_ms = now_ms + TICK_MS;
    check_deadlines(intake, walltime_ms());
    check_cancellations(intake);
    measure(intake);
}

void intake_take_fault(struct intake *intake, const struct error *err)
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

/* Draining: what has not started is another worker's. When the grace is over what runs as well: exactly once
 * it comes back through `finished`, with its checkpoint; in a hurry, or at least once, it is let go. */
static void give_back(struct intake *intake)
{
    const struct pipeline_shared *shared = intake->shared;
    bool hurry = shared->hurry || (shared->grace_over && !intake->txn);
    size_t at = 0;
    for (struct flight *flight; (flight = flights_each(intake->flights, &at));) {
        if (flight->held || hurry) {
            intake_forgive(intake, flight);
            cancel(intake, flight, STATUS_CLOSED);
            intake_remove_flight(intake, flight);
        } else if (shared->grace_over && !flight->cancelled) {
            cancel(intake, flight, STATUS_CLOSED);
        }
    }
}

static void say_farewell(struct intake *intake)
{
    for (int i = 0; i < intake->partition_end; i++)
        if (intake->partitions[i].used)
            leave(intake, &intake->partitions[i]);
    commit_farewell(intake, NULL);
    intake->closing = true;
}

/* An answer ends the wait for records if it may be due: the first since the topic's commit, from which on
 * time is counted, and the last. The others are taken when those are committed. */
static bool answers_matter(const struct intake *intake)
{
    bool room = intake->ready_count + MOST_PER_JOB <= MOST_IN_TXN; /* else they stay where they are */
    bool matter = !intake->txn;
    for (size_t i = 0; i < intake->shared->config->kafka.topics.count && !matter; i++) {
        const struct lane *lane = &intake->lanes[i];
        matter = lane->count == 1 || (lane->count > 0 && lane->answered_ms == 0);
    }
    return room && matter;
}

/* How long this thread has nothing to do, if no record comes: until the next tick or commit. */
static int time_to_wait(const struct intake *intake)
{
    int64_t now_ms = monotime_ms(), until_ms = now_ms + TICK_MS;
    for (int i = 0; i < intake->partition_end; i++) {
        const struct partition *partition = &intake->partitions[i];
        int64_t commit_ms =
            partition->used && partition->dirty ? commit_time(intake, partition->lane) : until_ms;
        commit_ms = commit_ms > intake->retry_ms ? commit_ms : intake->retry_ms;
        until_ms = commit_ms < until_ms ? commit_ms : until_ms;
    }
    return until_ms > now_ms ? (int)(until_ms - now_ms) : 0;
}

/* What has been fetched, as far as there is room: a commit may take longer than it lasts until the next one
 * is due, and intake must not fall to one record per commit. Waits for the first. */
static void take_records(struct intake *intake)
{
    struct pipeline_shared *shared = intake->shared;
    struct job_record record;
    struct error err;
    int wait_ms = time_to_wait(intake);
    const struct channel *answers = intake->txn ? shared->finished : shared->acks;
    job_source_wake_on(intake->source, answers_matter(intake) ? channel_fd(answers) : -1);
    for (int i = 0; i < MOST_PER_TURN; i++, wait_ms = 0) {
        balance(intake);
        if (!job_source_poll(intake->source, wait_ms, &record, &err)) {
            if (err.status != STATUS_OK)
                intake_take_fault(intake, &err);
            return;
        }
        shared->connected = true;
        if (!shared->draining) /* else it is not committed and comes to another worker */
            take_record(intake, &record);
    }
}

bool intake_turn(struct intake *intake)
{
    struct pipeline_shared *shared = intake->shared;
    if (shared->draining && flights_count(intake->flights) == 0)
        return false;
    take_records(intake);
    take_answers(intake);
    if (shared->draining)
        give_back(intake);
    else
        start_held(intake); /* what it commits has the answers with it */
    tick(intake);
    return true;
}

void intake_end(struct intake *intake)
{
    say_farewell(intake);
    channel_shut(intake->shared->commands);
    result_txn_close(intake->txn);
    intake_drop_ready(intake, false);
    job_source_close(intake->source);
    control_reader_close(intake->control);
    intake->txn = NULL;
    intake->source = NULL;
    intake->control = NULL;
}

static void *run(void *context)
{
    struct intake *intake = context;
    control_reader_poll(intake->control, intake->cancellations, CONTROL_WAIT_MS);
    while (intake_turn(intake))
        ;
    intake_end(intake);
    return NULL;
}

static enum status open_lanes(struct intake *intake, struct error *err)
{
    const struct config_topics *topics = &intake->shared->config->kafka.topics;
    size_t weights = 0;
    intake->lanes = calloc(topics->count, sizeof *intake->lanes);
    if (!intake->lanes)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the job topics");
    for (size_t i = 0; i < topics->count; i++)
        weights += (size_t)topics->items[i].weight;
    for (size_t i = 0; i < topics->count; i++) {
        size_t share = intake->max_flights * (size_t)topics->items[i].weight / weights;
        intake->lanes[i] = (struct lane){.topic = topics->items[i].name, .share = share ? share : 1};
    }
    return STATUS_OK;
}

enum status intake_open(struct intake **out, struct pipeline_shared *shared, struct error *err)
{
    *out = NULL;
    struct intake *intake = calloc(1, sizeof *intake);
    if (!intake)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the intake stage");
    intake->shared = shared;
    intake->max_flights = (size_t)shared->config->limits.max_inflight_jobs;
    struct job_source_callbacks callbacks = {take_assigned, take_revoked, intake_take_commit_answer, intake};
    enum status status = flights_open(&intake->flights, intake->max_flights + SPARE_FLIGHTS,
                                      (size_t)shared->config->limits.max_inflight_per_tenant, err);
    if (status == STATUS_OK)
        status = open_lanes(intake, err);
    if (status == STATUS_OK)
        status = cancellations_open(&intake->cancellations, err);
    if (status == STATUS_OK)
        status = checkpoints_open(&intake->checkpoints, err);
    if (status == STATUS_OK)
        status = control_reader_open(&intake->control, shared->config, err);
    if (status == STATUS_OK && shared->finished)
        status = result_txn_open(&intake->txn, shared->config, shared->worker_id, err);
    if (status == STATUS_OK)
        status = job_source_open(&intake->source, shared->config, &callbacks, err);
    if (status != STATUS_OK) {
        intake_close(intake);
        return status;
    }
    *out = intake;
    return STATUS_OK;
}

void intake_close(struct intake *intake)
{
    job_source_close(intake->source);
    result_txn_close(intake->txn);
    control_reader_close(intake->control);
    for (int i = 0; i < intake->partition_end; i++) {
        offset_ledger_close(intake->partitions[i].ledger);
        batch_tally_close(intake->partitions[i].tally);
    }
    checkpoints_close(intake->checkpoints);
    cancellations_close(intake->cancellations);
    flights_close(intake->flights);
    free(intake->lanes);
    free(intake);
}

enum status intake_start(struct intake **out, struct pipeline_shared *shared, struct error *err)
{
    struct intake *intake;
    *out = NULL;
    enum status status = intake_open(&intake, shared, err);
    if (status != STATUS_OK)
        return status;
    if (pthread_create(&intake->thread, NULL, run, intake) != 0) {
        intake_close(intake);
        return error_set(err, STATUS_NO_MEMORY, "cannot start the intake thread");
    }
    *out = intake;
    return STATUS_OK;
}

void intake_join(struct intake *intake)
{
    if (!intake)
        return;
    pthread_join(intake->thread, NULL);
    intake_close(intake);
}
