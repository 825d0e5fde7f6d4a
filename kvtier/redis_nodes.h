// SPDX-License-Identifier: Apache-2.0
// Several Redis servers as one store, for one tier thread. Standalone servers: rendezvous hashing, so each
// block has a first server, and while that one is away a second. A Redis Cluster: the slot's owner, corrected
// by MOVED and ASK. Each server has its own breaker; one that is away costs its blocks, not the others'. A
// chain is read server by server in segments, pipelined within each, and ends at its first miss as with one
// server.
#ifndef KVTIER_REDIS_NODES_H
#define KVTIER_REDIS_NODES_H

#include "kvtier/redis_store.h"

/* Statuses: CONFIG, NO_MEMORY. Does not connect yet. */
MUST_CHECK enum status redis_nodes_open(struct tier_store **out, const struct redis_store_options *options,
                                        struct error *err);

#endif
