// SPDX-License-Identifier: Apache-2.0
// One connection to Redis: address, connect, authenticate, control commands. The only user of hiredis; block
// traffic goes over the same socket through kvtier/resp. Used by one thread.
#ifndef KVTIER_REDIS_CONNECTION_H
#define KVTIER_REDIS_CONNECTION_H

#include "kvtier/resp.h"
#include "kvtier/tier_store.h"

struct redisContext;

enum { REDIS_CONNECT_MS = 200, REDIS_ADDRESS_BYTES = 256 };

struct redis_connection {
    char host[REDIS_ADDRESS_BYTES]; /* or the path of a unix socket */
    bool is_unix;
    int port, database;
    char *user, *password;        /* owned; "" for none */
    bool writer;                  /* refuse a server that could not evict */
    struct redisContext *context; /* NULL: not connected */
    struct resp resp;
};

/* Statuses: CONFIG (address; rediss:// names the stunnel recipe), NO_MEMORY. Does not connect. */
MUST_CHECK enum status redis_connection_init(struct redis_connection *connection, const char *address,
                                             const char *user, const char *password, struct error *err);
void redis_connection_release(struct redis_connection *connection);
/* Connects and authenticates when not connected. */
enum tier_fault redis_connection_ensure(struct redis_connection *connection, struct error *err);
void redis_connection_drop(struct redis_connection *connection);
/* What an error reply ("OOM command not allowed…") means. */
enum tier_fault redis_connection_classify(const char *reply, struct error *err);

/* A control command; `visit` (may be NULL) gets each leaf of the reply in order: text, or a number as text.
 */

enum tier_fault redis_connection_control(struct redis_connection *connection, int argc, const char **argv,
                                         void (*visit)(void *context, const char *text, size_t bytes),
                                         void *context, struct error *err);

#endif
