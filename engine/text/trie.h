// SPDX-License-Identifier: Apache-2.0
// Byte trie from strings to ids, for "which of these strings begin here". Filled at open, then read-only.
// Edges lie in one open-addressing table keyed by (state, byte); the root's in a table of its own.
#ifndef ENGINE_TEXT_TRIE_H
#define ENGINE_TEXT_TRIE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define TRIE_ROOT 0u
#define TRIE_DEAD UINT32_MAX
#define TRIE_MAX_STATES ((uint32_t)1 << 26)

struct trie_edge {
    uint64_t key; /* state << 8 | byte, plus 1; 0: free */
    uint32_t to;
};

struct trie {
    int32_t *values; /* [state_count]; -1: no string ends here */
    size_t value_capacity;
    uint32_t state_count;
    struct trie_edge *edges; /* [edge_slots], a power of two */
    size_t edge_slots, edge_count;
    uint32_t root[256]; /* first step; TRIE_ROOT: none (no edge leads back to the root) */
};

void trie_release(struct trie *trie); /* a zeroed trie is empty and valid */
/* The first id of a string stays. Statuses: TOO_LARGE, NO_MEMORY. */
MUST_CHECK enum status trie_add(struct trie *trie, const char *text, size_t bytes, int32_t id,
                                struct error *err);
uint32_t trie_step(const struct trie *trie, uint32_t state, unsigned char byte);
int32_t trie_value(const struct trie *trie, uint32_t state);

#endif
