// SPDX-License-Identifier: Apache-2.0
// The wire form of one stored KV block: header, token echo, payload, all verified on every read. A value that
// fails any check is a miss, never an answer. Integers are little endian.
//
//     0 magic "KVT1" | 4 u16 version | 6 u16 header_bytes | 8 u32 token_count | 12 u32 first_position
//    16 u64 payload_bytes | 24 u32 crc32c(payload) | 28 u32 reserved 0
//    32 fingerprint[32] | 64 key[32] | 96 parent[32] | 128 u64 stored_unix_ms | 136 u32 reserved 0
//   140 u32 crc32c(bytes 0..139 and the tokens)
//   144 u32 token[token_count], then payload
#ifndef KVTIER_BLOCK_CODEC_H
#define KVTIER_BLOCK_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "base/block_key.h"

enum { BLOCK_CODEC_VERSION = 1, BLOCK_CODEC_HEADER_BYTES = 144, BLOCK_CODEC_MAX_TOKENS = 256 };

/* What a block is, apart from its bytes. Both sides know it beforehand: reading only compares. */
struct block_identity {
    const uint8_t *fingerprint; /* [32] */
    struct block_key key, parent;
    const int32_t *tokens; /* [token_count] */
    uint32_t token_count;  /* <= BLOCK_CODEC_MAX_TOKENS */
    uint32_t first_position;
    uint64_t payload_bytes;
};

/* The order in which a read is checked; the first difference is the verdict. */
#define BLOCK_VERDICTS(X) \
    X(OK) X(LENGTH) X(MAGIC) X(VERSION) X(HEADER_CRC) X(FINGERPRINT) X(KEY) X(PARENT) X(TOKENS) X(PAYLOAD_CRC)

enum block_verdict {
#define BLOCK_VERDICT_ENUM(name) BLOCK_VERDICT_##name,
    BLOCK_VERDICTS(BLOCK_VERDICT_ENUM)
#undef BLOCK_VERDICT_ENUM
        BLOCK_VERDICT_COUNT
};

const char *block_verdict_name(enum block_verdict verdict); /* "header_crc" */

/* Bytes ahead of the payload: header and tokens. */
size_t block_codec_head_bytes(uint32_t token_count);
/* Writes block_codec_head_bytes() to `head`; payload is only read for its checksum. */
void block_codec_encode(const struct block_identity *identity, const void *payload, uint64_t stored_unix_ms,
                        uint8_t *head);
/* Checks everything but the payload against what was asked for. *payload_crc is filled on OK. */
enum block_verdict block_codec_check_head(const struct block_identity *identity, const uint8_t *head,
                                          uint32_t *payload_crc);
enum block_verdict block_codec_check_payload(const struct block_identity *identity, const void *payload,
                                             uint32_t payload_crc);
/* Checks a whole value against itself, for people who look into the store. *block is filled on OK; its
 * fingerprint points into `value`, its tokens are NULL. */
enum block_verdict block_codec_check_self(const uint8_t *value, size_t bytes, struct block_identity *block);

#endif
