// SPDX-License-Identifier: Apache-2.0
// Tells routers what is in this worker's KV cache, as vLLM does: PUB for whoever listens, ROUTER for whoever
// missed something. A thread of its own owns the sockets and the ring of past batches; the engine's thread
// only collects events and hands on one batch per step, and never waits.
//   frames: [topic][seq u64 BE][batch]   replay: [""][start seq u64 BE] -> ([""][seq][batch])… then seq all
//   ones
#ifndef WORKER_EMIT_KV_EVENTS_H
#define WORKER_EMIT_KV_EVENTS_H

#include "base/block_key.h"
#include "base/error.h"
#include "worker/stream_socket.h"

struct kv_events;

struct kv_events_options {
    const char *bind, *replay_bind; /* replay_bind "": none */
    const char *topic;              /* copied */
    struct stream_security security;
    size_t replay_bytes;
};

struct kv_events_stats {
    uint64_t batches, dropped, replays; /* dropped: seq was used up, the gap cannot be repaired */
};

/* Batch 0 is AllBlocksCleared: whoever knew an earlier life of this worker forgets it. Statuses: as
 * stream_socket_bind, NO_MEMORY. */
MUST_CHECK enum status kv_events_open(struct kv_events **out, const struct kv_events_options *options,
                                      struct error *err);
void kv_events_close(struct kv_events *events); /* publishes what is queued, and that the cache is gone */

/* The engine's thread. parent: NULL for the first block of a prefix. */
void kv_events_stored(struct kv_events *events, const struct block_key *key, const struct block_key *parent,
                      const int32_t *tokens, uint32_t token_count);
void kv_events_removed(struct kv_events *events, const struct block_key *key);
void kv_events_flush(struct kv_events *events); /* what was collected becomes one batch */
void kv_events_stats_read(const struct kv_events *events, struct kv_events_stats *out); /* any thread */

#endif
