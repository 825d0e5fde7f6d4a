// SPDX-License-Identifier: Apache-2.0
// Bump allocator: everything a job or a document needs, freed at once. Chunks grow geometrically up to
// max_bytes in total. Not thread-safe: an arena has one owner.
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; /* newest first */
    size_t total_bytes;         /* of all chunks */
    size_t max_bytes;
};

void arena_init(struct arena *arena, size_t max_bytes);
void arena_release(struct arena *arena);
/* Zeroed memory aligned for any type, or NULL (out of memory or over max_bytes). */
void *arena_alloc(struct arena *arena, size_t bytes);
/* count * size with overflow check. */
void *arena_alloc_array(struct arena *arena, size_t count, size_t size);
/* Copy of text[0..bytes) with a NUL after it, or NULL. */
char *arena_copy(struct arena *arena, const char *text, size_t bytes);

#endif
