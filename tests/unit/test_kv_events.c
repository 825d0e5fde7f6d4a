// SPDX-License-Identifier: Apache-2.0
// KV events while everybody is at it: the engine's thread reports, one reader follows live, another asks for
// replays all the time, somebody looks at the counters. Both readers see the same batches, none missing.
// ./test runs it under ThreadSanitizer.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "base/monotime.h"
#include "kvtier/crc32c.h"
#include "worker/emit/kv_events.h"

enum { STEPS = 1500, MOST = 16384, TOKENS = 16, FRAME_BYTES = 4096, PATIENCE_MS = 20000 };
#define NOT_SEEN UINT64_MAX

#if defined(__SANITIZE_THREAD__)
/* libzmq hands memory between its threads by means that ThreadSanitizer does not see: what it reads and
 * writes by itself is not looked at, what our code does is. */
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libzmq.so";
}
#endif

struct rig {
    char folder[64], live[96], replay[96];
    struct kv_events *events;
    _Atomic bool live_has_begun, stop;
    /* written by one thread each, read after it has ended */
    uint64_t live_sums[MOST], replay_sums[MOST]; /* by seq: bytes and checksum of the batch; or NOT_SEEN */
    uint64_t live_first, live_last, replays, replay_most;
    const char *live_fault, *replay_fault;
};

static uint64_t read_be64(const uint8_t *at)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | at[i];
    return value;
}

static uint64_t sum_of(const uint8_t *batch, int bytes)
{
    return (uint64_t)bytes << 32 | crc32c(0, batch, (size_t)bytes);
}

static void *connect_to(void *context, int type, const char *address)
{
    int patience_ms = PATIENCE_MS, none = 0;
    void *socket = zmq_socket(context, type);
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &patience_ms, sizeof patience_ms);
    zmq_setsockopt(socket, ZMQ_RCVHWM, &none, sizeof none);
    zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof none);
    if (type == ZMQ_SUB)
        zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "kv@", 3);
    if (zmq_connect(socket, address) != 0)
        abort();
    return socket;
}

/* [first frame][seq][batch]; returns the bytes of the batch or -1. */
static int receive_batch(void *socket, uint64_t *seq, uint8_t *batch)
{
    uint8_t frame[FRAME_BYTES];
    if (zmq_recv(socket, frame, sizeof frame, 0) < 0 || zmq_recv(socket, frame, sizeof frame, 0) != 8)
        return -1;
    *seq = read_be64(frame);
    return zmq_recv(socket, batch, FRAME_BYTES, 0);
}

static bool says(const uint8_t *batch, int bytes, const char *event)
{
    return memmem(batch, (size_t)bytes, event, strlen(event)) != NULL;
}

/* Reads until the worker says that its cache is gone. */
static void *follow(void *context)
{
    struct rig *rig = context;
    void *zmq = zmq_ctx_new(), *socket = connect_to(zmq, ZMQ_SUB, rig->live);
    uint8_t batch[FRAME_BYTES];
    uint64_t seq;
    for (bool ended = false; !ended && !rig->live_fault;) {
        int bytes = receive_batch(socket, &seq, batch);
        if (bytes < 0 || seq >= MOST) {
            rig->live_fault = "nothing came";
        } else if (rig->live_has_begun && seq != rig->live_last + 1) {
            rig->live_fault = "a gap";
        } else {
            rig->live_first = rig->live_has_begun ? rig->live_first : seq;
            rig->live_sums[seq] = sum_of(batch, bytes);
            rig->live_last = seq;
            rig->live_has_begun = true;
            ended = seq > 0 && says(batch, bytes, "AllBlocksCleared");
        }
    }
    zmq_close(socket);
    zmq_ctx_term(zmq);
    return NULL;
}

static const char *ask_once(struct rig *rig, void *socket)
{
    static const uint8_t from_the_first[8];
    uint8_t batch[FRAME_BYTES];
    uint64_t seq = 0, due = 0;
    zmq_send(socket, "", 0, ZMQ_SNDMORE);
    zmq_send(socket, from_the_first, sizeof from_the_first, 0);
    for (;;) {
        int bytes = receive_batch(socket, &seq, batch);
        if (bytes < 0)
            return "no end of a replay";
        if (seq == UINT64_MAX)
            return NULL;
        if (seq != due++ || seq >= MOST)
            return "a replay with a gap";
        if (rig->replay_sums[seq] != NOT_SEEN && rig->replay_sums[seq] != sum_of(batch, bytes))
            return "a batch that changed";
        rig->replay_sums[seq] = sum_of(batch, bytes);
        rig->replay_most = due > rig->replay_most ? due : rig->replay_most;
    }
}

static void *ask_again_and_again(void *context)
{
    struct rig *rig = context;
    void *zmq = zmq_ctx_new(), *socket = connect_to(zmq, ZMQ_DEALER, rig->replay);
    for (bool last = false; !last && !rig->replay_fault; rig->replays++) {
        last = rig->stop;
        rig->replay_fault = ask_once(rig, socket);
    }
    zmq_close(socket);
    zmq_ctx_term(zmq);
    return NULL;
}

/* What an engine does in a step. */
static void report_step(struct rig *rig, size_t step, struct block_key *key)
{
    int32_t tokens[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (int32_t)(step * TOKENS) + i;
    struct block_key parent = *key;
    *key = block_key_next(&parent, tokens, TOKENS);
    kv_events_stored(rig->events, key, step ? &parent : NULL, tokens, TOKENS);
    if (step % 3 == 2)
        kv_events_removed(rig->events, &parent);
    kv_events_flush(rig->events);
}

static void start(struct rig *rig)
{
    struct kv_events_options options = {.topic = "kv@worker@model", .replay_bytes = 64 << 20};
    options.security = (struct stream_security){.secret_key = "", .server_key = ""};
    memset(rig, 0, sizeof *rig);
    memset(rig->live_sums, 0xff, sizeof rig->live_sums);
    memset(rig->replay_sums, 0xff, sizeof rig->replay_sums);
    snprintf(rig->folder, sizeof rig->folder, "/tmp/millrace-kv-events-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    snprintf(rig->live, sizeof rig->live, "ipc://%s/live", rig->folder);
    snprintf(rig->replay, sizeof rig->replay, "ipc://%s/replay", rig->folder);
    options.bind = rig->live;
    options.replay_bind = rig->replay;
    assert_int_equal(kv_events_open(&rig->events, &options, NULL), STATUS_OK);
}

static void finish(struct rig *rig)
{
    unlink(rig->live + strlen("ipc://"));
    unlink(rig->replay + strlen("ipc://"));
    rmdir(rig->folder);
}

static void everybody_sees_the_same_batches(void **state)
{
    (void)state;
    static struct rig rig;
    struct block_key key = block_key_root((const uint8_t[32]){5}, NULL, 0);
    struct kv_events_stats stats;
    pthread_t follower, asker;
    size_t step = 0;
    start(&rig);
    assert_int_equal(pthread_create(&follower, NULL, follow, &rig), 0);
    assert_int_equal(pthread_create(&asker, NULL, ask_again_and_again, &rig), 0);
    int64_t limit_ms = monotime_ms() + PATIENCE_MS;
    for (; !rig.live_has_begun && monotime_ms() < limit_ms; usleep(1000)) /* it has yet to connect */
        report_step(&rig, step++, &key);
    for (size_t end = step + STEPS; step < end; step++) {
        report_step(&rig, step, &key);
        kv_events_stats_read(rig.events, &stats);
        assert_int_equal(stats.dropped, 0);
    }
    while (kv_events_stats_read(rig.events, &stats), stats.batches < step + 1 && monotime_ms() < limit_ms)
        usleep(1000);
    rig.stop = true;
    pthread_join(asker, NULL);
    kv_events_stats_read(rig.events, &stats);
    kv_events_close(rig.events);
    pthread_join(follower, NULL);
    finish(&rig);

    assert_string_equal(rig.live_fault ? rig.live_fault : "", "");
    assert_string_equal(rig.replay_fault ? rig.replay_fault : "", "");
    assert_int_equal(rig.live_last, step + 1); /* the first and the last batch say that the cache is empty */
    assert_int_equal(rig.replay_most, step + 1); /* all but the last */
    assert_true(rig.live_last - rig.live_first >= STEPS);
    assert_int_equal(stats.replays, rig.replays);
    for (uint64_t seq = rig.live_first; seq < rig.live_last; seq++)
        assert_int_equal(rig.live_sums[seq], rig.replay_sums[seq]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(everybody_sees_the_same_batches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
