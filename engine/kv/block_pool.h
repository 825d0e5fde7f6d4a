// SPDX-License-Identifier: Apache-2.0
// Who uses which KV block. A block is free, referenced by sequences, or cached: unreferenced but still
// holding the keys and values of a known prefix. Cached blocks are found by key and evicted least recently
// used first; sequences release their blocks tail first, so within a chain the leaf always goes before its
// parent. Owner: the engine thread. Everything is allocated at open.
#ifndef ENGINE_KV_BLOCK_POOL_H
#define ENGINE_KV_BLOCK_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/block_key.h"
#include "base/error.h"

enum { BLOCK_NONE = -1 };

struct block_pool;

MUST_CHECK enum status block_pool_open(struct block_pool **out, int32_t blocks, struct error *err);
void block_pool_close(struct block_pool *pool);
/* `evicted` is told of each cached block that is taken, before it is used again. */
void block_pool_on_evict(struct block_pool *pool,
                         void (*evicted)(void *context, const struct block_key *key, int32_t block),
                         void *context);

/* A block with one reference and no key: a free one, else the least recently used cached one. BLOCK_NONE: all
 * are referenced. */
int32_t block_pool_take(struct block_pool *pool);
/* The block that holds this prefix, or BLOCK_NONE. Adds no reference. */
int32_t block_pool_find(const struct block_pool *pool, const struct block_key *key);
void block_pool_reference(struct block_pool *pool, int32_t block);
/* Drops one reference; the last one makes a keyed block cached and another free. */
void block_pool_release(struct block_pool *pool, int32_t block);
int32_t block_pool_references(const struct block_pool *pool, int32_t block);
bool block_pool_is_cached(const struct block_pool *pool, int32_t block);
/* Gives a referenced block its identity. False when another block has this key already (then nothing
 * changes). */
bool block_pool_set_key(struct block_pool *pool, int32_t block, const struct block_key *key);

int32_t block_pool_available(const struct block_pool *pool); /* free and cached */
int32_t block_pool_cached(const struct block_pool *pool);
int32_t block_pool_size(const struct block_pool *pool);
void block_pool_check_invariants(const struct block_pool *pool); /* CHECKs; slow, for tests */

#endif
