// SPDX-License-Identifier: Apache-2.0
// Strings and their ids, both ways: the model's vocabulary, the added tokens, the raw bytes of tokens. Filled
// at open, then read-only for any thread. Open addressing over ids; all text lies in one pool.
#ifndef ENGINE_TEXT_VOCAB_H
#define ENGINE_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define VOCAB_MAX_ID (4 << 20)                     /* ids are below this */
#define VOCAB_MAX_POOL_BYTES ((uint32_t)512 << 20) /* all text together */

struct vocab_entry {
    uint32_t offset; /* into the pool; VOCAB_ABSENT: no such id */
    uint32_t bytes;
};
#define VOCAB_ABSENT UINT32_MAX

struct vocab_slot {
    uint32_t tag; /* high half of the hash */
    int32_t id;   /* -1: free */
};

struct vocab {
    char *pool;
    size_t pool_bytes, pool_capacity;
    struct vocab_entry *entries; /* [entry_capacity], by id */
    size_t entry_capacity;
    int32_t id_end; /* largest id + 1 */
    struct vocab_slot *slots;
    size_t slot_count, used; /* slot_count is a power of two, or 0 */
    size_t max_text_bytes;   /* of the longest string */
};

void vocab_release(struct vocab *vocab); /* a zeroed vocab is empty and valid */
/* Room for `count` strings of `bytes` in all and ids below id_end, in one go. */
MUST_CHECK enum status vocab_reserve(struct vocab *vocab, size_t count, size_t bytes, int32_t id_end,
                                     struct error *err);
/* Sets the id's text. Finding that text gives the id that was added first. Statuses: INVALID (id out of range
 * or taken by another text), TOO_LARGE, NO_MEMORY. */
MUST_CHECK enum status vocab_add(struct vocab *vocab, int32_t id, const char *text, size_t bytes,
                                 struct error *err);
int32_t vocab_find(const struct vocab *vocab, const char *text, size_t bytes); /* -1: none */
/* NULL when no string has this id. Not NUL-terminated. */
const char *vocab_text(const struct vocab *vocab, int32_t id, size_t *bytes);

#endif
