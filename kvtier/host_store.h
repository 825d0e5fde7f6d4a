// SPDX-License-Identifier: Apache-2.0
// Host memory for blocks that the engine's pool had to evict: slots of one size in one piece of memory, so
// that nothing is lost to fragments. A block lives in the pool or here, never in both: what is taken out is
// handed back to the pool. Least recently demoted goes first; the pool evicts leaves before their parents, so
// leaves go first here too. Owner: the engine thread; nothing here waits or allocates after open.
#ifndef KVTIER_HOST_STORE_H
#define KVTIER_HOST_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "base/block_key.h"
#include "base/error.h"

struct host_store;

struct host_store_stats {
    size_t slots, used;
    uint64_t demoted, promoted, dropped; /* blocks put, taken, and pushed out by later ones */
};

/* As many slots of block_bytes as fit into `bytes`, at least one. Statuses: CONFIG (not one), NO_MEMORY. */
MUST_CHECK enum status host_store_open(struct host_store **out, size_t bytes, size_t block_bytes,
                                       struct error *err);
void host_store_close(struct host_store *store);

/* Copies a block in. One that is there already becomes the most recent. */
void host_store_put(struct host_store *store, const struct block_key *key, const void *payload);
bool host_store_has(const struct host_store *store, const struct block_key *key);
/* Takes a block out; NULL: it is not here. The bytes stay valid until the next host_store_release, which
 * must come before the next take; puts in between leave them alone. */
const void *host_store_take(struct host_store *store, const struct block_key *key);
void host_store_release(struct host_store *store);
void host_store_stats_read(const struct host_store *store, struct host_store_stats *out); /* any thread */

#endif
