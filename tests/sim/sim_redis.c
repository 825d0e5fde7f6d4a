// SPDX-License-Identifier: Apache-2.0
// A Redis in memory behind the tier's seam (kvtier/tier_store.h), shared by all workers. Values are kept as
// they are on the wire (block_codec.h) and verified when they are read, as redis_store does; between the two
// they may rot, be lost, or be somebody else's.
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "tests/sim/sim.h"

enum { SLOTS = 2048, LEASES = 512, ROUND_TRIP_NS = 300000, BLOCK_NS = 50000 };

struct value {
    struct block_key key;
    uint8_t *bytes; /* NULL: free */
    size_t count;
};

static struct redis {
    struct value values[SLOTS];
    struct {
        struct block_key key;
        int64_t until_ns;
    } leases[LEASES];
    size_t lease_turn;
    int64_t down_until_ns;
} redis;

static struct value *find(const struct block_key *key, bool or_free)
{
    uint64_t hash = block_key_hash(key);
    struct value *free_one = NULL;
    for (size_t i = 0; i < 16; i++) {
        struct value *value = &redis.values[(hash + i) % SLOTS];
        if (value->bytes && block_key_equal(&value->key, key))
            return value;
        if (!value->bytes && !free_one)
            free_one = value;
    }
    return or_free ? free_one : NULL;
}

static void drop(struct value *value)
{
    free(value->bytes);
    value->bytes = NULL;
}

void sim_redis_clear(void)
{
    for (size_t i = 0; i < SLOTS; i++)
        drop(&redis.values[i]);
    memset(&redis, 0, sizeof redis);
}

void sim_redis_hurt(void)
{
    if (sim_chance(sim.faults.redis_outage)) {
        redis.down_until_ns = sim.now_ns + (int64_t)sim_random(1500) * 1000000;
        sim_trace("redis: away for %lld ms", (long long)(redis.down_until_ns - sim.now_ns) / 1000000);
    }
    if (sim_chance(sim.faults.redis_empty)) {
        sim_trace("redis: emptied");
        for (size_t i = 0; i < SLOTS; i++)
            drop(&redis.values[i]);
        memset(redis.leases, 0, sizeof redis.leases);
    }
}

/* ---- the seam ---- */

static bool is_away(void)
{
    return sim.deaf || sim.now_ns < redis.down_until_ns;
}

static enum tier_fault fail(enum tier_fault fault, enum status status, struct error *err)
{
    error_set(err, status, "simulated");
    return fault;
}

/* Time passes; false: past the deadline. */
static bool pass(int64_t ns, int64_t deadline_ns)
{
    if (!sim.deaf)
        sim.now_ns += ns;
    return sim.now_ns < deadline_ns;
}

static enum block_verdict verify(const struct block_identity *block, const struct value *value,
                                 uint8_t *payload)
{
    uint32_t crc;
    size_t head_bytes = block_codec_head_bytes(block->token_count);
    if (sim.bug == BUG_CORRUPT_TAKEN) {
        memcpy(payload, value->bytes + head_bytes, (size_t)block->payload_bytes);
        return BLOCK_VERDICT_OK;
    }
    if (value->count != head_bytes + block->payload_bytes)
        return BLOCK_VERDICT_LENGTH;
    enum block_verdict verdict = block_codec_check_head(block, value->bytes, &crc);
    if (verdict != BLOCK_VERDICT_OK)
        return verdict;
    memcpy(payload, value->bytes + head_bytes, (size_t)block->payload_bytes);
    return block_codec_check_payload(block, payload, crc);
}

/* Now and then a value has rotted since it was written, or is cut short. */
static void spoil(struct value *value)
{
    if (sim_chance(sim.faults.redis_corrupt)) {
        size_t at = sim_random(2) ? sim_random(value->count) : value->count - 1 - sim_random(256);
        value->bytes[at] ^= (uint8_t)(1 + sim_random(255));
    } else if (sim_chance(sim.faults.redis_corrupt / 4) && sim.bug != BUG_CORRUPT_TAKEN) {
        value->count -= 1 + sim_random(64);
    }
}

static enum tier_fault get(struct tier_store *store, struct tier_get *get, struct error *err)
{
    (void)store;
    get->loaded = 0;
    get->miss = TIER_MISS_none;
    get->verdict = BLOCK_VERDICT_OK;
    if (is_away())
        return fail(TIER_FAULT_CONNECTION, STATUS_UNAVAILABLE, err);
    if (!pass(ROUND_TRIP_NS, get->deadline_ns))
        return fail(TIER_FAULT_CONNECTION, STATUS_TIMEOUT, err);
    for (size_t i = 0; i < get->count; i++) {
        struct value *value = find(&get->blocks[i].key, false);
        if (!pass(BLOCK_NS, get->deadline_ns))
            return fail(TIER_FAULT_CONNECTION, STATUS_TIMEOUT, err);
        if (sim_chance(sim.faults.redis_break))
            return fail(TIER_FAULT_CONNECTION, STATUS_UNAVAILABLE, err);
        if (value && sim_chance(sim.faults.redis_lose)) {
            drop(value);
            value = NULL;
        }
        if (!value) {
            get->miss = TIER_MISS_absent;
            return TIER_FAULT_NONE;
        }
        spoil(value);
        get->verdict = verify(&get->blocks[i], value, get->payloads[i]);
        if (get->verdict != BLOCK_VERDICT_OK) {
            get->miss = TIER_MISS_corrupt;
            drop(value);
            return TIER_FAULT_NONE;
        }
        get->loaded = i + 1;
    }
    return TIER_FAULT_NONE;
}

static enum tier_fault put(struct tier_store *store, const struct block_identity *block, const void *payload,
                           int64_t deadline_ns, struct error *err)
{
    (void)store;
    if (is_away())
        return fail(TIER_FAULT_CONNECTION, STATUS_UNAVAILABLE, err);
    if (!pass(ROUND_TRIP_NS, deadline_ns))
        return fail(TIER_FAULT_CONNECTION, STATUS_TIMEOUT, err);
    if (sim_chance(sim.faults.redis_full))
        return fail(TIER_FAULT_NO_ROOM, STATUS_FULL, err);
    if (sim_chance(sim.faults.redis_break))
        return fail(TIER_FAULT_CONNECTION, STATUS_UNAVAILABLE, err);
    struct value *value = find(&block->key, true);
    if (!value || value->bytes)
        return TIER_FAULT_NONE; /* no place: evicted at once; there already */
    size_t head_bytes = block_codec_head_bytes(block->token_count);
    value->count = head_bytes + (size_t)block->payload_bytes;
    value->bytes = malloc(value->count);
    CHECK(value->bytes != NULL);
    value->key = block->key;
    block_codec_encode(block, payload, (uint64_t)walltime_ms(), value->bytes);
    memcpy(value->bytes + head_bytes, payload, (size_t)block->payload_bytes);
    return TIER_FAULT_NONE;
}

static enum tier_fault touch(struct tier_store *store, const struct block_identity *blocks, size_t count,
                             int64_t deadline_ns, struct error *err)
{
    (void)store;
    (void)blocks;
    (void)count;
    if (is_away())
        return fail(TIER_FAULT_CONNECTION, STATUS_UNAVAILABLE, err);
    return pass(ROUND_TRIP_NS, deadline_ns) ? TIER_FAULT_NONE
                                            : fail(TIER_FAULT_CONNECTION, STATUS_TIMEOUT, err);
}

static bool is_leased(const struct block_key *key)
{
    for (size_t i = 0; i < LEASES; i++)
        if (redis.leases[i].until_ns > sim.now_ns && block_key_equal(&redis.leases[i].key, key))
            return true;
    return false;
}

/* A claim outlives its worker, as in Redis: only time ends it. */
static enum tier_fault lease(struct tier_store *store, const struct block_identity *blocks, size_t count,
                             int64_t lease_ms, int64_t deadline_ns, bool *granted, struct error *err)
{
    (void)store;
    *granted = false;
    if (is_away() || sim_chance(sim.faults.redis_break))
        return fail(TIER_FAULT_CONNECTION, STATUS_UNAVAILABLE, err);
    if (!pass(ROUND_TRIP_NS, deadline_ns))
        return fail(TIER_FAULT_CONNECTION, STATUS_TIMEOUT, err);
    *granted = !is_leased(&blocks[0].key);
    for (size_t i = 0; i < count && *granted; i++)
        if (!is_leased(&blocks[i].key)) {
            size_t at = redis.lease_turn++ % LEASES;
            redis.leases[at].key = blocks[i].key;
            redis.leases[at].until_ns = sim.now_ns + lease_ms * 1000000;
        }
    return TIER_FAULT_NONE;
}

static void close_store(struct tier_store *store)
{
    free(store);
}

struct tier_store *sim_redis_open(void)
{
    struct tier_store *store = malloc(sizeof *store);
    CHECK(store != NULL);
    *store =
        (struct tier_store){.get = get, .put = put, .touch = touch, .lease = lease, .close = close_store};
    return store;
}
