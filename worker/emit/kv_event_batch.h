// SPDX-License-Identifier: Apache-2.0
// The wire form of what happened to the blocks of the engine's pool: a batch of events in vLLM's format
// (msgpack, structs as arrays), so that routers that follow vLLM's caches can follow ours:
//   [ts, [event…], 0]   event: ["BlockStored", [hash], parent|nil, [token…], block_size, nil, "CPU", nil]
//                              ["BlockRemoved", [hash], "CPU"]   ["AllBlocksCleared"]
// A hash is the low 64 bits of the block's key. docs/formats/kv_events.md
#ifndef WORKER_EMIT_KV_EVENT_BATCH_H
#define WORKER_EMIT_KV_EVENT_BATCH_H

#include "base/block_key.h"
#include "base/bytes.h"

struct kv_event_batch {
    uint64_t seq;
    size_t count;        /* events */
    struct bytes events; /* encoded, without what is around them */
};

/* NULL: no memory. */
struct kv_event_batch *kv_event_batch_new(void);
void kv_event_batch_free(struct kv_event_batch *batch);
/* parent: NULL for the first block of a prefix. */
void kv_event_batch_stored(struct kv_event_batch *batch, const struct block_key *key,
                           const struct block_key *parent, const int32_t *tokens, uint32_t token_count);
void kv_event_batch_removed(struct kv_event_batch *batch, const struct block_key *key);
void kv_event_batch_cleared(struct kv_event_batch *batch);
/* The whole message. `out` is initialised by the caller. */
void kv_event_batch_encode(const struct kv_event_batch *batch, double unix_s, struct bytes *out);

#endif
