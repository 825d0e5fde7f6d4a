// SPDX-License-Identifier: Apache-2.0
// Keys believed to be in the store: a fixed table of 64-bit hashes with the time they were seen. Forgetting
// costs one needless write, remembering wrongly costs one lost write until the entry ages: neither is an
// error, so the table is a direct-mapped cache without chains. One thread adds and asks; any may forget (one
// that forgets while another key takes the slot may forget that one instead).
#ifndef KVTIER_RECENT_KEYS_H
#define KVTIER_RECENT_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/block_key.h"

enum { RECENT_KEYS_SLOTS = 16384, RECENT_KEYS_TTL_MS = 60000 };

struct recent_keys {
    _Atomic uint64_t hash[RECENT_KEYS_SLOTS];
    _Atomic int64_t seen_ms[RECENT_KEYS_SLOTS]; /* 0: empty */
};

static inline bool recent_keys_has(const struct recent_keys *keys, const struct block_key *key,
                                   int64_t now_ms)
{
    uint64_t hash = block_key_hash(key);
    uint64_t slot = hash % RECENT_KEYS_SLOTS;
    int64_t seen_ms = keys->seen_ms[slot];
    return keys->hash[slot] == hash && seen_ms != 0 && now_ms - seen_ms < RECENT_KEYS_TTL_MS;
}

static inline void recent_keys_add(struct recent_keys *keys, const struct block_key *key, int64_t now_ms)
{
    uint64_t hash = block_key_hash(key);
    uint64_t slot = hash % RECENT_KEYS_SLOTS;
    keys->hash[slot] = hash;
    keys->seen_ms[slot] = now_ms ? now_ms : 1;
}

static inline void recent_keys_forget(struct recent_keys *keys, const struct block_key *key)
{
    uint64_t hash = block_key_hash(key);
    uint64_t slot = hash % RECENT_KEYS_SLOTS;
    if (keys->hash[slot] == hash)
        keys->seen_ms[slot] = 0;
}

#endif
