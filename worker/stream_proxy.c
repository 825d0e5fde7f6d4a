// SPDX-License-Identifier: Apache-2.0
// DESIGN: replay frames between proxy and worker are [reader's identity][""][topic]…, the same as between a
// worker and its own readers, so a worker answers both alike. A request is open until every worker it was
// sent to has sent its end marker, or its time is up; then the reader gets one.
#include "worker/stream_proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/monotime.h"
#include "worker/stream_socket.h"

enum {
    HIGH_WATER = 100000,
    IDENTITY_BYTES = 255, /* ZeroMQ's limit */
    TOPIC_BYTES = 1024,
    MOST_PARTS = 8,
    MOST_PER_TURN = 1000,
    WORKER_SILENCE_MS = 5000,
    REQUEST_MS = 1500 /* below what a reader waits */
};

struct identity {
    uint8_t data[IDENTITY_BYTES];
    size_t bytes; /* 0: free */
};

struct worker {
    struct identity identity;
    int64_t heard_ms;
};

struct request { /* a replay that some workers have not finished */
    struct identity reader;
    char topic[TOPIC_BYTES];
    size_t topic_bytes, open; /* open 0: free */
    int64_t end_ms;
};

struct stream_proxy {
    void *context;
    void *workers, *readers;               /* XSUB, XPUB */
    void *workers_replay, *readers_replay; /* ROUTER, ROUTER */
    struct worker known[STREAM_PROXY_WORKERS];
    struct request requests[STREAM_PROXY_REQUESTS];
    zmq_msg_t parts[MOST_PARTS];
    struct stream_proxy_stats stats;
};

/* ---- life ---- */

static enum status open_socket(struct stream_proxy *proxy, void **socket, int type, struct error *err)
{
    int high_water = HIGH_WATER;
    *socket = proxy->context ? zmq_socket(proxy->context, type) : NULL;
    if (!*socket)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the proxy's sockets");
    zmq_setsockopt(*socket, ZMQ_SNDHWM, &high_water, sizeof high_water);
    zmq_setsockopt(*socket, ZMQ_RCVHWM, &high_water, sizeof high_water);
    return STATUS_OK;
}

enum status stream_proxy_open(struct stream_proxy **out, const struct config *config, struct error *err)
{
    *out = NULL;
    struct stream_proxy *proxy = calloc(1, sizeof *proxy);
    if (!proxy)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a stream proxy");
    proxy->context = zmq_ctx_new();
    const struct stream_security security = stream_security_of(config);
    const struct {
        void **socket;
        int type;
        const char *address;
    } ends[] = {{&proxy->workers, ZMQ_XSUB, config->proxy.workers_bind},
                {&proxy->readers, ZMQ_XPUB, config->stream.bind},
                {&proxy->workers_replay, ZMQ_ROUTER, config->proxy.workers_replay_bind},
                {&proxy->readers_replay, ZMQ_ROUTER, config->stream.replay_bind}};
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < sizeof ends / sizeof ends[0]; i++) {
        status = open_socket(proxy, ends[i].socket, ends[i].type, err);
        if (status == STATUS_OK)
            status = stream_socket_bind(*ends[i].socket, ends[i].address, &security, err);
    }
    if (status != STATUS_OK) {
        stream_proxy_close(proxy);
        return status;
    }
    *out = proxy;
    return STATUS_OK;
}

void stream_proxy_close(struct stream_proxy *proxy)
{
    if (!proxy)
        return;
    void *const sockets[] = {proxy->workers, proxy->readers, proxy->workers_replay, proxy->readers_replay};
    for (size_t i = 0; i < sizeof sockets / sizeof sockets[0]; i++)
        if (sockets[i])
            zmq_close(sockets[i]);
    if (proxy->context)
        zmq_ctx_term(proxy->context);
    free(proxy);
}

/* ---- messages ---- */

/* The parts of one message, without waiting; what is beyond MOST_PARTS is dropped. 0: none. */
static size_t receive(struct stream_proxy *proxy, void *socket)
{
    size_t count = 0;
    for (bool more = true; more;) {
        zmq_msg_t spare, *part = count < MOST_PARTS ? &proxy->parts[count] : &spare;
        zmq_msg_init(part);
        if (zmq_msg_recv(part, socket, count ? 0 : ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(part);
            return 0;
        }
        more = zmq_msg_more(part);
        if (part == &spare)
            zmq_msg_close(&spare);
        else
            count++;
    }
    return count;
}

/* Sends parts [first, count) and gives them up, sent or not. */
static void send_parts(struct stream_proxy *proxy, void *socket, size_t first, size_t count)
{
    bool good = true;
    for (size_t i = 0; i < count; i++) {
        if (i >= first && good)
            good =
                zmq_msg_send(&proxy->parts[i], socket, ZMQ_DONTWAIT | (i + 1 < count ? ZMQ_SNDMORE : 0)) >= 0;
        zmq_msg_close(&proxy->parts[i]);
    }
}

static void carry(struct stream_proxy *proxy, void *from, void *to, _Atomic uint64_t *counter)
{
    size_t count;
    for (int i = 0; i < MOST_PER_TURN && (count = receive(proxy, from)) > 0; i++) {
        send_parts(proxy, to, 0, count);
        if (counter)
            (*counter)++;
    }
}

static bool is_identity(const struct identity *identity, zmq_msg_t *part)
{
    return identity->bytes == zmq_msg_size(part) &&
           memcmp(identity->data, zmq_msg_data(part), identity->bytes) == 0;
}

static void set_identity(struct identity *identity, zmq_msg_t *part)
{
    identity->bytes = zmq_msg_size(part) <= IDENTITY_BYTES ? zmq_msg_size(part) : IDENTITY_BYTES;
    memcpy(identity->data, zmq_msg_data(part), identity->bytes);
}

/* ---- workers ---- */

static void hear(struct stream_proxy *proxy, zmq_msg_t *identity)
{
    struct worker *slot = NULL;
    for (size_t i = 0; i < STREAM_PROXY_WORKERS; i++) {
        struct worker *worker = &proxy->known[i];
        if (is_identity(&worker->identity, identity)) {
            worker->heard_ms = monotime_ms();
            return;
        }
        if (worker->identity.bytes == 0 && !slot)
            slot = worker;
    }
    if (!slot)
        return; /* more workers than the table holds: they have no replay here */
    set_identity(&slot->identity, identity);
    slot->heard_ms = monotime_ms();
    proxy->stats.workers++;
}

static void forget_silent(struct stream_proxy *proxy, int64_t now_ms)
{
    for (size_t i = 0; i < STREAM_PROXY_WORKERS; i++)
        if (proxy->known[i].identity.bytes && now_ms - proxy->known[i].heard_ms > WORKER_SILENCE_MS) {
            proxy->known[i].identity.bytes = 0;
            proxy->stats.workers--;
        }
}

/* ---- replay ---- */

static void send_end(struct stream_proxy *proxy, const struct request *request)
{
    uint8_t end[8];
    char header[16] = {0};
    void *to = proxy->readers_replay;
    memset(end, 0xFF, sizeof end);
    if (zmq_send(to, request->reader.data, request->reader.bytes, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_send(to, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_send(to, request->topic, request->topic_bytes, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_send(to, end, sizeof end, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_send(to, header, sizeof header, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        return;
    zmq_send(to, "", 0, ZMQ_DONTWAIT);
}

static struct request *open_request(struct stream_proxy *proxy)
{
    struct request *oldest = &proxy->requests[0];
    for (size_t i = 0; i < STREAM_PROXY_REQUESTS && oldest->open > 0; i++)
        if (proxy->requests[i].open == 0 || proxy->requests[i].end_ms < oldest->end_ms)
            oldest = &proxy->requests[i];
    if (oldest->open > 0)
        send_end(proxy, oldest);
    return oldest;
}

/* To every worker: who has the topic is not known here, and the others answer with their end at once. */
static size_t ask_workers(struct stream_proxy *proxy, size_t count)
{
    size_t asked = 0;
    for (size_t i = 0; i < STREAM_PROXY_WORKERS; i++) {
        const struct identity *identity = &proxy->known[i].identity;
        if (identity->bytes == 0 ||
            zmq_send(proxy->workers_replay, identity->data, identity->bytes, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
            continue;
        for (size_t p = 0; p < count; p++) {
            zmq_msg_t copy;
            zmq_msg_init(&copy);
            zmq_msg_copy(&copy, &proxy->parts[p]);
            if (zmq_msg_send(&copy, proxy->workers_replay, ZMQ_DONTWAIT | (p + 1 < count ? ZMQ_SNDMORE : 0)) <
                0)
                zmq_msg_close(&copy);
        }
        asked++;
    }
    return asked;
}

/* [identity][""][topic][start] */
static void take_request(struct stream_proxy *proxy, size_t count)
{
    size_t topic_bytes = count == 4 ? zmq_msg_size(&proxy->parts[2]) : 0;
    if (topic_bytes == 0 || topic_bytes > TOPIC_BYTES || zmq_msg_size(&proxy->parts[1]) != 0)
        return;
    struct request *request = open_request(proxy);
    set_identity(&request->reader, &proxy->parts[0]);
    memcpy(request->topic, zmq_msg_data(&proxy->parts[2]), topic_bytes);
    request->topic_bytes = topic_bytes;
    request->end_ms = monotime_ms() + REQUEST_MS;
    request->open = ask_workers(proxy, count);
    proxy->stats.replays++;
    if (request->open == 0)
        send_end(proxy, request);
}

static void take_requests(struct stream_proxy *proxy)
{
    size_t count;
    for (int i = 0; i < MOST_PER_TURN && (count = receive(proxy, proxy->readers_replay)) > 0; i++) {
        take_request(proxy, count);
        for (size_t p = 0; p < count; p++)
            zmq_msg_close(&proxy->parts[p]);
    }
}

static bool is_end_marker(zmq_msg_t *seq)
{
    static const uint8_t ones[8] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    return zmq_msg_size(seq) == sizeof ones && memcmp(zmq_msg_data(seq), ones, sizeof ones) == 0;
}

static struct request *find_request(struct stream_proxy *proxy, zmq_msg_t *reader, zmq_msg_t *topic)
{
    for (size_t i = 0; i < STREAM_PROXY_REQUESTS; i++) {
        struct request *request = &proxy->requests[i];
        if (request->open > 0 && is_identity(&request->reader, reader) &&
            request->topic_bytes == zmq_msg_size(topic) &&
            memcmp(request->topic, zmq_msg_data(topic), request->topic_bytes) == 0)
            return request;
    }
    return NULL;
}

/* [worker][reader][""][topic][seq][header][chunk], or a worker's greeting: [worker][""] */
static void take_answers(struct stream_proxy *proxy)
{
    size_t count;
    for (int i = 0; i < MOST_PER_TURN && (count = receive(proxy, proxy->workers_replay)) > 0; i++) {
        zmq_msg_t *parts = proxy->parts;
        hear(proxy, &parts[0]);
        struct request *request = count == 7 ? find_request(proxy, &parts[1], &parts[3]) : NULL;
        bool end = request && is_end_marker(&parts[4]);
        send_parts(proxy, proxy->readers_replay, request && !end ? 1 : count, count);
        if (end && --request->open == 0)
            send_end(proxy, request);
    }
}

static void end_late(struct stream_proxy *proxy, int64_t now_ms)
{
    for (size_t i = 0; i < STREAM_PROXY_REQUESTS; i++)
        if (proxy->requests[i].open > 0 && proxy->requests[i].end_ms <= now_ms) {
            proxy->requests[i].open = 0;
            send_end(proxy, &proxy->requests[i]);
        }
}

/* ---- the loop ---- */

bool stream_proxy_turn(struct stream_proxy *proxy, int timeout_ms)
{
    zmq_pollitem_t items[] = {{.socket = proxy->workers, .events = ZMQ_POLLIN},
                              {.socket = proxy->readers, .events = ZMQ_POLLIN},
                              {.socket = proxy->workers_replay, .events = ZMQ_POLLIN},
                              {.socket = proxy->readers_replay, .events = ZMQ_POLLIN}};
    if (zmq_poll(items, 4, timeout_ms) < 0)
        return false;
    carry(proxy, proxy->readers, proxy->workers, NULL); /* subscriptions */
    carry(proxy, proxy->workers, proxy->readers, &proxy->stats.chunks);
    take_answers(proxy);
    take_requests(proxy);
    int64_t now_ms = monotime_ms();
    forget_silent(proxy, now_ms);
    end_late(proxy, now_ms);
    return true;
}

const struct stream_proxy_stats *stream_proxy_stats(const struct stream_proxy *proxy)
{
    return &proxy->stats;
}
