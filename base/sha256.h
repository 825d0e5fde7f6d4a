// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4) over the packaged libcrypto; the only file pair that knows it. The context lives in
// the caller's storage and nothing is allocated, so the engine thread may hash inside a step.
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint64_t opaque[16]; /* holds libcrypto's SHA256_CTX (112 bytes) */
};

void sha256_init(struct sha256 *sha);
void sha256_update(struct sha256 *sha, const void *data, size_t bytes);
void sha256_final(struct sha256 *sha, uint8_t digest[32]);
void sha256_digest(const void *data, size_t bytes, uint8_t digest[32]);
/* 64 hex digits and a NUL. */
void sha256_hex(const uint8_t digest[32], char hex[65]);

#endif
