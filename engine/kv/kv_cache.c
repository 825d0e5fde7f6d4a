// SPDX-License-Identifier: Apache-2.0
// Memory for the KV blocks, taken once at open; it becomes resident as blocks are first written.
#include "engine/kv/kv_cache.h"

#include <stdlib.h>

#include "engine/kernels/huge_memory.h"

enum status kv_cache_open(struct kv_cache **out, int32_t blocks, int32_t layers, int32_t block_tokens,
                          size_t layer_bytes, struct error *err)
{
    *out = NULL;
    size_t block_bytes, pool_bytes;
    if (blocks <= 0 || layers <= 0 || block_tokens <= 0 || layer_bytes == 0 ||
        __builtin_mul_overflow(layer_bytes, (size_t)layers, &block_bytes) ||
        __builtin_mul_overflow(block_bytes, (size_t)blocks, &pool_bytes))
        return error_set(err, STATUS_INVALID, "a KV cache of %d blocks of %d tokens cannot be made", blocks,
                         block_tokens);
    struct kv_cache *kv = malloc(sizeof *kv);
    uint8_t *memory = kv ? huge_memory_map(pool_bytes) : NULL;
    if (!memory) {
        free(kv);
        return error_set(err, STATUS_NO_MEMORY,
                         "no memory for %d KV blocks of %zu bytes; lower engine.kv_memory_mb", blocks,
                         block_bytes);
    }
    *kv = (struct kv_cache){.memory = memory,
                            .blocks = blocks,
                            .layers = layers,
                            .block_tokens = block_tokens,
                            .layer_bytes = layer_bytes,
                            .block_bytes = block_bytes};
    *out = kv;
    return STATUS_OK;
}

void kv_cache_close(struct kv_cache *kv)
{
    if (!kv)
        return;
    huge_memory_unmap(kv->memory, kv->block_bytes * (size_t)kv->blocks);
    free(kv);
}
