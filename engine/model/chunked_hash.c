// SPDX-License-Identifier: Apache-2.0
#include "engine/model/chunked_hash.h"

#define CHUNK_BYTES ((size_t)1 << 20) /* hashed by one thread; part of the definition of every digest */
enum { CHUNKS_PER_ROUND = 32, DIGEST_BYTES = 32 };

struct hash_round {
    const uint8_t *data;
    size_t bytes;
    int count;
    uint8_t digests[CHUNKS_PER_ROUND][DIGEST_BYTES];
};

static void hash_chunks(void *context, int member, int members)
{
    struct hash_round *round = context;
    for (int i = member; i < round->count; i += members) {
        size_t begin = (size_t)i * CHUNK_BYTES, left = round->bytes - begin;
        sha256_digest(round->data + begin, left < CHUNK_BYTES ? left : CHUNK_BYTES, round->digests[i]);
    }
}

void chunked_hash(struct sha256 *sha, struct thread_team *team, const uint8_t *data, size_t bytes,
                  void (*done)(void *context, const uint8_t *data, size_t bytes), void *context)
{
    const size_t most = CHUNKS_PER_ROUND * CHUNK_BYTES;
    for (size_t at = 0; at < bytes; at += most) {
        struct hash_round round = {.data = data + at, .bytes = bytes - at < most ? bytes - at : most};
        round.count = (int)((round.bytes + CHUNK_BYTES - 1) / CHUNK_BYTES);
        thread_team_run(team, hash_chunks, &round);
        sha256_update(sha, round.digests, (size_t)round.count * DIGEST_BYTES);
        if (done)
            done(context, round.data, round.bytes);
    }
}
