// SPDX-License-Identifier: Apache-2.0
// SHA-256 over large runs of bytes, on all threads of the team: the digest of the digests of 1 MiB chunks.
#ifndef ENGINE_MODEL_CHUNKED_HASH_H
#define ENGINE_MODEL_CHUNKED_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/sha256.h"
#include "engine/kernels/thread_team.h"

/* Feeds the digests of the chunks of data to `sha`, in order. `done` (NULL: none) hears of each run of bytes
 * that will not be read again. */
void chunked_hash(struct sha256 *sha, struct thread_team *team, const uint8_t *data, size_t bytes,
                  void (*done)(void *context, const uint8_t *data, size_t bytes), void *context);

#endif
