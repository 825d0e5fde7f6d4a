// SPDX-License-Identifier: Apache-2.0
#include "kvtier/redis_store.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/monotime.h"
#include "kvtier/resp.h"

enum { DEFAULT_PORT = 6379, ADDRESS_BYTES = 256, COMMAND_BYTES = 256, EXISTS_FROM_BYTES = 262144 };

struct redis_store {
    struct tier_store base;   /* first: the vtable's self */
    char host[ADDRESS_BYTES]; /* or the path of a unix socket */
    bool is_unix;
    int port, database;
    char *user, *password;
    int64_t ttl_s;
    bool writer;
    redisContext *context; /* NULL: not connected */
    struct resp resp;
};

/* ---- address ---- */

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

static bool parse_tcp(struct redis_store *store, const char *rest)
{
    size_t host_bytes = strcspn(rest, ":/");
    if (host_bytes == 0 || host_bytes >= sizeof store->host)
        return false;
    memcpy(store->host, rest, host_bytes);
    rest += host_bytes;
    store->port = DEFAULT_PORT;
    if (*rest == ':') {
        size_t digits = strcspn(rest + 1, "/");
        if (!parse_number(rest + 1, digits, 65535, &store->port))
            return false;
        rest += 1 + digits;
    }
    return *rest == '\0' || (*rest == '/' && (rest[1] == '\0' || parse_number(rest + 1, strlen(rest + 1),
                                                                              9999, &store->database)));
}

static bool parse_unix(struct redis_store *store, const char *rest)
{
    size_t path_bytes = strcspn(rest, "?");
    store->is_unix = true;
    if (rest[0] != '/' || path_bytes >= sizeof store->host)
        return false;
    memcpy(store->host, rest, path_bytes);
    rest += path_bytes;
    return *rest == '\0' || (strncmp(rest, "?db=", 4) == 0 &&
                             parse_number(rest + 4, strlen(rest + 4), 9999, &store->database));
}

static enum status parse_address(struct redis_store *store, const char *address, struct error *err)
{
    if (strncmp(address, "rediss://", 9) == 0)
        return error_set(
            err, STATUS_CONFIG,
            "kvtier.address: this build's hiredis has no TLS; run stunnel beside the worker and name "
            "its local end, redis://127.0.0.1:PORT");
    bool ok = strncmp(address, "redis://", 8) == 0  ? parse_tcp(store, address + 8)
              : strncmp(address, "unix://", 7) == 0 ? parse_unix(store, address + 7)
                                                    : false;
    return ok ? STATUS_OK
              : error_set(
                    err, STATUS_CONFIG,
                    "kvtier.address must be redis://host[:port][/db] or unix:///path[?db=N], got \"%.100s\"",
                    address);
}

/* ---- connection ---- */

static void disconnect(struct redis_store *store)
{
    if (store->context)
        redisFree(store->context);
    store->context = NULL;
}

static enum tier_fault classify(const char *reply, struct error *err)
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

/* One control command through hiredis. */
static enum tier_fault control(struct redis_store *store, struct error *err, int argc, const char **argv)
{
    redisReply *reply = redisCommandArgv(store->context, argc, argv, NULL);
    enum tier_fault fault = TIER_FAULT_NONE;
    if (!reply) {
        error_set(err, STATUS_UNAVAILABLE, "Redis at %s: %s", store->host, store->context->errstr);
        return TIER_FAULT_CONNECTION;
    }
    if (reply->type == REDIS_REPLY_ERROR)
        fault = classify(reply->str, err);
    freeReplyObject(reply);
    return fault;
}

/* A cache without a limit and an eviction policy fills its machine or stops taking writes: refuse it. */
static enum tier_fault check_eviction(struct redis_store *store, struct error *err)
{
    redisReply *reply = redisCommand(store->context, "INFO memory");
    if (!reply) {
        error_set(err, STATUS_UNAVAILABLE, "Redis at %s: %s", store->host, store->context->errstr);
        return TIER_FAULT_CONNECTION;
    }
    enum tier_fault fault = TIER_FAULT_NONE;
    if (reply->type == REDIS_REPLY_ERROR) {
        fault = classify(reply->str, err);
    } else if (reply->str &&
               (strstr(reply->str, "\nmaxmemory:0\r") || strstr(reply->str, "maxmemory_policy:noeviction"))) {
        error_set(
            err, STATUS_CONFIG,
            "Redis at %s has no maxmemory or no eviction policy; set both (for example 4gb and allkeys-lru): "
            "nothing is written until then",
            store->host);
        fault = TIER_FAULT_DENIED;
    }
    freeReplyObject(reply);
    return fault;
}

static enum tier_fault authenticate(struct redis_store *store, struct error *err)
{
    enum tier_fault fault = TIER_FAULT_NONE;
    if (store->password[0] && store->user[0])
        fault = control(store, err, 3, (const char *[]){"AUTH", store->user, store->password});
    else if (store->password[0])
        fault = control(store, err, 2, (const char *[]){"AUTH", store->password});
    if (fault == TIER_FAULT_NONE && store->database != 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", store->database);
        fault = control(store, err, 2, (const char *[]){"SELECT", number});
    }
    if (fault == TIER_FAULT_NONE)
        fault = control(store, err, 1, (const char *[]){"PING"});
    if (fault == TIER_FAULT_NONE && store->writer)
        fault = check_eviction(store, err);
    return fault;
}

static enum tier_fault ensure_connected(struct redis_store *store, struct error *err)
{
    if (store->context)
        return TIER_FAULT_NONE;
    struct timeval limit = {.tv_usec = REDIS_STORE_CONNECT_MS * 1000};
    store->context = store->is_unix ? redisConnectUnixWithTimeout(store->host, limit)
                                    : redisConnectWithTimeout(store->host, store->port, limit);
    if (!store->context || store->context->err) {
        error_set(err, STATUS_UNAVAILABLE, "cannot reach Redis at %s: %s", store->host,
                  store->context ? store->context->errstr : "out of memory");
        disconnect(store);
        return TIER_FAULT_CONNECTION;
    }
    redisSetTimeout(store->context, limit);
    enum tier_fault fault = authenticate(store, err);
    if (fault != TIER_FAULT_NONE) {
        disconnect(store);
        return fault;
    }
    if (!store->is_unix)
        redisEnableKeepAlive(store->context);
    resp_init(&store->resp, store->context->fd);
    return TIER_FAULT_NONE;
}

static enum tier_fault broken(struct redis_store *store, enum status status, struct error *err)
{
    error_set(err, status, "connection to Redis at %s: %s", store->host, status_text(status));
    disconnect(store);
    return TIER_FAULT_CONNECTION;
}

/* ---- commands ---- */

size_t redis_store_key(const struct block_identity *block, char key[REDIS_STORE_KEY_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    size_t at = (size_t)snprintf(key, REDIS_STORE_KEY_BYTES, "kvt1:");
    for (int i = 0; i < 8; i++) {
        key[at++] = digits[block->fingerprint[i] >> 4];
        key[at++] = digits[block->fingerprint[i] & 15];
    }
    key[at++] = ':';
    for (int i = 0; i < SHA256_BYTES; i++) {
        key[at++] = digits[block->key.bytes[i] >> 4];
        key[at++] = digits[block->key.bytes[i] & 15];
    }
    key[at] = '\0';
    return at;
}

static enum status send_key_command(struct redis_store *store, const char *verb,
                                    const struct block_identity *block)
{
    char key[REDIS_STORE_KEY_BYTES], command[COMMAND_BYTES];
    size_t key_bytes = redis_store_key(block, key);
    int bytes = snprintf(command, sizeof command, "*2\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n", strlen(verb), verb,
                         key_bytes, key);
    struct iovec part = {.iov_base = command, .iov_len = (size_t)bytes};
    return resp_send(&store->resp, &part, 1);
}

/* Reads one GET's bulk value into place and verifies it. */
static enum status read_value(struct redis_store *store, struct tier_get *get, size_t index, size_t bytes)
{
    uint8_t head[BLOCK_CODEC_HEADER_BYTES + 4 * BLOCK_CODEC_MAX_TOKENS];
    const struct block_identity *block = &get->blocks[index];
    size_t head_bytes = block_codec_head_bytes(block->token_count);
    uint32_t payload_crc = 0;
    enum status status;
    if (bytes != head_bytes + block->payload_bytes) {
        get->verdict = BLOCK_VERDICT_LENGTH;
        status = resp_skip_bytes(&store->resp, bytes);
    } else {
        status = resp_read_bytes(&store->resp, head, head_bytes);
        if (status == STATUS_OK)
            status = resp_read_bytes(&store->resp, get->payloads[index], block->payload_bytes);
        if (status == STATUS_OK)
            get->verdict = block_codec_check_head(block, head, &payload_crc);
        if (status == STATUS_OK && get->verdict == BLOCK_VERDICT_OK)
            get->verdict = block_codec_check_payload(block, get->payloads[index], payload_crc);
    }
    if (status == STATUS_OK)
        status = resp_read_crlf(&store->resp);
    if (status == STATUS_OK && get->verdict != BLOCK_VERDICT_OK)
        get->miss = TIER_MISS_corrupt;
    return status;
}

/* One reply of the window. After the first miss the rest is only drained. */
static enum tier_fault read_get_reply(struct redis_store *store, struct tier_get *get, size_t index,
                                      struct error *err)
{
    struct resp_reply reply;
    enum status status = resp_read_reply(&store->resp, &reply);
    if (status != STATUS_OK)
        return broken(store, status, err);
    if (reply.type == RESP_ERROR) {
        enum tier_fault fault = classify(reply.line, err);
        disconnect(store);
        return fault == TIER_FAULT_NO_ROOM ? TIER_FAULT_CONNECTION : fault;
    }
    if (reply.type == RESP_NIL) {
        if (get->miss == TIER_MISS_none)
            get->miss = TIER_MISS_absent;
        return TIER_FAULT_NONE;
    }
    if (reply.type != RESP_BULK)
        return broken(store, STATUS_CORRUPT, err);
    if (get->miss != TIER_MISS_none) {
        status = resp_skip_bytes(&store->resp, (size_t)reply.number + 2);
    } else {
        status = read_value(store, get, index, (size_t)reply.number);
        if (status == STATUS_OK && get->miss == TIER_MISS_none)
            get->loaded = index + 1;
    }
    return status == STATUS_OK ? TIER_FAULT_NONE : broken(store, status, err);
}

/* A value that failed verification helps nobody: remove it, so that the next worker stores a good one. */
static enum tier_fault unlink_corrupt(struct redis_store *store, const struct block_identity *block,
                                      struct error *err)
{
    struct resp_reply reply;
    enum status status = send_key_command(store, "UNLINK", block);
    if (status == STATUS_OK)
        status = resp_read_reply(&store->resp, &reply);
    return status == STATUS_OK ? TIER_FAULT_NONE : broken(store, status, err);
}

static size_t window_of(const struct tier_get *get)
{
    size_t bytes = (size_t)get->blocks[0].payload_bytes;
    size_t fit = bytes ? REDIS_STORE_WINDOW_BYTES / bytes : REDIS_STORE_WINDOW;
    return fit < 1 ? 1 : fit < REDIS_STORE_WINDOW ? fit : REDIS_STORE_WINDOW;
}

static enum tier_fault redis_get(struct tier_store *base, struct tier_get *get, struct error *err)
{
    struct redis_store *store = (struct redis_store *)base;
    get->loaded = 0;
    get->miss = TIER_MISS_none;
    get->verdict = BLOCK_VERDICT_OK;
    enum tier_fault fault = ensure_connected(store, err);
    if (fault != TIER_FAULT_NONE || get->count == 0)
        return fault;
    store->resp.deadline_ns = get->deadline_ns;
    size_t window = window_of(get);
    size_t asked = 0, answered = 0;
    while (answered < asked || (asked < get->count && get->miss == TIER_MISS_none)) {
        while (asked < get->count && asked - answered < window && get->miss == TIER_MISS_none) {
            enum status status = send_key_command(store, "GET", &get->blocks[asked]);
            if (status != STATUS_OK)
                return broken(store, status, err);
            asked++;
        }
        fault = read_get_reply(store, get, answered, err);
        if (fault != TIER_FAULT_NONE)
            return fault;
        answered++;
    }
    if (get->miss == TIER_MISS_corrupt)
        return unlink_corrupt(store, &get->blocks[get->loaded], err);
    return TIER_FAULT_NONE;
}

/* Large values are offered only after EXISTS: NX would still ship the bytes. */
static enum tier_fault exists(struct redis_store *store, const struct block_identity *block, bool *out,
                              struct error *err)
{
    struct resp_reply reply;
    *out = false;
    enum status status = send_key_command(store, "EXISTS", block);
    if (status == STATUS_OK)
        status = resp_read_reply(&store->resp, &reply);
    if (status != STATUS_OK)
        return broken(store, status, err);
    if (reply.type == RESP_ERROR)
        return classify(reply.line, err);
    *out = reply.type == RESP_INTEGER && reply.number == 1;
    return TIER_FAULT_NONE;
}

static enum status send_set(struct redis_store *store, const struct block_identity *block,
                            const void *payload)
{
    uint8_t head[BLOCK_CODEC_HEADER_BYTES + 4 * BLOCK_CODEC_MAX_TOKENS];
    char key[REDIS_STORE_KEY_BYTES], before[COMMAND_BYTES], after[64], ttl[24];
    size_t head_bytes = block_codec_head_bytes(block->token_count);
    size_t key_bytes = redis_store_key(block, key);
    block_codec_encode(block, payload, (uint64_t)walltime_ms(), head);
    int before_bytes = snprintf(before, sizeof before, "*6\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%zu\r\n", key_bytes,
                                key, head_bytes + (size_t)block->payload_bytes);
    int ttl_bytes = snprintf(ttl, sizeof ttl, "%lld", (long long)store->ttl_s);
    int after_bytes =
        snprintf(after, sizeof after, "\r\n$2\r\nNX\r\n$2\r\nEX\r\n$%d\r\n%s\r\n", ttl_bytes, ttl);
    union { /* writev reads only; iovec has no const */
        const void *in;
        void *out;
    } source = {.in = payload};
    struct iovec parts[4] = {{before, (size_t)before_bytes},
                             {head, head_bytes},
                             {source.out, (size_t)block->payload_bytes},
                             {after, (size_t)after_bytes}};
    return resp_send(&store->resp, parts, 4);
}

static enum tier_fault redis_put(struct tier_store *base, const struct block_identity *block,
                                 const void *payload, int64_t deadline_ns, struct error *err)
{
    struct redis_store *store = (struct redis_store *)base;
    struct resp_reply reply;
    bool there = false;
    enum tier_fault fault = ensure_connected(store, err);
    if (fault != TIER_FAULT_NONE)
        return fault;
    store->resp.deadline_ns = deadline_ns;
    if (block->payload_bytes >= EXISTS_FROM_BYTES)
        fault = exists(store, block, &there, err);
    if (fault != TIER_FAULT_NONE || there)
        return fault;
    enum status status = send_set(store, block, payload);
    if (status == STATUS_OK)
        status = resp_read_reply(&store->resp, &reply);
    if (status != STATUS_OK)
        return broken(store, status, err);
    if (reply.type == RESP_ERROR)
        return classify(reply.line, err);
    if (reply.type != RESP_SIMPLE && reply.type != RESP_NIL) /* nil: the key was there */
        return broken(store, STATUS_CORRUPT, err);
    return TIER_FAULT_NONE;
}

static enum tier_fault redis_touch(struct tier_store *base, const struct block_identity *blocks, size_t count,
                                   int64_t deadline_ns, struct error *err)
{
    struct redis_store *store = (struct redis_store *)base;
    enum tier_fault fault = ensure_connected(store, err);
    if (fault != TIER_FAULT_NONE)
        return fault;
    store->resp.deadline_ns = deadline_ns;
    for (size_t i = 0; i < count; i++) {
        enum status status = send_key_command(store, "TOUCH", &blocks[i]);
        if (status != STATUS_OK)
            return broken(store, status, err);
    }
    for (size_t i = 0; i < count; i++) {
        struct resp_reply reply;
        enum status status = resp_read_reply(&store->resp, &reply);
        if (status != STATUS_OK)
            return broken(store, status, err);
    }
    return TIER_FAULT_NONE;
}

static void redis_close(struct tier_store *base)
{
    struct redis_store *store = (struct redis_store *)base;
    disconnect(store);
    free(store->user);
    free(store->password);
    free(store);
}

enum status redis_store_open(struct tier_store **out, const struct redis_store_options *options,
                             struct error *err)
{
    *out = NULL;
    struct redis_store *store = calloc(1, sizeof *store);
    if (!store)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a Redis connection");
    store->base =
        (struct tier_store){.get = redis_get, .put = redis_put, .touch = redis_touch, .close = redis_close};
    store->ttl_s = options->ttl_s;
    store->writer = options->writer;
    store->user = strdup(options->user ? options->user : "");
    store->password = strdup(options->password ? options->password : "");
    enum status status = store->user && store->password
                             ? parse_address(store, options->address, err)
                             : error_set(err, STATUS_NO_MEMORY, "no memory for a password");
    if (status != STATUS_OK) {
        redis_close(&store->base);
        return status;
    }
    *out = &store->base;
    return STATUS_OK;
}
