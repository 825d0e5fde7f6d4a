// SPDX-License-Identifier: Apache-2.0
#include "kvtier/redis_connection.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum status redis_connection_init(struct redis_connection *connection, const struct redis_address *address,
                                  const char *user, const char *password, struct error *err)
{
    memset(connection, 0, sizeof *connection);
    connection->address = *address;
    connection->user = strdup(user ? user : "");
    connection->password = strdup(password ? password : "");
    if (connection->user && connection->password)
        return STATUS_OK;
    redis_connection_release(connection);
    return error_set(err, STATUS_NO_MEMORY, "no memory for a password");
}

void redis_connection_drop(struct redis_connection *connection)
{
    if (connection->context)
        redisFree(connection->context);
    connection->context = NULL;
}

void redis_connection_release(struct redis_connection *connection)
{
    redis_connection_drop(connection);
    free(connection->user);
    free(connection->password);
    connection->user = connection->password = NULL;
}

enum tier_fault redis_connection_classify(const char *reply, struct error *err)
{
    static const struct {
        const char *prefix;
        enum tier_fault fault;
    } rules[] = {
        {"OOM ", TIER_FAULT_NO_ROOM},         {"READONLY ", TIER_FAULT_NO_ROOM},
        {"MISCONF ", TIER_FAULT_NO_ROOM},     {"NOREPLICAS ", TIER_FAULT_NO_ROOM},
        {"LOADING ", TIER_FAULT_LOADING},     {"BUSY ", TIER_FAULT_LOADING},
        {"MASTERDOWN ", TIER_FAULT_LOADING},  {"TRYAGAIN ", TIER_FAULT_LOADING},
        {"CLUSTERDOWN ", TIER_FAULT_LOADING}, {"MOVED ", TIER_FAULT_ELSEWHERE},
        {"ASK ", TIER_FAULT_ELSEWHERE},       {"NOAUTH ", TIER_FAULT_DENIED},
        {"WRONGPASS ", TIER_FAULT_DENIED},    {"NOPERM ", TIER_FAULT_DENIED},
        {"DENIED ", TIER_FAULT_DENIED},       {"ERR This instance has cluster", TIER_FAULT_DENIED},
        {"ERR DB index", TIER_FAULT_DENIED},  {"ERR SELECT is not allowed in cluster", TIER_FAULT_DENIED}};
    bool moved = strncmp(reply, "MOVED ", 6) == 0;
    error_set(err, STATUS_UNAVAILABLE, "Redis answered: %.200s%s", reply,
              moved ? " (a cluster: set kvtier.cluster)" : "");
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (strncmp(reply, rules[i].prefix, strlen(rules[i].prefix)) == 0)
            return rules[i].fault;
    return TIER_FAULT_CONNECTION;
}

static void visit_reply(const redisReply *reply, int depth, redis_leaf_fn *visit, void *context)
{
    char number[24];
    switch (reply->type) {
    case REDIS_REPLY_ARRAY:
        for (size_t i = 0; i < reply->elements; i++)
            visit_reply(reply->element[i], depth + 1, visit, context);
        return;
    case REDIS_REPLY_INTEGER:
        visit(context, depth, number, (size_t)snprintf(number, sizeof number, "%lld", reply->integer));
        return;
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        visit(context, depth, reply->str, (size_t)reply->len);
        return;
    default: /* nil */
        visit(context, depth, "", 0);
    }
}

/* Why hiredis gave up, in our words. */
static enum tier_fault no_reply(struct redis_connection *connection, struct error *err)
{
    const redisContext *context = connection->context;
    if (context->err == REDIS_ERR_IO && errno == EAGAIN)
        error_set(err, STATUS_TIMEOUT, "Redis at %s did not answer within %d ms", connection->address.host,
                  REDIS_CONNECT_MS);
    else
        error_set(err, STATUS_UNAVAILABLE, "Redis at %s: %s", connection->address.host, context->errstr);
    redis_connection_drop(connection);
    return TIER_FAULT_CONNECTION;
}

enum tier_fault redis_connection_control(struct redis_connection *connection, int argc, const char **argv,
                                         redis_leaf_fn *visit, void *context, struct error *err)
{
    redisReply *reply = redisCommandArgv(connection->context, argc, argv, NULL);
    enum tier_fault fault = TIER_FAULT_NONE;
    if (!reply)
        return no_reply(connection, err);
    if (reply->type == REDIS_REPLY_ERROR)
        fault = redis_connection_classify(reply->str, err);
    else if (visit)
        visit_reply(reply, 0, visit, context);
    freeReplyObject(reply);
    return fault;
}

static enum tier_fault simple(struct redis_connection *connection, struct error *err, int argc,
                              const char **argv)
{
    return redis_connection_control(connection, argc, argv, NULL, NULL, err);
}

static void look_at_memory(void *context, int depth, const char *text, size_t bytes)
{
    bool *may_evict = context;
    (void)depth;
    (void)bytes;
    *may_evict = !strstr(text, "\nmaxmemory:0\r") && !strstr(text, "maxmemory_policy:noeviction");
}

/* A cache without a limit and an eviction policy fills its machine or stops taking writes: refuse it. */
static enum tier_fault check_eviction(struct redis_connection *connection, struct error *err)
{
    bool may_evict = false;
    enum tier_fault fault = redis_connection_control(connection, 2, (const char *[]){"INFO", "memory"},
                                                     look_at_memory, &may_evict, err);
    if (fault != TIER_FAULT_NONE || may_evict)
        return fault;
    error_set(
        err, STATUS_CONFIG,
        "Redis at %s has no maxmemory or no eviction policy; set both (for example 4gb and allkeys-lru): "
        "nothing is written until then",
        connection->address.host);
    return TIER_FAULT_DENIED;
}

static enum tier_fault authenticate(struct redis_connection *connection, struct error *err)
{
    enum tier_fault fault = TIER_FAULT_NONE;
    if (connection->password[0] && connection->user[0])
        fault = simple(connection, err, 3, (const char *[]){"AUTH", connection->user, connection->password});
    else if (connection->password[0])
        fault = simple(connection, err, 2, (const char *[]){"AUTH", connection->password});
    if (fault == TIER_FAULT_NONE && connection->address.database != 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", connection->address.database);
        fault = simple(connection, err, 2, (const char *[]){"SELECT", number});
    }
    if (fault == TIER_FAULT_NONE)
        fault = simple(connection, err, 1, (const char *[]){"PING"});
    if (fault == TIER_FAULT_NONE && connection->writer)
        fault = check_eviction(connection, err);
    return fault;
}

enum tier_fault redis_connection_ensure(struct redis_connection *connection, struct error *err)
{
    if (connection->context)
        return TIER_FAULT_NONE;
    struct timeval limit = {.tv_usec = REDIS_CONNECT_MS * 1000};
    connection->context =
        connection->address.is_unix
            ? redisConnectUnixWithTimeout(connection->address.host, limit)
            : redisConnectWithTimeout(connection->address.host, connection->address.port, limit);
    if (!connection->context || connection->context->err) {
        error_set(err, STATUS_UNAVAILABLE, "cannot reach Redis at %s: %s", connection->address.host,
                  connection->context ? connection->context->errstr : "out of memory");
        redis_connection_drop(connection);
        return TIER_FAULT_CONNECTION;
    }
    redisSetTimeout(connection->context, limit);
    enum tier_fault fault = authenticate(connection, err);
    if (fault != TIER_FAULT_NONE) {
        redis_connection_drop(connection);
        return fault;
    }
    if (!connection->address.is_unix)
        redisEnableKeepAlive(connection->context);
    resp_init(&connection->resp, connection->context->fd);
    return TIER_FAULT_NONE;
}
