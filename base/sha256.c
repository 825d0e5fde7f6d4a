// SPDX-License-Identifier: Apache-2.0
// The one-shot and context calls are deprecated in OpenSSL 3 in favour of EVP, which allocates on every
// digest; the engine must not allocate inside a step, so the low-level interface is used on purpose.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/sha256.h"

#include <openssl/sha.h>

_Static_assert(sizeof(SHA256_CTX) <= sizeof(struct sha256), "struct sha256 must hold SHA256_CTX");

void sha256_init(struct sha256 *sha)
{
    SHA256_Init((SHA256_CTX *)sha->opaque);
}

void sha256_update(struct sha256 *sha, const void *data, size_t bytes)
{
    SHA256_Update((SHA256_CTX *)sha->opaque, data, bytes);
}

void sha256_final(struct sha256 *sha, uint8_t digest[32])
{
    SHA256_Final(digest, (SHA256_CTX *)sha->opaque);
}

void sha256_digest(const void *data, size_t bytes, uint8_t digest[32])
{
    struct sha256 sha;
    sha256_init(&sha);
    sha256_update(&sha, data, bytes);
    sha256_final(&sha, digest);
}

void sha256_hex(const uint8_t digest[32], char hex[65])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[64] = '\0';
}
