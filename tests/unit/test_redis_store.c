// SPDX-License-Identifier: Apache-2.0
// What a Redis may answer, by a server that follows a script: each refusal is the right kind of failure, and
// whatever is no reply at all closes the connection and is a miss. And what may lie in a real one.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <hiredis/hiredis.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvtier/redis_store.h"
#include "tests/support/redis_server.h"
#include "tests/support/tier_chain.h"

enum { BLOCKS = 3, PAYLOAD = 300, LIMIT_MS = 2000 };

/* A server of one connection at a time that answers PING and INFO well and everything else by its script. */
struct scripted {
    char path[64], address[80];
    int listener;
    pthread_t thread;
    _Atomic(const char *) reply; /* of the block commands; NULL: close instead */
    _Atomic bool close_after;    /* a reply is all that comes */
    _Atomic int connections, commands;
};

static bool read_command(FILE *peer, char verb[16])
{
    char line[256];
    if (!fgets(line, sizeof line, peer) || line[0] != '*')
        return false;
    long words = strtol(line + 1, NULL, 10);
    for (long i = 0; i < words; i++) {
        char word[4096];
        if (!fgets(line, sizeof line, peer))
            return false;
        size_t bytes = strtoul(line + 1, NULL, 10);
        if (bytes + 2 > sizeof word || fread(word, 1, bytes + 2, peer) != bytes + 2)
            return false;
        if (i == 0)
            snprintf(verb, 16, "%.*s", (int)bytes, word);
    }
    return true;
}

static void answer(struct scripted *server, int fd)
{
    static const char info[] = "$47\r\n\nmaxmemory:1000\r\nmaxmemory_policy:allkeys-lru\r\n\r\n";
    char verb[16];
    FILE *peer = fdopen(fd, "r");
    while (read_command(peer, verb)) {
        bool control = strcmp(verb, "PING") == 0 || strcmp(verb, "INFO") == 0;
        const char *reply = strcmp(verb, "PING") == 0 ? "+PONG\r\n" : control ? info : server->reply;
        server->commands += !control;
        if (!reply || send(fd, reply, strlen(reply), MSG_NOSIGNAL) < 0 || (!control && server->close_after))
            break;
    }
    fclose(peer);
}

/* accept4, because job_fixture has an accept of its own. */
static void *serve(void *context)
{
    struct scripted *server = context;
    for (int fd; (fd = accept4(server->listener, NULL, NULL, 0)) >= 0;) {
        server->connections++;
        answer(server, fd);
    }
    return NULL;
}

static void start(struct scripted *server)
{
    memset(server, 0, sizeof *server);
    snprintf(server->path, sizeof server->path, "/tmp/millrace-scripted-%d", getpid());
    snprintf(server->address, sizeof server->address, "unix://%s", server->path);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", server->path);
    unlink(server->path);
    server->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(server->listener, 8), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void stop(struct scripted *server)
{
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->listener);
    unlink(server->path);
}

static struct tier_store *open_store(const struct scripted *server)
{
    struct tier_store *store;
    struct redis_store_options options = {.address = server->address, .ttl_s = 60, .writer = true};
    assert_int_equal(redis_store_open(&store, &options, NULL), STATUS_OK);
    return store;
}

static void each_refusal_is_its_kind_of_failure(void **state)
{
    (void)state;
    static const struct {
        const char *reply;
        enum tier_fault get, put;
    } cases[] = {
        {"-OOM command not allowed when used memory > 'maxmemory'.\r\n", TIER_FAULT_CONNECTION,
         TIER_FAULT_NO_ROOM},
        {"-READONLY You can't write against a read only replica.\r\n", TIER_FAULT_CONNECTION,
         TIER_FAULT_NO_ROOM},
        {"-MISCONF Redis is configured to save RDB snapshots\r\n", TIER_FAULT_CONNECTION, TIER_FAULT_NO_ROOM},
        {"-NOREPLICAS Not enough good replicas to write.\r\n", TIER_FAULT_CONNECTION, TIER_FAULT_NO_ROOM},
        {"-LOADING Redis is loading the dataset in memory\r\n", TIER_FAULT_LOADING, TIER_FAULT_LOADING},
        {"-BUSY Redis is busy running a script.\r\n", TIER_FAULT_LOADING, TIER_FAULT_LOADING},
        {"-MASTERDOWN Link with MASTER is down\r\n", TIER_FAULT_LOADING, TIER_FAULT_LOADING},
        {"-CLUSTERDOWN Hash slot not served\r\n", TIER_FAULT_LOADING, TIER_FAULT_LOADING},
        {"-TRYAGAIN Multiple keys request during rehashing of slot\r\n", TIER_FAULT_LOADING,
         TIER_FAULT_LOADING},
        {"-NOAUTH Authentication required.\r\n", TIER_FAULT_DENIED, TIER_FAULT_DENIED},
        {"-WRONGPASS invalid username-password pair or user is disabled.\r\n", TIER_FAULT_DENIED,
         TIER_FAULT_DENIED},
        {"-NOPERM this user has no permissions to run the 'get' command\r\n", TIER_FAULT_DENIED,
         TIER_FAULT_DENIED},
        {"-DENIED Redis is running in protected mode\r\n", TIER_FAULT_DENIED, TIER_FAULT_DENIED},
        {"-MOVED 3999 127.0.0.1:6381\r\n", TIER_FAULT_ELSEWHERE, TIER_FAULT_ELSEWHERE},
        {"-ASK 3999 127.0.0.1:6381\r\n", TIER_FAULT_ELSEWHERE, TIER_FAULT_ELSEWHERE},
        {"-ERR unknown command 'GET'\r\n", TIER_FAULT_CONNECTION, TIER_FAULT_CONNECTION},
        {"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", TIER_FAULT_CONNECTION,
         TIER_FAULT_CONNECTION},
    };
    struct scripted server;
    struct tier_chain chain;
    struct tier_get get;
    struct error err;
    start(&server);
    tier_chain_init(&chain, BLOCKS, PAYLOAD);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tier_store *store = open_store(&server);
        server.reply = cases[i].reply;
        enum tier_fault fault = tier_chain_get(&chain, store, LIMIT_MS, &get, &err);
        if (fault != cases[i].get || get.loaded != 0)
            fail_msg("get: %s is fault %d", cases[i].reply, fault);
        assert_non_null(strstr(err.text, "Redis answered: "));
        uint8_t payload[PAYLOAD] = {0};
        fault = store->put(store, &chain.blocks[0], payload, INT64_MAX, &err);
        if (fault != cases[i].put)
            fail_msg("put: %s is fault %d", cases[i].reply, fault);
        store->close(store);
    }
    tier_chain_release(&chain);
    stop(&server);
}

/* After it the store must come with a new connection and understand a server that is well again. */
static void what_is_no_reply_closes_the_connection(void **state)
{
    (void)state;
    static const char *const garbage[] = {"$5\r\nab",
                                          "$x\r\n",
                                          "?\r\n",
                                          "*1\r\n$-1\r\n",
                                          "$-2\r\n",
                                          "$9999999999\r\n",
                                          ":1\r\n",
                                          "+OK\r\n",
                                          "\r\n",
                                          "$-1\n",
                                          "-",
                                          "",
                                          "$1\r\nabcdefgh",
                                          "$-1",
                                          "$0\r\nxx",
                                          "+",
                                          "$",
                                          "$508\r\nKVT1\r\n"};
    struct scripted server;
    struct tier_chain chain;
    struct tier_get get;
    struct error err;
    start(&server);
    tier_chain_init(&chain, BLOCKS, PAYLOAD);
    struct tier_store *store = open_store(&server);
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        server.reply = garbage[i];
        server.close_after = true;
        if (tier_chain_get(&chain, store, LIMIT_MS, &get, &err) != TIER_FAULT_CONNECTION || get.loaded != 0)
            fail_msg("reply %zu was taken for one", i);
        int before = server.connections;
        server.reply = "$-1\r\n";
        server.close_after = false;
        assert_int_equal(tier_chain_get(&chain, store, LIMIT_MS, &get, &err), TIER_FAULT_NONE);
        assert_int_equal(get.miss, TIER_MISS_absent);
        assert_int_equal(server.connections, before + 1);
    }
    store->close(store);
    tier_chain_release(&chain);
    stop(&server);
}

static void a_chain_is_asked_for_in_a_window_and_not_beyond_the_first_miss(void **state)
{
    (void)state;
    struct scripted server;
    struct tier_chain chain;
    struct tier_get get;
    struct error err;
    start(&server);
    tier_chain_init(&chain, TIER_CHAIN_MAX, PAYLOAD);
    struct tier_store *store = open_store(&server);
    server.reply = "$-1\r\n";
    assert_int_equal(tier_chain_get(&chain, store, LIMIT_MS, &get, &err), TIER_FAULT_NONE);
    assert_int_equal(server.commands, REDIS_STORE_WINDOW);
    store->close(store);
    tier_chain_release(&chain);
    stop(&server);
}

static void silence_costs_the_deadline(void **state)
{
    (void)state;
    struct scripted server;
    struct tier_chain chain;
    struct tier_get get;
    struct error err;
    start(&server);
    tier_chain_init(&chain, BLOCKS, PAYLOAD);
    struct tier_store *store = open_store(&server);
    server.reply = ""; /* not a byte, and the connection stays */
    assert_int_equal(tier_chain_get(&chain, store, 100, &get, &err), TIER_FAULT_CONNECTION);
    assert_int_equal(err.status, STATUS_TIMEOUT);
    store->close(store);
    tier_chain_release(&chain);
    stop(&server);
}

/* ---- what lies in a real server ---- */

struct stored { /* a chain in a real Redis, and the good value of its middle block */
    struct redis_server server;
    struct tier_chain chain;
    struct tier_store *store;
    redisContext *door;
    char key[REDIS_STORE_KEY_BYTES];
    redisReply *good;
};

static void store_chain(struct stored *stored)
{
    static const char *const roomy[] = {"--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", NULL};
    memset(stored, 0, sizeof *stored);
    if (!redis_server_start(&stored->server, roomy))
        fail_msg("redis-server cannot be started; install it");
    struct redis_store_options options = {.address = stored->server.address, .ttl_s = 60, .writer = true};
    assert_int_equal(redis_store_open(&stored->store, &options, NULL), STATUS_OK);
    tier_chain_init(&stored->chain, BLOCKS, PAYLOAD);
    assert_int_equal(tier_chain_put(&stored->chain, stored->store), BLOCKS);
    stored->door = redis_server_door(&stored->server);
    redis_store_key(&stored->chain.blocks[1], stored->key);
    stored->good = redisCommand(stored->door, "GET %s", stored->key);
    assert_int_equal(stored->good->len, block_codec_head_bytes(TIER_CHAIN_TOKENS) + PAYLOAD);
}

static void remove_chain(struct stored *stored)
{
    freeReplyObject(stored->good);
    redisFree(stored->door);
    stored->store->close(stored->store);
    tier_chain_release(&stored->chain);
    redis_server_stop(&stored->server);
    redis_server_remove(&stored->server);
}

/* Puts `value` into the middle block's place: it must be refused and removed. */
static enum block_verdict verdict_of(struct stored *stored, const char *value)
{
    struct tier_get get;
    struct error err;
    freeReplyObject(redisCommand(stored->door, "SET %s %b", stored->key, value, (size_t)stored->good->len));
    assert_int_equal(tier_chain_get(&stored->chain, stored->store, LIMIT_MS, &get, &err), TIER_FAULT_NONE);
    assert_int_equal(get.loaded, 1);
    assert_int_equal(get.miss, TIER_MISS_corrupt);
    redisReply *there = redisCommand(stored->door, "EXISTS %s", stored->key);
    assert_int_equal(there->integer, 0);
    freeReplyObject(there);
    return get.verdict;
}

static void a_flipped_bit_in_any_byte_of_the_head_and_in_a_sample_of_the_payload(void **state)
{
    (void)state;
    struct stored stored;
    store_chain(&stored);
    size_t bytes = (size_t)stored.good->len, head_bytes = block_codec_head_bytes(TIER_CHAIN_TOKENS);
    char *value = malloc(bytes);
    for (size_t at = 0; at < bytes; at += at < head_bytes ? 1 : 7) {
        memcpy(value, stored.good->str, bytes);
        value[at] = (char)(value[at] ^ (1 << at % 8));
        enum block_verdict verdict = verdict_of(&stored, value);
        assert_true(at < head_bytes ? verdict != BLOCK_VERDICT_PAYLOAD_CRC
                                    : verdict == BLOCK_VERDICT_PAYLOAD_CRC);
    }
    free(value);
    struct tier_get get;
    struct error err;
    tier_chain_put(&stored.chain, stored.store);
    tier_chain_get(&stored.chain, stored.store, LIMIT_MS, &get, &err);
    assert_int_equal(get.loaded, BLOCKS);
    remove_chain(&stored);
}

static void a_whole_value_of_another_model_or_block_under_this_key(void **state)
{
    (void)state;
    static const uint8_t other_model[32] = {1};
    struct stored stored;
    store_chain(&stored);
    size_t head_bytes = block_codec_head_bytes(TIER_CHAIN_TOKENS);
    char *value = malloc((size_t)stored.good->len);
    memcpy(value, stored.good->str, (size_t)stored.good->len);
    struct block_identity other = stored.chain.blocks[1];
    other.fingerprint = other_model;
    block_codec_encode(&other, value + head_bytes, 1, (uint8_t *)value);
    assert_int_equal(verdict_of(&stored, value), BLOCK_VERDICT_FINGERPRINT);
    block_codec_encode(&stored.chain.blocks[2], value + head_bytes, 1, (uint8_t *)value);
    assert_int_equal(verdict_of(&stored, value), BLOCK_VERDICT_KEY);
    free(value);
    remove_chain(&stored);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_refusal_is_its_kind_of_failure),
        cmocka_unit_test(what_is_no_reply_closes_the_connection),
        cmocka_unit_test(a_chain_is_asked_for_in_a_window_and_not_beyond_the_first_miss),
        cmocka_unit_test(silence_costs_the_deadline),
        cmocka_unit_test(a_flipped_bit_in_any_byte_of_the_head_and_in_a_sample_of_the_payload),
        cmocka_unit_test(a_whole_value_of_another_model_or_block_under_this_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
