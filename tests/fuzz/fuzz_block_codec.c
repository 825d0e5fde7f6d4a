// SPDX-License-Identifier: Apache-2.0
// A stored value is bytes from outside: whatever they are, the codec says OK only for what it would have
// written.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "kvtier/block_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Writes the block again from what was read; every byte must be the same. */
static void check_round_trip(const struct block_identity *read, const uint8_t *data)
{
    int32_t tokens[BLOCK_CODEC_MAX_TOKENS];
    uint8_t head[BLOCK_CODEC_HEADER_BYTES + 4 * BLOCK_CODEC_MAX_TOKENS];
    struct block_identity block = *read;
    size_t head_bytes = block_codec_head_bytes(block.token_count);
    uint64_t stored;
    uint32_t crc;
    for (uint32_t i = 0; i < block.token_count; i++)
        memcpy(&tokens[i], data + BLOCK_CODEC_HEADER_BYTES + 4 * (size_t)i, 4);
    memcpy(&stored, data + 128, 8);
    block.tokens = tokens;
    block_codec_encode(&block, data + head_bytes, stored, head);
    if (memcmp(head, data, head_bytes) == 0)
        CHECK(block_codec_check_head(&block, data, &crc) == BLOCK_VERDICT_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct block_identity block;
    if (block_codec_check_self(data, size, &block) == BLOCK_VERDICT_OK)
        check_round_trip(&block, data);
    return 0;
}
