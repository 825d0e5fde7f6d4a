// SPDX-License-Identifier: Apache-2.0
#include "worker/emit/kv_events.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/bytes.h"
#include "base/channel.h"
#include "base/log.h"
#include "base/monotime.h"
#include "worker/emit/kv_event_batch.h"

enum {
    BATCHES_QUEUED = 65536,
    BATCHES_KEPT = 16384, /* for replay; replay_bytes may keep fewer */
    HIGH_WATER_MARK = 100000,
    MESSAGE_BYTES_MOST = 65 << 20,
    REQUEST_BYTES = 256,
    REQUEST_FRAMES = 3,
    TOPIC_BYTES = 256,
    POLL_MS = 1000
};

struct kept { /* a published batch */
    uint64_t seq;
    struct bytes message;
};

struct kv_events {
    void *context, *publisher, *replay;
    struct channel *batches; /* engine -> publisher: struct kv_event_batch */
    pthread_t thread;
    bool started;
    char topic[TOPIC_BYTES];
    /* the engine's thread */
    struct kv_event_batch *open; /* NULL: nothing collected */
    uint64_t next_seq;
    /* the publisher's thread: a ring of the last batches */
    struct kept *kept; /* [BATCHES_KEPT] */
    size_t first, kept_count, kept_bytes, replay_bytes;
    _Atomic uint64_t published, dropped, replays;
};

static void put_be64(uint8_t out[8], uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(value >> (56 - 8 * i));
}

static uint64_t get_be64(const uint8_t in[8])
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | in[i];
    return value;
}

/* ---- the engine's side ---- */

static struct kv_event_batch *open_batch(struct kv_events *events)
{
    if (!events->open)
        events->open = kv_event_batch_new();
    return events->open;
}

void kv_events_stored(struct kv_events *events, const struct block_key *key, const struct block_key *parent,
                      const int32_t *tokens, uint32_t token_count)
{
    if (open_batch(events))
        kv_event_batch_stored(events->open, key, parent, tokens, token_count);
}

void kv_events_removed(struct kv_events *events, const struct block_key *key)
{
    if (open_batch(events))
        kv_event_batch_removed(events->open, key);
}

void kv_events_flush(struct kv_events *events)
{
    struct kv_event_batch *batch = events->open;
    if (!batch)
        return;
    events->open = NULL;
    batch->seq = events->next_seq++;
    if (!batch->events.failed && channel_try_send(events->batches, batch))
        return;
    if (events->dropped++ == 0)
        log_error("kv_events", "batch %llu of KV events is lost: its readers see a gap",
                  (unsigned long long)batch->seq);
    kv_event_batch_free(batch);
}

/* ---- the publisher's thread ---- */

static void drop_oldest(struct kv_events *events)
{
    struct kept *oldest = &events->kept[events->first];
    events->kept_bytes -= oldest->message.count_bytes;
    bytes_release(&oldest->message);
    events->first = (events->first + 1) % BATCHES_KEPT;
    events->kept_count--;
}

/* Takes the message over. */
static const struct kept *keep(struct kv_events *events, uint64_t seq, struct bytes message)
{
    while (events->kept_count == BATCHES_KEPT ||
           (events->kept_count > 0 && events->kept_bytes + message.count_bytes > events->replay_bytes))
        drop_oldest(events);
    struct kept *kept = &events->kept[(events->first + events->kept_count++) % BATCHES_KEPT];
    *kept = (struct kept){seq, message};
    events->kept_bytes += message.count_bytes;
    return kept;
}

static bool send_seq_and_message(void *socket, uint64_t seq, const void *message, size_t bytes)
{
    uint8_t be[8];
    put_be64(be, seq);
    return zmq_send(socket, be, sizeof be, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
           zmq_send(socket, message, bytes, ZMQ_DONTWAIT) >= 0;
}

static void publish(struct kv_events *events, const struct kv_event_batch *batch)
{
    struct bytes message;
    bytes_init(&message, MESSAGE_BYTES_MOST);
    kv_event_batch_encode(batch, (double)walltime_ms() / 1e3, &message);
    if (message.failed) {
        bytes_release(&message);
        events->dropped++;
        return;
    }
    const struct kept *kept = keep(events, batch->seq, message);
    if (zmq_send(events->publisher, events->topic, strlen(events->topic), ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
        send_seq_and_message(events->publisher, kept->seq, kept->message.data, kept->message.count_bytes))
        events->published++;
}

/* One request into frames; longer ones are cut, more of them read and ignored. Returns how many came. */
static int read_request(void *socket, uint8_t frames[REQUEST_FRAMES][REQUEST_BYTES],
                        int sizes[REQUEST_FRAMES])
{
    int count = 0, more = 1;
    size_t more_bytes = sizeof more;
    while (more) {
        uint8_t spare[REQUEST_BYTES];
        int bytes = zmq_recv(socket, count < REQUEST_FRAMES ? frames[count] : spare, REQUEST_BYTES,
                             count ? 0 : ZMQ_DONTWAIT);
        if (bytes < 0)
            return 0;
        if (count < REQUEST_FRAMES)
            sizes[count] = bytes;
        count++;
        zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &more_bytes);
    }
    return count;
}

static bool send_replay(struct kv_events *events, const uint8_t *identity, int identity_bytes, uint64_t seq,
                        const void *message, size_t bytes)
{
    return zmq_send(events->replay, identity, (size_t)identity_bytes, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
           zmq_send(events->replay, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
           send_seq_and_message(events->replay, seq, message, bytes);
}

static void answer_replays(struct kv_events *events)
{
    uint8_t frames[REQUEST_FRAMES][REQUEST_BYTES];
    int sizes[REQUEST_FRAMES], count;
    while (events->replay && (count = read_request(events->replay, frames, sizes)) > 0) {
        if (count != REQUEST_FRAMES || sizes[0] > REQUEST_BYTES || sizes[1] != 0 || sizes[2] != 8)
            continue;
        uint64_t start = get_be64(frames[2]);
        bool sent = true;
        for (size_t i = 0; i < events->kept_count && sent; i++) {
            const struct kept *kept = &events->kept[(events->first + i) % BATCHES_KEPT];
            if (kept->seq >= start)
                sent = send_replay(events, frames[0], sizes[0], kept->seq, kept->message.data,
                                   kept->message.count_bytes);
        }
        if (sent)
            send_replay(events, frames[0], sizes[0], UINT64_MAX, "", 0);
        events->replays++;
    }
}

static void *run(void *context)
{
    struct kv_events *events = context;
    bool shut = false;
    while (!shut) {
        zmq_pollitem_t items[] = {{.fd = channel_fd(events->batches), .events = ZMQ_POLLIN},
                                  {.socket = events->replay, .events = ZMQ_POLLIN}};
        zmq_poll(items, events->replay ? 2 : 1, POLL_MS);
        shut = channel_is_shut(events->batches);
        for (struct kv_event_batch *batch; (batch = channel_receive(events->batches, 0));) {
            publish(events, batch);
            kv_event_batch_free(batch);
        }
        answer_replays(events);
    }
    return NULL;
}

/* ---- life ---- */

static enum status open_socket(struct kv_events *events, void **out, int type, const char *address,
                               const struct stream_security *security, struct error *err)
{
    int high_water_mark = HIGH_WATER_MARK, mandatory = 1;
    *out = events->context ? zmq_socket(events->context, type) : NULL;
    if (!*out)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the sockets of KV events");
    zmq_setsockopt(*out, ZMQ_SNDHWM, &high_water_mark, sizeof high_water_mark);
    if (type == ZMQ_ROUTER)
        zmq_setsockopt(*out, ZMQ_ROUTER_MANDATORY, &mandatory, sizeof mandatory);
    return stream_socket_bind(*out, address, security, err);
}

static enum status open_parts(struct kv_events *events, const struct kv_events_options *options,
                              struct error *err)
{
    events->context = zmq_ctx_new();
    events->kept = calloc(BATCHES_KEPT, sizeof *events->kept);
    if (!events->kept)
        return error_set(err, STATUS_NO_MEMORY, "no memory to replay KV events");
    enum status status = channel_open(&events->batches, BATCHES_QUEUED, err);
    if (status == STATUS_OK)
        status = open_socket(events, &events->publisher, ZMQ_PUB, options->bind, &options->security, err);
    if (status == STATUS_OK && *options->replay_bind)
        status =
            open_socket(events, &events->replay, ZMQ_ROUTER, options->replay_bind, &options->security, err);
    if (status != STATUS_OK)
        return status;
    events->started = pthread_create(&events->thread, NULL, run, events) == 0;
    return events->started ? STATUS_OK
                           : error_set(err, STATUS_NO_MEMORY, "cannot start the thread of KV events");
}

static void publish_cleared(struct kv_events *events)
{
    if (open_batch(events))
        kv_event_batch_cleared(events->open);
    kv_events_flush(events);
}

enum status kv_events_open(struct kv_events **out, const struct kv_events_options *options, struct error *err)
{
    *out = NULL;
    struct kv_events *events = calloc(1, sizeof *events);
    if (!events)
        return error_set(err, STATUS_NO_MEMORY, "no memory for KV events");
    snprintf(events->topic, sizeof events->topic, "%s", options->topic);
    events->replay_bytes = options->replay_bytes;
    enum status status = open_parts(events, options, err);
    if (status != STATUS_OK) {
        kv_events_close(events);
        return status;
    }
    publish_cleared(events);
    *out = events;
    return STATUS_OK;
}

void kv_events_close(struct kv_events *events)
{
    if (!events)
        return;
    if (events->started) {
        publish_cleared(events);
        channel_shut(events->batches);
        pthread_join(events->thread, NULL);
    }
    if (events->publisher)
        zmq_close(events->publisher);
    if (events->replay)
        zmq_close(events->replay);
    if (events->context)
        zmq_ctx_term(events->context);
    while (events->kept_count > 0)
        drop_oldest(events);
    if (events->batches)
        channel_close(events->batches);
    kv_event_batch_free(events->open);
    free(events->kept);
    free(events);
}

void kv_events_stats_read(const struct kv_events *events, struct kv_events_stats *out)
{
    *out = (struct kv_events_stats){
        .batches = events->published, .dropped = events->dropped, .replays = events->replays};
}
