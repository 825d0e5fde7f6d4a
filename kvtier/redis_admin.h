// SPDX-License-Identifier: Apache-2.0
// Looking into the tier for people (`millrace kv`): walks kvt1:* with SCAN, never KEYS. One connection, one
// thread, no deadlines tighter than the connection's own.
#ifndef KVTIER_REDIS_ADMIN_H
#define KVTIER_REDIS_ADMIN_H

#include "base/error.h"
#include "kvtier/block_codec.h"

struct redis_admin;

struct redis_admin_memory {
    char used_bytes[32], max_bytes[32], policy[32], evicted_keys[32]; /* as Redis says them */
};

struct redis_admin_verify {
    uint64_t read, good;
    uint64_t bad[BLOCK_VERDICT_COUNT];
    uint64_t vanished; /* expired or evicted between SCAN and GET */
};

/* Statuses: CONFIG, UNAVAILABLE (the text says why), NO_MEMORY. Connects. */
MUST_CHECK enum status redis_admin_open(struct redis_admin **out, const char *address, const char *user,
                                        const char *password, struct error *err);
void redis_admin_close(struct redis_admin *admin);
MUST_CHECK enum status redis_admin_memory_read(struct redis_admin *admin, struct redis_admin_memory *out,
                                               struct error *err);
/* Calls visit for every key that begins with kvt1: and, when given, the fingerprint's 16 hex digits. A key
 * may come twice (SCAN). */
MUST_CHECK enum status redis_admin_walk(struct redis_admin *admin, const char *fingerprint_hex,
                                        enum status (*visit)(void *context, const char *key), void *context,
                                        struct error *err);
/* Removes one key; *removed counts. */
MUST_CHECK enum status redis_admin_unlink(struct redis_admin *admin, const char *key, uint64_t *removed,
                                          struct error *err);
/* Reads one value and checks it against itself and its key. */
MUST_CHECK enum status redis_admin_verify_key(struct redis_admin *admin, const char *key,
                                              struct redis_admin_verify *tally, struct error *err);

#endif
