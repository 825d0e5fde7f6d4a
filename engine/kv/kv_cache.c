// SPDX-License-Identifier: Apache-2.0
// Memory for the KV blocks, taken once at open; it becomes resident as blocks are first written.
#include "engine/kv/kv_cache.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/kernels/huge_memory.h"

static uint8_t *map_file(size_t bytes, int *fd)
{
    *fd = memfd_create("millrace-kv", MFD_CLOEXEC);
    if (*fd < 0)
        return NULL;
    void *memory = ftruncate(*fd, (off_t)bytes) == 0
                       ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0)
                       : MAP_FAILED;
    if (memory != MAP_FAILED)
        return memory;
    close(*fd);
    *fd = -1;
    return NULL;
}

static enum status open_pool(struct kv_cache **out, struct kv_cache shape, bool in_file, struct error *err)
{
    *out = NULL;
    size_t pool_bytes;
    if (shape.blocks <= 0 || shape.layers <= 0 || shape.block_tokens <= 0 || shape.layer_bytes == 0 ||
        __builtin_mul_overflow(shape.layer_bytes, (size_t)shape.layers, &shape.block_bytes) ||
        __builtin_mul_overflow(shape.block_bytes, (size_t)shape.blocks, &pool_bytes))
        return error_set(err, STATUS_INVALID, "a KV cache of %d blocks of %d tokens cannot be made",
                         shape.blocks, shape.block_tokens);
    struct kv_cache *kv = malloc(sizeof *kv);
    shape.fd = -1;
    if (kv)
        shape.memory = in_file ? map_file(pool_bytes, &shape.fd) : huge_memory_map(pool_bytes);
    if (!shape.memory) {
        free(kv);
        return error_set(err, STATUS_NO_MEMORY,
                         "no memory for %d KV blocks of %zu bytes; lower engine.kv_memory_mb", shape.blocks,
                         shape.block_bytes);
    }
    *kv = shape;
    *out = kv;
    return STATUS_OK;
}

enum status kv_cache_open(struct kv_cache **out, int32_t blocks, int32_t layers, int32_t block_tokens,
                          size_t layer_bytes, struct error *err)
{
    const struct kv_cache shape = {
        .blocks = blocks, .layers = layers, .block_tokens = block_tokens, .layer_bytes = layer_bytes};
    return open_pool(out, shape, false, err);
}

enum status kv_cache_open_file(struct kv_cache **out, int32_t blocks, int32_t layers, int32_t block_tokens,
                               size_t layer_bytes, struct error *err)
{
    const struct kv_cache shape = {
        .blocks = blocks, .layers = layers, .block_tokens = block_tokens, .layer_bytes = layer_bytes};
    return open_pool(out, shape, true, err);
}

void kv_cache_close(struct kv_cache *kv)
{
    if (!kv)
        return;
    const size_t pool_bytes = kv->block_bytes * (size_t)kv->blocks;
    if (kv->fd >= 0) {
        munmap(kv->memory, pool_bytes);
        close(kv->fd);
    } else {
        huge_memory_unmap(kv->memory, pool_bytes);
    }
    free(kv);
}
