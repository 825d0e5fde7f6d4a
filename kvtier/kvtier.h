// SPDX-License-Identifier: Apache-2.0
// The KV tier: keeps KV blocks outside the process, so that a prefix computed by one worker is loaded,
// verified, by every other. It maps block keys to bytes and knows no tensors. It never blocks its caller:
// both calls only queue; two tier threads (one reads, one writes) own a connection each.
//
// Redis can make a worker faster, never wrong and never stuck: every read is verified, every wait has a
// deadline, and every failure is a miss with a reason.
#ifndef KVTIER_KVTIER_H
#define KVTIER_KVTIER_H

#include "base/channel.h"
#include "kvtier/tier_store.h"

struct kvtier;

struct kvtier_options {
    struct tier_store *reader, *writer; /* owned by the tier afterwards, also when open fails */
    size_t max_put_bytes;               /* payloads waiting to be written; more are dropped and counted */
    size_t max_fetch_bytes;             /* payloads of fetches under way */
    size_t max_fetches;                 /* fetches under way */
    struct channel *done; /* finished fetches (struct kvtier_fetch *) go here; room for max_fetches */
    bool threadless; /* for the simulation: the caller turns it with kvtier_read_one and kvtier_write_one */
};

enum kvtier_write_type { KVTIER_PUT, KVTIER_TOUCH }; /* what the writer's channel carries */

/* One block on its way out. Allocated by kvtier_put_new, owned by the tier after kvtier_put. */
struct kvtier_put {
    enum kvtier_write_type type; /* first: PUT */
    struct block_identity block; /* tokens and fingerprint point to the storage below */
    uint8_t fingerprint[SHA256_BYTES];
    int32_t tokens[BLOCK_CODEC_MAX_TOKENS];
    uint8_t payload[]; /* [payload_bytes] */
};

/* Blocks that were hit locally: without a sign of it the store would take the start of every hot prefix for
 * unused and evict it first. */
struct kvtier_touch {
    enum kvtier_write_type type; /* first: TOUCH */
    uint8_t fingerprint[SHA256_BYTES];
    size_t count;
    struct block_identity blocks[]; /* [count] fingerprint and key only */
};

/* What is known of who computes the first absent block of a chain. */
enum kvtier_lease {
    KVTIER_LEASE_NONE,     /* not asked, or the store could not say */
    KVTIER_LEASE_GRANTED,  /* the caller does: others wait for it */
    KVTIER_LEASE_ELSEWHERE /* somebody else does */
};

/* A chain of blocks on its way in. Allocated by kvtier_fetch_new, comes back on `done`, freed by
 * kvtier_fetch_free. */
struct kvtier_fetch {
    uint64_t tag; /* the caller's */
    size_t count;
    struct block_identity *blocks; /* [count] in chain order */
    int32_t *tokens;               /* [count][block_tokens]: storage of the identities' tokens */
    uint8_t **payloads;            /* [count] */
    int64_t deadline_ns;           /* monotonic; after it the blocks are computed instead */
    int64_t lease_ms;              /* what is absent is claimed for so long; 0: it is not */
    enum kvtier_lease lease;       /* with miss absent */
    size_t loaded;                 /* contiguous verified prefix */
    enum tier_miss miss;           /* why it ends there */
    size_t reserved_bytes;
};

/* Statuses: NO_MEMORY. Starts the threads; connects lazily, so a dead Redis does not delay the start. */
MUST_CHECK enum status kvtier_open(struct kvtier **out, const struct kvtier_options *options,
                                   struct error *err);
/* Writes what is queued for at most drain_ms, then stops. Fetches under way come back on `done` first. */
void kvtier_close(struct kvtier *tier, int drain_ms);
/* What a tier thread does next, without the thread (tests/sim); before closing until both say false: nothing
 * waits. */
bool kvtier_read_one(struct kvtier *tier);
bool kvtier_write_one(struct kvtier *tier);

/* NULL: no memory. The caller fills payload and calls kvtier_put_describe. */
struct kvtier_put *kvtier_put_new(uint32_t token_count, size_t payload_bytes);
/* Copies identity, tokens and fingerprint; sizes must be those of kvtier_put_new. */
void kvtier_put_describe(struct kvtier_put *put, const struct block_identity *block);
void kvtier_put_free(struct kvtier_put *put);
/* Is a put of this key worth preparing? False when it was put lately and no fetch missed it since, the queue
 * is full or the breaker is open. Call from one thread (the engine's). */
bool kvtier_put_wanted(struct kvtier *tier, const struct block_key *key, size_t payload_bytes);
/* Takes ownership. Dropped and counted when there is no room. */
void kvtier_put(struct kvtier *tier, struct kvtier_put *put);

struct kvtier_fetch *kvtier_fetch_new(size_t count, uint32_t block_tokens, size_t payload_bytes);
void kvtier_fetch_free(struct kvtier_fetch *fetch);
/* Takes ownership when true. False (and fetch->miss says why): breaker open, no room. */
bool kvtier_fetch(struct kvtier *tier, struct kvtier_fetch *fetch);

/* Tells the store that these were hit locally; each key at most once a minute. Call from the engine's thread.
 */
void kvtier_touch(struct kvtier *tier, const uint8_t fingerprint[SHA256_BYTES], const struct block_key *keys,
                  size_t count);
/* How long loading so many bytes takes now, from what loading took lately; 0: nothing was measured yet. */
int64_t kvtier_load_estimate_ns(const struct kvtier *tier, size_t bytes);
/* Counts blocks that are not asked for, because computing them is faster. */
void kvtier_count_too_slow(struct kvtier *tier, size_t blocks);

struct kvtier_stats {
    uint64_t lookup_blocks, hit_blocks, stored_blocks, load_bytes, store_bytes;
    uint64_t miss_blocks[TIER_MISS_COUNT];
    uint64_t corrupt[BLOCK_VERDICT_COUNT];
    uint64_t dropped_full, dropped_breaker, dropped_failed; /* puts */
    uint64_t load_ns, store_ns;                             /* sums over requests, for means */
    uint64_t loads, stores;
    uint64_t loading_bytes, storing_bytes; /* reserved for fetches and puts under way */
    uint64_t touched_blocks, leases_granted, leases_elsewhere;
    double round_trip_s, load_bytes_per_s; /* moving averages; 0: not measured yet */
    bool reader_up, writer_up;             /* breaker closed */
};
void kvtier_stats_read(const struct kvtier *tier, struct kvtier_stats *out); /* any thread */
const char *tier_miss_name(enum tier_miss miss);

#endif
