// SPDX-License-Identifier: Apache-2.0
// Several real Redis servers as one store, by rendezvous hashing and as a real Redis Cluster: blocks are
// spread, a server that is away costs its own blocks only, and slots that move are followed while blocks are
// read.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kvtier/cluster_map.h"
#include "kvtier/redis_store.h"
#include "tests/support/redis_server.h"
#include "tests/support/tier_chain.h"

enum { SERVERS = 3, BLOCKS = 100, PAYLOAD = 20000, LIMIT_MS = 3000, LAST_SLOT = CLUSTER_SLOTS - 1 };
enum { LONG_CHAIN = 240 }; /* more of it on each server than one request asks for */

struct node {
    struct redis_server server;
    char port[8], bus_port[8], id[48];
    redisContext *door;
};

struct rig {
    struct node nodes[SERVERS];
    char addresses[512];
    struct tier_chain chain;
    struct tier_store *store;
    struct tier_get get;
    struct error err;
};

static void free_port(char out[8])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    close(fd);
    snprintf(out, 8, "%d", ntohs(address.sin_port));
}

/* One command to one server, its reply's text kept in `out` (may be NULL). */
static void tell(struct node *node, char *out, size_t out_bytes, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    redisReply *reply = redisvCommand(node->door, format, arguments);
    va_end(arguments);
    assert_non_null(reply);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", format, reply->str);
    if (out)
        snprintf(out, out_bytes, "%s", reply->str ? reply->str : "");
    freeReplyObject(reply);
}

static long long number_of(struct node *node, const char *command)
{
    redisReply *reply = redisCommand(node->door, command);
    assert_non_null(reply);
    long long number = reply->integer;
    freeReplyObject(reply);
    return number;
}

static bool start_node(struct node *node, bool cluster, bool again)
{
    const char *arguments[] = {"--maxmemory",
                               "256mb",
                               "--maxmemory-policy",
                               "allkeys-lru",
                               cluster ? "--port" : NULL,
                               node->port,
                               "--cluster-port",
                               node->bus_port,
                               "--cluster-enabled",
                               "yes",
                               "--cluster-node-timeout",
                               "15000",
                               "--cluster-require-full-coverage",
                               "no",
                               NULL};
    return again ? redis_server_restart(&node->server, arguments)
                 : redis_server_start(&node->server, arguments);
}

static void open_store(struct rig *rig, const char *addresses, bool cluster)
{
    struct redis_store_options options = {
        .address = addresses, .cluster = cluster, .ttl_s = 3600, .writer = true};
    assert_int_equal(redis_store_open(&rig->store, &options, NULL), STATUS_OK);
}

static void start(struct rig *rig, bool cluster)
{
    memset(rig, 0, sizeof *rig);
    tier_chain_init(&rig->chain, BLOCKS, PAYLOAD);
    for (int i = 0; i < SERVERS; i++) {
        struct node *node = &rig->nodes[i];
        free_port(node->port);
        free_port(node->bus_port);
        if (!start_node(node, cluster, false))
            fail_msg("redis-server cannot be started; install it");
        node->door = redis_server_door(&node->server);
        size_t used = strlen(rig->addresses);
        snprintf(rig->addresses + used, sizeof rig->addresses - used, "%s%s", i ? "," : "",
                 node->server.address);
    }
}

static void finish(struct rig *rig)
{
    rig->store->close(rig->store);
    for (int i = 0; i < SERVERS; i++) {
        redisFree(rig->nodes[i].door);
        redis_server_stop(&rig->nodes[i].server);
        redis_server_remove(&rig->nodes[i].server);
    }
    tier_chain_release(&rig->chain);
}

static void expect_get(struct rig *rig, enum tier_fault fault, size_t loaded, enum tier_miss miss)
{
    assert_int_equal(tier_chain_get(&rig->chain, rig->store, LIMIT_MS, &rig->get, &rig->err), fault);
    assert_int_equal(rig->get.loaded, loaded);
    assert_int_equal(rig->get.miss, miss);
}

/* Gets until the whole chain is there, at most for limit_ms. */
static void expect_whole_soon(struct rig *rig, bool putting, int limit_ms)
{
    for (int i = 0; i < limit_ms / 50; i++) {
        if (putting)
            tier_chain_put(&rig->chain, rig->store);
        tier_chain_get(&rig->chain, rig->store, LIMIT_MS, &rig->get, &rig->err);
        if (rig->get.loaded == BLOCKS)
            return;
        usleep(50000);
    }
    fail_msg("after %d ms %zu of %d blocks: %s", limit_ms, rig->get.loaded, BLOCKS, rig->err.text);
}

/* ---- standalone servers ---- */

static void blocks_are_spread_and_come_back(void **state)
{
    (void)state;
    struct rig rig;
    start(&rig, false);
    open_store(&rig, rig.addresses, false);
    expect_get(&rig, TIER_FAULT_NONE, 0, TIER_MISS_absent);
    assert_int_equal(tier_chain_put(&rig.chain, rig.store), BLOCKS);
    expect_get(&rig, TIER_FAULT_NONE, BLOCKS, TIER_MISS_none);
    for (int i = 0; i < SERVERS; i++) /* 33 expected, sigma 4.7 */
        assert_in_range(number_of(&rig.nodes[i], "DBSIZE"), 15, 55);
    assert_int_equal(rig.store->touch(rig.store, rig.chain.blocks, BLOCKS, INT64_MAX, &rig.err),
                     TIER_FAULT_NONE);
    char reversed[600]; /* the order of the list does not matter */
    snprintf(reversed, sizeof reversed, "%s,%s,%s", rig.nodes[2].server.address, rig.nodes[0].server.address,
             rig.nodes[1].server.address);
    rig.store->close(rig.store);
    open_store(&rig, reversed, false);
    expect_get(&rig, TIER_FAULT_NONE, BLOCKS, TIER_MISS_none);
    finish(&rig);
}

static void a_dead_server_costs_its_blocks_until_the_second_in_rank_has_them(void **state)
{
    (void)state;
    struct rig rig;
    start(&rig, false);
    open_store(&rig, rig.addresses, false);
    assert_int_equal(tier_chain_put(&rig.chain, rig.store), BLOCKS);
    redis_server_stop(&rig.nodes[1].server);
    for (int i = 0; i < 3; i++) {
        tier_chain_get(&rig.chain, rig.store, LIMIT_MS, &rig.get, &rig.err);
        assert_true(rig.get.loaded < BLOCKS);
        assert_int_equal(rig.get.miss, TIER_MISS_unavailable);
    }
    size_t before =
        rig.get.loaded; /* its breaker is open now: the chain goes as far, its blocks are absent elsewhere */
    expect_get(&rig, TIER_FAULT_NONE, before, TIER_MISS_absent);
    assert_int_equal(tier_chain_put(&rig.chain, rig.store), BLOCKS);
    expect_get(&rig, TIER_FAULT_NONE, BLOCKS, TIER_MISS_none);
    assert_true(start_node(&rig.nodes[1], false, true)); /* empty */
    expect_whole_soon(&rig, true, 5000);
    redisFree(rig.nodes[1].door);
    rig.nodes[1].door = redis_server_door(&rig.nodes[1].server);
    for (int i = 0; i < 100 && number_of(&rig.nodes[1], "DBSIZE") < 15; i++) {
        tier_chain_put(&rig.chain, rig.store);
        usleep(50000);
    }
    assert_true(number_of(&rig.nodes[1], "DBSIZE") >= 15); /* it has its share again */
    finish(&rig);
}

static void when_all_are_dead_it_is_one_failure_and_any_one_brings_it_back(void **state)
{
    (void)state;
    struct rig rig;
    start(&rig, false);
    open_store(&rig, rig.addresses, false);
    for (int i = 0; i < SERVERS; i++)
        redis_server_stop(&rig.nodes[i].server);
    enum tier_fault fault = TIER_FAULT_NONE;
    for (int i = 0; i < 40 && fault != TIER_FAULT_CONNECTION; i++)
        fault = tier_chain_get(&rig.chain, rig.store, LIMIT_MS, &rig.get, &rig.err);
    assert_int_equal(fault, TIER_FAULT_CONNECTION);
    assert_int_equal(rig.get.loaded, 0);
    for (int i = 0; i < SERVERS; i++)
        assert_true(start_node(&rig.nodes[i], false, true));
    expect_whole_soon(&rig, true, 8000);
    finish(&rig);
}

/* ---- cluster ---- */

static void form_cluster(struct rig *rig)
{
    char state[512];
    for (int i = 0; i < SERVERS; i++) {
        struct node *node = &rig->nodes[i];
        int first = i * CLUSTER_SLOTS / SERVERS;
        int last = i == SERVERS - 1 ? LAST_SLOT : (i + 1) * CLUSTER_SLOTS / SERVERS - 1;
        tell(node, NULL, 0, "CLUSTER SET-CONFIG-EPOCH %d", i + 1);
        tell(node, NULL, 0, "CLUSTER ADDSLOTSRANGE %d %d", first, last);
        tell(node, node->id, sizeof node->id, "CLUSTER MYID");
        tell(node, NULL, 0, "CLUSTER MEET 127.0.0.1 %s %s", rig->nodes[0].port, rig->nodes[0].bus_port);
    }
    for (int i = 0; i < SERVERS; i++)
        for (int tries = 0;; tries++) {
            tell(&rig->nodes[i], state, sizeof state, "CLUSTER INFO");
            if (strstr(state, "cluster_state:ok") && strstr(state, "cluster_slots_ok:16384"))
                break;
            assert_true(tries < 300);
            usleep(50000);
        }
    snprintf(rig->addresses, sizeof rig->addresses, "redis://127.0.0.1:%s", rig->nodes[0].port);
}

static void a_cluster_is_found_through_one_entry(void **state)
{
    (void)state;
    struct rig rig;
    start(&rig, true);
    form_cluster(&rig);
    open_store(&rig, rig.addresses, true);
    assert_int_equal(tier_chain_put(&rig.chain, rig.store), BLOCKS);
    expect_get(&rig, TIER_FAULT_NONE, BLOCKS, TIER_MISS_none);
    for (int i = 0; i < SERVERS; i++)
        assert_in_range(number_of(&rig.nodes[i], "DBSIZE"), 15, 55);
    rig.store->close(rig.store);
    open_store(&rig, rig.addresses, false); /* without kvtier.cluster: one sentence that says so */
    assert_int_equal(tier_chain_get(&rig.chain, rig.store, LIMIT_MS, &rig.get, &rig.err),
                     TIER_FAULT_ELSEWHERE);
    assert_non_null(strstr(rig.err.text, "set kvtier.cluster"));
    finish(&rig);
}

static void a_server_that_is_no_cluster_is_refused_as_one(void **state)
{
    (void)state;
    struct rig rig;
    start(&rig, false);
    open_store(&rig, rig.addresses, true);
    assert_int_equal(tier_chain_get(&rig.chain, rig.store, LIMIT_MS, &rig.get, &rig.err), TIER_FAULT_DENIED);
    assert_non_null(strstr(rig.err.text, "cluster support disabled"));
    finish(&rig);
}

static bool lease(struct rig *rig, size_t first)
{
    bool granted = false;
    assert_int_equal(rig->store->lease(rig->store, rig->chain.blocks + first, rig->chain.count - first, 60000,
                                       INT64_MAX, &granted, &rig->err),
                     TIER_FAULT_NONE);
    return granted;
}

static void a_chain_is_claimed_once_whoever_has_its_blocks(void **state)
{
    (void)state;
    for (int cluster = 0; cluster < 2; cluster++) {
        struct rig rig;
        start(&rig, cluster);
        if (cluster)
            form_cluster(&rig);
        open_store(&rig, rig.addresses, cluster);
        expect_get(&rig, TIER_FAULT_NONE, 0, TIER_MISS_absent);
        tier_chain_release(&rig.chain);
        tier_chain_init(&rig.chain, LONG_CHAIN, PAYLOAD);
        assert_true(lease(&rig, 0));
        for (size_t i = 0; i < LONG_CHAIN;
             i++) /* nor does a chain that shares all of it and has the first i */
            assert_false(lease(&rig, i));
        finish(&rig);
    }
}

static uint16_t slot_of(const struct rig *rig, size_t block)
{
    char key[REDIS_STORE_KEY_BYTES];
    size_t bytes = redis_store_key(&rig->chain.blocks[block], key);
    return cluster_map_slot(key, bytes);
}

static int owner_of(uint16_t slot)
{
    int at = 0;
    while (at < SERVERS - 1 && slot > (at + 1) * CLUSTER_SLOTS / SERVERS - 1)
        at++;
    return at;
}

static void begin_migration(struct rig *rig, size_t block)
{
    uint16_t slot = slot_of(rig, block);
    struct node *from = &rig->nodes[owner_of(slot)], *to = &rig->nodes[(owner_of(slot) + 1) % SERVERS];
    char key[REDIS_STORE_KEY_BYTES];
    redis_store_key(&rig->chain.blocks[block], key);
    tell(to, NULL, 0, "CLUSTER SETSLOT %d IMPORTING %s", slot, from->id);
    tell(from, NULL, 0, "CLUSTER SETSLOT %d MIGRATING %s", slot, to->id);
    tell(from, NULL, 0, "MIGRATE 127.0.0.1 %s %s 0 5000", to->port, key);
}

static void end_migration(struct rig *rig, size_t block)
{
    uint16_t slot = slot_of(rig, block);
    struct node *to = &rig->nodes[(owner_of(slot) + 1) % SERVERS];
    tell(to, NULL, 0, "CLUSTER SETSLOT %d NODE %s", slot, to->id);
    tell(&rig->nodes[owner_of(slot)], NULL, 0, "CLUSTER SETSLOT %d NODE %s", slot, to->id);
}

static void a_slot_that_moves_is_asked_for_and_then_found(void **state)
{
    (void)state;
    struct rig rig;
    start(&rig, true);
    form_cluster(&rig);
    open_store(&rig, rig.addresses, true);
    assert_int_equal(tier_chain_put(&rig.chain, rig.store), BLOCKS);
    begin_migration(&rig, 7); /* ASK */
    expect_get(&rig, TIER_FAULT_NONE, BLOCKS, TIER_MISS_none);
    char key[REDIS_STORE_KEY_BYTES];
    redis_store_key(&rig.chain.blocks[7], key);
    struct node *to = &rig.nodes[(owner_of(slot_of(&rig, 7)) + 1) % SERVERS];
    end_migration(&rig, 7); /* MOVED, to a map that is too young to be read again */
    expect_get(&rig, TIER_FAULT_NONE, BLOCKS, TIER_MISS_none);
    tell(to, NULL, 0, "UNLINK %s", key);
    expect_get(&rig, TIER_FAULT_NONE, 7, TIER_MISS_absent);
    assert_int_equal(tier_chain_put(&rig.chain, rig.store), BLOCKS);
    expect_get(&rig, TIER_FAULT_NONE, BLOCKS, TIER_MISS_none);
    finish(&rig);
}

/* Every slot of the first server that has one of our blocks goes to the second, as when a cluster is
 * resharded. */
static void *migrate_from_first(void *context)
{
    struct rig *rig = context;
    for (size_t i = 0; i < BLOCKS; i++) {
        if (owner_of(slot_of(rig, i)) != 0)
            continue;
        begin_migration(rig, i);
        usleep(3000);
        end_migration(rig, i);
    }
    return NULL;
}

static void slots_move_while_blocks_are_read(void **state)
{
    (void)state;
    struct rig rig;
    pthread_t mover;
    start(&rig, true);
    form_cluster(&rig);
    open_store(&rig, rig.addresses, true);
    assert_int_equal(tier_chain_put(&rig.chain, rig.store), BLOCKS);
    expect_get(&rig, TIER_FAULT_NONE, BLOCKS, TIER_MISS_none);
    assert_int_equal(pthread_create(&mover, NULL, migrate_from_first, &rig), 0);
    int whole = 0, all = 0;
    while (pthread_tryjoin_np(mover, NULL) != 0) {
        tier_chain_get(&rig.chain, rig.store, LIMIT_MS, &rig.get, &rig.err);
        whole += rig.get.loaded == BLOCKS;
        all += rig.get.miss != TIER_MISS_timeout; /* a server that got no processor for long has not moved */
        if (rig.get.loaded != BLOCKS)
            print_message("%zu blocks, miss %d: %s\n", rig.get.loaded, (int)rig.get.miss, rig.err.text);
    }
    print_message("%d of %d reads whole while slots moved\n", whole, all);
    assert_true(all >= 1 && whole == all);
    assert_int_equal(number_of(&rig.nodes[0], "DBSIZE"), 0);
    expect_get(&rig, TIER_FAULT_NONE, BLOCKS, TIER_MISS_none);
    finish(&rig);
}

static void a_cluster_goes_on_without_one_of_its_nodes(void **state)
{
    (void)state;
    struct rig rig;
    start(&rig, true);
    form_cluster(&rig);
    open_store(&rig, rig.addresses, true);
    assert_int_equal(tier_chain_put(&rig.chain, rig.store), BLOCKS);
    redis_server_stop(&rig.nodes[0].server); /* the entry itself */
    size_t first = 0;
    while (owner_of(slot_of(&rig, first)) != 0)
        first++;
    expect_get(&rig, TIER_FAULT_NODE, first, TIER_MISS_unavailable);
    for (int i = 0; i < 4; i++)
        tier_chain_get(&rig.chain, rig.store, LIMIT_MS, &rig.get, &rig.err);
    expect_get(&rig, TIER_FAULT_NONE, first, TIER_MISS_breaker);
    assert_in_range(tier_chain_put(&rig.chain, rig.store), 45, 85); /* two thirds find their node */
    assert_true(start_node(&rig.nodes[0], true, true));
    expect_whole_soon(&rig, true, 15000);
    finish(&rig);
}

/* ---- the map ---- */

static void slots_and_redirections_are_those_of_the_specification(void **state)
{
    (void)state;
    static const char *const bad[] = {"MOVED",       "MOVED 1",         "MOVED 99999 h:1", "MOVED 1 h",
                                      "MOVED 1 h:0", "MOVED 1 h:70000", "OK 1 h:1",        "",
                                      "ASK x h:1"};
    struct cluster_redirect redirect;
    assert_int_equal(cluster_map_slot("123456789", 9), 0x31C3);
    assert_true(cluster_redirect_parse(&redirect, "MOVED 3999 10.0.0.7:6381", "here"));
    assert_false(redirect.ask);
    assert_int_equal(redirect.slot, 3999);
    assert_string_equal(redirect.address.host, "10.0.0.7");
    assert_int_equal(redirect.address.port, 6381);
    assert_true(cluster_redirect_parse(&redirect, "ASK 16383 ::1:7000", "here"));
    assert_true(redirect.ask);
    assert_string_equal(redirect.address.host, "::1");
    assert_true(cluster_redirect_parse(&redirect, "MOVED 1 :7000", "here"));
    assert_string_equal(redirect.address.host, "here");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(cluster_redirect_parse(&redirect, bad[i], "here"));
}

static void lists_of_addresses_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {"redis://a,", ",redis://a", "redis://a,redis://a:6379",
                                      "redis://a,http://b", "redis://[::1"};
    struct redis_address addresses[REDIS_MAX_ADDRESSES];
    size_t count;
    char text[REDIS_ADDRESS_BYTES];
    struct error err;
    assert_int_equal(
        redis_address_parse_list(addresses, &count, "redis://[::1]:7/3,unix:///x?db=2,redis://h", &err),
        STATUS_OK);
    assert_int_equal(count, 3);
    redis_address_print(&addresses[0], text);
    assert_string_equal(text, "redis://[::1]:7/3");
    redis_address_print(&addresses[1], text);
    assert_string_equal(text, "unix:///x?db=2");
    redis_address_print(&addresses[2], text);
    assert_string_equal(text, "redis://h:6379");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(redis_address_parse_list(addresses, &count, bad[i], &err), STATUS_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_and_redirections_are_those_of_the_specification),
        cmocka_unit_test(lists_of_addresses_are_checked),
        cmocka_unit_test(blocks_are_spread_and_come_back),
        cmocka_unit_test(a_dead_server_costs_its_blocks_until_the_second_in_rank_has_them),
        cmocka_unit_test(when_all_are_dead_it_is_one_failure_and_any_one_brings_it_back),
        cmocka_unit_test(a_cluster_is_found_through_one_entry),
        cmocka_unit_test(a_server_that_is_no_cluster_is_refused_as_one),
        cmocka_unit_test(a_chain_is_claimed_once_whoever_has_its_blocks),
        cmocka_unit_test(a_slot_that_moves_is_asked_for_and_then_found),
        cmocka_unit_test(slots_move_while_blocks_are_read),
        cmocka_unit_test(a_cluster_goes_on_without_one_of_its_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
