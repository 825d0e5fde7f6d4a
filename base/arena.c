// SPDX-License-Identifier: Apache-2.0
#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CHUNK_BYTES = 4096, ALIGN_BYTES = alignof(max_align_t) };

struct arena_chunk {
    struct arena_chunk *next;
    size_t used_bytes;
    size_t capacity_bytes;
    alignas(max_align_t) unsigned char data[];
};

void arena_init(struct arena *arena, size_t max_bytes)
{
    *arena = (struct arena){.max_bytes = max_bytes};
}

void arena_release(struct arena *arena)
{
    for (struct arena_chunk *chunk = arena->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    arena_init(arena, arena->max_bytes);
}

static struct arena_chunk *grow(struct arena *arena, size_t bytes)
{
    size_t capacity = arena->total_bytes > FIRST_CHUNK_BYTES ? arena->total_bytes : FIRST_CHUNK_BYTES;
    size_t left = arena->max_bytes - arena->total_bytes;
    if (capacity > left)
        capacity = left;
    if (capacity < bytes) {
        if (bytes > left)
            return NULL;
        capacity = bytes;
    }
    struct arena_chunk *chunk = malloc(sizeof *chunk + capacity);
    if (!chunk)
        return NULL;
    chunk->next = arena->chunks;
    chunk->used_bytes = 0;
    chunk->capacity_bytes = capacity;
    arena->chunks = chunk;
    arena->total_bytes += capacity;
    return chunk;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX - ALIGN_BYTES)
        return NULL;
    size_t rounded = (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    struct arena_chunk *chunk = arena->chunks;
    if (!chunk || chunk->capacity_bytes - chunk->used_bytes < rounded)
        chunk = grow(arena, rounded);
    if (!chunk)
        return NULL;
    void *memory = chunk->data + chunk->used_bytes;
    chunk->used_bytes += rounded;
    return memset(memory, 0, rounded);
}

void *arena_alloc_array(struct arena *arena, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size)
        return NULL;
    return arena_alloc(arena, count * size);
}

char *arena_copy(struct arena *arena, const char *text, size_t bytes)
{
    char *copy = bytes < SIZE_MAX ? arena_alloc(arena, bytes + 1) : NULL;
    if (copy && bytes)
        memcpy(copy, text, bytes);
    return copy;
}
