// SPDX-License-Identifier: Apache-2.0
#include "worker/emit/token_stream.h"

#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/log.h"
#include "base/monotime.h"

enum {
    MAX_SUBSCRIPTIONS = 4096,
    SUBSCRIPTION_BYTES = 1024,
    HEADER_BYTES = 16,
    MAX_REPLAY_REQUESTS = 64,
    REPLAY_MESSAGE_BYTES = 4096,
    HELLO_EVERY_MS = 1000 /* the proxy forgets a worker that it does not hear from */
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
    void *context, *publisher;
    void *replay[2]; /* ROUTER for readers, DEALER at the proxy; NULL: none */
    int64_t hello_ms;
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

static void *open_socket(struct token_stream *stream, int type, int high_water_mark)
{
    int64_t most = REPLAY_MESSAGE_BYTES;
    void *socket = stream->context ? zmq_socket(stream->context, type) : NULL;
    if (!socket)
        return NULL;
    zmq_setsockopt(socket, ZMQ_SNDHWM, &high_water_mark, sizeof high_water_mark);
    if (type != ZMQ_XPUB)
        zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &most, sizeof most);
    return socket;
}

static enum status open_publisher(struct token_stream *stream, const struct token_stream_options *options,
                                  struct error *err)
{
    int verbose = 1;
    stream->publisher = open_socket(stream, ZMQ_XPUB, options->high_water_mark);
    if (!stream->publisher)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the stream's sockets");
    zmq_setsockopt(stream->publisher, ZMQ_XPUB_VERBOSER, &verbose, sizeof verbose);
    enum status status = STATUS_OK;
    if (*options->bind)
        status = stream_socket_bind(stream->publisher, options->bind, &options->security, err);
    if (status == STATUS_OK && *options->proxy)
        status = stream_socket_connect(stream->publisher, options->proxy, &options->security, err);
    return status;
}

static enum status open_replay(struct token_stream *stream, const struct token_stream_options *options,
                               struct error *err)
{
    int mandatory = 1;
    enum status status = STATUS_OK;
    if (*options->replay_bind) {
        stream->replay[0] = open_socket(stream, ZMQ_ROUTER, options->high_water_mark);
        if (!stream->replay[0])
            return error_set(err, STATUS_NO_MEMORY, "no memory for the stream's sockets");
        zmq_setsockopt(stream->replay[0], ZMQ_ROUTER_MANDATORY, &mandatory, sizeof mandatory);
        status = stream_socket_bind(stream->replay[0], options->replay_bind, &options->security, err);
    }
    if (status == STATUS_OK && *options->proxy_replay) {
        stream->replay[1] = open_socket(stream, ZMQ_DEALER, options->high_water_mark);
        if (!stream->replay[1])
            return error_set(err, STATUS_NO_MEMORY, "no memory for the stream's sockets");
        status = stream_socket_connect(stream->replay[1], options->proxy_replay, &options->security, err);
    }
    return status;
}

static enum status open_sockets(struct token_stream *stream, const struct token_stream_options *options,
                                struct error *err)
{
    stream->context = zmq_ctx_new();
    enum status status = open_publisher(stream, options, err);
    return status == STATUS_OK ? open_replay(stream, options, err) : status;
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
    for (int i = 0; i < 2; i++)
        if (stream->replay[i])
            zmq_close(stream->replay[i]);
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

struct replay_request {
    const char *identity, *topic;
    size_t identity_bytes, topic_bytes;
    uint64_t start;
};

static bool send_envelope(void *socket, const struct replay_request *request)
{
    return zmq_send(socket, request->identity, request->identity_bytes, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0 &&
           zmq_send(socket, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0;
}

static void replay_from(struct token_stream *stream, void *socket, const struct replay_request *request)
{
    size_t at = stream->head;
    struct kept end = {.seq = UINT64_MAX, .topic_bytes = (uint32_t)request->topic_bytes};
    bool sent = true;
    while (at != stream->tail && sent) {
        if (at == stream->turn) {
            at = 0;
            continue;
        }
        const struct kept *kept = record_at(stream, at);
        const char *its_topic = (const char *)(kept + 1);
        if (kept->topic_bytes == request->topic_bytes && kept->seq >= request->start &&
            memcmp(its_topic, request->topic, request->topic_bytes) == 0)
            sent = send_envelope(socket, request) &&
                   send_parts(socket, kept, its_topic, its_topic + request->topic_bytes);
        at += record_bytes(kept);
    }
    if (sent && send_envelope(socket, request))
        send_parts(socket, &end, request->topic, "");
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

static void answer_replays(struct token_stream *stream, void *socket)
{
    static char parts[4][SUBSCRIPTION_BYTES]; /* the emit thread's only */
    int sizes[4];
    for (int i = 0; i < MAX_REPLAY_REQUESTS; i++) {
        int count = read_request(socket, parts, sizes);
        if (count == 0)
            return;
        bool good = count == 4 && sizes[1] == 0 && sizes[2] > 0 && sizes[2] <= SUBSCRIPTION_BYTES &&
                    sizes[3] == 8 && sizes[0] <= SUBSCRIPTION_BYTES;
        const struct replay_request request = {parts[0], parts[2], (size_t)sizes[0], (size_t)sizes[2],
                                               good ? get_be((uint8_t *)parts[3]) : 0};
        if (good)
            replay_from(stream, socket, &request);
    }
}

/* One empty frame: the proxy knows the way to a worker only from what it hears. */
static void greet_proxy(struct token_stream *stream)
{
    int64_t now_ms = monotime_ms();
    if (!stream->replay[1] || now_ms < stream->hello_ms)
        return;
    stream->hello_ms = now_ms + HELLO_EVERY_MS;
    zmq_send(stream->replay[1], "", 0, ZMQ_DONTWAIT);
}

void token_stream_service(struct token_stream *stream)
{
    read_subscriptions(stream);
    greet_proxy(stream);
    for (int i = 0; i < 2; i++)
        if (stream->replay[i])
            answer_replays(stream, stream->replay[i]);
}

void token_stream_fds(const struct token_stream *stream, int fds[TOKEN_STREAM_FDS])
{
    void *const sockets[TOKEN_STREAM_FDS] = {stream->publisher, stream->replay[0], stream->replay[1]};
    size_t bytes = sizeof(int);
    for (int i = 0; i < TOKEN_STREAM_FDS; i++) {
        fds[i] = -1; /* poll passes over it */
        if (sockets[i])
            zmq_getsockopt(sockets[i], ZMQ_FD, &fds[i], &bytes);
    }
}

void token_stream_stats_read(const struct token_stream *stream, struct token_stream_stats *out)
{
    *out = stream->stats;
}
