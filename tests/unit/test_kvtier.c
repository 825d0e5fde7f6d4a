// SPDX-License-Identifier: Apache-2.0
// The tier against a real redis-server: what is stored comes back equal, and no fault of the server becomes
// anything but a miss with a reason.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/monotime.h"
#include "kvtier/kvtier.h"
#include "kvtier/redis_store.h"
#include "tests/support/redis_server.h"
#include "tests/support/tier_chain.h"

enum { BLOCKS = 12, PAYLOAD = 300000, FETCHES = 4 };

static const char *const roomy[] = {"--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru", NULL};
static const char *const tight[] = {"--maxmemory", "3mb", "--maxmemory-policy", "volatile-ttl", NULL};
static const char *const unlimited[] = {"--maxmemory", "0", NULL};
static const char *const locked[] = {
    "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--requirepass", "x", NULL};

struct rig {
    struct redis_server server;
    struct channel *done;
    struct kvtier *tier;
    struct tier_chain chain;
};

static void open_tier(struct rig *rig)
{
    struct redis_store_options options = {.address = rig->server.address, .ttl_s = 3600};
    struct kvtier_options tier = {
        .max_put_bytes = 64 << 20, .max_fetch_bytes = 64 << 20, .max_fetches = FETCHES};
    assert_int_equal(redis_store_open(&tier.reader, &options, NULL), STATUS_OK);
    options.writer = true;
    assert_int_equal(redis_store_open(&tier.writer, &options, NULL), STATUS_OK);
    assert_int_equal(channel_open(&rig->done, FETCHES, NULL), STATUS_OK);
    tier.done = rig->done;
    assert_int_equal(kvtier_open(&rig->tier, &tier, NULL), STATUS_OK);
}

static void close_tier(struct rig *rig)
{
    kvtier_close(rig->tier, 2000);
    channel_close(rig->done);
}

static void start(struct rig *rig, const char *const *arguments)
{
    memset(rig, 0, sizeof *rig);
    tier_chain_init(&rig->chain, BLOCKS, PAYLOAD);
    if (!redis_server_start(&rig->server, arguments))
        fail_msg("redis-server cannot be started; install it");
    open_tier(rig);
}

static void finish(struct rig *rig)
{
    close_tier(rig);
    tier_chain_release(&rig->chain);
    redis_server_stop(&rig->server);
    redis_server_remove(&rig->server);
}

static void store_chain(struct rig *rig)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        struct kvtier_put *put = kvtier_put_new(TIER_CHAIN_TOKENS, PAYLOAD);
        kvtier_put_describe(put, &rig->chain.blocks[i]);
        for (size_t at = 0; at < PAYLOAD; at++)
            put->payload[at] = tier_chain_byte(i, at);
        kvtier_put(rig->tier, put);
    }
}

static struct kvtier_fetch *ask_chain(struct rig *rig, int64_t limit_ms)
{
    struct kvtier_fetch *fetch = kvtier_fetch_new(BLOCKS, TIER_CHAIN_TOKENS, PAYLOAD);
    for (size_t i = 0; i < BLOCKS; i++) {
        fetch->blocks[i].fingerprint = rig->chain.fingerprint;
        fetch->blocks[i].key = rig->chain.blocks[i].key;
        fetch->blocks[i].parent = rig->chain.blocks[i].parent;
        fetch->blocks[i].first_position = rig->chain.blocks[i].first_position;
        memcpy(fetch->tokens + i * TIER_CHAIN_TOKENS, rig->chain.tokens[i], sizeof rig->chain.tokens[i]);
    }
    fetch->deadline_ns = monotime_ns() + limit_ms * 1000000;
    if (!kvtier_fetch(rig->tier, fetch))
        return fetch;
    struct kvtier_fetch *back = channel_receive(rig->done, 10000);
    assert_ptr_equal(back, fetch);
    return back;
}

static void check_loaded(const struct kvtier_fetch *fetch, size_t expected)
{
    assert_int_equal(fetch->loaded, expected);
    for (size_t i = 0; i < fetch->loaded; i++)
        for (size_t at = 0; at < PAYLOAD; at++)
            if (fetch->payloads[i][at] != tier_chain_byte(i, at))
                fail_msg("block %zu differs at byte %zu", i, at);
}

static void wait_stored(struct rig *rig, uint64_t count)
{
    struct kvtier_stats stats;
    for (int i = 0; i < 500; i++) {
        kvtier_stats_read(rig->tier, &stats);
        if (stats.stored_blocks + stats.dropped_failed + stats.dropped_breaker >= count)
            return;
        usleep(10000);
    }
    fail_msg("puts did not settle");
}

static void expect_fetch(struct rig *rig, size_t loaded, enum tier_miss miss)
{
    struct kvtier_fetch *fetch = ask_chain(rig, 3000);
    check_loaded(fetch, loaded);
    assert_string_equal(tier_miss_name(fetch->miss), tier_miss_name(miss));
    kvtier_fetch_free(fetch);
}

static void key_of(const struct rig *rig, size_t index, char *key)
{
    redis_store_key(&rig->chain.blocks[index], key);
}

static bool wanted(struct rig *rig, size_t index)
{
    return kvtier_put_wanted(rig->tier, &rig->chain.blocks[index].key, PAYLOAD);
}

static void stored_blocks_come_back_in_a_new_process_life(void **state)
{
    (void)state;
    struct rig rig;
    start(&rig, roomy);
    expect_fetch(&rig, 0, TIER_MISS_absent);
    store_chain(&rig);
    wait_stored(&rig, BLOCKS);
    close_tier(&rig);
    open_tier(&rig);
    expect_fetch(&rig, BLOCKS, TIER_MISS_none);
    rig.chain.fingerprint[31] ^= 1; /* another model */
    tier_chain_key(&rig.chain);
    expect_fetch(&rig, 0, TIER_MISS_absent);
    finish(&rig);
}

static void every_key_expires(void **state)
{
    (void)state;
    struct rig rig;
    char key[REDIS_STORE_KEY_BYTES];
    start(&rig, roomy);
    store_chain(&rig);
    wait_stored(&rig, BLOCKS);
    key_of(&rig, 3, key);
    redisContext *door = redis_server_door(&rig.server);
    redisReply *reply = redisCommand(door, "TTL %s", key);
    assert_in_range(reply->integer, 3000, 3600);
    freeReplyObject(reply);
    redisFree(door);
    finish(&rig);
}

static void a_hole_or_a_flipped_bit_cuts_the_prefix(void **state)
{
    (void)state;
    struct rig rig;
    char key[REDIS_STORE_KEY_BYTES];
    start(&rig, roomy);
    store_chain(&rig);
    wait_stored(&rig, BLOCKS);
    redisContext *door = redis_server_door(&rig.server);
    key_of(&rig, 9, key);
    freeReplyObject(redisCommand(door, "DEL %s", key));
    expect_fetch(&rig, 9, TIER_MISS_absent);
    key_of(&rig, 5, key);
    char flipped = (char)(tier_chain_byte(5, 150003) ^ 0x10);
    size_t place = block_codec_head_bytes(TIER_CHAIN_TOKENS) + 150003;
    freeReplyObject(redisCommand(door, "SETRANGE %s %d %b", key, (int)place, &flipped, (size_t)1));
    struct kvtier_stats stats;
    expect_fetch(&rig, 5, TIER_MISS_corrupt);
    kvtier_stats_read(rig.tier, &stats);
    assert_int_equal(stats.corrupt[BLOCK_VERDICT_PAYLOAD_CRC], 1);
    expect_fetch(&rig, 5, TIER_MISS_absent); /* the bad value was removed */
    key_of(&rig, 2, key);
    freeReplyObject(redisCommand(door, "SET %s short", key));
    expect_fetch(&rig, 2, TIER_MISS_corrupt);
    redisFree(door);
    finish(&rig);
}

static void a_stopped_server_costs_the_deadline_and_recovers(void **state)
{
    (void)state;
    struct rig rig;
    start(&rig, roomy);
    store_chain(&rig);
    wait_stored(&rig, BLOCKS);
    expect_fetch(&rig, BLOCKS, TIER_MISS_none);
    redis_server_signal(&rig.server, SIGSTOP);
    int64_t begin_ms = monotime_ms();
    struct kvtier_fetch *fetch = ask_chain(&rig, 300);
    assert_string_equal(tier_miss_name(fetch->miss), "timeout");
    assert_int_equal(fetch->loaded, 0);
    assert_in_range(monotime_ms() - begin_ms, 250, 1500);
    kvtier_fetch_free(fetch);
    redis_server_signal(&rig.server, SIGCONT);
    expect_fetch(&rig, BLOCKS, TIER_MISS_none);
    finish(&rig);
}

static void a_dead_server_opens_the_breaker_and_an_empty_one_closes_it(void **state)
{
    (void)state;
    struct rig rig;
    start(&rig, roomy);
    store_chain(&rig);
    wait_stored(&rig, BLOCKS);
    redis_server_stop(&rig.server);
    for (int i = 0; i < 3; i++)
        expect_fetch(&rig, 0, TIER_MISS_unavailable);
    expect_fetch(&rig, 0, TIER_MISS_breaker);
    assert_true(redis_server_restart(&rig.server, roomy));
    usleep(1400000);
    expect_fetch(&rig, 0, TIER_MISS_absent);
    finish(&rig);
}

static void what_was_found_missing_is_stored_again_at_once(void **state)
{
    (void)state;
    struct rig rig;
    char key[REDIS_STORE_KEY_BYTES];
    start(&rig, roomy);
    store_chain(&rig);
    wait_stored(&rig, BLOCKS);
    redisContext *door = redis_server_door(&rig.server);
    key_of(&rig, 7, key);
    freeReplyObject(redisCommand(door, "DEL %s", key)); /* evicted */
    expect_fetch(&rig, 7, TIER_MISS_absent);
    assert_false(wanted(&rig, 6));
    assert_true(wanted(&rig, 7));
    freeReplyObject(redisCommand(door, "FLUSHALL")); /* emptied */
    expect_fetch(&rig, 0, TIER_MISS_absent);
    assert_true(wanted(&rig, 0));
    store_chain(&rig);
    wait_stored(&rig, 2 * (uint64_t)BLOCKS);
    expect_fetch(&rig, BLOCKS, TIER_MISS_none);
    assert_false(wanted(&rig, 0));
    redisFree(door);
    finish(&rig);
}

static void what_could_not_be_written_is_offered_again(void **state)
{
    (void)state;
    struct rig rig;
    start(&rig, roomy);
    redis_server_stop(&rig.server);
    store_chain(&rig); /* three fail, then the breaker is open */
    wait_stored(&rig, BLOCKS);
    assert_true(redis_server_restart(&rig.server, roomy));
    usleep(1400000);
    assert_true(wanted(&rig, 0));
    assert_true(wanted(&rig, BLOCKS - 1));
    finish(&rig);
}

static void a_full_server_pauses_writing_and_reading_goes_on(void **state)
{
    (void)state;
    struct rig rig;
    struct kvtier_stats stats;
    start(&rig,
          tight); /* keys without a TTL cannot be evicted under volatile-ttl, ours can; a filler cannot */
    redisContext *door = redis_server_door(&rig.server);
    char *filler = calloc(1, 1500000);
    freeReplyObject(redisCommand(door, "SET filler %b", filler, (size_t)1500000));
    free(filler);
    redisFree(door);
    store_chain(&rig);
    wait_stored(&rig, BLOCKS);
    kvtier_stats_read(rig.tier, &stats);
    struct kvtier_fetch *fetch = ask_chain(&rig, 3000);
    check_loaded(fetch, fetch->loaded); /* whatever survived is right */
    kvtier_fetch_free(fetch);
    finish(&rig);
}

static void a_server_that_cannot_evict_is_not_written_to(void **state)
{
    (void)state;
    struct rig rig;
    struct kvtier_stats stats;
    start(&rig, unlimited);
    store_chain(&rig);
    wait_stored(&rig, BLOCKS);
    kvtier_stats_read(rig.tier, &stats);
    assert_int_equal(stats.stored_blocks, 0);
    assert_false(stats.writer_up);
    expect_fetch(&rig, 0, TIER_MISS_absent);
    finish(&rig);
}

static void a_missing_password_is_a_miss(void **state)
{
    (void)state;
    struct rig rig;
    start(&rig, locked);
    expect_fetch(&rig, 0, TIER_MISS_unavailable);
    expect_fetch(&rig, 0, TIER_MISS_breaker);
    finish(&rig);
}

static void addresses_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "redis://", "http://x", "redis://h:99999", "unix://relative", "redis://h/x", "rediss://h:1"};
    struct tier_store *store;
    struct error err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct redis_store_options options = {.address = bad[i]};
        assert_int_equal(redis_store_open(&store, &options, &err), STATUS_CONFIG);
    }
    assert_non_null(strstr(err.text, "stunnel"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_blocks_come_back_in_a_new_process_life),
        cmocka_unit_test(every_key_expires),
        cmocka_unit_test(a_hole_or_a_flipped_bit_cuts_the_prefix),
        cmocka_unit_test(a_stopped_server_costs_the_deadline_and_recovers),
        cmocka_unit_test(a_dead_server_opens_the_breaker_and_an_empty_one_closes_it),
        cmocka_unit_test(what_was_found_missing_is_stored_again_at_once),
        cmocka_unit_test(what_could_not_be_written_is_offered_again),
        cmocka_unit_test(a_full_server_pauses_writing_and_reading_goes_on),
        cmocka_unit_test(a_server_that_cannot_evict_is_not_written_to),
        cmocka_unit_test(a_missing_password_is_a_miss),
        cmocka_unit_test(addresses_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
