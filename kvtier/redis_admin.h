// SPDX-License-Identifier: Apache-2.0
// Looking into the tier for people (`millrace kv`): walks kvt1:* of every server with SCAN, never KEYS. One
// connection per server, one thread, no deadlines tighter than the connection's own.
#ifndef KVTIER_REDIS_ADMIN_H
#define KVTIER_REDIS_ADMIN_H

#include "base/error.h"
#include "kvtier/redis_store.h"

struct redis_admin;

struct redis_admin_memory {
    char used_bytes[32], max_bytes[32], policy[32], evicted_keys[32]; /* as Redis says them */
};

struct redis_admin_verify {
    uint64_t read, good;
    uint64_t bad[BLOCK_VERDICT_COUNT];
    uint64_t vanished; /* expired or evicted between SCAN and GET */
};

/* Statuses: CONFIG, UNAVAILABLE (the text says why), NO_MEMORY. Of a cluster: reads the masters' addresses.
 */
MUST_CHECK enum status redis_admin_open(struct redis_admin **out, const struct redis_store_options *options,
                                        struct error *err);
void redis_admin_close(struct redis_admin *admin);
size_t redis_admin_count(const struct redis_admin *admin);                   /* servers */
const char *redis_admin_name(const struct redis_admin *admin, size_t index); /* redis://host:port */
MUST_CHECK enum status redis_admin_memory_read(struct redis_admin *admin, size_t index,
                                               struct redis_admin_memory *out, struct error *err);
/* Calls visit for every key that begins with kvt1: and, when given, the fingerprint's 16 hex digits. A key
 * may come twice (SCAN). A server that is away does not hide the others: its failure is returned at the end.
 */
MUST_CHECK enum status redis_admin_walk(struct redis_admin *admin, const char *fingerprint_hex,
                                        enum status (*visit)(void *context, const char *key), void *context,
                                        struct error *err);
/* Removes one key, from visit; *removed counts. */
MUST_CHECK enum status redis_admin_unlink(struct redis_admin *admin, const char *key, uint64_t *removed,
                                          struct error *err);
/* Reads one value, from visit, and checks it against itself and its key. */
MUST_CHECK enum status redis_admin_verify_key(struct redis_admin *admin, const char *key,
                                              struct redis_admin_verify *tally, struct error *err);

#endif
