// SPDX-License-Identifier: Apache-2.0
#include "kvtier/block_codec.h"

#include <string.h>

#include "base/check.h"
#include "kvtier/crc32c.h"

enum {
    AT_VERSION = 4,
    AT_HEADER_BYTES = 6,
    AT_TOKENS = 8,
    AT_POSITION = 12,
    AT_PAYLOAD = 16,
    AT_PAYLOAD_CRC = 24,
    AT_FINGERPRINT = 32,
    AT_KEY = 64,
    AT_PARENT = 96,
    AT_STORED = 128,
    AT_HEAD_CRC = 140
};

static const uint8_t magic[4] = {'K', 'V', 'T', '1'};

const char *block_verdict_name(enum block_verdict verdict)
{
    static const char *const names[] = {"ok",          "length", "magic",  "version", "header_crc",
                                        "fingerprint", "key",    "parent", "tokens",  "payload_crc"};
    _Static_assert(sizeof names / sizeof names[0] == BLOCK_VERDICT_COUNT, "a name per verdict");
    CHECK((unsigned)verdict < BLOCK_VERDICT_COUNT);
    return names[verdict];
}

static void put_le(uint8_t *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get_le(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

size_t block_codec_head_bytes(uint32_t token_count)
{
    return BLOCK_CODEC_HEADER_BYTES + (size_t)token_count * 4;
}

static uint32_t head_crc(const uint8_t *head, uint32_t token_count)
{
    uint32_t crc = crc32c(0, head, AT_HEAD_CRC);
    return crc32c(crc, head + BLOCK_CODEC_HEADER_BYTES, (size_t)token_count * 4);
}

void block_codec_encode(const struct block_identity *identity, const void *payload, uint64_t stored_unix_ms,
                        uint8_t *head)
{
    CHECK(identity->token_count <= BLOCK_CODEC_MAX_TOKENS);
    memset(head, 0, BLOCK_CODEC_HEADER_BYTES);
    memcpy(head, magic, sizeof magic);
    put_le(head + AT_VERSION, BLOCK_CODEC_VERSION, 2);
    put_le(head + AT_HEADER_BYTES, BLOCK_CODEC_HEADER_BYTES, 2);
    put_le(head + AT_TOKENS, identity->token_count, 4);
    put_le(head + AT_POSITION, identity->first_position, 4);
    put_le(head + AT_PAYLOAD, identity->payload_bytes, 8);
    put_le(head + AT_PAYLOAD_CRC, crc32c(0, payload, identity->payload_bytes), 4);
    memcpy(head + AT_FINGERPRINT, identity->fingerprint, SHA256_BYTES);
    memcpy(head + AT_KEY, identity->key.bytes, SHA256_BYTES);
    memcpy(head + AT_PARENT, identity->parent.bytes, SHA256_BYTES);
    put_le(head + AT_STORED, stored_unix_ms, 8);
    for (uint32_t i = 0; i < identity->token_count; i++)
        put_le(head + BLOCK_CODEC_HEADER_BYTES + 4 * (size_t)i, (uint32_t)identity->tokens[i], 4);
    put_le(head + AT_HEAD_CRC, head_crc(head, identity->token_count), 4);
}

enum block_verdict block_codec_check_head(const struct block_identity *identity, const uint8_t *head,
                                          uint32_t *payload_crc)
{
    if (memcmp(head, magic, sizeof magic) != 0)
        return BLOCK_VERDICT_MAGIC;
    if (get_le(head + AT_VERSION, 2) != BLOCK_CODEC_VERSION ||
        get_le(head + AT_HEADER_BYTES, 2) != BLOCK_CODEC_HEADER_BYTES)
        return BLOCK_VERDICT_VERSION;
    if (get_le(head + AT_TOKENS, 4) != identity->token_count ||
        get_le(head + AT_PAYLOAD, 8) != identity->payload_bytes)
        return BLOCK_VERDICT_LENGTH;
    if (get_le(head + AT_HEAD_CRC, 4) != head_crc(head, identity->token_count))
        return BLOCK_VERDICT_HEADER_CRC;
    if (memcmp(head + AT_FINGERPRINT, identity->fingerprint, SHA256_BYTES) != 0)
        return BLOCK_VERDICT_FINGERPRINT;
    if (memcmp(head + AT_KEY, identity->key.bytes, SHA256_BYTES) != 0)
        return BLOCK_VERDICT_KEY;
    if (memcmp(head + AT_PARENT, identity->parent.bytes, SHA256_BYTES) != 0)
        return BLOCK_VERDICT_PARENT;
    if (get_le(head + AT_POSITION, 4) != identity->first_position)
        return BLOCK_VERDICT_TOKENS;
    for (uint32_t i = 0; i < identity->token_count; i++)
        if (get_le(head + BLOCK_CODEC_HEADER_BYTES + 4 * (size_t)i, 4) != (uint32_t)identity->tokens[i])
            return BLOCK_VERDICT_TOKENS;
    *payload_crc = (uint32_t)get_le(head + AT_PAYLOAD_CRC, 4);
    return BLOCK_VERDICT_OK;
}

enum block_verdict block_codec_check_payload(const struct block_identity *identity, const void *payload,
                                             uint32_t payload_crc)
{
    return crc32c(0, payload, identity->payload_bytes) == payload_crc ? BLOCK_VERDICT_OK
                                                                      : BLOCK_VERDICT_PAYLOAD_CRC;
}

enum block_verdict block_codec_check_self(const uint8_t *value, size_t bytes, struct block_identity *block)
{
    if (bytes < BLOCK_CODEC_HEADER_BYTES)
        return BLOCK_VERDICT_LENGTH;
    if (memcmp(value, magic, sizeof magic) != 0)
        return BLOCK_VERDICT_MAGIC;
    if (get_le(value + AT_VERSION, 2) != BLOCK_CODEC_VERSION)
        return BLOCK_VERDICT_VERSION;
    uint64_t tokens = get_le(value + AT_TOKENS, 4);
    uint64_t payload_bytes = get_le(value + AT_PAYLOAD, 8);
    if (tokens > BLOCK_CODEC_MAX_TOKENS || payload_bytes > bytes ||
        bytes != block_codec_head_bytes((uint32_t)tokens) + payload_bytes)
        return BLOCK_VERDICT_LENGTH;
    if (get_le(value + AT_HEAD_CRC, 4) != head_crc(value, (uint32_t)tokens))
        return BLOCK_VERDICT_HEADER_CRC;
    *block = (struct block_identity){.fingerprint = value + AT_FINGERPRINT,
                                     .token_count = (uint32_t)tokens,
                                     .first_position = (uint32_t)get_le(value + AT_POSITION, 4),
                                     .payload_bytes = payload_bytes};
    memcpy(block->key.bytes, value + AT_KEY, SHA256_BYTES);
    memcpy(block->parent.bytes, value + AT_PARENT, SHA256_BYTES);
    return block_codec_check_payload(block, value + block_codec_head_bytes(block->token_count),
                                     (uint32_t)get_le(value + AT_PAYLOAD_CRC, 4));
}
