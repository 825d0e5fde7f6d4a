// SPDX-License-Identifier: Apache-2.0
// A ZeroMQ in memory: the functions that the token stream and its reader call, for XPUB, SUB, ROUTER and
// DEALER. What libzmq promises is kept: whole messages, a bound on what waits for each peer (a publisher
// drops, a router is refused), subscriptions as messages, links that break and are made again. Every send of
// a worker must say ZMQ_DONTWAIT: nothing of it may wait for a reader.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "tests/sim/sim.h"

enum { MOST_SOCKETS = 64, MOST_FRAMES = 8, MOST_PREFIX = 128, RELINK_MS = 100, IDENTITY_BYTES = 5 };

struct message {
    struct message *next;
    int frames;
    struct {
        char *data;
        size_t bytes;
    } frame[MOST_FRAMES];
};

struct zsocket {
    bool used, bound, linked;
    int type;
    uint32_t id;
    char address[48];
    int send_most, receive_most;
    int64_t relink_ns;
    struct message *first, **last; /* received and not read */
    int waiting;
    struct message *reading; /* its frames before `at` are read */
    int at;
    struct message *writing;
    bool refused; /* the message being written goes nowhere */
    char prefix[MOST_PREFIX];
    size_t prefix_bytes;
};

static struct zsocket sockets[MOST_SOCKETS];
static uint32_t next_id = 1;
void (*sim_zmq_wait)(const char *address);

/* ---- messages ---- */

static void free_message(struct message *message)
{
    for (int i = 0; message && i < message->frames; i++)
        free(message->frame[i].data);
    free(message);
}

static void add_frame(struct message *message, const void *data, size_t bytes)
{
    CHECK(message->frames < MOST_FRAMES);
    char *copy = malloc(bytes + 1);
    CHECK(copy != NULL);
    if (bytes)
        memcpy(copy, data, bytes);
    message->frame[message->frames].data = copy;
    message->frame[message->frames++].bytes = bytes;
}

static struct message *new_message(void)
{
    struct message *message = calloc(1, sizeof *message);
    CHECK(message != NULL);
    return message;
}

static void deliver(struct zsocket *to, struct message *message)
{
    message->next = NULL;
    *to->last = message;
    to->last = &message->next;
    to->waiting++;
}

static struct message *take(struct zsocket *socket)
{
    struct message *message = socket->first;
    if (!message)
        return NULL;
    socket->first = message->next;
    if (!socket->first)
        socket->last = &socket->first;
    socket->waiting--;
    return message;
}

static void forget_waiting(struct zsocket *socket)
{
    for (struct message *message; (message = take(socket));)
        free_message(message);
}

/* ---- links ---- */

static struct zsocket *bound_to(const char *address)
{
    for (int i = 0; i < MOST_SOCKETS; i++)
        if (sockets[i].used && sockets[i].bound && strcmp(sockets[i].address, address) == 0)
            return &sockets[i];
    return NULL;
}

static void tell_subscription(const struct zsocket *sub, bool on)
{
    char text[1 + MOST_PREFIX];
    struct zsocket *publisher = bound_to(sub->address);
    if (!publisher || publisher->type != ZMQ_XPUB)
        return;
    struct message *message = new_message();
    text[0] = on;
    memcpy(text + 1, sub->prefix, sub->prefix_bytes);
    add_frame(message, text, 1 + sub->prefix_bytes);
    deliver(publisher, message);
}

static void unlink_socket(struct zsocket *socket, bool lose)
{
    if (socket->linked && socket->type == ZMQ_SUB)
        tell_subscription(socket, false);
    socket->linked = false;
    socket->relink_ns = sim.now_ns + (int64_t)RELINK_MS * 1000000;
    if (lose)
        forget_waiting(socket);
}

void sim_zmq_turn(void)
{
    for (int i = 0; i < MOST_SOCKETS; i++) {
        struct zsocket *socket = &sockets[i];
        if (!socket->used || socket->bound || socket->linked || !socket->address[0] ||
            sim.now_ns < socket->relink_ns || !bound_to(socket->address))
            continue;
        socket->linked = true;
        if (socket->type == ZMQ_SUB)
            tell_subscription(socket, true);
    }
}

void sim_zmq_cut(const char *address)
{
    for (int i = 0; i < MOST_SOCKETS; i++)
        if (sockets[i].used && sockets[i].linked && strcmp(sockets[i].address, address) == 0)
            unlink_socket(&sockets[i], true);
}

/* ---- sockets ---- */

void *zmq_ctx_new(void)
{
    return malloc(1);
}

int zmq_ctx_term(void *context)
{
    free(context);
    return 0;
}

void *zmq_socket(void *context, int type)
{
    (void)context;
    for (int i = 0; i < MOST_SOCKETS; i++)
        if (!sockets[i].used) {
            sockets[i] = (struct zsocket){
                .used = true, .type = type, .id = next_id++, .send_most = 1000, .receive_most = 1000};
            sockets[i].last = &sockets[i].first;
            return &sockets[i];
        }
    UNREACHABLE(); /* workers and readers have fewer */
}

int zmq_close(void *handle)
{
    struct zsocket *socket = handle;
    if (socket->linked)
        unlink_socket(socket, true);
    for (int i = 0; i < MOST_SOCKETS && socket->bound; i++)
        if (sockets[i].linked && strcmp(sockets[i].address, socket->address) == 0) {
            sockets[i].linked = false;
            sockets[i].relink_ns = sim.now_ns + (int64_t)RELINK_MS * 1000000;
        }
    forget_waiting(socket);
    free_message(socket->reading);
    free_message(socket->writing);
    socket->used = false;
    return 0;
}

int zmq_bind(void *handle, const char *address)
{
    struct zsocket *socket = handle;
    CHECK(!bound_to(address));
    strncpy(socket->address, address, sizeof socket->address - 1);
    socket->bound = true;
    return 0;
}

int zmq_connect(void *handle, const char *address)
{
    struct zsocket *socket = handle;
    strncpy(socket->address, address, sizeof socket->address - 1);
    sim_zmq_turn();
    return 0;
}

int zmq_setsockopt(void *handle, int option, const void *value, size_t bytes)
{
    struct zsocket *socket = handle;
    if (option == ZMQ_SNDHWM)
        memcpy(&socket->send_most, value, sizeof socket->send_most);
    else if (option == ZMQ_RCVHWM)
        memcpy(&socket->receive_most, value, sizeof socket->receive_most);
    else if (option == ZMQ_XPUB_NODROP)
        sim_violate("a publisher that does not drop waits for its slowest reader");
    else if (option == ZMQ_SUBSCRIBE) {
        CHECK(bytes < MOST_PREFIX);
        memcpy(socket->prefix, value, bytes);
        socket->prefix_bytes = bytes;
    }
    return 0;
}

int zmq_getsockopt(void *handle, int option, void *value, size_t *bytes)
{
    const struct zsocket *socket = handle;
    int result = option == ZMQ_RCVMORE ? socket->reading != NULL : -1;
    (void)bytes;
    memcpy(value, &result, sizeof result);
    return 0;
}

/* ---- sending ---- */

static uint64_t read_be(const char *data, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | (unsigned char)data[i];
    return value;
}

static void note_published(const struct message *message)
{
    CHECK(message->frames == 4 && message->frame[1].bytes == 8 && message->frame[2].bytes == 16);
    const char *header = message->frame[2].data;
    sim_stream_published(message->frame[0].data, message->frame[0].bytes, read_be(message->frame[1].data, 8),
                         read_be(header, 8), (uint32_t)read_be(header + 8, 4),
                         (uint32_t)read_be(header + 12, 4));
}

static struct message *copy_message(const struct message *message)
{
    struct message *copy = new_message();
    for (int i = 0; i < message->frames; i++)
        add_frame(copy, message->frame[i].data, message->frame[i].bytes);
    return copy;
}

static void publish(struct zsocket *socket, struct message *message)
{
    note_published(message);
    if (sim.bug == BUG_CHUNK_TWICE && sim_random(64) == 0) {
        message->frame[1].data[7]++;
        note_published(message);
    }
    for (int i = 0; i < MOST_SOCKETS; i++) {
        struct zsocket *sub = &sockets[i];
        if (!sub->used || !sub->linked || sub->type != ZMQ_SUB ||
            strcmp(sub->address, socket->address) != 0 || message->frame[0].bytes < sub->prefix_bytes ||
            memcmp(message->frame[0].data, sub->prefix, sub->prefix_bytes) != 0)
            continue;
        if (sub->waiting < socket->send_most && !sim_chance(sim.faults.chunk_lost))
            deliver(sub, copy_message(message));
    }
    free_message(message);
}

static struct zsocket *peer_of(const struct zsocket *router, const char *identity, size_t bytes)
{
    for (int i = 0; i < MOST_SOCKETS && bytes == IDENTITY_BYTES; i++)
        if (sockets[i].used && sockets[i].linked && sockets[i].id == read_be(identity + 1, 4) &&
            strcmp(sockets[i].address, router->address) == 0)
            return &sockets[i];
    return NULL;
}

static void answer(struct zsocket *router, struct message *message)
{
    struct zsocket *peer = peer_of(router, message->frame[0].data, message->frame[0].bytes);
    struct message *rest = new_message();
    for (int i = 1; i < message->frames; i++)
        add_frame(rest, message->frame[i].data, message->frame[i].bytes);
    free_message(message);
    if (peer)
        deliver(peer, rest);
    else
        free_message(rest);
}

static void ask(struct zsocket *dealer, struct message *message)
{
    struct zsocket *router = dealer->linked ? bound_to(dealer->address) : NULL;
    char identity[IDENTITY_BYTES] = {0};
    struct message *whole = new_message();
    for (int i = 0; i < 4; i++)
        identity[1 + i] = (char)(unsigned char)(dealer->id >> (24 - 8 * i));
    add_frame(whole, identity, sizeof identity);
    for (int i = 0; i < message->frames; i++)
        add_frame(whole, message->frame[i].data, message->frame[i].bytes);
    free_message(message);
    if (router)
        deliver(router, whole);
    else
        free_message(whole);
}

/* A router says at the first frame that a peer is gone or does not take more. */
static bool is_refused(const struct zsocket *socket, const void *data, size_t bytes)
{
    if (socket->type != ZMQ_ROUTER || socket->writing)
        return false;
    const struct zsocket *peer = peer_of(socket, data, bytes);
    errno = peer ? EAGAIN : EHOSTUNREACH;
    return !peer || peer->waiting >= socket->send_most;
}

int zmq_send(void *handle, const void *data, size_t bytes, int flags)
{
    struct zsocket *socket = handle;
    if (socket->bound && !(flags & ZMQ_DONTWAIT))
        sim_violate("a worker's send would wait for a reader");
    if (is_refused(socket, data, bytes))
        return -1;
    if (!socket->writing)
        socket->writing = new_message();
    add_frame(socket->writing, data, bytes);
    if (flags & ZMQ_SNDMORE)
        return (int)bytes;
    struct message *message = socket->writing;
    socket->writing = NULL;
    if (sim.deaf && socket->bound)
        free_message(message);
    else if (socket->type == ZMQ_XPUB)
        publish(socket, message);
    else if (socket->type == ZMQ_ROUTER)
        answer(socket, message);
    else
        ask(socket, message);
    return (int)bytes;
}

/* ---- receiving ---- */

static bool next_message(struct zsocket *socket, int flags)
{
    if (socket->reading)
        return true;
    if (!socket->first && socket->type == ZMQ_DEALER && !(flags & ZMQ_DONTWAIT) && sim_zmq_wait)
        sim_zmq_wait(socket->address);
    socket->reading = take(socket);
    socket->at = 0;
    errno = EAGAIN;
    return socket->reading != NULL;
}

/* The next frame goes to whoever asked; the last one ends the message. */
static size_t read_frame(struct zsocket *socket, char **data)
{
    struct message *message = socket->reading;
    size_t bytes = message->frame[socket->at].bytes;
    *data = message->frame[socket->at].data;
    message->frame[socket->at++].data = NULL;
    if (socket->at == message->frames) {
        free_message(message);
        socket->reading = NULL;
    }
    return bytes;
}

int zmq_recv(void *handle, void *out, size_t capacity, int flags)
{
    char *data;
    if (!next_message(handle, flags))
        return -1;
    size_t bytes = read_frame(handle, &data);
    memcpy(out, data, bytes < capacity ? bytes : capacity);
    free(data);
    return (int)bytes;
}

struct held { /* in a zmq_msg_t */
    char *data;
    size_t bytes;
};

static struct held *held_of(zmq_msg_t *message)
{
    return (struct held *)(void *)message;
}

int zmq_msg_init(zmq_msg_t *message)
{
    *held_of(message) = (struct held){0};
    return 0;
}

int zmq_msg_recv(zmq_msg_t *message, void *handle, int flags)
{
    if (!next_message(handle, flags))
        return -1;
    held_of(message)->bytes = read_frame(handle, &held_of(message)->data);
    return (int)held_of(message)->bytes;
}

void *zmq_msg_data(zmq_msg_t *message)
{
    return held_of(message)->data;
}

size_t zmq_msg_size(const zmq_msg_t *message)
{
    return ((const struct held *)(const void *)message)->bytes;
}

int zmq_msg_close(zmq_msg_t *message)
{
    free(held_of(message)->data);
    held_of(message)->data = NULL;
    return 0;
}

int zmq_poll(zmq_pollitem_t *items, int count, long timeout)
{
    int ready = 0;
    (void)timeout;
    for (int i = 0; i < count; i++) {
        const struct zsocket *socket = items[i].socket;
        items[i].revents = socket->first ? ZMQ_POLLIN : 0;
        ready += socket->first != NULL;
    }
    return ready;
}
