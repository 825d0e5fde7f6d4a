// SPDX-License-Identifier: Apache-2.0
#include "engine/kernels/huge_memory.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

static size_t whole_pages(size_t bytes)
{
    return (bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
}

/* Maps one huge page more than asked and gives back what lies outside the aligned run. */
void *huge_memory_map(size_t bytes)
{
    if (bytes == 0 || bytes > SIZE_MAX / 2)
        return NULL;
    bytes = whole_pages(bytes);
    size_t mapped_bytes = bytes + HUGE_PAGE_BYTES;
    uint8_t *base = mmap(NULL, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    size_t head_bytes = (HUGE_PAGE_BYTES - (uintptr_t)base % HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES;
    uint8_t *aligned = base + head_bytes;
    if (head_bytes > 0)
        munmap(base, head_bytes);
    munmap(aligned + bytes, mapped_bytes - head_bytes - bytes);
    madvise(aligned, bytes, MADV_HUGEPAGE); /* best effort */
    return aligned;
}

void huge_memory_touch(void *memory, size_t bytes)
{
    memset(memory, 0, bytes);
}

size_t huge_memory_bytes(size_t bytes)
{
    return whole_pages(bytes);
}

void huge_memory_unmap(void *memory, size_t bytes)
{
    if (memory)
        munmap(memory, whole_pages(bytes));
}
