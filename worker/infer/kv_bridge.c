// SPDX-License-Identifier: Apache-2.0
#include "worker/infer/kv_bridge.h"

#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"

enum {
    SHORTEST_DEADLINE_MS = 50,
    LONGEST_DEADLINE_MS = 5000,
    MAX_FETCH_BLOCKS = 4096,
    MAX_FLYING = 64,
    FIRST_WAITERS = 64
};
#define FIRST_PREFILL_NS_PER_TOKEN 1e6 /* before anything was measured */
#define PREFILL_WEIGHT 0.1             /* of a new measurement in the moving average */

/* A request whose first missing block is on its way for another one. */
struct waiter {
    struct block_key key;
    void *context;
};

struct kv_bridge {
    struct engine *engine;
    struct kvtier *tier;
    struct channel *done;
    uint32_t block_tokens;
    size_t block_bytes;
    size_t max_blocks;
    bool spill_generated;
    double prefill_ns_per_token; /* moving average */
    size_t held;
    struct block_key *keys; /* [max_blocks] scratch of hold */
    struct kvtier_fetch *flying[MAX_FLYING];
    size_t flying_count;
    struct waiter *waiters; /* in order of arrival */
    size_t waiter_count, waiter_capacity;
    void **ready; /* contexts that need no load after all; room for every waiter */
    size_t ready_count;
};

enum status kv_bridge_open(struct kv_bridge **out, const struct kv_bridge_options *options, struct error *err)
{
    *out = NULL;
    CHECK(options->block_tokens > 0 && options->block_tokens <= BLOCK_CODEC_MAX_TOKENS);
    struct kv_bridge *bridge = calloc(1, sizeof *bridge);
    if (!bridge)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the KV bridge");
    bridge->engine = options->engine;
    bridge->tier = options->tier;
    bridge->done = options->done;
    bridge->block_tokens = (uint32_t)options->block_tokens;
    bridge->block_bytes = engine_block_bytes(options->engine);
    bridge->spill_generated = options->spill_generated;
    bridge->prefill_ns_per_token = FIRST_PREFILL_NS_PER_TOKEN;
    size_t blocks = (size_t)options->max_context_tokens / bridge->block_tokens + 1;
    bridge->max_blocks = blocks < MAX_FETCH_BLOCKS ? blocks : MAX_FETCH_BLOCKS;
    bridge->keys = calloc(bridge->max_blocks, sizeof *bridge->keys);
    if (!bridge->keys) {
        kv_bridge_close(bridge);
        return error_set(err, STATUS_NO_MEMORY, "no memory for the KV bridge");
    }
    *out = bridge;
    return STATUS_OK;
}

void kv_bridge_close(struct kv_bridge *bridge)
{
    if (!bridge)
        return;
    CHECK(bridge->held == 0);
    free(bridge->ready);
    free(bridge->waiters);
    free(bridge->keys);
    free(bridge);
}

/* Loading may take half of what computing would, within bounds. */
static int64_t deadline_ns(const struct kv_bridge *bridge, size_t tokens)
{
    double ms = 0.5 * (double)tokens * bridge->prefill_ns_per_token / 1e6;
    if (ms < SHORTEST_DEADLINE_MS)
        ms = SHORTEST_DEADLINE_MS;
    if (ms > LONGEST_DEADLINE_MS)
        ms = LONGEST_DEADLINE_MS;
    return monotime_ns() + (int64_t)(ms * 1e6);
}

static void describe_blocks(const struct kv_bridge *bridge, const struct engine_request *request,
                            size_t first, struct kvtier_fetch *fetch)
{
    const uint8_t *fingerprint = engine_fingerprint(bridge->engine);
    for (size_t i = 0; i < fetch->count; i++) {
        struct block_identity *block = &fetch->blocks[i];
        size_t index = first + i;
        memcpy(fetch->tokens + i * bridge->block_tokens, request->prompt + index * bridge->block_tokens,
               bridge->block_tokens * sizeof(int32_t));
        block->fingerprint = fingerprint;
        block->key = bridge->keys[index];
        block->parent =
            index ? bridge->keys[index - 1] : block_key_root(fingerprint, request->salt, request->salt_bytes);
        block->first_position = (uint32_t)(index * bridge->block_tokens);
    }
}

static bool is_flying(const struct kv_bridge *bridge, const struct block_key *key)
{
    for (size_t i = 0; i < bridge->flying_count; i++)
        if (block_key_equal(&bridge->flying[i]->blocks[0].key, key))
            return true;
    return false;
}

/* False: no memory to wait with. */
static bool add_waiter(struct kv_bridge *bridge, const struct block_key *key, void *context)
{
    if (bridge->waiter_count == bridge->waiter_capacity) {
        size_t capacity = bridge->waiter_capacity ? bridge->waiter_capacity * 2 : FIRST_WAITERS;
        struct waiter *waiters = realloc(bridge->waiters, capacity * sizeof *waiters);
        if (waiters)
            bridge->waiters = waiters;
        void **ready = waiters ? realloc(bridge->ready, capacity * sizeof *ready) : NULL;
        if (!ready)
            return false;
        bridge->ready = ready;
        bridge->waiter_capacity = capacity;
    }
    bridge->waiters[bridge->waiter_count++] = (struct waiter){*key, context};
    return true;
}

static bool start_fetch(struct kv_bridge *bridge, const struct engine_request *request, size_t first,
                        size_t count, void *context)
{
    if (bridge->flying_count == MAX_FLYING)
        return false;
    struct kvtier_fetch *fetch = kvtier_fetch_new(count - first, bridge->block_tokens, bridge->block_bytes);
    if (!fetch)
        return false; /* no memory to load into: compute */
    describe_blocks(bridge, request, first, fetch);
    fetch->tag = (uint64_t)(uintptr_t)context;
    fetch->deadline_ns = deadline_ns(bridge, (count - first) * bridge->block_tokens);
    if (!kvtier_fetch(bridge->tier, fetch)) {
        kvtier_fetch_free(fetch);
        return false;
    }
    bridge->flying[bridge->flying_count++] = fetch;
    return true;
}

bool kv_bridge_hold(struct kv_bridge *bridge, const struct engine_request *request, void *context)
{
    size_t count = engine_block_keys(bridge->engine, request, bridge->keys, bridge->max_blocks);
    size_t first = 0;
    while (first < count && engine_block_has(bridge->engine, &bridge->keys[first]))
        first++;
    if (first == count)
        return false;
    bool held = is_flying(bridge, &bridge->keys[first]) ? add_waiter(bridge, &bridge->keys[first], context)
                                                        : start_fetch(bridge, request, first, count, context);
    bridge->held += held;
    return held;
}

/* Puts the loaded blocks into the engine; returns how many it took. */
static size_t land(struct kv_bridge *bridge, const struct kvtier_fetch *fetch)
{
    size_t spare = engine_blocks_spare(bridge->engine); /* what finds no room is computed */
    size_t written = fetch->loaded < spare ? fetch->loaded : spare;
    for (size_t i = written; i-- > 0;) { /* tail first: evicted before what it depends on */
        const struct block_identity *block = &fetch->blocks[i];
        CHECK(engine_block_write(bridge->engine, &block->key, &block->parent, fetch->payloads[i]) ==
              STATUS_OK);
    }
    return written;
}

/* Those who waited for this fetch go on: what it brought is theirs too, the rest they compute (once: the
 * engine shares it among them), so that nobody waits for a second miss. In order of arrival, taken from the
 * back. */
static void wake_waiters(struct kv_bridge *bridge, const struct block_key *key)
{
    size_t kept = 0, woken = bridge->waiter_count;
    for (size_t i = 0; i < bridge->waiter_count; i++)
        if (!block_key_equal(&bridge->waiters[i].key, key))
            kept++;
    woken -= kept;
    size_t place = bridge->ready_count + woken;
    bridge->ready_count = place;
    kept = 0;
    for (size_t i = 0; i < bridge->waiter_count; i++) {
        if (block_key_equal(&bridge->waiters[i].key, key))
            bridge->ready[--place] = bridge->waiters[i].context;
        else
            bridge->waiters[kept++] = bridge->waiters[i];
    }
    bridge->waiter_count = kept;
}

bool kv_bridge_receive(struct kv_bridge *bridge, int timeout_ms, struct kv_bridge_ready *out)
{
    if (bridge->ready_count > 0) {
        *out = (struct kv_bridge_ready){.context = bridge->ready[--bridge->ready_count]};
        bridge->held--;
        return true;
    }
    struct kvtier_fetch *fetch = bridge->held ? channel_receive(bridge->done, timeout_ms) : NULL;
    if (!fetch)
        return false;
    size_t at = 0;
    while (bridge->flying[at] != fetch)
        at++;
    bridge->flying[at] = bridge->flying[--bridge->flying_count];
    size_t written = land(bridge, fetch);
    *out = (struct kv_bridge_ready){.context = (void *)(uintptr_t)fetch->tag,
                                    .tier_tokens = (uint32_t)written * bridge->block_tokens};
    wake_waiters(bridge, &fetch->blocks[0].key);
    kvtier_fetch_free(fetch);
    bridge->held--;
    return true;
}

size_t kv_bridge_held(const struct kv_bridge *bridge)
{
    return bridge->held;
}

static void spill_block(struct kv_bridge *bridge, const struct engine_event *event)
{
    if (!kvtier_put_wanted(bridge->tier, &event->key, bridge->block_bytes))
        return;
    struct kvtier_put *put = kvtier_put_new(bridge->block_tokens, bridge->block_bytes);
    if (!put)
        return;
    if (engine_block_read(bridge->engine, &event->key, put->payload) != STATUS_OK) {
        kvtier_put_free(put); /* evicted within the step that stored it */
        return;
    }
    struct block_identity block = {.fingerprint = engine_fingerprint(bridge->engine),
                                   .key = event->key,
                                   .parent = event->parent,
                                   .tokens = event->block_tokens,
                                   .token_count = bridge->block_tokens,
                                   .first_position = event->position,
                                   .payload_bytes = bridge->block_bytes};
    kvtier_put_describe(put, &block);
    kvtier_put(bridge->tier, put);
}

void kv_bridge_spill(struct kv_bridge *bridge, const struct engine_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (events[i].type == ENGINE_EVENT_BLOCK_STORED && (events[i].of_prompt || bridge->spill_generated))
            spill_block(bridge, &events[i]);
}

void kv_bridge_note_prefill(struct kv_bridge *bridge, uint64_t tokens, int64_t took_ns)
{
    if (tokens == 0 || took_ns <= 0)
        return;
    double sample = (double)took_ns / (double)tokens;
    bridge->prefill_ns_per_token += PREFILL_WEIGHT * (sample - bridge->prefill_ns_per_token);
}
