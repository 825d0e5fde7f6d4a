// SPDX-License-Identifier: Apache-2.0
// DESIGN: per job the next expected seq. A chunk with a higher one first asks replay for the hole; what
// replay has lost is handed on as `missed`. A new attempt or epoch starts again at 0.
#include "worker/cli/stream_client.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { TOPIC_BYTES = 1024, REPLAY_WAIT_MS = 2000, JOB_SLOTS = 4096, HEADER_BYTES = 16, HIGH_WATER = 100000 };

struct job_state { /* direct-mapped by topic hash; a collision evicts a job, whose next chunk then asks replay
                    */
    char topic[TOPIC_BYTES];
    uint64_t epoch, next;
    uint32_t attempt;
    bool known, done;
};

struct stream_client {
    void *context, *live, *replay;
    char replay_address[256];
    struct stream_security security;
    struct job_state *jobs; /* [JOB_SLOTS] */
    void (*take)(void *context, const struct stream_chunk *chunk);
    void *take_context;
};

struct message { /* one chunk as frames */
    char topic[TOPIC_BYTES];
    size_t topic_bytes;
    uint64_t seq, epoch;
    uint32_t attempt, flags;
    zmq_msg_t body;
};

static uint64_t get_be(const uint8_t *in, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | in[i];
    return value;
}

static enum status connect_replay(struct stream_client *client, struct error *err)
{
    int wait = REPLAY_WAIT_MS;
    client->replay = zmq_socket(client->context, ZMQ_DEALER);
    if (!client->replay)
        return error_set(err, STATUS_NO_MEMORY, "no memory to watch a stream");
    zmq_setsockopt(client->replay, ZMQ_RCVTIMEO, &wait, sizeof wait);
    zmq_setsockopt(client->replay, ZMQ_SNDTIMEO, &wait, sizeof wait);
    return stream_socket_connect(client->replay, client->replay_address, &client->security, err);
}

enum status stream_client_open(struct stream_client **out, const struct config *config, const char *prefix,
                               size_t prefix_bytes, struct error *err)
{
    const char *replay = config->stream.replay_bind;
    int high_water = HIGH_WATER;
    *out = NULL;
    struct stream_client *client = calloc(1, sizeof *client);
    if (client) {
        client->jobs = calloc(JOB_SLOTS, sizeof *client->jobs);
        client->context = zmq_ctx_new();
        client->live = client->context ? zmq_socket(client->context, ZMQ_SUB) : NULL;
    }
    if (!client || !client->jobs || !client->live || strlen(replay) >= sizeof client->replay_address) {
        stream_client_close(client);
        return error_set(err, STATUS_NO_MEMORY, "no memory to watch a stream");
    }
    memcpy(client->replay_address, replay, strlen(replay) + 1);
    client->security = stream_security_of(config);
    zmq_setsockopt(client->live, ZMQ_RCVHWM, &high_water, sizeof high_water);
    zmq_setsockopt(client->live, ZMQ_SUBSCRIBE, prefix, prefix_bytes);
    enum status status = stream_socket_connect(client->live, config->stream.bind, &client->security, err);
    if (status == STATUS_OK)
        status = connect_replay(client, err);
    if (status != STATUS_OK) {
        stream_client_close(client);
        return status;
    }
    *out = client;
    return STATUS_OK;
}

void stream_client_close(struct stream_client *client)
{
    if (!client)
        return;
    if (client->live)
        zmq_close(client->live);
    if (client->replay)
        zmq_close(client->replay);
    if (client->context)
        zmq_ctx_term(client->context);
    free(client->jobs);
    free(client);
}

static bool has_more(void *socket)
{
    int more = 0;
    size_t bytes = sizeof more;
    zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &bytes);
    return more != 0;
}

static void skip_rest(void *socket)
{
    while (has_more(socket)) {
        char spare[1];
        if (zmq_recv(socket, spare, sizeof spare, 0) < 0)
            return;
    }
}

/* Reads topic, seq, header and body; the first frame's flags are given. False: nothing, or not our format. */
static bool read_message(void *socket, int flags, struct message *message)
{
    uint8_t seq[8], header[HEADER_BYTES];
    int bytes = zmq_recv(socket, message->topic, TOPIC_BYTES - 1, flags);
    if (bytes < 0)
        return false;
    message->topic_bytes = (size_t)bytes < TOPIC_BYTES ? (size_t)bytes : TOPIC_BYTES - 1;
    message->topic[message->topic_bytes] = '\0';
    bool ok = has_more(socket) && zmq_recv(socket, seq, sizeof seq, 0) == sizeof seq && has_more(socket) &&
              zmq_recv(socket, header, sizeof header, 0) == sizeof header && has_more(socket);
    zmq_msg_init(&message->body);
    if (ok && zmq_msg_recv(&message->body, socket, 0) >= 0) {
        message->seq = get_be(seq, 8);
        message->epoch = get_be(header, 8);
        message->attempt = (uint32_t)get_be(header + 8, 4);
        message->flags = (uint32_t)get_be(header + 12, 4);
        skip_rest(socket);
        return true;
    }
    skip_rest(socket);
    zmq_msg_close(&message->body);
    return false;
}

static struct job_state *state_of(struct stream_client *client, const char *topic)
{
    uint64_t hash = 1469598103934665603u; /* FNV-1a */
    for (const char *c = topic; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    struct job_state *state = &client->jobs[hash % JOB_SLOTS];
    if (strcmp(state->topic, topic) != 0) {
        *state = (struct job_state){0};
        snprintf(state->topic, sizeof state->topic, "%s", topic);
    }
    return state;
}

static void hand_out(struct stream_client *client, struct job_state *state, struct message *message)
{
    struct stream_chunk chunk = {.topic = message->topic,
                                 .seq = message->seq,
                                 .epoch = message->epoch,
                                 .attempt = message->attempt,
                                 .flags = message->flags,
                                 .missed = message->seq - state->next,
                                 .data = zmq_msg_data(&message->body),
                                 .bytes = zmq_msg_size(&message->body)};
    state->next = message->seq + 1;
    client->take(client->take_context, &chunk);
}

/* Asks for everything of the job from state->next on and hands out what comes before `limit`. */
static void repair(struct stream_client *client, struct job_state *state, const struct message *gap)
{
    uint8_t start[8];
    for (int i = 0; i < 8; i++)
        start[i] = (uint8_t)(state->next >> (56 - 8 * i));
    if (zmq_send(client->replay, "", 0, ZMQ_SNDMORE) < 0 ||
        zmq_send(client->replay, gap->topic, gap->topic_bytes, ZMQ_SNDMORE) < 0 ||
        zmq_send(client->replay, start, sizeof start, 0) < 0)
        return;
    for (;;) {
        char empty[1];
        struct message message;
        if (zmq_recv(client->replay, empty, sizeof empty, 0) != 0 || !has_more(client->replay) ||
            !read_message(client->replay, 0, &message)) {
            zmq_close(client->replay); /* an answer in pieces may follow: begin anew */
            if (connect_replay(client, NULL) != STATUS_OK)
                client->replay = NULL;
            return;
        }
        bool end = message.seq == UINT64_MAX;
        bool wanted = !end && message.epoch == gap->epoch && message.attempt == gap->attempt &&
                      message.seq >= state->next && message.seq < gap->seq;
        if (wanted)
            hand_out(client, state, &message);
        zmq_msg_close(&message.body);
        if (end)
            return;
    }
}

static void take_live(struct stream_client *client, struct message *message)
{
    struct job_state *state = state_of(client, message->topic);
    if (!state->known || state->epoch != message->epoch || state->attempt != message->attempt) {
        state->known = true;
        state->epoch = message->epoch;
        state->attempt = message->attempt;
        state->next = 0;
    }
    if (message->seq < state->next)
        return; /* had it, from replay */
    if (message->seq > state->next)
        repair(client, state, message);
    hand_out(client, state, message);
}

void stream_client_receive(struct stream_client *client, int timeout_ms,
                           void (*take)(void *context, const struct stream_chunk *chunk), void *context)
{
    zmq_pollitem_t item = {.socket = client->live, .events = ZMQ_POLLIN};
    struct message message;
    client->take = take;
    client->take_context = context;
    if (zmq_poll(&item, 1, timeout_ms) <= 0)
        return;
    while (read_message(client->live, ZMQ_DONTWAIT, &message)) {
        take_live(client, &message);
        zmq_msg_close(&message.body);
    }
}
