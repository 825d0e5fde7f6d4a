// SPDX-License-Identifier: Apache-2.0
// SentencePiece's precompiled normalisation map: a double-array trie from character sequences to replacement
// text, stored in base64. Offsets in the trie come from a file, so each is checked. Immutable; any thread.
#ifndef ENGINE_TEXT_CHARSMAP_H
#define ENGINE_TEXT_CHARSMAP_H

#include "base/bytes.h"
#include "base/json.h"

struct charsmap;

/* `node` is the base64 string (empty or null: maps nothing). Statuses: INVALID, NO_MEMORY. */
MUST_CHECK enum status charsmap_open(struct charsmap **out, const struct json *node, struct error *err);
void charsmap_close(struct charsmap *charsmap);
/* Appends the mapped text. */
MUST_CHECK enum status charsmap_apply(const struct charsmap *charsmap, const char *text, size_t bytes,
                                      struct bytes *out);

#endif
