// SPDX-License-Identifier: Apache-2.0
// Blocks in Redis: one value per block under kvt1:<fingerprint, 16 hex digits>:<key, 64 hex digits>.
// Block traffic is our own RESP on the connection's socket, so that a payload goes from the socket straight
// to its place (writev out, recv in). GETs are pipelined one by one in a bounded window: MGET is slower and
// cannot be cut short, and EXISTS first would be a race.
#ifndef KVTIER_REDIS_STORE_H
#define KVTIER_REDIS_STORE_H

#include "kvtier/tier_store.h"

enum { REDIS_STORE_WINDOW = 8, REDIS_STORE_KEY_BYTES = 96 };
#define REDIS_STORE_WINDOW_BYTES ((size_t)16 << 20)

struct redis_store_options {
    const char *address; /* one or several (redis_address.h): kvtier/redis_nodes then spreads blocks */
    bool cluster;        /* the addresses are entries of one Redis Cluster */
    const char *user, *password; /* "" for none */
    int64_t ttl_s;
    bool writer; /* checks that the server may evict before it writes (maxmemory and policy) */
};

/* Statuses: CONFIG (address; rediss:// names the stunnel recipe), NO_MEMORY. Does not connect yet. */
MUST_CHECK enum status redis_store_open(struct tier_store **out, const struct redis_store_options *options,
                                        struct error *err);
/* kvt1:… key of a block; returns its length. Its lease is kvt1:lease:{…}. */
size_t redis_store_key(const struct block_identity *block, char key[REDIS_STORE_KEY_BYTES]);

/* For redis_nodes, of a store of one server: commands of a key that is being moved here are preceded by
 * ASKING; the reply ("MOVED 3999 host:port") behind the last TIER_FAULT_ELSEWHERE. */
void redis_store_ask(struct tier_store *store, bool asking);
const char *redis_store_redirect(const struct tier_store *store);

#endif
