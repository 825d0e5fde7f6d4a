// SPDX-License-Identifier: Apache-2.0
// DESIGN: what is one call for kvtier is here one call per server and segment on an ordinary redis_store.
// Only the routing differs between standalone servers and a cluster; `map` says which of the two this is.
// While any server is usable a failure of another is TIER_FAULT_NODE, which the caller's breaker does not
// count; when none is, the caller's breaker alone decides when to try, so that two breakers do not wait for
// each other.
#include "kvtier/redis_nodes.h"

#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "base/sha256.h"
#include "kvtier/breaker.h"
#include "kvtier/cluster_map.h"

enum {
    SEGMENT_BLOCKS = 64,
    MAX_REDIRECTS = 5, /* in a row without a block */
    REFRESH_EVERY_MS = 1000,
    REFRESH_TRIES = 2, /* servers asked for the slots before the call goes on */
    NO_NODE = CLUSTER_NO_NODE
};
_Static_assert((int)REDIS_MAX_ADDRESSES <= (int)CLUSTER_MAX_NODES, "either way the nodes fit");

struct redis_node {
    struct redis_address address;
    uint64_t seed; /* of its rendezvous scores: a function of the address */
    struct tier_store *store;
    struct breaker breaker;
    bool away; /* its breaker opened because it does not answer, not because it refuses */
};

struct redis_nodes {
    struct tier_store base; /* first: the vtable's self */
    struct redis_store_options options;
    char *user, *password;
    size_t count;
    struct redis_node nodes[CLUSTER_MAX_NODES]; /* of a cluster: parallel to map->nodes */
    struct cluster_map *map;                    /* NULL: standalone servers */
    size_t seed_count, next_seed;
    struct redis_address seeds[REDIS_MAX_ADDRESSES]; /* as configured */
    bool map_is_stale;
    int64_t refreshed_ms;
};

/* ---- nodes ---- */

static enum status node_open(struct redis_nodes *nodes, struct redis_node *node,
                             const struct redis_address *address, struct error *err)
{
    char text[REDIS_ADDRESS_BYTES];
    uint8_t digest[32];
    struct redis_store_options options = nodes->options;
    *node = (struct redis_node){.address = *address};
    redis_address_print(address, text);
    sha256_digest(text, strlen(text), digest);
    memcpy(&node->seed, digest, sizeof node->seed);
    breaker_init(&node->breaker, (uint64_t)monotime_ns() ^ node->seed);
    options.address = text;
    options.cluster = false;
    return redis_store_open(&node->store, &options, err);
}

static void node_close(struct redis_node *node)
{
    if (node->store)
        node->store->close(node->store);
    node->store = NULL;
}

static bool none_allows(const struct redis_nodes *nodes, int64_t now_ms)
{
    for (size_t i = 0; i < nodes->count; i++)
        if (breaker_allows(&nodes->nodes[i].breaker, now_ms))
            return false;
    return true;
}

static bool all_open(const struct redis_nodes *nodes)
{
    for (size_t i = 0; i < nodes->count; i++)
        if (!breaker_is_open(&nodes->nodes[i].breaker))
            return false;
    return true;
}

/* What a node's answer means for it, and for the caller. */
static enum tier_fault settle(struct redis_nodes *nodes, struct redis_node *node, enum tier_fault fault)
{
    breaker_settle(&node->breaker, fault == TIER_FAULT_ELSEWHERE ? TIER_FAULT_NONE : fault, monotime_ms());
    node->away = fault == TIER_FAULT_CONNECTION || fault == TIER_FAULT_LOADING;
    if (node->away && nodes->map)
        nodes->map_is_stale = true; /* a replica may have its slots by now */
    if (fault == TIER_FAULT_NONE || fault == TIER_FAULT_ELSEWHERE)
        return fault;
    return all_open(nodes) ? fault : TIER_FAULT_NODE;
}

/* ---- routing ---- */

/* SplitMix64's finaliser (Steele et al. 2014): the highest score has the block. */
static uint64_t score(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static size_t rendezvous(const struct redis_nodes *nodes, const struct block_identity *block, int64_t now_ms)
{
    bool any = none_allows(nodes, now_ms);
    uint64_t hash = block_key_hash(&block->key), best_score = 0;
    size_t best = NO_NODE;
    for (size_t i = 0; i < nodes->count; i++) {
        const struct redis_node *node = &nodes->nodes[i];
        uint64_t mine = score(hash ^ node->seed);
        if (node->away && !any && !breaker_allows(&node->breaker, now_ms))
            continue;
        if (best == NO_NODE || mine > best_score) {
            best = i;
            best_score = mine;
        }
    }
    return best;
}

/* The node that has a block; NO_NODE: nobody, or not now, and *why. */
static size_t route(const struct redis_nodes *nodes, const struct block_identity *block, enum tier_miss *why)
{
    char key[REDIS_STORE_KEY_BYTES];
    int64_t now_ms = monotime_ms();
    size_t node = NO_NODE;
    *why = TIER_MISS_unavailable;
    if (!nodes->map)
        node = rendezvous(nodes, block, now_ms);
    else
        node = nodes->map->owner[cluster_map_slot(key, redis_store_key(block, key))];
    if (node == NO_NODE || breaker_allows(&nodes->nodes[node].breaker, now_ms) || none_allows(nodes, now_ms))
        return node;
    *why = TIER_MISS_breaker;
    return NO_NODE;
}

/* ---- the cluster's map ---- */

/* Puts the nodes in the map's order, with the connections and breakers that are there already. */
static void adopt_nodes(struct redis_nodes *nodes)
{
    struct redis_node before[CLUSTER_MAX_NODES];
    size_t before_count = nodes->count;
    memcpy(before, nodes->nodes, sizeof before);
    nodes->count = 0;
    for (size_t i = 0; i < nodes->map->node_count; i++) {
        struct redis_node *node = &nodes->nodes[i];
        *node = (struct redis_node){.store = NULL};
        for (size_t j = 0; j < before_count && !node->store; j++)
            if (before[j].store && redis_address_equal(&before[j].address, &nodes->map->nodes[i])) {
                *node = before[j];
                before[j].store = NULL;
            }
        if (!node->store && node_open(nodes, node, &nodes->map->nodes[i], NULL) != STATUS_OK)
            break; /* no memory: what is missing has no owner */
        nodes->count++;
    }
    for (size_t j = 0; j < before_count; j++)
        node_close(&before[j]);
    for (size_t slot = 0; slot < CLUSTER_SLOTS; slot++)
        if (nodes->map->owner[slot] >= nodes->count)
            nodes->map->owner[slot] = NO_NODE;
    nodes->map->node_count = nodes->count;
}

static enum tier_fault read_map(struct redis_nodes *nodes, const struct redis_address *address,
                                struct error *err)
{
    struct redis_connection *look = malloc(sizeof *look);
    struct cluster_map *fresh = malloc(sizeof *fresh);
    enum tier_fault fault = TIER_FAULT_CONNECTION;
    if (look && fresh &&
        redis_connection_init(look, address, nodes->user, nodes->password, err) == STATUS_OK) {
        cluster_map_clear(fresh);
        fault = redis_connection_ensure(look, err);
        if (fault == TIER_FAULT_NONE)
            fault = cluster_map_read(fresh, look, err);
        redis_connection_release(look);
    }
    if (fault == TIER_FAULT_NONE) {
        *nodes->map = *fresh;
        adopt_nodes(nodes);
    }
    free(fresh);
    free(look);
    return fault;
}

/* Asks known nodes and the configured ones in turn. */
static enum tier_fault refresh_map(struct redis_nodes *nodes, int64_t deadline_ns, struct error *err)
{
    int64_t now_ms = monotime_ms();
    enum tier_fault fault = TIER_FAULT_NONE;
    if (!nodes->map || !nodes->map_is_stale ||
        (nodes->refreshed_ms && now_ms - nodes->refreshed_ms < REFRESH_EVERY_MS))
        return TIER_FAULT_NONE;
    nodes->refreshed_ms = now_ms ? now_ms : 1;
    for (int i = 0; i < REFRESH_TRIES && monotime_ns() < deadline_ns; i++) {
        size_t at = nodes->next_seed++ % (nodes->count + nodes->seed_count);
        struct redis_address address =
            at < nodes->count ? nodes->nodes[at].address : nodes->seeds[at - nodes->count];
        fault = read_map(nodes, &address, err);
        if (fault == TIER_FAULT_NONE) {
            nodes->map_is_stale = false;
            return fault;
        }
    }
    return nodes->count > 0 ? TIER_FAULT_NONE : fault;
}

/* Follows the last ELSEWHERE of a node: the node for this one command when it is an ASK; NO_NODE when the map
 * knows better now (or nobody does). */
static size_t follow(struct redis_nodes *nodes, size_t from)
{
    struct cluster_redirect redirect;
    const char *reply = redis_store_redirect(nodes->nodes[from].store);
    if (!nodes->map || !cluster_redirect_parse(&redirect, reply, nodes->nodes[from].address.host))
        return NO_NODE;
    uint16_t node = cluster_map_node(nodes->map, &redirect.address);
    if (node != NO_NODE && node == nodes->count) {
        if (node_open(nodes, &nodes->nodes[node], &redirect.address, NULL) == STATUS_OK) {
            nodes->count++;
        } else {
            nodes->map->node_count--;
            node = NO_NODE;
        }
    }
    if (redirect.ask)
        return node;
    nodes->map->owner[redirect.slot] = node;
    nodes->map_is_stale = true;
    return NO_NODE;
}

/* ---- reading ---- */

static enum tier_fault get_from(struct redis_nodes *nodes, size_t at, bool asking, struct tier_get *get,
                                struct error *err)
{
    struct redis_node *node = &nodes->nodes[at];
    redis_store_ask(node->store, asking);
    enum tier_fault fault = settle(nodes, node, node->store->get(node->store, get, err));
    redis_store_ask(node->store, false);
    if (fault != TIER_FAULT_NONE && fault != TIER_FAULT_ELSEWHERE)
        get->miss = err->status == STATUS_TIMEOUT ? TIER_MISS_timeout : TIER_MISS_unavailable;
    return fault;
}

/* Reads one node's part of a segment. It may end early without a miss: then the map has changed, and the rest
 * is to be routed again. */
static enum tier_fault get_part(struct redis_nodes *nodes, size_t at, struct tier_get *part,
                                struct error *err)
{
    enum tier_fault fault = TIER_FAULT_NONE;
    size_t done = 0;
    part->miss = TIER_MISS_none;
    while (done < part->count && part->miss == TIER_MISS_none && fault == TIER_FAULT_NONE) {
        struct tier_get rest = {.blocks = part->blocks + done,
                                .payloads = part->payloads + done,
                                .count = part->count - done,
                                .deadline_ns = part->deadline_ns};
        fault = get_from(nodes, at, false, &rest, err);
        done += rest.loaded;
        if (fault == TIER_FAULT_ELSEWHERE) {
            size_t target = follow(nodes, at);
            fault = TIER_FAULT_NONE;
            if (target == NO_NODE)
                break;
            rest = (struct tier_get){.blocks = part->blocks + done,
                                     .payloads = part->payloads + done,
                                     .count = 1,
                                     .deadline_ns = part->deadline_ns};
            fault = get_from(nodes, target, true, &rest, err);
            done += rest.loaded;
            if (fault == TIER_FAULT_ELSEWHERE)
                fault = TIER_FAULT_NONE; /* it moves again: a miss */
        }
        part->miss = rest.miss;
        part->verdict = rest.verdict;
    }
    part->loaded = done;
    return fault;
}

struct segment { /* of a chain, split by node */
    size_t begin, end;
    size_t node[SEGMENT_BLOCKS]; /* NO_NODE: done */
};

/* The blocks of one node before get->loaded (the cut so far) as a chain of their own. */
static size_t gather(const struct tier_get *get, struct segment *segment, size_t node,
                     struct block_identity *blocks, uint8_t **payloads, size_t *places)
{
    size_t count = 0;
    for (size_t i = segment->begin; i < get->loaded; i++)
        if (segment->node[i - segment->begin] == node) {
            segment->node[i - segment->begin] = NO_NODE;
            blocks[count] = get->blocks[i];
            payloads[count] = get->payloads[i];
            places[count++] = i;
        }
    return count;
}

/* get->loaded is the end of what is still believed present; each node can only bring it down. */
static enum tier_fault get_segment(struct redis_nodes *nodes, struct tier_get *get, struct segment *segment,
                                   struct error *err)
{
    struct block_identity blocks[SEGMENT_BLOCKS];
    uint8_t *payloads[SEGMENT_BLOCKS];
    size_t places[SEGMENT_BLOCKS];
    enum tier_fault worst = TIER_FAULT_NONE;
    get->loaded = segment->end;
    for (size_t i = segment->begin; i < get->loaded; i++) {
        enum tier_fault fault = TIER_FAULT_NONE;
        size_t node = segment->node[i - segment->begin];
        if (node == NO_NODE)
            continue;
        struct tier_get part = {.blocks = blocks, .payloads = payloads, .deadline_ns = get->deadline_ns};
        part.count = gather(get, segment, node, blocks, payloads, places);
        if (monotime_ns() < get->deadline_ns)
            fault = get_part(nodes, node, &part, err);
        else
            part.miss = TIER_MISS_timeout;
        worst = fault == TIER_FAULT_NONE ? worst : fault;
        if (part.loaded < part.count) {
            get->loaded = places[part.loaded];
            get->miss = part.miss;
            get->verdict = part.verdict;
        }
    }
    return worst;
}

/* Routes blocks until one has no node; then the chain can go no further than there. */
static void route_segment(const struct redis_nodes *nodes, struct tier_get *get, struct segment *segment)
{
    size_t limit = segment->begin + SEGMENT_BLOCKS;
    segment->end = get->count < limit ? get->count : limit;
    for (size_t i = segment->begin; i < segment->end; i++) {
        enum tier_miss why;
        segment->node[i - segment->begin] = route(nodes, &get->blocks[i], &why);
        if (segment->node[i - segment->begin] == NO_NODE) {
            segment->end = i;
            get->miss = why;
        }
    }
}

static enum tier_fault nodes_get(struct tier_store *base, struct tier_get *get, struct error *err)
{
    struct redis_nodes *nodes = (struct redis_nodes *)base;
    struct segment segment = {.begin = 0};
    struct error unheard = {0};
    enum tier_fault fault = TIER_FAULT_NONE;
    int stalls = 0;
    err = err ? err : &unheard;
    get->loaded = 0;
    get->miss = TIER_MISS_none;
    get->verdict = BLOCK_VERDICT_OK;
    while (get->loaded < get->count && get->miss == TIER_MISS_none && fault == TIER_FAULT_NONE) {
        fault = refresh_map(nodes, get->deadline_ns, err);
        if (fault != TIER_FAULT_NONE)
            break;
        segment.begin = get->loaded;
        route_segment(nodes, get, &segment);
        fault = get_segment(nodes, get, &segment, err);
        stalls = get->loaded > segment.begin ? 0 : stalls + 1;
        if (stalls > MAX_REDIRECTS && get->miss == TIER_MISS_none)
            get->miss = TIER_MISS_unavailable;
    }
    return fault;
}

/* ---- writing ---- */

static enum tier_fault put_to(struct redis_nodes *nodes, size_t at, bool asking,
                              const struct block_identity *block, const void *payload, int64_t deadline_ns,
                              struct error *err)
{
    struct redis_node *node = &nodes->nodes[at];
    redis_store_ask(node->store, asking);
    enum tier_fault fault = node->store->put(node->store, block, payload, deadline_ns, err);
    redis_store_ask(node->store, false);
    return settle(nodes, node, fault);
}

static enum tier_fault nodes_put(struct tier_store *base, const struct block_identity *block,
                                 const void *payload, int64_t deadline_ns, struct error *err)
{
    struct redis_nodes *nodes = (struct redis_nodes *)base;
    for (int hop = 0; hop <= MAX_REDIRECTS; hop++) {
        enum tier_miss why;
        enum tier_fault fault = refresh_map(nodes, deadline_ns, err);
        size_t at = route(nodes, block, &why);
        if (fault != TIER_FAULT_NONE)
            return fault;
        if (at == NO_NODE)
            break;
        fault = put_to(nodes, at, false, block, payload, deadline_ns, err);
        if (fault == TIER_FAULT_ELSEWHERE && (at = follow(nodes, at)) != NO_NODE)
            fault = put_to(nodes, at, true, block, payload, deadline_ns, err);
        if (fault != TIER_FAULT_ELSEWHERE)
            return fault;
    }
    error_set(err, STATUS_UNAVAILABLE, "the Redis server that has this block is away");
    return TIER_FAULT_NODE;
}

static enum tier_fault nodes_touch(struct tier_store *base, const struct block_identity *blocks, size_t count,
                                   int64_t deadline_ns, struct error *err)
{
    struct redis_nodes *nodes = (struct redis_nodes *)base;
    struct block_identity mine[SEGMENT_BLOCKS];
    enum tier_fault worst = refresh_map(nodes, deadline_ns, err);
    for (size_t at = 0; at < nodes->count; at++) {
        size_t taken = 0;
        for (size_t i = 0; i < count; i++) {
            enum tier_miss why;
            if (route(nodes, &blocks[i], &why) == at)
                mine[taken++] = blocks[i];
            if (taken == 0 || (taken < SEGMENT_BLOCKS && i + 1 < count))
                continue;
            struct redis_node *node = &nodes->nodes[at];
            enum tier_fault fault =
                settle(nodes, node, node->store->touch(node->store, mine, taken, deadline_ns, err));
            worst = fault == TIER_FAULT_NONE ? worst : fault;
            taken = 0;
        }
    }
    return worst;
}

/* A node that has other slots by now grants, so that nobody waits for a claim that was never made. */
static enum tier_fault lease_from(struct redis_nodes *nodes, size_t at, const struct block_identity *blocks,
                                  size_t count, int64_t lease_ms, int64_t deadline_ns, bool *granted,
                                  struct error *err)
{
    struct redis_node *node = &nodes->nodes[at];
    enum tier_fault fault = settle(
        nodes, node, node->store->lease(node->store, blocks, count, lease_ms, deadline_ns, granted, err));
    if (fault != TIER_FAULT_ELSEWHERE)
        return fault;
    follow(nodes, at);
    *granted = true;
    return TIER_FAULT_NONE;
}

/* What one server has of a chain, but for its first block, which decided already: whoever has the first
 * absent block of another chain asks for that one alone, so that none may be left out. */
static enum tier_fault lease_rest(struct redis_nodes *nodes, size_t at, const struct block_identity *blocks,
                                  size_t count, int64_t lease_ms, int64_t deadline_ns, struct error *err)
{
    struct block_identity mine[SEGMENT_BLOCKS];
    enum tier_fault fault = TIER_FAULT_NONE;
    size_t taken = 0;
    for (size_t i = 1; i < count && fault == TIER_FAULT_NONE; i++) {
        enum tier_miss why;
        bool unused;
        if (route(nodes, &blocks[i], &why) == at)
            mine[taken++] = blocks[i];
        if (taken == 0 || (taken < SEGMENT_BLOCKS && i + 1 < count))
            continue;
        fault = lease_from(nodes, at, mine, taken, lease_ms, deadline_ns, &unused, err);
        taken = 0;
    }
    return fault;
}

/* The first block's server decides; the others are claimed, server by server, for those who share less of the
 * chain. */
static enum tier_fault nodes_lease(struct tier_store *base, const struct block_identity *blocks, size_t count,
                                   int64_t lease_ms, int64_t deadline_ns, bool *granted, struct error *err)
{
    struct redis_nodes *nodes = (struct redis_nodes *)base;
    enum tier_miss why;
    *granted = true;
    enum tier_fault fault = refresh_map(nodes, deadline_ns, err);
    size_t first = fault == TIER_FAULT_NONE ? route(nodes, &blocks[0], &why) : NO_NODE;
    if (first != NO_NODE)
        fault = lease_from(nodes, first, blocks, 1, lease_ms, deadline_ns, granted, err);
    for (size_t at = 0; at < nodes->count && *granted && fault == TIER_FAULT_NONE; at++)
        fault = lease_rest(nodes, at, blocks, count, lease_ms, deadline_ns, err);
    return fault;
}

/* ---- life ---- */

static void nodes_close(struct tier_store *base)
{
    struct redis_nodes *nodes = (struct redis_nodes *)base;
    for (size_t i = 0; i < nodes->count; i++)
        node_close(&nodes->nodes[i]);
    free(nodes->user);
    free(nodes->password);
    free(nodes->map);
    free(nodes);
}

static enum status open_parts(struct redis_nodes *nodes, const struct redis_store_options *options,
                              struct error *err)
{
    enum status status = redis_address_parse_list(nodes->seeds, &nodes->seed_count, options->address, err);
    nodes->user = strdup(options->user ? options->user : "");
    nodes->password = strdup(options->password ? options->password : "");
    nodes->map = options->cluster ? malloc(sizeof *nodes->map) : NULL;
    if (!nodes->user || !nodes->password || (options->cluster && !nodes->map))
        return error_set(err, STATUS_NO_MEMORY, "no memory for the Redis servers");
    nodes->options = *options;
    nodes->options.user = nodes->user;
    nodes->options.password = nodes->password;
    nodes->map_is_stale = options->cluster;
    if (nodes->map)
        cluster_map_clear(nodes->map);
    for (size_t i = 0; i < nodes->seed_count && status == STATUS_OK && !nodes->map; i++) {
        status = node_open(nodes, &nodes->nodes[i], &nodes->seeds[i], err);
        nodes->count += status == STATUS_OK;
    }
    return status;
}

enum status redis_nodes_open(struct tier_store **out, const struct redis_store_options *options,
                             struct error *err)
{
    *out = NULL;
    struct redis_nodes *nodes = calloc(1, sizeof *nodes);
    if (!nodes)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the Redis servers");
    nodes->base = (struct tier_store){
        .get = nodes_get, .put = nodes_put, .touch = nodes_touch, .lease = nodes_lease, .close = nodes_close};
    enum status status = open_parts(nodes, options, err);
    if (status != STATUS_OK) {
        nodes_close(&nodes->base);
        return status;
    }
    *out = &nodes->base;
    return STATUS_OK;
}
