// SPDX-License-Identifier: Apache-2.0
// DESIGN: a held request is looked at, which takes it to its next state, whenever something that it waits for
// may have changed. Of the requests that lack the same block only one asks for it or computes it, the others
// are BEHIND it: across the workers of a Redis this is what the lease is for, among the requests of one
// worker what `held` and the claims are for, and inside the engine the scheduler does the same.
#include "worker/infer/kv_bridge.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "worker/infer/kv_claims.h"
#include "worker/infer/kv_cost.h"

enum { MAX_FETCH_BLOCKS = 4096, MAX_FLYING = 32, FIRST_HELD = 64, ORPHANS_EVERY_MS = 50 };
#define LAND_BYTES ((size_t)32 << 20)        /* 10 to 80 ms: docs/perf.md */
#define MAX_FLYING_BYTES ((size_t)512 << 20) /* what has come and waits to be taken included */

struct held { /* a request on its way */
    void *context;
    const int32_t
        *prompt; /* [count * block_tokens] a copy, behind the keys: the job may end before its fetch */
    struct block_key root;
    enum kv_bridge_state state;
    enum kv_bridge_end end;
    size_t first;       /* the first block that it lacks, when last looked at */
    bool asked;         /* the tier was asked before */
    bool cancelled;     /* LOADING: what its fetch brings is taken, and nothing more is waited for */
    int64_t look_ns;    /* ELSEWHERE: when to ask again */
    int64_t give_up_ns; /* end of waiting for other workers; 0: has not waited */
    uint32_t tier_tokens;
    size_t count;
    struct block_key keys[]; /* [count] */
};

struct kv_bridge {
    struct kv_bridge_options options;
    uint32_t block_tokens;
    size_t block_bytes, max_blocks;
    struct block_key *keys; /* [max_blocks] scratch of hold */
    struct held **held;     /* [held_count] in order of arrival */
    size_t held_count, held_capacity, flying, flying_blocks, leasing_blocks;
    struct kvtier_fetch *landing;  /* has come back, and is taken block by block; NULL: none */
    size_t landed;                 /* blocks of it */
    size_t land_blocks, land_left; /* what may be taken between two steps, and what is left of that */
    bool orphaned;                 /* somebody may be behind nobody */
    int64_t orphans_ns;            /* when to look for such in any case */
    struct kv_cost cost;
    struct kv_claims *claims;
    _Atomic int32_t states[KV_BRIDGE_STATE_COUNT];
    _Atomic uint64_t ends[KV_BRIDGE_END_COUNT], waits;
};

static const char *const state_names[] = {
#define STATE_NAME(name) #name,
    KV_BRIDGE_STATES(STATE_NAME)};
static const char *const end_names[] = {
#define END_NAME(name) #name,
    KV_BRIDGE_ENDS(END_NAME)};

const char *kv_bridge_state_name(enum kv_bridge_state state)
{
    return state_names[state];
}

const char *kv_bridge_end_name(enum kv_bridge_end end)
{
    return end_names[end];
}

/* ---- life ---- */

static void take_evicted(void *context, const struct block_key *key, const void *payload)
{
    struct kv_bridge *bridge = context;
    if (bridge->options.host)
        host_store_put(bridge->options.host, key, payload);
    if (bridge->options.events)
        kv_events_removed(bridge->options.events, key);
}

static void tell_stored(struct kv_bridge *bridge, const struct block_key *key, const struct block_key *parent,
                        const int32_t *tokens, uint32_t position)
{
    if (bridge->options.events)
        kv_events_stored(bridge->options.events, key, position ? parent : NULL, tokens, bridge->block_tokens);
}

enum status kv_bridge_open(struct kv_bridge **out, const struct kv_bridge_options *options, struct error *err)
{
    *out = NULL;
    CHECK(options->block_tokens > 0 && options->block_tokens <= BLOCK_CODEC_MAX_TOKENS);
    struct kv_bridge *bridge = calloc(1, sizeof *bridge);
    if (!bridge)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the KV bridge");
    bridge->options = *options;
    bridge->block_tokens = (uint32_t)options->block_tokens;
    bridge->cost.block_tokens = bridge->block_tokens;
    bridge->block_bytes = engine_block_bytes(options->engine);
    size_t land_bytes = options->land_bytes ? options->land_bytes : LAND_BYTES;
    bridge->land_blocks = land_bytes > bridge->block_bytes ? land_bytes / bridge->block_bytes : 1;
    bridge->land_left = bridge->land_blocks;
    size_t blocks = (size_t)options->max_context_tokens / bridge->block_tokens + 1;
    bridge->max_blocks = blocks < MAX_FETCH_BLOCKS ? blocks : MAX_FETCH_BLOCKS;
    bridge->keys = calloc(bridge->max_blocks, sizeof *bridge->keys);
    bridge->claims = calloc(1, sizeof *bridge->claims);
    if (!bridge->keys || !bridge->claims) {
        kv_bridge_close(bridge);
        return error_set(err, STATUS_NO_MEMORY, "no memory for the KV bridge");
    }
    engine_on_evict(options->engine, take_evicted, bridge);
    *out = bridge;
    return STATUS_OK;
}

void kv_bridge_close(struct kv_bridge *bridge)
{
    if (!bridge)
        return;
    CHECK(bridge->held_count == 0);
    engine_on_evict(bridge->options.engine, NULL, NULL);
    free(bridge->held);
    free(bridge->claims);
    free(bridge->keys);
    free(bridge);
}

/* ---- states ---- */

static void set_state(struct kv_bridge *bridge, struct held *held, enum kv_bridge_state state)
{
    bridge->states[held->state]--;
    bridge->states[state]++;
    held->state = state;
}

static void set_ready(struct kv_bridge *bridge, struct held *held, enum kv_bridge_end end)
{
    held->end = end;
    set_state(bridge, held, KV_BRIDGE_STATE_ready);
}

static bool lacks(const struct held *held, const struct block_key *key)
{
    return block_key_equal(&held->keys[held->first], key);
}

/* Is another request of this worker getting this block, or is it computed here? */
static bool is_under_way(const struct kv_bridge *bridge, const struct held *but, const struct block_key *key)
{
    for (size_t i = 0; i < bridge->held_count; i++) {
        const struct held *other = bridge->held[i];
        if (other != but && other->state != KV_BRIDGE_STATE_behind && other->state != KV_BRIDGE_STATE_ready &&
            lacks(other, key))
            return true;
    }
    return kv_claims_has(bridge->claims, key);
}

/* Nobody will bring what this one lacks: it computes, and those behind it do so too, which the engine does
 * once for all of them. */
static void compute_all(struct kv_bridge *bridge, struct held *held, enum kv_bridge_end end)
{
    set_ready(bridge, held, end);
    for (size_t i = 0; i < bridge->held_count; i++)
        if (bridge->held[i]->state == KV_BRIDGE_STATE_behind &&
            lacks(bridge->held[i], &held->keys[held->first]))
            set_ready(bridge, bridge->held[i], end);
}

static const struct block_key *parent_of(const struct held *held, size_t index)
{
    return index ? &held->keys[index - 1] : &held->root;
}

/* ---- looking ---- */

static bool has(const struct kv_bridge *bridge, const struct block_key *key)
{
    return engine_block_has(bridge->options.engine, key);
}

/* The blocks before the first missing one become the most recent, root last: what is about to be written
 * must not push them out. */
static void keep_beginning(struct kv_bridge *bridge, const struct held *held)
{
    for (size_t i = held->first; i-- > 0;)
        engine_block_touch(bridge->options.engine, &held->keys[i]);
}

/* Blocks that can be written without pushing out the beginning of the chain. */
static size_t room_beside_beginning(const struct kv_bridge *bridge, const struct held *held)
{
    size_t spare = engine_blocks_spare(bridge->options.engine);
    return spare > held->first ? spare - held->first : 0;
}

static void write_block(struct kv_bridge *bridge, const struct held *held, size_t index, const void *payload)
{
    const struct block_key *key = &held->keys[index], *parent = parent_of(held, index);
    bool is_new = !has(bridge, key);
    CHECK(engine_block_write(bridge->options.engine, key, parent, payload) == STATUS_OK);
    kv_claims_end(bridge->claims, key);
    if (is_new)
        tell_stored(bridge, key, parent, held->prompt + index * bridge->block_tokens,
                    (uint32_t)(index * bridge->block_tokens));
}

static void skip_local(const struct kv_bridge *bridge, struct held *held)
{
    while (held->first < held->count && has(bridge, &held->keys[held->first]))
        held->first++;
}

/* What host memory has of the chain goes back into the pool; tail first, so that the leaf is evicted before
 * what it depends on. */
static void promote(struct kv_bridge *bridge, struct held *held)
{
    struct host_store *host = bridge->options.host;
    size_t end = held->first, most = held->first + room_beside_beginning(bridge, held);
    while (end < held->count && end < most && host_store_has(host, &held->keys[end]))
        end++;
    if (end == held->first)
        return;
    keep_beginning(bridge, held);
    for (size_t i = end; i-- > held->first;) {
        const void *payload = host_store_take(host, &held->keys[i]);
        if (!payload) /* pushed out by what the pool evicted meanwhile */
            continue;
        write_block(bridge, held, i, payload);
        host_store_release(host);
    }
    keep_beginning(bridge, held);
    skip_local(bridge, held);
}

static void find_first_missing(struct kv_bridge *bridge, struct held *held)
{
    held->first = 0;
    skip_local(bridge, held);
    if (bridge->options.host)
        promote(bridge, held);
}

static struct kvtier_fetch *describe_fetch(const struct kv_bridge *bridge, const struct held *held)
{
    struct kvtier_fetch *fetch =
        kvtier_fetch_new(held->count - held->first, bridge->block_tokens, bridge->block_bytes);
    for (size_t i = 0; fetch && i < fetch->count; i++) {
        struct block_identity *block = &fetch->blocks[i];
        size_t index = held->first + i;
        memcpy(fetch->tokens + i * bridge->block_tokens, held->prompt + index * bridge->block_tokens,
               bridge->block_tokens * sizeof(int32_t));
        block->fingerprint = engine_fingerprint(bridge->options.engine);
        block->key = held->keys[index];
        block->parent = *parent_of(held, index);
        block->first_position = (uint32_t)(index * bridge->block_tokens);
    }
    return fetch;
}

/* Blocks that this worker has promised to compute, or is about to. */
static size_t promised(const struct kv_bridge *bridge)
{
    return bridge->claims->count + bridge->leasing_blocks;
}

static bool wants_lease(const struct kv_bridge *bridge, size_t blocks)
{
    return bridge->options.singleflight && kv_cost_is_worth_a_lease(&bridge->cost, blocks);
}

static bool start_fetch(struct kv_bridge *bridge, struct held *held)
{
    struct kvtier_fetch *fetch = describe_fetch(bridge, held);
    if (!fetch)
        return false; /* no memory to load into */
    fetch->tag = (uint64_t)(uintptr_t)held;
    fetch->deadline_ns =
        kv_cost_fetch_deadline_ns(&bridge->cost, bridge->flying_blocks + fetch->count, monotime_ns());
    if (wants_lease(bridge, fetch->count) && kv_cost_may_claim(&bridge->cost, promised(bridge)))
        fetch->lease_ms = kv_cost_lease_ms(&bridge->cost, promised(bridge) + fetch->count);
    size_t count = fetch->count, leasing = fetch->lease_ms ? count : 0;
    if (!kvtier_fetch(bridge->options.tier, fetch)) {
        kvtier_fetch_free(fetch);
        return false;
    }
    bridge->flying++;
    bridge->flying_blocks += count;
    bridge->leasing_blocks += leasing;
    return true;
}

static bool may_fly(const struct kv_bridge *bridge, const struct held *held)
{
    size_t blocks = bridge->flying_blocks + held->count - held->first;
    return bridge->flying == 0 ||
           (bridge->flying < MAX_FLYING && blocks * bridge->block_bytes <= MAX_FLYING_BYTES);
}

/* What is on its way already is loaded, or would be computed, before this: it counts on both sides. */
static void ask_tier(struct kv_bridge *bridge, struct held *held)
{
    size_t lacking = held->count - held->first;
    int64_t load_ns = kvtier_load_estimate_ns(bridge->options.tier, lacking * bridge->block_bytes);
    if (!may_fly(bridge, held)) {
        set_state(bridge, held, KV_BRIDGE_STATE_queued);
    } else if (kv_cost_loads_too_slowly(&bridge->cost, bridge->flying_blocks + lacking, load_ns)) {
        kvtier_count_too_slow(bridge->options.tier, lacking);
        compute_all(bridge, held, KV_BRIDGE_END_computed);
    } else if (start_fetch(bridge, held)) {
        held->asked = true;
        set_state(bridge, held, KV_BRIDGE_STATE_loading);
    } else {
        compute_all(bridge, held, KV_BRIDGE_END_computed);
    }
}

static void look(struct kv_bridge *bridge, struct held *held)
{
    find_first_missing(bridge, held);
    if (held->first == held->count)
        set_ready(bridge, held, held->tier_tokens ? KV_BRIDGE_END_loaded : KV_BRIDGE_END_local);
    else if (!bridge->options.tier)
        set_ready(bridge, held, KV_BRIDGE_END_computed);
    else if (is_under_way(bridge, held, &held->keys[held->first]))
        set_state(bridge, held, KV_BRIDGE_STATE_behind);
    else
        ask_tier(bridge, held);
}

/* Somebody else computes the next block: ask again soon, and not for ever. */
static void wait_elsewhere(struct kv_bridge *bridge, struct held *held)
{
    int64_t now_ns = monotime_ns();
    if (held->give_up_ns == 0) {
        held->give_up_ns = now_ns + (int64_t)KV_COST_LONGEST_LEASE_MS * 1000000;
        bridge->waits++;
    }
    if (now_ns >= held->give_up_ns) {
        compute_all(bridge, held, KV_BRIDGE_END_gave_up);
        return;
    }
    held->look_ns = kv_cost_next_look_ns(&bridge->cost, held->count - held->first, now_ns);
    set_state(bridge, held, KV_BRIDGE_STATE_elsewhere);
}

/* Puts loaded blocks into the engine, tail first: all of them where no step waits for it, else so many that
 * the other requests hardly notice, beginning with the chain's first. True: nothing more can be taken. */
static bool land(struct kv_bridge *bridge, struct held *held)
{
    size_t left = bridge->landing->loaded - bridge->landed;
    size_t most = engine_idle(bridge->options.engine) ? left : bridge->land_left;
    size_t room = room_beside_beginning(bridge, held); /* what finds none is computed */
    size_t count = left < most ? left : most;
    count = count < room ? count : room;
    if (count > 0)
        keep_beginning(bridge, held);
    for (size_t i = count; i-- > 0;)
        write_block(bridge, held, held->first + i, bridge->landing->payloads[bridge->landed + i]);
    held->first += count;
    held->tier_tokens += (uint32_t)count * bridge->block_tokens;
    bridge->landed += count;
    bridge->land_left -= count < bridge->land_left ? count : bridge->land_left;
    if (count > 0)
        keep_beginning(bridge, held);
    return count == left || count == room;
}

/* Nobody wants it any more. Where it was given the lease, those behind it compute what it would have
 * computed; else they look for themselves. */
static void end_cancelled(struct kv_bridge *bridge, struct held *held, bool leased)
{
    if (leased)
        compute_all(bridge, held, KV_BRIDGE_END_gave_up);
    else
        set_ready(bridge, held, KV_BRIDGE_END_gave_up);
    bridge->orphaned = true;
}

/* Where a request goes whose fetch has come back and has landed. */
static void settle(struct kv_bridge *bridge, struct held *held, const struct kvtier_fetch *fetch)
{
    size_t written = bridge->landed;
    if (written == fetch->count) {
        set_ready(bridge, held, KV_BRIDGE_END_loaded);
        return;
    }
    bool absent = written == fetch->loaded && fetch->miss == TIER_MISS_absent;
    bool unasked = fetch->lease_ms == 0 && wants_lease(bridge, fetch->count - written);
    if (held->cancelled) {
        end_cancelled(bridge, held, fetch->lease == KVTIER_LEASE_GRANTED);
    } else if (absent && fetch->lease == KVTIER_LEASE_GRANTED) {
        kv_claims_add(bridge->claims, &held->keys[held->first], held->count - held->first,
                      monotime_ns() + fetch->lease_ms * 1000000);
        set_ready(bridge, held, KV_BRIDGE_END_computed);
    } else if (absent && fetch->lease == KVTIER_LEASE_ELSEWHERE) {
        wait_elsewhere(bridge, held);
    } else if (absent && unasked) {
        set_state(bridge, held, KV_BRIDGE_STATE_queued);
    } else {
        compute_all(bridge, held, KV_BRIDGE_END_computed);
    }
}

static void end_landing(struct kv_bridge *bridge, struct held *held)
{
    struct kvtier_fetch *fetch = bridge->landing;
    bridge->flying--;
    bridge->flying_blocks -= fetch->count;
    bridge->leasing_blocks -= fetch->lease_ms ? fetch->count : 0;
    settle(bridge, held, fetch);
    bridge->landing = NULL;
    bridge->landed = 0;
    kvtier_fetch_free(fetch);
}

/* Takes what has come back, as far as this turn allows. */
static void take_fetches(struct kv_bridge *bridge, int timeout_ms)
{
    while (bridge->flying) {
        if (!bridge->landing)
            bridge->landing = channel_receive(bridge->options.done, timeout_ms);
        if (!bridge->landing)
            return;
        struct held *held = (struct held *)(uintptr_t)bridge->landing->tag;
        if (!land(bridge, held))
            return;
        end_landing(bridge, held);
        timeout_ms = 0;
    }
}

static bool is_due(const struct kv_bridge *bridge, const struct held *held, int64_t now_ns, bool orphans)
{
    const struct block_key *key = &held->keys[held->first];
    switch (held->state) {
    case KV_BRIDGE_STATE_queued:
        return may_fly(bridge, held) && (!held->asked || kv_cost_may_claim(&bridge->cost, promised(bridge)));
    case KV_BRIDGE_STATE_elsewhere:
        return now_ns >= held->look_ns;
    case KV_BRIDGE_STATE_behind:
        return has(bridge, key) || (orphans && !is_under_way(bridge, held, key));
    default:
        return false;
    }
}

/* Everybody whose time has come looks again. */
static void review(struct kv_bridge *bridge)
{
    int64_t now_ns = monotime_ns();
    bool expired = kv_claims_expire(bridge->claims, now_ns);
    bool orphans = expired || bridge->orphaned || now_ns >= bridge->orphans_ns;
    if (orphans)
        bridge->orphans_ns = now_ns + (int64_t)ORPHANS_EVERY_MS * 1000000;
    bridge->orphaned = false;
    for (size_t i = 0; i < bridge->held_count; i++)
        if (is_due(bridge, bridge->held[i], now_ns, orphans))
            look(bridge, bridge->held[i]);
}

/* ---- the engine loop's side ---- */

static bool make_place(struct kv_bridge *bridge)
{
    if (bridge->held_count < bridge->held_capacity)
        return true;
    size_t capacity = bridge->held_capacity ? bridge->held_capacity * 2 : FIRST_HELD;
    struct held **held = realloc(bridge->held, capacity * sizeof *held);
    if (!held)
        return false;
    bridge->held = held;
    bridge->held_capacity = capacity;
    return true;
}

static struct held *describe_held(struct kv_bridge *bridge, const struct engine_request *request,
                                  void *context)
{
    size_t count = engine_block_keys(bridge->options.engine, request, bridge->keys, bridge->max_blocks);
    size_t key_bytes = count * sizeof bridge->keys[0];
    size_t prompt_bytes = count * bridge->block_tokens * sizeof *request->prompt;
    struct held *held =
        count && make_place(bridge) ? calloc(1, sizeof *held + key_bytes + prompt_bytes) : NULL;
    if (!held)
        return NULL;
    held->context = context;
    held->prompt = memcpy(&held->keys[count], request->prompt, prompt_bytes);
    held->root =
        block_key_root(engine_fingerprint(bridge->options.engine), request->salt, request->salt_bytes);
    held->count = count;
    memcpy(held->keys, bridge->keys, key_bytes);
    return held;
}

static void end_held(struct kv_bridge *bridge, size_t at)
{
    struct held *held = bridge->held[at];
    memmove(bridge->held + at, bridge->held + at + 1, (--bridge->held_count - at) * sizeof(struct held *));
    bridge->states[held->state]--;
    bridge->ends[held->end]++;
    free(held);
}

bool kv_bridge_hold(struct kv_bridge *bridge, const struct engine_request *request, void *context,
                    uint32_t *tier_tokens)
{
    *tier_tokens = 0;
    struct held *held = describe_held(bridge, request, context);
    if (!held)
        return false; /* too short to have a block, or no memory to wait with */
    size_t at = bridge->held_count++;
    bridge->held[at] = held;
    bridge->states[held->state]++;
    look(bridge, held);
    if (bridge->options.tier && held->first > 0)
        kvtier_touch(bridge->options.tier, engine_fingerprint(bridge->options.engine), held->keys,
                     held->first);
    if (held->state != KV_BRIDGE_STATE_ready)
        return true;
    *tier_tokens = held->tier_tokens;
    end_held(bridge, at);
    return false;
}

bool kv_bridge_receive(struct kv_bridge *bridge, int timeout_ms, struct kv_bridge_ready *out)
{
    take_fetches(bridge, timeout_ms);
    review(bridge);
    for (size_t i = 0; i < bridge->held_count; i++)
        if (bridge->held[i]->state == KV_BRIDGE_STATE_ready) {
            *out = (struct kv_bridge_ready){bridge->held[i]->context, bridge->held[i]->tier_tokens};
            end_held(bridge, i);
            return true;
        }
    bridge->land_left = bridge->land_blocks; /* the turn ends */
    return false;
}

void kv_bridge_cancel(struct kv_bridge *bridge, const void *context)
{
    for (size_t i = 0; i < bridge->held_count; i++)
        if (bridge->held[i]->context == context) {
            bridge->held[i]->cancelled = true;
            if (bridge->held[i]->state != KV_BRIDGE_STATE_loading)
                end_cancelled(bridge, bridge->held[i], false);
        }
}

size_t kv_bridge_held(const struct kv_bridge *bridge)
{
    return bridge->held_count;
}

static void spill_block(struct kv_bridge *bridge, const struct engine_event *event)
{
    struct kvtier *tier = bridge->options.tier;
    if (!kvtier_put_wanted(tier, &event->key, bridge->block_bytes))
        return;
    struct kvtier_put *put = kvtier_put_new(bridge->block_tokens, bridge->block_bytes);
    if (!put)
        return;
    if (engine_block_read(bridge->options.engine, &event->key, put->payload) != STATUS_OK) {
        kvtier_put_free(put); /* evicted within the step that stored it */
        return;
    }
    struct block_identity block = {.fingerprint = engine_fingerprint(bridge->options.engine),
                                   .key = event->key,
                                   .parent = event->parent,
                                   .tokens = event->block_tokens,
                                   .token_count = bridge->block_tokens,
                                   .first_position = event->position,
                                   .payload_bytes = bridge->block_bytes};
    kvtier_put_describe(put, &block);
    kvtier_put(tier, put);
}

void kv_bridge_spill(struct kv_bridge *bridge, const struct engine_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct engine_event *event = &events[i];
        if (event->type != ENGINE_EVENT_BLOCK_STORED)
            continue;
        kv_claims_end(bridge->claims, &event->key);
        if (bridge->options.tier && (event->of_prompt || bridge->options.spill_generated))
            spill_block(bridge, event);
        if (has(bridge, &event->key)) /* and not evicted within the step that stored it */
            tell_stored(bridge, &event->key, &event->parent, event->block_tokens, event->position);
    }
    if (bridge->options.events)
        kv_events_flush(bridge->options.events);
}

void kv_bridge_keep(struct kv_bridge *bridge, const struct engine_request *request)
{
    if (!bridge->options.tier)
        return;
    size_t count = engine_block_keys(bridge->options.engine, request, bridge->keys, bridge->max_blocks);
    struct block_key parent =
        block_key_root(engine_fingerprint(bridge->options.engine), request->salt, request->salt_bytes);
    for (size_t i = 0; i < count; parent = bridge->keys[i++]) {
        const struct engine_event block = {.key = bridge->keys[i],
                                           .parent = parent,
                                           .block_tokens = request->prompt + i * bridge->block_tokens,
                                           .position = (uint32_t)(i * bridge->block_tokens)};
        spill_block(bridge, &block);
    }
}

void kv_bridge_note_prefill(struct kv_bridge *bridge, uint64_t tokens, int64_t took_ns)
{
    kv_cost_note_prefill(&bridge->cost, tokens, took_ns);
}

void kv_bridge_stats_read(const struct kv_bridge *bridge, struct kv_bridge_stats *out)
{
    *out = (struct kv_bridge_stats){.waits = bridge->waits,
                                    .prefill_s_per_token = bridge->cost.prefill_ns_per_token / 1e9};
    for (int i = 0; i < KV_BRIDGE_STATE_COUNT; i++)
        out->held[i] = bridge->states[i];
    for (int i = 0; i < KV_BRIDGE_END_COUNT; i++)
        out->ended[i] = bridge->ends[i];
    if (bridge->options.host)
        host_store_stats_read(bridge->options.host, &out->host);
}
