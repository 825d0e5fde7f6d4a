// SPDX-License-Identifier: Apache-2.0
// What a tier thread asks of a store of blocks. One object per thread; never shared. redis_store is the real
// one; tests and the simulator bring their own.
#ifndef KVTIER_TIER_STORE_H
#define KVTIER_TIER_STORE_H

#include "base/error.h"
#include "kvtier/block_codec.h"

/* Why a block was not loaded; every miss has a reason. */
#define TIER_MISSES(X) \
    X(none) X(absent) X(corrupt) X(timeout) X(breaker) X(unavailable) X(pool_full) X(too_slow)

enum tier_miss {
#define TIER_MISS_ENUM(name) TIER_MISS_##name,
    TIER_MISSES(TIER_MISS_ENUM)
#undef TIER_MISS_ENUM
        TIER_MISS_COUNT
};

struct tier_get {
    const struct block_identity *blocks; /* [count], in chain order */
    uint8_t *const *payloads;            /* [count] destinations of payload_bytes each */
    size_t count;
    int64_t deadline_ns;        /* monotonic */
    size_t loaded;              /* out: the contiguous verified prefix */
    enum tier_miss miss;        /* out: why it ends there; none when all were loaded */
    enum block_verdict verdict; /* out: with miss corrupt */
};

/* How a failure is to be treated, whatever the store. */
enum tier_fault {
    TIER_FAULT_NONE,
    TIER_FAULT_CONNECTION, /* closed; counts for the breaker */
    TIER_FAULT_LOADING,    /* the server starts; counts for the breaker */
    TIER_FAULT_DENIED,     /* wrong password, no permission, wrong server: a person must act */
    TIER_FAULT_NO_ROOM,    /* full or read-only: pause writing */
    TIER_FAULT_ELSEWHERE,  /* a cluster's other node has this key; the connection is fine */
    TIER_FAULT_NODE        /* one server of several failed: misses, and the others go on */
};

struct tier_store {
    /* Connects when it must. Any failure leaves no reply owed: the connection is closed. */
    enum tier_fault (*get)(struct tier_store *store, struct tier_get *get, struct error *err);
    /* Stores one block unless its key exists. */
    enum tier_fault (*put)(struct tier_store *store, const struct block_identity *block, const void *payload,
                           int64_t deadline_ns, struct error *err);
    /* Refreshes the recency of blocks that were hit locally; only fingerprints and keys are looked at. */
    enum tier_fault (*touch)(struct tier_store *store, const struct block_identity *blocks, size_t count,
                             int64_t deadline_ns, struct error *err);
    /* Claims the computing of a chain of absent blocks for lease_ms. Not granted: somebody else has claimed
     * the first of them. A claim is not given back, it ends by time. NULL: this store has no leases. */
    enum tier_fault (*lease)(struct tier_store *store, const struct block_identity *blocks, size_t count,
                             int64_t lease_ms, int64_t deadline_ns, bool *granted, struct error *err);
    void (*close)(struct tier_store *store);
};

#endif
