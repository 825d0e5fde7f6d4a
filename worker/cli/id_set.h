// SPDX-License-Identifier: Apache-2.0
// Set of names, kept as 128 bits of their SHA-256: what was answered before, in 16 to 32 bytes per name.
#ifndef WORKER_CLI_ID_SET_H
#define WORKER_CLI_ID_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { ID_SET_MAX = 1 << 27 };

struct id_set_key {
    uint64_t words[2]; /* never both 0 */
};

struct id_set {
    struct id_set_key *slots; /* [capacity], a power of two; zero: free */
    size_t capacity, count;
};

void id_set_init(struct id_set *set);
void id_set_release(struct id_set *set);
/* *added: it was not there. Statuses: NO_MEMORY, TOO_LARGE. */
MUST_CHECK enum status id_set_add(struct id_set *set, const char *name, bool *added, struct error *err);
bool id_set_has(const struct id_set *set, const char *name);

#endif
