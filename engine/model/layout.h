// SPDX-License-Identifier: Apache-2.0
// Hands out aligned pieces of one block of memory, or only counts them when there is none yet. Private to
// engine/model.
#ifndef ENGINE_MODEL_LAYOUT_H
#define ENGINE_MODEL_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

enum { LAYOUT_ALIGNMENT_BYTES = 64 };

struct layout {
    uint8_t *base; /* NULL: counting */
    size_t at_bytes;
};

static inline size_t layout_align(size_t bytes)
{
    return (bytes + LAYOUT_ALIGNMENT_BYTES - 1) / LAYOUT_ALIGNMENT_BYTES * LAYOUT_ALIGNMENT_BYTES;
}

static inline void *layout_take(struct layout *layout, size_t bytes)
{
    void *piece = layout->base ? layout->base + layout->at_bytes : NULL;
    layout->at_bytes += layout_align(bytes);
    return piece;
}

static inline size_t layout_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif
