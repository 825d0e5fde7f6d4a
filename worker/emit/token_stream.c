// SPDX-License-Identifier: Apache-2.0
#include "worker/emit/token_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/log.h"

enum {
    MAX_SUBSCRIPTIONS = 4096,
    SUBSCRIPTION_BYTES = 1024,
    HEADER_BYTES = 16,
    MAX_REPLAY_REQUESTS = 64,
    REPLAY_MESSAGE_BYTES = 4096,
    HEARTBEAT_MS = 5000
};

struct subscription {
    char *prefix;
    size_t bytes;
};

struct kept { /* one published chunk; topic and chunk follow the struct */
    uint64_t seq;
    uint8_t header[HEADER_BYTES];
    uint32_t topic_bytes, chunk_bytes;
};

struct token_stream {
    void *context, *publisher, *replay;
    uint64_t epoch;
    struct subscription subscriptions[MAX_SUBSCRIPTIONS];
    size_t subscription_count;
    bool everything; /* more subscriptions than are kept: treat every topic as wanted */
    /* ring of kept chunks: records never wrap; `end_of_records` marks where the ring turned */
    char *ring;
    size_t ring_bytes, head, tail, turn;
    struct token_stream_stats stats;
};

static void put_be(uint8_t *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

static uint64_t get_be(const uint8_t *in)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | in[i];
    return value;
}

/* ---- life ---- */

static bool is_local(const char *address)
{
    static const char *const local[] = {"tcp://127.", "tcp://localhost:", "tcp://[::1]:", "ipc://",
                                        "inproc://"};
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
        if (strncmp(address, local[i], strlen(local[i])) == 0)
            return true;
    return false;
}

static enum status bind_socket(void *socket, const char *address, bool insecure, struct error *err)
{
    int zero = 0, heartbeat = HEARTBEAT_MS;
    if (!is_local(address) && !insecure)
        return error_set(
            err, STATUS_CONFIG,
            "stream address %s is reachable from outside and has no CURVE keys; bind to 127.0.0.1 or set "
            "stream.insecure to true",
            address);
    zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(socket, ZMQ_HEARTBEAT_IVL, &heartbeat, sizeof heartbeat);
    if (zmq_bind(socket, address) == 0)
        return STATUS_OK;
    return error_set(err, errno == EADDRINUSE ? STATUS_UNAVAILABLE : STATUS_CONFIG,
                     "cannot bind the stream to %s: %s", address, zmq_strerror(errno));
}

static enum status open_sockets(struct token_stream *stream, const struct token_stream_options *options,
                                struct error *err)
{
    int verbose = 1, mandatory = 1;
    int64_t most = REPLAY_MESSAGE_BYTES;
    stream->context = zmq_ctx_new();
    stream->publisher = stream->context ? zmq_socket(stream->context, ZMQ_XPUB) : NULL;
    stream->replay = stream->context ? zmq_socket(stream->context, ZMQ_ROUTER) : NULL;
    if (!stream->publisher || !stream->replay)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the stream's sockets");
    zmq_setsockopt(stream->publisher, ZMQ_SNDHWM, &options->high_water_mark, sizeof options->high_water_mark);
    zmq_setsockopt(stream->publisher, ZMQ_XPUB_VERBOSER, &verbose, sizeof verbose);
    zmq_setsockopt(stream->replay, ZMQ_SNDHWM, &options->high_water_mark, sizeof options->high_water_mark);
    zmq_setsockopt(stream->replay, ZMQ_ROUTER_MANDATORY, &mandatory, sizeof mandatory);
    zmq_setsockopt(stream->replay, ZMQ_MAXMSGSIZE, &most, sizeof most);
    enum status status = bind_socket(stream->publisher, options->bind, options->insecure, err);
    return status == STATUS_OK ? bind_socket(stream->replay, options->replay_bind, options->insecure, err)
                               : status;
}

enum status token_stream_open(struct token_stream **out, const struct token_stream_options *options,
                              struct error *err)
{
    *out = NULL;
    struct token_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the token stream");
    stream->epoch = options->epoch;
    stream->ring_bytes = options->replay_bytes;
    stream->turn = options->replay_bytes;
    stream->ring = malloc(options->replay_bytes);
    enum status status = stream->ring ? open_sockets(stream, options, err)
                                      : error_set(err, STATUS_NO_MEMORY, "no memory for %zu bytes of replay",
                                                  options->replay_bytes);
    if (status != STATUS_OK) {
        token_stream_close(stream);
        return status;
    }
    *out = stream;
    return STATUS_OK;
}

void token_stream_close(struct token_stream *stream)
{
    if (!stream)
        return;
    if (stream->publisher)
        zmq_close(stream->publisher);
    if (stream->replay)
        zmq_close(stream->replay);
    if (stream->context)
        zmq_ctx_term(stream->context);
    for (size_t i = 0; i < stream->subscription_count; i++)
        free(stream->subscriptions[i].prefix);
    free(stream->ring);
    free(stream);
}

/* ---- subscriptions ---- */

static void add_subscription(struct token_stream *stream, const char *prefix, size_t bytes)
{
    char *copy = stream->subscription_count < MAX_SUBSCRIPTIONS ? malloc(bytes + 1) : NULL;
    if (!copy) {
        stream->everything = true;
        return;
    }
    memcpy(copy, prefix, bytes);
    stream->subscriptions[stream->subscription_count++] = (struct subscription){copy, bytes};
}

static void remove_subscription(struct token_stream *stream, const char *prefix, size_t bytes)
{
    for (size_t i = 0; i < stream->subscription_count; i++) {
        struct subscription *at = &stream->subscriptions[i];
        if (at->bytes != bytes || memcmp(at->prefix, prefix, bytes) != 0)
            continue;
        free(at->prefix);
        *at = stream->subscriptions[--stream->subscription_count];
        return;
    }
}

static void read_subscriptions(struct token_stream *stream)
{
    char message[SUBSCRIPTION_BYTES];
    for (;;) {
        int bytes = zmq_recv(stream->publisher, message, sizeof message, ZMQ_DONTWAIT);
        if (bytes < 0)
            break;
        if (bytes < 1 || (size_t)bytes > sizeof message) /* longer than any topic: matches nothing */
            continue;
        if (message[0] == 1)
            add_subscription(stream, message + 1, (size_t)bytes - 1);
        else if (message[0] == 0)
            remove_subscription(stream, message + 1, (size_t)bytes - 1);
    }
    stream->stats.subscribers = stream->subscription_count;
}

bool token_stream_wanted(const struct token_stream *stream, const char *topic, size_t topic_bytes)
{
    for (size_t i = 0; i < stream->subscription_count; i++)
        if (stream->subscriptions[i].bytes <= topic_bytes &&
            memcmp(stream->subscriptions[i].prefix, topic, stream->subscriptions[i].bytes) == 0)
            return true;
    return stream->everything;
}

/* ---- the ring ---- */

static size_t record_bytes(const struct kept *kept)
{
    size_t bytes = sizeof *kept + kept->topic_bytes + kept->chunk_bytes;
    return (bytes + 7) / 8 * 8;
}

static struct kept *record_at(const struct token_stream *stream, size_t at)
{
    return (struct kept *)(void *)(stream->ring + at);
}

/* Forgets the oldest record. */
static void drop_oldest(struct token_stream *stream)
{
    stream->head += record_bytes(record_at(stream, stream->head));
    if (stream->head == stream->turn && stream->tail < stream->head) {
        stream->head = 0;
        stream->turn = stream->ring_bytes;
    }
}

/* Place for `bytes` at the tail. head == tail means empty. */
static char *make_place(struct token_stream *stream, size_t bytes)
{
    if (bytes + 8 > stream->ring_bytes)
        return NULL;
    for (;;) {
        if (stream->head == stream->tail) {
            stream->head = stream->tail = 0;
            stream->turn = stream->ring_bytes;
        }
        if (stream->tail >= stream->head) {
            if (stream->tail + bytes < stream->ring_bytes)
                return stream->ring + stream->tail;
            if (stream->head > bytes) { /* turn around */
                stream->turn = stream->tail;
                stream->tail = 0;
                return stream->ring;
            }
            if (stream->head == stream->tail)
                return NULL;
        } else if (stream->tail + bytes < stream->head) {
            return stream->ring + stream->tail;
        }
        drop_oldest(stream);
    }
}

static void keep(struct token_stream *stream, const struct kept *header, const char *topic, const char *chunk)
{
    size_t bytes = record_bytes(header);
    char *place = make_place(stream, bytes);
    if (!place)
        return;
    memcpy(place, header, sizeof *header);
    memcpy(place + sizeof *header, topic, header->topic_bytes);
    memcpy(place + sizeof *header + header->topic_bytes, chunk, header->chunk_bytes);
    stream->tail += bytes;
}

/* ---- publishing and replay ---- */

static bool send_parts(void *socket, const struct kept *kept, const char *topic, const char *chunk)
{
    uint8_t seq[8];
    put_be(seq, kept->seq, 8);
    return zmq_send(socket, topic, kept->topic_bytes, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
           zmq_send(socket, seq, sizeof seq, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
           zmq_send(socket, kept->header, HEADER_BYTES, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
           zmq_send(socket, chunk, kept->chunk_bytes, ZMQ_DONTWAIT) >= 0;
}

void token_stream_publish(struct token_stream *stream, const char *topic, size_t topic_bytes, uint64_t seq,
                          uint32_t attempt, uint32_t flags, const char *chunk, size_t chunk_bytes)
{
    struct kept kept = {
        .seq = seq, .topic_bytes = (uint32_t)topic_bytes, .chunk_bytes = (uint32_t)chunk_bytes};
    put_be(kept.header, stream->epoch, 8);
    put_be(kept.header + 8, attempt, 4);
    put_be(kept.header + 12, flags, 4);
    keep(stream, &kept, topic, chunk);
    if (send_parts(stream->publisher, &kept, topic, chunk))
        stream->stats.chunks++;
    else
        stream->stats.dropped++;
}

static void replay_from(struct token_stream *stream, const char *identity, size_t identity_bytes,
                        const char *topic, size_t topic_bytes, uint64_t start)
{
    size_t at = stream->head;
    struct kept end = {.seq = UINT64_MAX, .topic_bytes = (uint32_t)topic_bytes};
    bool sent = true;
    while (at != stream->tail && sent) {
        if (at == stream->turn) {
            at = 0;
            continue;
        }
        const struct kept *kept = record_at(stream, at);
        const char *its_topic = (const char *)(kept + 1);
        if (kept->topic_bytes == topic_bytes && kept->seq >= start &&
            memcmp(its_topic, topic, topic_bytes) == 0)
            sent = zmq_send(stream->replay, identity, identity_bytes, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
                   zmq_send(stream->replay, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
                   send_parts(stream->replay, kept, its_topic, its_topic + topic_bytes);
        at += record_bytes(kept);
    }
    if (sent && zmq_send(stream->replay, identity, identity_bytes, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
        zmq_send(stream->replay, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0)
        send_parts(stream->replay, &end, topic, "");
    stream->stats.replays++;
}

/* One multipart request into parts; extra parts are read and ignored. Returns how many came, 0: none waiting.
 */
static int read_request(void *socket, char parts[4][SUBSCRIPTION_BYTES], int sizes[4])
{
    int count = 0, more = 1;
    size_t more_bytes = sizeof more;
    while (more) {
        char spare[SUBSCRIPTION_BYTES];
        int bytes =
            zmq_recv(socket, count < 4 ? parts[count] : spare, SUBSCRIPTION_BYTES, count ? 0 : ZMQ_DONTWAIT);
        if (bytes < 0)
            return 0;
        if (count < 4)
            sizes[count] = bytes;
        count++;
        zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &more_bytes);
    }
    return count;
}

static void answer_replays(struct token_stream *stream)
{
    static char parts[4][SUBSCRIPTION_BYTES]; /* the emit thread's only */
    int sizes[4];
    for (int i = 0; i < MAX_REPLAY_REQUESTS; i++) {
        int count = read_request(stream->replay, parts, sizes);
        if (count == 0)
            return;
        bool good = count == 4 && sizes[1] == 0 && sizes[2] > 0 && sizes[2] <= SUBSCRIPTION_BYTES &&
                    sizes[3] == 8 && sizes[0] <= SUBSCRIPTION_BYTES;
        if (good)
            replay_from(stream, parts[0], (size_t)sizes[0], parts[2], (size_t)sizes[2],
                        get_be((uint8_t *)parts[3]));
    }
}

void token_stream_service(struct token_stream *stream)
{
    read_subscriptions(stream);
    answer_replays(stream);
}

void token_stream_fds(const struct token_stream *stream, int fds[2])
{
    size_t bytes = sizeof(int);
    zmq_getsockopt(stream->publisher, ZMQ_FD, &fds[0], &bytes);
    zmq_getsockopt(stream->replay, ZMQ_FD, &fds[1], &bytes);
}

void token_stream_stats_read(const struct token_stream *stream, struct token_stream_stats *out)
{
    *out = stream->stats;
}
