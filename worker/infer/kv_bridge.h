// SPDX-License-Identifier: Apache-2.0
// The only place that knows both the engine's blocks and the tier's bytes. Lives on the engine thread,
// between steps: before a request is submitted it asks the tier for the blocks the engine lacks; after a step
// it hands full blocks to the tier. It never waits: a fetch comes back through a channel, and a deadline
// derived from the time that computing the same tokens would take bounds how long a request can be held.
//   QUEUED -> (hold) KV_LOADING -> (ready) submitted
#ifndef WORKER_INFER_KV_BRIDGE_H
#define WORKER_INFER_KV_BRIDGE_H

#include "engine/engine.h"
#include "kvtier/kvtier.h"

struct kv_bridge;

struct kv_bridge_options {
    struct engine *engine; /* borrowed */
    struct kvtier *tier;   /* borrowed */
    struct channel *done;  /* the tier's `done` */
    int32_t block_tokens;
    int32_t max_context_tokens;
    bool spill_generated; /* also blocks that hold generated tokens */
};

struct kv_bridge_ready {
    void *context;        /* what kv_bridge_hold was given */
    uint32_t tier_tokens; /* prompt tokens whose blocks came from the tier */
};

MUST_CHECK enum status kv_bridge_open(struct kv_bridge **out, const struct kv_bridge_options *options,
                                      struct error *err);
/* Every held request has been received back. */
void kv_bridge_close(struct kv_bridge *bridge);

/* Starts loading what the engine lacks. True: hold the request until its context comes back; false: submit
 * now. */
bool kv_bridge_hold(struct kv_bridge *bridge, const struct engine_request *request, void *context);
/* A held request whose blocks are in the engine now (or given up). False: none within timeout_ms. */
bool kv_bridge_receive(struct kv_bridge *bridge, int timeout_ms, struct kv_bridge_ready *out);
size_t kv_bridge_held(const struct kv_bridge *bridge);
/* After a step: hands the step's full blocks to the tier. */
void kv_bridge_spill(struct kv_bridge *bridge, const struct engine_event *events, size_t count);
/* Measured cost of computing one prompt token, for deadlines. */
void kv_bridge_note_prefill(struct kv_bridge *bridge, uint64_t tokens, int64_t took_ns);

#endif
