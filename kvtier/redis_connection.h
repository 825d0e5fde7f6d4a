// SPDX-License-Identifier: Apache-2.0
// One connection to Redis: address, connect, authenticate, control commands. The only user of hiredis; block
// traffic goes over the same socket through kvtier/resp. Used by one thread.
#ifndef KVTIER_REDIS_CONNECTION_H
#define KVTIER_REDIS_CONNECTION_H

#include "kvtier/redis_address.h"
#include "kvtier/resp.h"
#include "kvtier/tier_store.h"

struct redisContext;

enum { REDIS_CONNECT_MS = 200 }; /* also of every control command */

struct redis_connection {
    struct redis_address address;
    char *user, *password;        /* owned; "" for none */
    bool writer;                  /* refuse a server that could not evict */
    struct redisContext *context; /* NULL: not connected */
    struct resp resp;
};

/* Statuses: NO_MEMORY. Does not connect. */
MUST_CHECK enum status redis_connection_init(struct redis_connection *connection,
                                             const struct redis_address *address, const char *user,
                                             const char *password, struct error *err);
void redis_connection_release(struct redis_connection *connection);
/* Connects and authenticates when not connected. */
enum tier_fault redis_connection_ensure(struct redis_connection *connection, struct error *err);
void redis_connection_drop(struct redis_connection *connection);
/* What an error reply ("OOM command not allowed…") means. */
enum tier_fault redis_connection_classify(const char *reply, struct error *err);

/* One leaf of a reply: text, or a number as text; depth counts the arrays around it. */
typedef void redis_leaf_fn(void *context, int depth, const char *text, size_t bytes);
/* A control command; `visit` (may be NULL) gets each leaf of the reply in order. */
enum tier_fault redis_connection_control(struct redis_connection *connection, int argc, const char **argv,
                                         redis_leaf_fn *visit, void *context, struct error *err);

#endif
