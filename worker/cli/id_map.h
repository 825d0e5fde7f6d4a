// SPDX-License-Identifier: Apache-2.0
// A map from custom_ids to a small value, by the first 16 bytes of their SHA-256: what a verb has sent, seen
// or still expects. 24 bytes an entry, so ten million ids fit in memory.
#ifndef WORKER_CLI_ID_MAP_H
#define WORKER_CLI_ID_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct id_map_entry {
    uint64_t hash[2]; /* both 0: empty */
    uint64_t value;   /* the owner's */
};

struct id_map {
    struct id_map_entry *entries;
    size_t count, capacity;
};

void id_map_init(struct id_map *map);
void id_map_release(struct id_map *map);
/* The entry of an id, added when it was not there (*added). NULL: no memory. */
struct id_map_entry *id_map_add(struct id_map *map, const char *id, size_t bytes, bool *added);
/* The same for a NUL-terminated name and no value. Statuses: OK, NO_MEMORY. */
MUST_CHECK enum status id_map_put(struct id_map *map, const char *name, bool *added, struct error *err);
struct id_map_entry *id_map_find(const struct id_map *map, const char *id, size_t bytes); /* NULL: none */

#endif
