// SPDX-License-Identifier: Apache-2.0
// Identity of a KV block: a SHA-256 chain over token ids, rooted in the engine's fingerprint and a salt.
//   root = SHA256("millrace/kv/1" || fingerprint[32] || u32le salt_bytes || salt)
//   key_i = SHA256(0x01 || key_{i-1} || u32le n || u32le token[n])        full blocks only
// Typed and length-framed, so two different inputs never share an encoding. Source: the block hashing of
// vLLM's prefix cache (chained), with a fixed public root so that keys agree between processes.
#ifndef BASE_BLOCK_KEY_H
#define BASE_BLOCK_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

struct block_key {
    uint8_t bytes[SHA256_BYTES];
};

struct block_key block_key_root(const uint8_t fingerprint[SHA256_BYTES], const void *salt, size_t salt_bytes);
struct block_key block_key_next(const struct block_key *parent, const int32_t *tokens, size_t token_count);
bool block_key_equal(const struct block_key *a, const struct block_key *b);
/* First 8 bytes as an integer, for hash tables (uniform already). */
uint64_t block_key_hash(const struct block_key *key);

#endif
