// SPDX-License-Identifier: Apache-2.0
// DESIGN: a live job is found by its handle. A result stays in `unacked` until the broker has it; only then
// does intake hear of it. Orders are drained after a report was taken and before it is applied, so that the
// reason of a cancellation is known before the cancelled job's last report.
#include "worker/emit/emit.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/json.h"
#include "base/monotime.h"
#include "base/trace.h"
#include "worker/emit/finished_result.h"
#include "worker/emit/result_record.h"
#include "worker/emit/token_stream.h"
#include "worker/intake/checkpoints.h"

enum {
    TURN_MS = 50,
    SINK_TURN_MS = 10, /* the sink's acknowledgements end no wait */
    TOPIC_BYTES = 900,
    CHUNK_BYTES = 16 << 20,
    LAST_FLUSH_MS = 15000,
    SHOWN_JOBS = 200,
    SHOWN_TEXT_BYTES = 160,
    SHOWN_BYTES = 1 << 20
};

struct live {        /* one accepted job */
    uint64_t handle; /* 0: free */
    struct generation *generation;
    enum status reason; /* of a cancellation, OK: none */
    bool streaming;     /* formatting has begun: it goes on to the end */
    uint64_t seq;
    int64_t last_token_ns;
    size_t topic_bytes;
    char topic[TOPIC_BYTES];
};

struct emit {
    struct pipeline_shared *shared;
    pthread_t thread;
    struct result_sink *sink;    /* NULL: exactly once, intake publishes */
    struct token_stream *stream; /* NULL: disabled */
    bool stream_calls;           /* its sockets may have something to read */
    int64_t stream_ms;           /* when they are looked at even so */
    struct live *live;           /* [capacity] at handle % capacity, then linear */
    size_t capacity;
    struct bytes chunks;
    struct result_record record;
    struct finished_result *outbox, **outbox_end; /* to be sent, in order; what failed comes back here */
    int64_t end_ms; /* no more reports: how long the last results are waited for; 0: not yet */
};

/* ---- live jobs ---- */

static struct live *find_live(struct emit *emit, uint64_t handle)
{
    for (size_t i = 0; i < emit->capacity; i++) {
        struct live *live = &emit->live[(handle + i) % emit->capacity];
        if (live->handle == handle)
            return live;
    }
    return NULL;
}

static struct live *add_live(struct emit *emit, uint64_t handle)
{
    for (size_t i = 0; i < emit->capacity; i++) {
        struct live *live = &emit->live[(handle + i) % emit->capacity];
        if (live->handle == 0) {
            *live = (struct live){.handle = handle};
            return live;
        }
    }
    UNREACHABLE(); /* intake keeps fewer jobs in flight */
}

static void remove_live(struct live *live)
{
    generation_close(live->generation);
    live->handle = 0;
    live->generation = NULL;
}

static void make_topic(struct live *live, const struct job *job)
{
    struct bytes topic;
    bytes_init(&topic, TOPIC_BYTES - 1);
    bytes_appendf(&topic, "job.%s.%s", job->batch_id, job->custom_id);
    live->topic_bytes =
        topic.failed ? 0 : topic.count_bytes + 1; /* the NUL keeps "job.b.1" from matching "job.b.10" */
    if (!topic.failed)
        memcpy(live->topic, topic.data, live->topic_bytes);
    bytes_release(&topic);
}

/* ---- acknowledgements ---- */

static void acknowledge(struct emit *emit, uint64_t handle)
{
    struct emit_ack *ack = malloc(sizeof *ack);
    CHECK(ack != NULL);
    ack->job_handle = handle;
    if (!channel_send(emit->shared->acks, ack, -1))
        free(ack); /* intake has ended: it gave these jobs back */
}

static void post(struct emit *emit, struct finished_result *finished)
{
    finished->next = NULL;
    *emit->outbox_end = finished;
    emit->outbox_end = &finished->next;
}

/* Called by librdkafka inside a poll: only notes what is to be done. */
static void take_acked(void *context, void *tag, const struct error *error)
{
    struct emit *emit = context;
    struct finished_result *finished = tag;
    if (!error && finished->job_handle == 0) { /* a dead letter: now its answer */
        emit->shared->metrics->dead_letters++;
        post(emit, finished->after);
        finished->after = NULL;
        finished_result_free(finished);
        return;
    }
    if (!error) {
        emit->shared->metrics->results[finished->status]++;
        acknowledge(emit, finished->job_handle);
        finished_result_free(finished);
        return;
    }
    emit->shared->metrics->produce_failures++;
    log_warn("emit", "a result was not stored and is sent again: %s", error->text);
    post(emit, error->status == STATUS_TOO_LARGE ? finished_result_shrink(finished) : finished);
}

/* ---- publishing ---- */

static void fail(struct emit *emit, const struct error *err)
{
    if (emit->shared->failure == STATUS_OK)
        log_error("emit", "%s", err->text);
    emit->shared->failure = (int)err->status;
    emit->shared->draining = emit->shared->hurry = true;
}

/* Sends what is waiting; a full queue ends the turn. */
static void send_outbox(struct emit *emit)
{
    while (emit->outbox) {
        struct error err;
        struct finished_result *first = emit->outbox, *rest = first->next;
        enum status status = result_sink_send(emit->sink, &first->record, &err);
        if (status == STATUS_FULL)
            return;
        emit->outbox = rest;
        if (!rest)
            emit->outbox_end = &emit->outbox;
        if (status == STATUS_TOO_LARGE) {
            post(emit, finished_result_shrink(first));
        } else if (status != STATUS_OK) {
            fail(emit, &err);
            finished_result_free(first);
        }
    }
}

/* Exactly once: the intake thread puts the result and its offset into one transaction. */
static void send_finished(struct emit *emit, struct finished_result *finished)
{
    if (!emit->shared->finished)
        post(emit, finished);
    else if (!channel_send(emit->shared->finished, finished, -1))
        finished_result_free(finished); /* intake has ended: it gave the job back */
}

static enum metrics_result status_of(const struct result *result)
{
    return strcmp(result->status, "completed") == 0   ? METRICS_COMPLETED
           : strcmp(result->status, "cancelled") == 0 ? METRICS_CANCELLED
           : strcmp(result->status, "expired") == 0   ? METRICS_EXPIRED
                                                      : METRICS_FAILED;
}

static struct finished_result *make_finished(struct emit *emit, const struct result_record_source *source,
                                             const struct job_identity *identity, uint64_t handle)
{
    result_record_fill(&emit->record, source);
    struct finished_result *finished = finished_result_new(handle, &emit->record.record);
    CHECK(finished != NULL);
    finished->status = (int)status_of(source->result);
    finished->identity = *identity;
    finished->cost = (struct result_cost){source->result->prompt_tokens, source->result->cached_tokens,
                                          source->result->completion_tokens};
    return finished;
}

static void measure(struct metrics *metrics, const struct job *job, const struct result *result)
{
    metrics_observe(&metrics->ttft, result->ttft_ns);
    metrics_observe(&metrics->e2e, result->e2e_ns);
    metrics_observe(&metrics->queue, result->queue_ns);
    metrics_count(&metrics->params_n, job->sampling.n);
    metrics_count(&metrics->params_max_tokens, (uint64_t)job->sampling.max_tokens);
    if (result->ttft_ns < 0 || result->e2e_ns < 0 || result->queue_ns < 0)
        return; /* it did not run */
    metrics_observe(&metrics->prefill, result->ttft_ns - result->queue_ns);
    metrics_observe(&metrics->decode, result->e2e_ns - result->ttft_ns);
    metrics_observe(&metrics->inference, result->e2e_ns - result->queue_ns);
    metrics_count(&metrics->prompt_tokens, result->prompt_tokens);
    metrics_count(&metrics->generation_tokens, result->completion_tokens);
    metrics_count(&metrics->max_generation_tokens, result->completion_tokens / job->sampling.n);
}

static void publish(struct emit *emit, struct live *live, const struct result *result)
{
    const struct job *job = generation_job(live->generation);
    struct job_identity identity;
    result_identity_of(&identity, job);
    struct result_record_source source = {.config = emit->shared->config,
                                          .worker_id = emit->shared->worker_id,
                                          .result = result,
                                          .job = job,
                                          .record = &job->source,
                                          .attempt = job->attempt};
    measure(emit->shared->metrics, job, result);
    send_finished(emit, make_finished(emit, &source, &identity, live->handle));
}

static void publish_answer(struct emit *emit, struct emit_order *order)
{
    order->source.key = order->key;
    order->source.key_bytes = order->key_bytes;
    struct result_record_source source = {.config = emit->shared->config,
                                          .worker_id = emit->shared->worker_id,
                                          .result = &order->result,
                                          .identity = &order->identity,
                                          .record = &order->source,
                                          .attempt = order->attempt};
    struct finished_result *finished = make_finished(emit, &source, &order->identity, order->job_handle);
    struct finished_result *dead_letter = order->dead_letter;
    order->dead_letter = NULL;
    if (dead_letter)
        dead_letter->after = finished;
    send_finished(emit, dead_letter ? dead_letter : finished);
}

/* ---- streaming ---- */

static uint32_t read_u32le(const char *at)
{
    const unsigned char *b = (const unsigned char *)at;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static void stream_one(struct emit *emit, struct live *live, uint32_t flags, const char *chunk, size_t bytes)
{
    flags |= live->seq == 0 ? TOKEN_STREAM_FIRST : 0;
    emit->stream_calls = true; /* sending may take the news off a socket's descriptor */
    token_stream_publish(emit->stream, live->topic, live->topic_bytes, live->seq++,
                         generation_job(live->generation)->stream_attempt, flags, chunk, bytes);
}

static void stream_chunks(struct emit *emit, struct live *live)
{
    size_t at = 0;
    while (at + 4 <= emit->chunks.count_bytes) {
        uint32_t bytes = read_u32le(emit->chunks.data + at);
        stream_one(emit, live, 0, emit->chunks.data + at + 4, bytes);
        at += 4 + bytes;
    }
}

static void end_stream(struct emit *emit, struct live *live, bool retry)
{
    if (live->streaming)
        stream_one(emit, live, TOKEN_STREAM_LAST | (retry ? TOKEN_STREAM_RETRY : 0), "[DONE]", 6);
}

static bool decide_streaming(struct emit *emit, struct live *live)
{
    if (!emit->stream || live->topic_bytes == 0)
        return false;
    if (!live->streaming)
        live->streaming = generation_job(live->generation)->stream_requested ||
                          token_stream_wanted(emit->stream, live->topic, live->topic_bytes);
    return live->streaming;
}

/* ---- reports ---- */

static void finish_refused(struct emit *emit, struct live *live, const struct error *error)
{
    struct job_identity identity;
    struct job_fault fault = {.http_status = 400, .type = "invalid_request_error"};
    struct result result;
    struct error err;
    result_identity_of(&identity, generation_job(live->generation));
    snprintf(fault.message, sizeof fault.message, "%s", error->text);
    CHECK(result_from_fault(&result, &identity, &fault, &err) == STATUS_OK);
    publish(emit, live, &result);
    result_release(&result);
    end_stream(emit, live, false);
    remove_live(live);
}

static void publish_cancelled(struct emit *emit, struct live *live)
{
    struct job_identity identity;
    struct result result;
    struct error err;
    bool expired = live->reason == STATUS_EXPIRED;
    result_identity_of(&identity, generation_job(live->generation));
    enum status status =
        expired && generation_job(live->generation)->keep_partial
            ? generation_partial_result(live->generation, &result, &err)
            : result_not_executed(
                  &result, &identity, expired ? "batch_expired" : "batch_cancelled",
                  expired ? "the job's deadline passed while it ran" : "the job was cancelled", &err);
    CHECK(status == STATUS_OK);
    publish(emit, live, &result);
    result_release(&result);
}

/* The job is another worker's now. Intake hears of it, and what it takes to go on. */
static void give_back(struct emit *emit, const struct live *live, const struct engine_report_item *item)
{
    const char *status_topic = emit->shared->config->kafka.status_topic;
    static const struct sink_record nothing;
    if (!emit->shared->finished)
        return;
    struct finished_result *finished = item->so_far && status_topic[0]
                                           ? checkpoint_new(live->handle, generation_job(live->generation),
                                                            emit->shared->generation->system_fingerprint,
                                                            status_topic, item->so_far, item->so_far_count)
                                           : NULL;
    if (!finished && (finished = finished_result_new(live->handle, &nothing)))
        finished->kind = FINISHED_GIVEN_BACK;
    if (finished)
        send_finished(emit, finished);
}

static void finish_cancelled(struct emit *emit, struct live *live, const struct engine_report_item *item)
{
    emit->shared->metrics->finished_abort++;
    if (live->reason == STATUS_CLOSED)
        give_back(emit, live, item);
    else
        publish_cancelled(emit, live);
    end_stream(emit, live, live->reason == STATUS_CLOSED);
    remove_live(live);
}

static void finish(struct emit *emit, struct live *live, const struct engine_report_item *item)
{
    struct result result;
    struct error err;
    if (live->reason != STATUS_OK) {
        finish_cancelled(emit, live, item);
        return;
    }
    CHECK(generation_result(live->generation, &result, &err) == STATUS_OK);
    if (strcmp(result.finish_reason, "length") == 0)
        emit->shared->metrics->finished_length++;
    else
        emit->shared->metrics->finished_stop++;
    publish(emit, live, &result);
    result_release(&result);
    end_stream(emit, live, false);
    remove_live(live);
}

/* The job went away and has come back before the engine ended what it had begun: that stream ends here, so
 * that its readers see one attempt after the other. */
static void end_earlier_stream(struct emit *emit, const struct live *live)
{
    for (size_t i = 0; i < emit->capacity; i++) {
        struct live *other = &emit->live[i];
        if (other == live || !other->handle || other->topic_bytes != live->topic_bytes ||
            memcmp(other->topic, live->topic, live->topic_bytes) != 0)
            continue;
        end_stream(emit, other, true);
        other->streaming = false;
        other->topic_bytes = 0;
    }
}

static void accept(struct emit *emit, const struct engine_report_item *item)
{
    struct error err;
    struct live *live = add_live(emit, item->job_handle);
    make_topic(live, item->job);
    CHECK(generation_open(&live->generation, emit->shared->generation, item->job, &err) == STATUS_OK);
    if (item->job->stream_attempt > 0 && live->topic_bytes > 0)
        end_earlier_stream(emit, live);
}

static void apply_item(struct emit *emit, const struct engine_report_item *item, int64_t now_ns)
{
    struct error err;
    if (item->type == REPORT_ACCEPTED)
        accept(emit, item);
    struct live *live = find_live(emit, item->job_handle);
    CHECK(live != NULL);
    if (item->type == REPORT_REFUSED) {
        finish_refused(emit, live, &item->error);
        return;
    }
    bool streaming = decide_streaming(emit, live);
    bytes_reset(&emit->chunks);
    CHECK(generation_apply(live->generation, item, streaming ? &emit->chunks : NULL, &err) == STATUS_OK);
    if (streaming)
        stream_chunks(emit, live);
    if (item->type == REPORT_TOKEN) {
        if (live->last_token_ns)
            metrics_observe(&emit->shared->metrics->inter_token, now_ns - live->last_token_ns);
        live->last_token_ns = now_ns;
    }
    if (live->reason == STATUS_OK) /* it was cancelled before it was accepted */
        live->reason = item->error.status;
    if (generation_done(live->generation))
        finish(emit, live, item);
}

static void take_orders(struct emit *emit)
{
    for (struct emit_order *order; (order = channel_receive(emit->shared->orders, 0));) {
        struct live *live = order->type == EMIT_REASON ? find_live(emit, order->job_handle) : NULL;
        if (order->type == EMIT_ANSWER)
            publish_answer(emit, order);
        else if (live && live->reason == STATUS_OK)
            live->reason = order->reason;
        emit_order_free(order);
    }
}

static void take_report(struct emit *emit, struct engine_report *report)
{
    int64_t begin_ns = monotime_ns();
    take_orders(emit);
    for (size_t i = 0; i < report->count; i++)
        apply_item(emit, &report->items[i], report->step_end_ns);
    trace_span(TRACE_EMIT, "report", begin_ns, "items", (int64_t)report->count);
    engine_report_free(report);
}

/* ---- the loop ---- */

static void wait_for_work(struct emit *emit)
{
    struct pollfd fds[2 + TOKEN_STREAM_FDS] = {{.fd = channel_fd(emit->shared->reports), .events = POLLIN},
                                               {.fd = channel_fd(emit->shared->orders), .events = POLLIN}};
    nfds_t count = 2;
    if (channel_is_shut(emit->shared->reports))
        fds[0].fd = -1; /* a shut channel is readable for ever */
    if (emit->stream) {
        int stream[TOKEN_STREAM_FDS];
        token_stream_fds(emit->stream, stream);
        for (int i = 0; i < TOKEN_STREAM_FDS; i++)
            fds[count++] = (struct pollfd){.fd = stream[i], .events = POLLIN};
    }
    int ready = poll(fds, count, emit->sink ? SINK_TURN_MS : TURN_MS);
    emit->stream_calls |= ready <= 0;
    for (nfds_t i = 2; i < count; i++)
        emit->stream_calls |= fds[i].revents != 0;
}

static void publish_stream_stats(struct emit *emit)
{
    struct token_stream_stats stats;
    struct metrics *metrics = emit->shared->metrics;
    token_stream_stats_read(emit->stream, &stats);
    metrics->stream_chunks = stats.chunks;
    metrics->stream_dropped = stats.dropped;
    metrics->stream_replays = stats.replays;
    metrics->stream_subscribers = stats.subscribers;
}

/* ---- for people who look ---- */

/* The end of the text, from a whole character on. */
static void describe_text(const struct generation_progress *progress, struct bytes *out)
{
    size_t from = progress->text_bytes > SHOWN_TEXT_BYTES ? progress->text_bytes - SHOWN_TEXT_BYTES : 0;
    while (from < progress->text_bytes && ((unsigned char)progress->text[from] & 0xC0) == 0x80)
        from++;
    bytes_append_text(out, ",\"text\":");
    json_append_string(out, progress->text ? progress->text + from : "", progress->text_bytes - from);
}

static void describe_job(const struct emit *emit, const struct live *live, struct bytes *out)
{
    const struct job *job = generation_job(live->generation);
    struct generation_progress progress;
    generation_progress_read(live->generation, &progress);
    bytes_append_text(out, "{\"batch_id\":");
    json_append_string(out, job->batch_id, strlen(job->batch_id));
    bytes_append_text(out, ",\"custom_id\":");
    json_append_string(out, job->custom_id, strlen(job->custom_id));
    bytes_appendf(out,
                  ",\"topic\":\"%s\",\"partition\":%d,\"offset\":%lld,\"attempt\":%u,\"prompt_tokens\":%llu,"
                  "\"tokens\":%llu,\"most_tokens\":%llu,\"age_ms\":%lld",
                  job->source.topic, (int)job->source.partition, (long long)job->source.offset, job->attempt,
                  (unsigned long long)progress.prompt_tokens, (unsigned long long)progress.tokens,
                  (unsigned long long)progress.most_tokens, (long long)(progress.age_ns / 1000000));
    if (emit->shared->config->status_page.show_text)
        describe_text(&progress, out);
    bytes_append_char(out, '}');
}

static void describe_jobs(struct emit *emit)
{
    int64_t now_ms = monotime_ms();
    struct bytes text;
    int shown = 0;
    if (!snapshot_wanted(&emit->shared->jobs, now_ms))
        return;
    bytes_init(&text, SHOWN_BYTES);
    bytes_append_char(&text, '[');
    for (size_t i = 0; i < emit->capacity && shown < SHOWN_JOBS; i++) {
        if (!emit->live[i].handle)
            continue;
        bytes_append_text(&text, shown++ ? ",\n" : "");
        describe_job(emit, &emit->live[i], &text);
    }
    bytes_append_char(&text, ']');
    snapshot_post(&emit->shared->jobs, &text, now_ms);
    bytes_release(&text);
}

static void work(struct emit *emit)
{
    struct error err;
    emit->shared->emit_ms = monotime_ms();
    describe_jobs(emit);
    if (emit->stream && (emit->stream_calls || emit->shared->emit_ms >= emit->stream_ms)) {
        emit->stream_calls = false;
        emit->stream_ms = emit->shared->emit_ms + TURN_MS;
        token_stream_service(emit->stream);
        publish_stream_stats(emit);
    }
    for (struct engine_report *report; (report = channel_receive(emit->shared->reports, 0));)
        take_report(emit, report);
    take_orders(emit);
    if (!emit->sink)
        return;
    send_outbox(emit);
    if (result_sink_poll(emit->sink, 0, &err) != STATUS_OK)
        fail(emit, &err);
}

bool emit_turn(struct emit *emit)
{
    struct pipeline_shared *shared = emit->shared;
    work(emit);
    bool over = channel_is_shut(shared->reports) && channel_count(shared->reports) == 0;
    if (over && emit->end_ms == 0)
        emit->end_ms = monotime_ms() + LAST_FLUSH_MS;
    return !over || (emit->sink && (emit->outbox || result_sink_unsent(emit->sink) > 0) &&
                     monotime_ms() < emit->end_ms && !shared->failure);
}

static void *run(void *context)
{
    struct emit *emit = context;
    while (emit_turn(emit))
        wait_for_work(emit);
    return NULL;
}

static enum status open_stream(struct emit *emit, struct error *err)
{
    const struct config *config = emit->shared->config;
    struct token_stream_options options = {.bind = config->stream.bind,
                                           .replay_bind = config->stream.replay_bind,
                                           .proxy = config->stream.proxy,
                                           .proxy_replay = config->stream.proxy_replay,
                                           .security = stream_security_of(config),
                                           .high_water_mark = (int)config->stream.high_water_mark,
                                           .replay_bytes = (size_t)config->stream.replay_bytes,
                                           .epoch = emit->shared->epoch};
    return config->stream.enabled ? token_stream_open(&emit->stream, &options, err) : STATUS_OK;
}

static enum status open_parts(struct emit *emit, struct error *err)
{
    emit->capacity = (size_t)emit->shared->config->limits.max_inflight_jobs + 2048;
    emit->live = calloc(emit->capacity, sizeof *emit->live);
    bytes_init(&emit->chunks, CHUNK_BYTES);
    if (!emit->live)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the emit stage");
    enum status status = open_stream(emit, err);
    if (status == STATUS_OK && !emit->shared->finished)
        status = result_sink_open(&emit->sink, emit->shared->config, take_acked, emit, err);
    return status;
}

enum status emit_open(struct emit **out, struct pipeline_shared *shared, struct error *err)
{
    *out = NULL;
    struct emit *emit = calloc(1, sizeof *emit);
    if (!emit)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the emit stage");
    emit->shared = shared;
    emit->outbox_end = &emit->outbox;
    enum status status = open_parts(emit, err);
    if (status != STATUS_OK) {
        emit_close(emit);
        return status;
    }
    *out = emit;
    return STATUS_OK;
}

void emit_close(struct emit *emit)
{
    result_sink_close(emit->sink);
    for (struct finished_result *finished; (finished = emit->outbox);) {
        emit->outbox = finished->next;
        finished_result_free(finished);
    }
    token_stream_close(emit->stream);
    for (size_t i = 0; emit->live && i < emit->capacity; i++)
        if (emit->live[i].handle)
            remove_live(&emit->live[i]);
    bytes_release(&emit->chunks);
    free(emit->live);
    free(emit);
}

enum status emit_start(struct emit **out, struct pipeline_shared *shared, struct error *err)
{
    struct emit *emit;
    *out = NULL;
    enum status status = emit_open(&emit, shared, err);
    if (status != STATUS_OK)
        return status;
    if (pthread_create(&emit->thread, NULL, run, emit) != 0) {
        emit_close(emit);
        return error_set(err, STATUS_NO_MEMORY, "cannot start the emit thread");
    }
    *out = emit;
    return STATUS_OK;
}

void emit_join(struct emit *emit)
{
    if (!emit)
        return;
    pthread_join(emit->thread, NULL);
    emit_close(emit);
}
