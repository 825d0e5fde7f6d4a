// SPDX-License-Identifier: Apache-2.0
#include "kvtier/redis_connection.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_PORT = 6379 };

static bool parse_number(const char *text, size_t bytes, int most, int *out)
{
    int value = 0;
    if (bytes == 0 || bytes > 6)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (text[i] - '0');
    }
    *out = value;
    return value <= most;
}

static bool parse_tcp(struct redis_connection *connection, const char *rest)
{
    size_t host_bytes = strcspn(rest, ":/");
    if (host_bytes == 0 || host_bytes >= sizeof connection->host)
        return false;
    memcpy(connection->host, rest, host_bytes);
    rest += host_bytes;
    connection->port = DEFAULT_PORT;
    if (*rest == ':') {
        size_t digits = strcspn(rest + 1, "/");
        if (!parse_number(rest + 1, digits, 65535, &connection->port))
            return false;
        rest += 1 + digits;
    }
    return *rest == '\0' || (*rest == '/' && (rest[1] == '\0' || parse_number(rest + 1, strlen(rest + 1),
                                                                              9999, &connection->database)));
}

static bool parse_unix(struct redis_connection *connection, const char *rest)
{
    size_t path_bytes = strcspn(rest, "?");
    connection->is_unix = true;
    if (rest[0] != '/' || path_bytes >= sizeof connection->host)
        return false;
    memcpy(connection->host, rest, path_bytes);
    rest += path_bytes;
    return *rest == '\0' || (strncmp(rest, "?db=", 4) == 0 &&
                             parse_number(rest + 4, strlen(rest + 4), 9999, &connection->database));
}

static enum status parse_address(struct redis_connection *connection, const char *address, struct error *err)
{
    if (strncmp(address, "rediss://", 9) == 0)
        return error_set(
            err, STATUS_CONFIG,
            "kvtier.address: this build's hiredis has no TLS; run stunnel beside the worker and name "
            "its local end, redis://127.0.0.1:PORT");
    bool ok = strncmp(address, "redis://", 8) == 0  ? parse_tcp(connection, address + 8)
              : strncmp(address, "unix://", 7) == 0 ? parse_unix(connection, address + 7)
                                                    : false;
    return ok ? STATUS_OK
              : error_set(
                    err, STATUS_CONFIG,
                    "kvtier.address must be redis://host[:port][/db] or unix:///path[?db=N], got \"%.100s\"",
                    address);
}

enum status redis_connection_init(struct redis_connection *connection, const char *address, const char *user,
                                  const char *password, struct error *err)
{
    memset(connection, 0, sizeof *connection);
    connection->user = strdup(user ? user : "");
    connection->password = strdup(password ? password : "");
    enum status status = connection->user && connection->password
                             ? parse_address(connection, address, err)
                             : error_set(err, STATUS_NO_MEMORY, "no memory for a password");
    if (status != STATUS_OK)
        redis_connection_release(connection);
    return status;
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
    } rules[] = {{"OOM", TIER_FAULT_NO_ROOM},        {"READONLY", TIER_FAULT_NO_ROOM},
                 {"MISCONF", TIER_FAULT_NO_ROOM},    {"NOREPLICAS", TIER_FAULT_NO_ROOM},
                 {"LOADING", TIER_FAULT_LOADING},    {"BUSY", TIER_FAULT_LOADING},
                 {"MASTERDOWN", TIER_FAULT_LOADING}, {"TRYAGAIN", TIER_FAULT_LOADING},
                 {"NOAUTH", TIER_FAULT_DENIED},      {"WRONGPASS", TIER_FAULT_DENIED},
                 {"NOPERM", TIER_FAULT_DENIED},      {"MOVED", TIER_FAULT_DENIED},
                 {"ASK", TIER_FAULT_DENIED},         {"CLUSTERDOWN", TIER_FAULT_DENIED}};
    error_set(err, STATUS_UNAVAILABLE, "Redis answered: %.200s", reply);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (strncmp(reply, rules[i].prefix, strlen(rules[i].prefix)) == 0)
            return rules[i].fault;
    return TIER_FAULT_CONNECTION;
}

static void visit_reply(const redisReply *reply, void (*visit)(void *, const char *, size_t), void *context)
{
    char number[24];
    switch (reply->type) {
    case REDIS_REPLY_ARRAY:
        for (size_t i = 0; i < reply->elements; i++)
            visit_reply(reply->element[i], visit, context);
        return;
    case REDIS_REPLY_INTEGER:
        visit(context, number, (size_t)snprintf(number, sizeof number, "%lld", reply->integer));
        return;
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        visit(context, reply->str, (size_t)reply->len);
        return;
    default: /* nil */
        visit(context, "", 0);
    }
}

enum tier_fault redis_connection_control(struct redis_connection *connection, int argc, const char **argv,
                                         void (*visit)(void *context, const char *text, size_t bytes),
                                         void *context, struct error *err)
{
    redisReply *reply = redisCommandArgv(connection->context, argc, argv, NULL);
    enum tier_fault fault = TIER_FAULT_NONE;
    if (!reply) {
        error_set(err, STATUS_UNAVAILABLE, "Redis at %s: %s", connection->host, connection->context->errstr);
        redis_connection_drop(connection);
        return TIER_FAULT_CONNECTION;
    }
    if (reply->type == REDIS_REPLY_ERROR)
        fault = redis_connection_classify(reply->str, err);
    else if (visit)
        visit_reply(reply, visit, context);
    freeReplyObject(reply);
    return fault;
}

static enum tier_fault simple(struct redis_connection *connection, struct error *err, int argc,
                              const char **argv)
{
    return redis_connection_control(connection, argc, argv, NULL, NULL, err);
}

static void look_at_memory(void *context, const char *text, size_t bytes)
{
    bool *may_evict = context;
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
        connection->host);
    return TIER_FAULT_DENIED;
}

static enum tier_fault authenticate(struct redis_connection *connection, struct error *err)
{
    enum tier_fault fault = TIER_FAULT_NONE;
    if (connection->password[0] && connection->user[0])
        fault = simple(connection, err, 3, (const char *[]){"AUTH", connection->user, connection->password});
    else if (connection->password[0])
        fault = simple(connection, err, 2, (const char *[]){"AUTH", connection->password});
    if (fault == TIER_FAULT_NONE && connection->database != 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", connection->database);
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
    connection->context = connection->is_unix
                              ? redisConnectUnixWithTimeout(connection->host, limit)
                              : redisConnectWithTimeout(connection->host, connection->port, limit);
    if (!connection->context || connection->context->err) {
        error_set(err, STATUS_UNAVAILABLE, "cannot reach Redis at %s: %s", connection->host,
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
    if (!connection->is_unix)
        redisEnableKeepAlive(connection->context);
    resp_init(&connection->resp, connection->context->fd);
    return TIER_FAULT_NONE;
}
