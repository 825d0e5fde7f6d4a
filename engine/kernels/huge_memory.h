// SPDX-License-Identifier: Apache-2.0
// Large blocks that live as long as a model or a pool: zeroed, 2 MiB aligned, on huge pages where the system
// gives them. Pages are touched only when written, so an unused part costs nothing.
#ifndef ENGINE_KERNELS_HUGE_MEMORY_H
#define ENGINE_KERNELS_HUGE_MEMORY_H

#include <stddef.h>

/* NULL: no memory, or bytes is 0. */
void *huge_memory_map(size_t bytes);
/* Makes all of it resident now, so that the first steps neither fault nor find that memory is gone. */
void huge_memory_touch(void *memory, size_t bytes);
size_t huge_memory_bytes(size_t bytes); /* what so many bytes take: whole huge pages */
void huge_memory_unmap(void *memory, size_t bytes);

#endif
