// SPDX-License-Identifier: Apache-2.0
// The catalogues of this process by name, NAME@VERSION, each read from DIRECTORY/NAME@VERSION.jsonl when a
// job first asks for it: a new version is added by putting its file there, without a restart. A version that
// was read stays as it was read. Owner: the thread that parses jobs.
#ifndef ENGINE_CONSTRAIN_CATALOG_STORE_H
#define ENGINE_CONSTRAIN_CATALOG_STORE_H

#include "engine/constrain/catalog.h"

enum { CATALOG_STORE_MAX = 64, CATALOG_MAX_NAME_BYTES = 128 };

struct catalog_store;

/* `directory` and what the options point to are borrowed. Statuses: NO_MEMORY. */
MUST_CHECK enum status catalog_store_open(struct catalog_store **out, const char *directory,
                                          const struct catalog_options *options, struct error *err);
void catalog_store_close(struct catalog_store *store);
/* Borrowed; take a reference to keep it. Statuses: NOT_FOUND (no such version, or no such name can be),
 * INVALID (the file is wrong), FULL (CATALOG_STORE_MAX versions were read), NO_MEMORY. */
MUST_CHECK enum status catalog_store_find(struct catalog_store *store, const char *name, struct catalog **out,
                                          struct error *err);

#endif
