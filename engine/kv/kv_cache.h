// SPDX-License-Identifier: Apache-2.0
// The paged KV memory itself: `blocks` blocks, block-major, so that one block with all its layers is one
// contiguous run of bytes (what the KV tier reads and writes). Who uses which block is block_pool's.
//   memory: [block][layer][kernel set's own layout of block_tokens tokens]
#ifndef ENGINE_KV_KV_CACHE_H
#define ENGINE_KV_KV_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct kv_cache {
    uint8_t *memory; /* 2 MiB aligned, huge pages where the system gives them */
    int32_t blocks;
    int32_t layers;
    int32_t block_tokens;
    size_t layer_bytes;         /* one layer of one block */
    size_t block_bytes;         /* layers * layer_bytes */
    int fd;                     /* memory file that holds the pool, or -1 */
    const int32_t *consecutive; /* with windows (kv_windows.h): the block table that each of them has */
};

MUST_CHECK enum status kv_cache_open(struct kv_cache **out, int32_t blocks, int32_t layers,
                                     int32_t block_tokens, size_t layer_bytes, struct error *err);
/* The same in a memory file, so that blocks can be mapped again; on ordinary pages. */
MUST_CHECK enum status kv_cache_open_file(struct kv_cache **out, int32_t blocks, int32_t layers,
                                          int32_t block_tokens, size_t layer_bytes, struct error *err);
void kv_cache_close(struct kv_cache *kv);
static inline uint8_t *kv_cache_block(const struct kv_cache *kv, int32_t block)
{
    return kv->memory + (size_t)block * kv->block_bytes;
}

#endif
