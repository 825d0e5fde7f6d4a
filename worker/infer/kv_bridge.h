// SPDX-License-Identifier: Apache-2.0
// The only place that knows both the engine's blocks and the tier's bytes. Lives on the engine thread,
// between steps: before a request is submitted it looks for the blocks that the engine lacks, in host memory
// and in the tier; after a step it hands full blocks to the tier. It never waits: a fetch comes back through
// a channel, a deadline derived from the time that computing the same tokens would take bounds how long it
// can hold a request, and a lease bounds how long a request can wait for what another worker computes.
//   hold -> QUEUED -> LOADING -> READY     ELSEWHERE: another worker computes the next block
//                                          BEHIND: another request of this worker is getting it
#ifndef WORKER_INFER_KV_BRIDGE_H
#define WORKER_INFER_KV_BRIDGE_H

#include "engine/engine.h"
#include "kvtier/host_store.h"
#include "kvtier/kvtier.h"
#include "worker/emit/kv_events.h"

struct kv_bridge;

struct kv_bridge_options {
    struct engine *engine;    /* borrowed */
    struct kvtier *tier;      /* borrowed; NULL: none */
    struct channel *done;     /* the tier's `done` */
    struct host_store *host;  /* borrowed: takes what the engine evicts; NULL: none */
    struct kv_events *events; /* borrowed: is told what enters and leaves the engine's cache; NULL: nobody */
    int32_t block_tokens;
    int32_t max_context_tokens;
    size_t land_bytes;    /* loaded blocks put into the engine between two steps, at least one; 0: 32 MiB */
    bool spill_generated; /* also blocks that hold generated tokens */
    bool singleflight;    /* workers that miss the same blocks let one of them compute */
};

struct kv_bridge_ready {
    void *context;        /* what kv_bridge_hold was given */
    uint32_t tier_tokens; /* prompt tokens whose blocks came from the tier */
};

MUST_CHECK enum status kv_bridge_open(struct kv_bridge **out, const struct kv_bridge_options *options,
                                      struct error *err);
/* Every held request has been received back. */
void kv_bridge_close(struct kv_bridge *bridge);

/* Starts getting what the engine lacks. True: hold the request until its context comes back; nothing of the
 * request is borrowed. False: submit now, *tier_tokens as in struct kv_bridge_ready. */
bool kv_bridge_hold(struct kv_bridge *bridge, const struct engine_request *request, void *context,
                    uint32_t *tier_tokens);
/* A held request whose blocks are in the engine now (or given up). False: none within timeout_ms. To be
 * called until it says so before each step: that bounds what is copied between two of them. */
bool kv_bridge_receive(struct kv_bridge *bridge, int timeout_ms, struct kv_bridge_ready *out);
/* A held request that is not wanted any more comes back with the next receive, or when its fetch does. */
void kv_bridge_cancel(struct kv_bridge *bridge, const void *context);
size_t kv_bridge_held(const struct kv_bridge *bridge);
/* After a step: hands the step's full blocks to the tier, and what happened to the cache to the events. */
void kv_bridge_spill(struct kv_bridge *bridge, const struct engine_event *events, size_t count);
/* Hands every full block of the request's prompt and resumed tokens that the engine still has to the tier. */
void kv_bridge_keep(struct kv_bridge *bridge, const struct engine_request *request);
/* Measured cost of computing one prompt token, for deadlines. */
void kv_bridge_note_prefill(struct kv_bridge *bridge, uint64_t tokens, int64_t took_ns);

/* What happened to requests; every one that was held ends as one of the first four. */
#define KV_BRIDGE_ENDS(X) X(local) X(loaded) X(computed) X(gave_up)
/* Where held requests are. */
#define KV_BRIDGE_STATES(X) X(queued) X(loading) X(elsewhere) X(behind) X(ready)

enum kv_bridge_end {
#define KV_BRIDGE_END_ENUM(name) KV_BRIDGE_END_##name,
    KV_BRIDGE_ENDS(KV_BRIDGE_END_ENUM)
#undef KV_BRIDGE_END_ENUM
        KV_BRIDGE_END_COUNT
};

enum kv_bridge_state {
#define KV_BRIDGE_STATE_ENUM(name) KV_BRIDGE_STATE_##name,
    KV_BRIDGE_STATES(KV_BRIDGE_STATE_ENUM)
#undef KV_BRIDGE_STATE_ENUM
        KV_BRIDGE_STATE_COUNT
};

struct kv_bridge_stats {
    int32_t held[KV_BRIDGE_STATE_COUNT];
    uint64_t ended[KV_BRIDGE_END_COUNT]; /* all blocks local; all loaded; the rest computed here; waited for
                                            another worker in vain, then computed here */
    uint64_t waits;                      /* requests that waited for another worker */
    double prefill_s_per_token;          /* moving average */
    struct host_store_stats host;
};
const char *kv_bridge_state_name(enum kv_bridge_state state);
const char *kv_bridge_end_name(enum kv_bridge_end end);
void kv_bridge_stats_read(const struct kv_bridge *bridge, struct kv_bridge_stats *out); /* any thread */

#endif
