// SPDX-License-Identifier: Apache-2.0
// Packed weights on disk. Packing (and quantising) a checkpoint takes seconds to minutes; the result depends
// on the checkpoint, the kernel set and the format alone, so it is kept in a file of its own and read at the
// next start. It is copied out of the file's mapping onto huge pages: used in place, on pages of 4 KiB, bf16
// weights measured 9 % slower at one sequence (docs/perf.md).
//
// Nothing in the file is trusted: header and image carry SHA-256 digests that are checked at every start, and
// whatever does not fit (another checkpoint, a torn write, a flipped bit) means packing again.
//   file = header, 4096 bytes | image: what weights_load would have laid out in memory
#ifndef ENGINE_MODEL_WEIGHT_CACHE_H
#define ENGINE_MODEL_WEIGHT_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block_key.h"
#include "base/error.h"
#include "engine/kernels/thread_team.h"

/* Where an image is kept and what it is made of. */
struct weight_cache {
    const char *directory;         /* exists; borrowed */
    uint8_t key[SHA256_BYTES];     /* of everything that shapes the image; names the file */
    uint8_t tensors[SHA256_BYTES]; /* digest of the checkpoint's tensors: kept beside, given back */
    struct thread_team *team;      /* hashes; borrowed */
    bool kept;                     /* out: this start wrote the file */
    struct error trouble;          /* out: why nothing was read, or kept; a start goes on without */
};

/* Fills image[bytes] with the image of cache->key, and cache->tensors. image is written to only when all is
 * well. Statuses: NOT_FOUND, INVALID (not this key's, damaged), IO, NO_MEMORY. */
MUST_CHECK enum status weight_cache_read(struct weight_cache *cache, uint8_t *image, size_t bytes,
                                         struct error *err);
/* Writes image and cache->tensors beside the old file and renames: a reader sees all of it or nothing.
 * Statuses: IO (no permission, disk full), INVALID (path too long). */
MUST_CHECK enum status weight_cache_store(const struct weight_cache *cache, const uint8_t *image,
                                          size_t bytes, struct error *err);

#endif
