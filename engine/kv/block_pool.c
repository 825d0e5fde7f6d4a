// SPDX-License-Identifier: Apache-2.0
#include "engine/kv/block_pool.h"

#include <stdlib.h>

struct block {
    struct block_key key;
    bool has_key;
    int32_t references;
    int32_t newer, older; /* neighbours in the recency list of unreferenced blocks */
    int32_t next_in_bucket;
};

/* Recency list of the unreferenced blocks: blocks without a key sit at the old end and are taken first. */
struct block_pool {
    int32_t size;
    int32_t available, cached;
    int32_t oldest, newest;
    uint32_t bucket_mask;
    int32_t *buckets; /* first block per hash, BLOCK_NONE */
    struct block *blocks;
    void (*evicted)(void *context, const struct block_key *key, int32_t block);
    void *evicted_context;
};

static void list_remove(struct block_pool *pool, int32_t index)
{
    struct block *block = &pool->blocks[index];
    if (block->newer != BLOCK_NONE)
        pool->blocks[block->newer].older = block->older;
    else
        pool->newest = block->older;
    if (block->older != BLOCK_NONE)
        pool->blocks[block->older].newer = block->newer;
    else
        pool->oldest = block->newer;
    pool->available--;
    pool->cached -= block->has_key;
}

static void list_add(struct block_pool *pool, int32_t index)
{
    struct block *block = &pool->blocks[index];
    if (block->has_key) { /* newest end */
        block->newer = BLOCK_NONE;
        block->older = pool->newest;
        if (pool->newest != BLOCK_NONE)
            pool->blocks[pool->newest].newer = index;
        else
            pool->oldest = index;
        pool->newest = index;
    } else { /* oldest end: nothing is lost by taking it */
        block->older = BLOCK_NONE;
        block->newer = pool->oldest;
        if (pool->oldest != BLOCK_NONE)
            pool->blocks[pool->oldest].older = index;
        else
            pool->newest = index;
        pool->oldest = index;
    }
    pool->available++;
    pool->cached += block->has_key;
}

static int32_t *bucket_of(const struct block_pool *pool, const struct block_key *key)
{
    return &pool->buckets[block_key_hash(key) & pool->bucket_mask];
}

static void forget_key(struct block_pool *pool, int32_t index)
{
    struct block *block = &pool->blocks[index];
    int32_t *link = bucket_of(pool, &block->key);
    while (*link != index)
        link = &pool->blocks[*link].next_in_bucket;
    *link = block->next_in_bucket;
    block->has_key = false;
}

enum status block_pool_open(struct block_pool **out, int32_t blocks, struct error *err)
{
    CHECK(blocks > 0);
    *out = NULL;
    uint32_t buckets = 16;
    while (buckets < (uint32_t)blocks * 2)
        buckets *= 2;
    struct block_pool *pool = calloc(1, sizeof *pool);
    if (pool) {
        pool->blocks = calloc((size_t)blocks, sizeof *pool->blocks);
        pool->buckets = malloc(buckets * sizeof *pool->buckets);
    }
    if (!pool || !pool->blocks || !pool->buckets) {
        block_pool_close(pool);
        return error_set(err, STATUS_NO_MEMORY, "no memory for a pool of %d KV blocks", blocks);
    }
    pool->size = blocks;
    pool->bucket_mask = buckets - 1;
    pool->oldest = pool->newest = BLOCK_NONE;
    for (uint32_t i = 0; i < buckets; i++)
        pool->buckets[i] = BLOCK_NONE;
    for (int32_t i = blocks - 1; i >= 0; i--)
        list_add(pool, i);
    *out = pool;
    return STATUS_OK;
}

void block_pool_close(struct block_pool *pool)
{
    if (!pool)
        return;
    free(pool->buckets);
    free(pool->blocks);
    free(pool);
}

void block_pool_on_evict(struct block_pool *pool,
                         void (*evicted)(void *context, const struct block_key *key, int32_t block),
                         void *context)
{
    pool->evicted = evicted;
    pool->evicted_context = context;
}

int32_t block_pool_take(struct block_pool *pool)
{
    int32_t index = pool->oldest;
    if (index == BLOCK_NONE)
        return BLOCK_NONE;
    struct block *block = &pool->blocks[index];
    list_remove(pool, index);
    if (block->has_key) {
        if (pool->evicted)
            pool->evicted(pool->evicted_context, &block->key, index);
        forget_key(pool, index);
    }
    block->references = 1;
    return index;
}

int32_t block_pool_find(const struct block_pool *pool, const struct block_key *key)
{
    int32_t index = *bucket_of(pool, key);
    while (index != BLOCK_NONE && !block_key_equal(&pool->blocks[index].key, key))
        index = pool->blocks[index].next_in_bucket;
    return index;
}

void block_pool_reference(struct block_pool *pool, int32_t index)
{
    CHECK(index >= 0 && index < pool->size);
    if (pool->blocks[index].references++ == 0)
        list_remove(pool, index);
}

void block_pool_release(struct block_pool *pool, int32_t index)
{
    CHECK(index >= 0 && index < pool->size && pool->blocks[index].references > 0);
    if (--pool->blocks[index].references == 0)
        list_add(pool, index);
}

int32_t block_pool_references(const struct block_pool *pool, int32_t index)
{
    return pool->blocks[index].references;
}

bool block_pool_is_cached(const struct block_pool *pool, int32_t index)
{
    return pool->blocks[index].references == 0 && pool->blocks[index].has_key;
}

bool block_pool_set_key(struct block_pool *pool, int32_t index, const struct block_key *key)
{
    struct block *block = &pool->blocks[index];
    CHECK(block->references > 0 && !block->has_key);
    if (block_pool_find(pool, key) != BLOCK_NONE)
        return false;
    int32_t *bucket = bucket_of(pool, key);
    block->key = *key;
    block->has_key = true;
    block->next_in_bucket = *bucket;
    *bucket = index;
    return true;
}

int32_t block_pool_available(const struct block_pool *pool)
{
    return pool->available;
}

int32_t block_pool_cached(const struct block_pool *pool)
{
    return pool->cached;
}

int32_t block_pool_size(const struct block_pool *pool)
{
    return pool->size;
}

void block_pool_check_invariants(const struct block_pool *pool)
{
    int32_t listed = 0, cached = 0, unreferenced = 0, keyed = 0;
    for (int32_t i = pool->oldest; i != BLOCK_NONE; i = pool->blocks[i].newer) {
        CHECK(pool->blocks[i].references == 0 && ++listed <= pool->size);
        cached += pool->blocks[i].has_key;
    }
    for (int32_t i = 0; i < pool->size; i++) {
        const struct block *block = &pool->blocks[i];
        CHECK(block->references >= 0);
        unreferenced += block->references == 0;
        keyed += block->has_key;
        CHECK(!block->has_key || block_pool_find(pool, &block->key) == i);
    }
    CHECK(listed == pool->available && listed == unreferenced && cached == pool->cached && keyed >= cached);
}
