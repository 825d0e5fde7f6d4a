// SPDX-License-Identifier: Apache-2.0
// Blocks by key for the KV tier, and a map of the pool for people to look at.
#include <string.h>

#include "engine/engine_internal.h"
#include "engine/kv/kv_cache.h"
#include "engine/model/model.h"

size_t engine_block_keys(const struct engine *engine, const struct engine_request *request,
                         struct block_key *keys, size_t max_keys)
{
    size_t block_tokens = (size_t)engine->options.block_tokens;
    size_t count = 0;
    size_t all = request->prompt_tokens + request->resumed_tokens;
    size_t most = all > 0 ? all - 1 : 0; /* tokens that need not be computed */
    if (request->sampling->prompt_logprobs != SAMPLING_NO_LOGPROBS) {
        size_t from = request->sampling->prompt_logprobs_from;
        most = from > 1 && from - 1 < most ? from - 1 : 0;
    }
    if (!engine->options.prefix_cache)
        return 0;
    struct block_key parent =
        block_key_root(model_fingerprint(engine->options.model), request->salt, request->salt_bytes);
    for (; count < max_keys && (count + 1) * block_tokens <= most; count++)
        keys[count] = parent = block_key_next(&parent, request->prompt + count * block_tokens, block_tokens);
    return count;
}

bool engine_block_has(const struct engine *engine, const struct block_key *key)
{
    return block_pool_find(engine->pool, key) != BLOCK_NONE;
}

size_t engine_block_bytes(const struct engine *engine)
{
    return engine->kv->block_bytes;
}

enum status engine_block_read(struct engine *engine, const struct block_key *key, void *out)
{
    int32_t block = block_pool_find(engine->pool, key);
    if (block == BLOCK_NONE)
        return STATUS_NOT_FOUND;
    memcpy(out, kv_cache_block(engine->kv, block), engine->kv->block_bytes);
    return STATUS_OK;
}

void engine_on_evict(struct engine *engine, engine_evicted *evicted, void *context)
{
    engine->evicted = evicted;
    engine->evicted_context = context;
}

static char letter_of(const struct block_pool *pool, int32_t first, int32_t end)
{
    bool cached = false;
    for (int32_t block = first; block < end; block++) {
        if (block_pool_references(pool, block) > 0)
            return 'u';
        cached = cached || block_pool_is_cached(pool, block);
    }
    return cached ? 'c' : 'f';
}

size_t engine_block_map(const struct engine *engine, char *out, size_t most)
{
    int32_t size = block_pool_size(engine->pool);
    int32_t each = (size + (int32_t)most - 1) / (int32_t)most;
    size_t count = 0;
    for (int32_t first = 0; first < size; first += each)
        out[count++] = letter_of(engine->pool, first, first + each < size ? first + each : size);
    return count;
}

size_t engine_blocks_spare(const struct engine *engine)
{
    return (size_t)(block_pool_available(engine->pool) - scheduler_promised(engine->scheduler));
}

void engine_block_touch(struct engine *engine, const struct block_key *key)
{
    int32_t block = block_pool_find(engine->pool, key);
    if (block == BLOCK_NONE)
        return;
    block_pool_reference(engine->pool, block);
    block_pool_release(engine->pool, block);
}

enum status engine_block_write(struct engine *engine, const struct block_key *key,
                               const struct block_key *parent, const void *payload)
{
    (void)parent; /* part of the key already; named for the seam's other side */
    if (engine_block_has(engine, key)) {
        engine_block_touch(engine, key);
        return STATUS_OK;
    }
    if (engine_blocks_spare(engine) == 0)
        return STATUS_FULL;
    int32_t block = block_pool_take(engine->pool);
    memcpy(kv_cache_block(engine->kv, block), payload, engine->kv->block_bytes);
    CHECK(block_pool_set_key(engine->pool, block, key));
    block_pool_release(engine->pool, block);
    return STATUS_OK;
}
