// SPDX-License-Identifier: Apache-2.0
// A catalogue: the items that an answer may name, each a run of tokens, as a compact trie. Immutable after
// open, so any thread may read it; references are counted. A catalogue as a constraint (catalog_constraint)
// is one job's view of it: all items but those that the job excludes.
//
// Memory: 12 bytes per trie node, 8 bytes per item and the items' ids. A million items of 4 tokens that
// share nothing take 48 MB + 8 MB + ids; about twice that while it is being built.
#ifndef ENGINE_CONSTRAIN_CATALOG_H
#define ENGINE_CONSTRAIN_CATALOG_H

#include "base/error.h"
#include "engine/constrain/constraint.h"
#include "engine/text/tokenizer.h"

enum {
    CATALOG_MAX_ITEMS = 1 << 24,
    CATALOG_MAX_ITEM_TOKENS = 255,
    CATALOG_MAX_ID_BYTES = 256,
    CATALOG_MAX_LINE_BYTES = 65536
};

struct catalog;

struct catalog_options {
    int32_t vocab;
    const int32_t *eos; /* [eos_count] no item may hold one */
    int32_t eos_count;
    const struct tokenizer *tokenizer; /* for items given as text; NULL: such items are refused */
};

/* One JSON object per line: {"item_id": text, "token_ids": [..]} or {"item_id": text, "text": text}; other
 * members are not looked at. Statuses: NOT_FOUND (no such file), INVALID (names the line), TOO_LARGE,
 * NO_MEMORY. */
MUST_CHECK enum status catalog_open(struct catalog **out, const char *path,
                                    const struct catalog_options *options, struct error *err);
MUST_CHECK enum status catalog_open_text(struct catalog **out, const char *text, size_t bytes,
                                         const struct catalog_options *options, struct error *err);
void catalog_take(struct catalog *catalog);
void catalog_give_back(struct catalog *catalog); /* NULL allowed; the last one frees it */

size_t catalog_items(const struct catalog *catalog);
size_t catalog_memory_bytes(const struct catalog *catalog);
const char *catalog_digest(const struct catalog *catalog); /* hex SHA-256 of the file's bytes */

/* A constraint over the catalogue without the items named in `exclude` (ids that it does not have change
 * nothing). Statuses: NOT_FOUND (no item is left), NO_MEMORY. */
MUST_CHECK enum status catalog_constraint(struct constraint **out, struct catalog *catalog,
                                          const char *const *exclude, size_t exclude_count,
                                          struct error *err);
/* Of such a constraint, from any thread: the index-th item that ends at this state, or NULL. */
const char *catalog_constraint_item(const struct constraint *constraint, uint32_t state, size_t index);
const struct catalog *catalog_of(const struct constraint *constraint);

#endif
