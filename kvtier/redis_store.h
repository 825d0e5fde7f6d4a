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
    const char *address;         /* redis://host[:port][/db] or unix:///path[?db=N] */
    const char *user, *password; /* "" for none */
    int64_t ttl_s;
    bool writer; /* checks that the server may evict before it writes (maxmemory and policy) */
};

/* Statuses: CONFIG (address; rediss:// names the stunnel recipe), NO_MEMORY. Does not connect yet. */
MUST_CHECK enum status redis_store_open(struct tier_store **out, const struct redis_store_options *options,
                                        struct error *err);
/* kvt1:… key of a block; returns its length. Its lease is kvt1:lease:… with the same ending. */
size_t redis_store_key(const struct block_identity *block, char key[REDIS_STORE_KEY_BYTES]);

#endif
