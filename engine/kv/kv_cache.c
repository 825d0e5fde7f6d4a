// SPDX-License-Identifier: Apache-2.0
// Anonymous memory for the KV blocks, taken once at open. Pages are touched as blocks are first written, so
// a large pool costs resident memory only as it fills.
#include "engine/kv/kv_cache.h"

#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

/* Maps one huge page more than asked and gives back what lies outside the aligned run. */
static uint8_t *map_aligned(size_t bytes)
{
    size_t mapped_bytes = bytes + HUGE_PAGE_BYTES;
    uint8_t *base = mmap(NULL, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    size_t head_bytes = (HUGE_PAGE_BYTES - (uintptr_t)base % HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES;
    uint8_t *aligned = base + head_bytes;
    if (head_bytes > 0)
        munmap(base, head_bytes);
    munmap(aligned + bytes, mapped_bytes - head_bytes - bytes);
    madvise(aligned, bytes, MADV_HUGEPAGE); /* best effort */
    return aligned;
}

/* Whole huge pages, or 0 when the product does not fit. */
static size_t pool_bytes(size_t block_bytes, int32_t blocks)
{
    size_t bytes;
    if (__builtin_mul_overflow(block_bytes, (size_t)blocks, &bytes) || bytes > SIZE_MAX / 2)
        return 0;
    return (bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
}

enum status kv_cache_open(struct kv_cache **out, int32_t blocks, int32_t layers, int32_t block_tokens,
                          size_t layer_bytes, struct error *err)
{
    *out = NULL;
    size_t block_bytes;
    if (blocks <= 0 || layers <= 0 || block_tokens <= 0 || layer_bytes == 0 ||
        __builtin_mul_overflow(layer_bytes, (size_t)layers, &block_bytes))
        return error_set(err, STATUS_INVALID, "a KV cache of %d blocks of %d tokens cannot be made", blocks,
                         block_tokens);
    size_t bytes = pool_bytes(block_bytes, blocks);
    struct kv_cache *kv = malloc(sizeof *kv);
    uint8_t *memory = kv && bytes > 0 ? map_aligned(bytes) : NULL;
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
    munmap(kv->memory, pool_bytes(kv->block_bytes, kv->blocks));
    free(kv);
}
