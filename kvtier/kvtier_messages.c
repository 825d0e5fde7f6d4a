// SPDX-License-Identifier: Apache-2.0
// What the tier's callers hand to its threads: a block on its way out, a chain of blocks on its way in, a
// chain that was hit locally. Whoever holds a message owns all of it.
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "kvtier/kvtier.h"

struct kvtier_put *kvtier_put_new(uint32_t token_count, size_t payload_bytes)
{
    CHECK(token_count <= BLOCK_CODEC_MAX_TOKENS);
    struct kvtier_put *put = malloc(sizeof *put + payload_bytes);
    if (!put)
        return NULL;
    put->type = KVTIER_PUT;
    put->block = (struct block_identity){.token_count = token_count, .payload_bytes = payload_bytes};
    return put;
}

void kvtier_put_describe(struct kvtier_put *put, const struct block_identity *block)
{
    CHECK(block->token_count == put->block.token_count && block->payload_bytes == put->block.payload_bytes);
    memcpy(put->tokens, block->tokens, block->token_count * sizeof(int32_t));
    memcpy(put->fingerprint, block->fingerprint, SHA256_BYTES);
    put->block = *block;
    put->block.tokens = put->tokens;
    put->block.fingerprint = put->fingerprint;
}

void kvtier_put_free(struct kvtier_put *put)
{
    free(put);
}

struct kvtier_fetch *kvtier_fetch_new(size_t count, uint32_t block_tokens, size_t payload_bytes)
{
    struct kvtier_fetch *fetch = calloc(1, sizeof *fetch);
    if (!fetch)
        return NULL;
    fetch->count = count;
    fetch->blocks = calloc(count, sizeof *fetch->blocks);
    fetch->tokens = calloc(count * block_tokens, sizeof *fetch->tokens);
    fetch->payloads = calloc(count, sizeof *fetch->payloads);
    bool ok = fetch->blocks && fetch->tokens && fetch->payloads;
    for (size_t i = 0; ok && i < count; i++) {
        fetch->payloads[i] = malloc(payload_bytes);
        ok = fetch->payloads[i] != NULL;
        fetch->blocks[i].tokens = fetch->tokens + i * block_tokens;
        fetch->blocks[i].token_count = block_tokens;
        fetch->blocks[i].payload_bytes = payload_bytes;
    }
    if (!ok) {
        kvtier_fetch_free(fetch);
        return NULL;
    }
    fetch->reserved_bytes = count * payload_bytes;
    return fetch;
}

void kvtier_fetch_free(struct kvtier_fetch *fetch)
{
    if (!fetch)
        return;
    for (size_t i = 0; fetch->payloads && i < fetch->count; i++)
        free(fetch->payloads[i]);
    free(fetch->payloads);
    free(fetch->tokens);
    free(fetch->blocks);
    free(fetch);
}
