// SPDX-License-Identifier: Apache-2.0
// Which node of a Redis Cluster has a key: CRC16 of the key gives one of 16,384 slots, CLUSTER SLOTS gives
// each slot's master, and a MOVED or ASK reply corrects what was read. Plain data of one thread.
#ifndef KVTIER_CLUSTER_MAP_H
#define KVTIER_CLUSTER_MAP_H

#include <stdint.h>

#include "kvtier/redis_address.h"
#include "kvtier/redis_connection.h"

enum { CLUSTER_SLOTS = 16384, CLUSTER_MAX_NODES = 128, CLUSTER_NO_NODE = 0xffff };

struct cluster_map {
    size_t node_count;
    struct redis_address nodes[CLUSTER_MAX_NODES]; /* masters; those beyond have no slots: misses */
    uint16_t owner[CLUSTER_SLOTS];                 /* index into nodes or CLUSTER_NO_NODE */
};

struct cluster_redirect {
    bool ask; /* for this command only, with ASKING; else the slot has a new owner */
    uint16_t slot;
    struct redis_address address;
};

void cluster_map_clear(struct cluster_map *map);
uint16_t cluster_map_slot(const char *key, size_t bytes);
/* Reads CLUSTER SLOTS of a connected node into a cleared map. Faults: those of the connection; DENIED when it
 * is no cluster. */
enum tier_fault cluster_map_read(struct cluster_map *map, struct redis_connection *connection,
                                 struct error *err);
/* Index of a node, added when there is room; else CLUSTER_NO_NODE. */
uint16_t cluster_map_node(struct cluster_map *map, const struct redis_address *address);
/* "MOVED 3999 10.0.0.7:6381"; an empty host is the one that answered. False: not such a reply. */
bool cluster_redirect_parse(struct cluster_redirect *out, const char *reply, const char *answered_host);

#endif
