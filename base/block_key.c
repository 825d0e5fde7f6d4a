// SPDX-License-Identifier: Apache-2.0
#include "base/block_key.h"

#include <string.h>

#include "base/check.h"
#include "base/sha256.h"

static void put_u32le(struct sha256 *sha, uint32_t value)
{
    uint8_t encoded[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                          (uint8_t)(value >> 24)};
    sha256_update(sha, encoded, sizeof encoded);
}

struct block_key block_key_root(const uint8_t fingerprint[SHA256_BYTES], const void *salt, size_t salt_bytes)
{
    static const char domain[] = "millrace/kv/1";
    CHECK(salt_bytes <= UINT32_MAX);
    struct sha256 sha;
    struct block_key key;
    sha256_init(&sha);
    sha256_update(&sha, domain, sizeof domain - 1);
    sha256_update(&sha, fingerprint, SHA256_BYTES);
    put_u32le(&sha, (uint32_t)salt_bytes);
    sha256_update(&sha, salt, salt_bytes);
    sha256_final(&sha, key.bytes);
    return key;
}

struct block_key block_key_next(const struct block_key *parent, const int32_t *tokens, size_t token_count)
{
    static const uint8_t tag = 0x01;
    CHECK(token_count <= UINT32_MAX);
    struct sha256 sha;
    struct block_key key;
    sha256_init(&sha);
    sha256_update(&sha, &tag, 1);
    sha256_update(&sha, parent->bytes, SHA256_BYTES);
    put_u32le(&sha, (uint32_t)token_count);
    for (size_t i = 0; i < token_count; i++)
        put_u32le(&sha, (uint32_t)tokens[i]);
    sha256_final(&sha, key.bytes);
    return key;
}

bool block_key_equal(const struct block_key *a, const struct block_key *b)
{
    return memcmp(a->bytes, b->bytes, SHA256_BYTES) == 0;
}

uint64_t block_key_hash(const struct block_key *key)
{
    uint64_t hash;
    memcpy(&hash, key->bytes, sizeof hash);
    return hash;
}
