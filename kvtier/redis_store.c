// SPDX-License-Identifier: Apache-2.0
#include "kvtier/redis_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "kvtier/crc32c.h"
#include "kvtier/redis_connection.h"
#include "kvtier/redis_nodes.h"

#define LEASE_PREFIX \
    "kvt1:lease:{" /* a cluster hashes what is in the braces: a lease lives beside its block */
enum { COMMAND_BYTES = 256, EXISTS_FROM_BYTES = 262144, SUM_AT_ONCE_BYTES = 262144 };

struct redis_store {
    struct tier_store base; /* first: the vtable's self */
    struct redis_connection connection;
    int64_t ttl_s;
    bool asking;                    /* each command is preceded by ASKING */
    char redirect[RESP_LINE_BYTES]; /* the last MOVED or ASK reply */
};

static enum tier_fault broken(struct redis_store *store, enum status status, struct error *err)
{
    error_set(err, status, "connection to Redis at %s: %s", store->connection.address.host,
              status_text(status));
    redis_connection_drop(&store->connection);
    return TIER_FAULT_CONNECTION;
}

/* An error reply: the stream is whole, so the connection may stay. */
static enum tier_fault refused(struct redis_store *store, const char *reply, struct error *err)
{
    enum tier_fault fault = redis_connection_classify(reply, err);
    if (fault == TIER_FAULT_ELSEWHERE)
        memcpy(store->redirect, reply, sizeof store->redirect);
    return fault;
}

void redis_store_ask(struct tier_store *base, bool asking)
{
    ((struct redis_store *)base)->asking = asking;
}

const char *redis_store_redirect(const struct tier_store *base)
{
    return ((const struct redis_store *)base)->redirect;
}

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

/* ASKING goes ahead of a command, and its reply ahead of the command's. */
static enum status send_parts(struct redis_store *store, struct iovec *parts, int count)
{
    char asking[] = "*1\r\n$6\r\nASKING\r\n";
    struct iovec first = {.iov_base = asking, .iov_len = sizeof asking - 1};
    enum status status = store->asking ? resp_send(&store->connection.resp, &first, 1) : STATUS_OK;
    return status == STATUS_OK ? resp_send(&store->connection.resp, parts, count) : status;
}

static enum status read_reply(struct redis_store *store, struct resp_reply *reply)
{
    enum status status = store->asking ? resp_read_reply(&store->connection.resp, reply) : STATUS_OK;
    if (status == STATUS_OK && store->asking && reply->type != RESP_SIMPLE)
        return STATUS_CORRUPT;
    return status == STATUS_OK ? resp_read_reply(&store->connection.resp, reply) : status;
}

static enum status send_key_command(struct redis_store *store, const char *verb,
                                    const struct block_identity *block)
{
    char key[REDIS_STORE_KEY_BYTES], command[COMMAND_BYTES];
    size_t key_bytes = redis_store_key(block, key);
    int bytes = snprintf(command, sizeof command, "*2\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n", strlen(verb), verb,
                         key_bytes, key);
    struct iovec part = {.iov_base = command, .iov_len = (size_t)bytes};
    return send_parts(store, &part, 1);
}

/* Reads a payload and sums each piece as it comes, while it is still in the cache. */
static enum status read_payload(struct redis_store *store, uint8_t *out, size_t bytes, uint32_t *crc)
{
    *crc = 0;
    while (bytes > 0) {
        size_t got = 0, most = bytes < SUM_AT_ONCE_BYTES ? bytes : SUM_AT_ONCE_BYTES;
        enum status status = resp_read_some(&store->connection.resp, out, most, &got);
        if (status != STATUS_OK)
            return status;
        *crc = crc32c(*crc, out, got);
        out += got;
        bytes -= got;
    }
    return STATUS_OK;
}

/* Reads one GET's bulk value into place and verifies it. */
static enum status read_value(struct redis_store *store, struct tier_get *get, size_t index, size_t bytes)
{
    uint8_t head[BLOCK_CODEC_HEADER_BYTES + 4 * BLOCK_CODEC_MAX_TOKENS];
    const struct block_identity *block = &get->blocks[index];
    size_t head_bytes = block_codec_head_bytes(block->token_count);
    uint32_t expected_crc = 0, crc = 0;
    enum status status;
    if (bytes != head_bytes + block->payload_bytes) {
        get->verdict = BLOCK_VERDICT_LENGTH;
        status = resp_skip_bytes(&store->connection.resp, bytes);
    } else {
        status = resp_read_bytes(&store->connection.resp, head, head_bytes);
        if (status == STATUS_OK)
            status = read_payload(store, get->payloads[index], block->payload_bytes, &crc);
        if (status == STATUS_OK)
            get->verdict = block_codec_check_head(block, head, &expected_crc);
        if (status == STATUS_OK && get->verdict == BLOCK_VERDICT_OK && crc != expected_crc)
            get->verdict = BLOCK_VERDICT_PAYLOAD_CRC;
    }
    if (status == STATUS_OK)
        status = resp_read_crlf(&store->connection.resp);
    if (status == STATUS_OK && get->verdict != BLOCK_VERDICT_OK)
        get->miss = TIER_MISS_corrupt;
    return status;
}

/* Other replies are owed after an error: they are drained when the block is only elsewhere, else dropped. */
static enum tier_fault read_get_refusal(struct redis_store *store, struct tier_get *get, const char *reply,
                                        struct error *err)
{
    bool first = get->miss == TIER_MISS_none;
    enum tier_fault fault = first ? refused(store, reply, err) : redis_connection_classify(reply, err);
    if (fault == TIER_FAULT_ELSEWHERE) {
        if (first)
            get->miss = TIER_MISS_unavailable;
        return first ? TIER_FAULT_ELSEWHERE : TIER_FAULT_NONE;
    }
    redis_connection_drop(&store->connection);
    return fault == TIER_FAULT_NO_ROOM ? TIER_FAULT_CONNECTION : fault;
}

/* One reply of the window. After the first miss the rest is only drained. */
static enum tier_fault read_get_reply(struct redis_store *store, struct tier_get *get, size_t index,
                                      struct error *err)
{
    struct resp_reply reply;
    enum status status = read_reply(store, &reply);
    if (status != STATUS_OK)
        return broken(store, status, err);
    if (reply.type == RESP_ERROR)
        return read_get_refusal(store, get, reply.line, err);
    if (reply.type == RESP_NIL) {
        if (get->miss == TIER_MISS_none)
            get->miss = TIER_MISS_absent;
        return TIER_FAULT_NONE;
    }
    if (reply.type != RESP_BULK)
        return broken(store, STATUS_CORRUPT, err);
    if (get->miss != TIER_MISS_none) {
        status = resp_skip_bytes(&store->connection.resp, (size_t)reply.number + 2);
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
        status = read_reply(store, &reply);
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
    enum tier_fault fault = redis_connection_ensure(&store->connection, err);
    if (fault != TIER_FAULT_NONE || get->count == 0)
        return fault;
    store->connection.resp.deadline_ns = get->deadline_ns;
    enum tier_fault redirected = TIER_FAULT_NONE;
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
        if (fault == TIER_FAULT_ELSEWHERE)
            redirected = fault;
        else if (fault != TIER_FAULT_NONE)
            return fault;
        answered++;
    }
    if (get->miss == TIER_MISS_corrupt)
        return unlink_corrupt(store, &get->blocks[get->loaded], err);
    return redirected;
}

/* Large values are offered only after EXISTS: NX would still ship the bytes. */
static enum tier_fault exists(struct redis_store *store, const struct block_identity *block, bool *out,
                              struct error *err)
{
    struct resp_reply reply;
    *out = false;
    enum status status = send_key_command(store, "EXISTS", block);
    if (status == STATUS_OK)
        status = read_reply(store, &reply);
    if (status != STATUS_OK)
        return broken(store, status, err);
    if (reply.type == RESP_ERROR)
        return refused(store, reply.line, err);
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
    return send_parts(store, parts, 4);
}

static enum tier_fault redis_put(struct tier_store *base, const struct block_identity *block,
                                 const void *payload, int64_t deadline_ns, struct error *err)
{
    struct redis_store *store = (struct redis_store *)base;
    struct resp_reply reply;
    bool there = false;
    enum tier_fault fault = redis_connection_ensure(&store->connection, err);
    if (fault != TIER_FAULT_NONE)
        return fault;
    store->connection.resp.deadline_ns = deadline_ns;
    if (block->payload_bytes >= EXISTS_FROM_BYTES)
        fault = exists(store, block, &there, err);
    if (fault != TIER_FAULT_NONE || there)
        return fault;
    enum status status = send_set(store, block, payload);
    if (status == STATUS_OK)
        status = read_reply(store, &reply);
    if (status != STATUS_OK)
        return broken(store, status, err);
    if (reply.type == RESP_ERROR)
        return refused(store, reply.line, err);
    if (reply.type != RESP_SIMPLE && reply.type != RESP_NIL) /* nil: the key was there */
        return broken(store, STATUS_CORRUPT, err);
    return TIER_FAULT_NONE;
}

static enum tier_fault redis_touch(struct tier_store *base, const struct block_identity *blocks, size_t count,
                                   int64_t deadline_ns, struct error *err)
{
    struct redis_store *store = (struct redis_store *)base;
    enum tier_fault fault = redis_connection_ensure(&store->connection, err);
    if (fault != TIER_FAULT_NONE)
        return fault;
    store->connection.resp.deadline_ns = deadline_ns;
    for (size_t i = 0; i < count; i++) {
        enum status status = send_key_command(store, "TOUCH", &blocks[i]);
        if (status != STATUS_OK)
            return broken(store, status, err);
    }
    for (size_t i = 0; i < count; i++) {
        struct resp_reply reply;
        enum status status = read_reply(store, &reply);
        if (status != STATUS_OK)
            return broken(store, status, err);
    }
    return TIER_FAULT_NONE;
}

static enum status send_claim(struct redis_store *store, const struct block_identity *block, int64_t lease_ms)
{
    char key[REDIS_STORE_KEY_BYTES], command[COMMAND_BYTES], ms[24];
    size_t lease_bytes = sizeof LEASE_PREFIX - 1 + redis_store_key(block, key) + 1;
    int ms_bytes = snprintf(ms, sizeof ms, "%lld", (long long)lease_ms);
    int bytes = snprintf(command, sizeof command,
                         "*6\r\n$3\r\nSET\r\n$%zu\r\n" LEASE_PREFIX
                         "%s}\r\n$1\r\n1\r\n$2\r\nNX\r\n$2\r\nPX\r\n$%d\r\n%s\r\n",
                         lease_bytes, key, ms_bytes, ms);
    struct iovec part = {.iov_base = command, .iov_len = (size_t)bytes};
    return resp_send(&store->connection.resp, &part, 1);
}

/* A server without room for a claim has none for the block either: nothing is gained by waiting. */
static enum tier_fault read_claim(struct redis_store *store, bool *granted, struct error *err)
{
    struct resp_reply reply;
    enum status status = resp_read_reply(&store->connection.resp, &reply);
    if (status != STATUS_OK)
        return broken(store, status, err);
    enum tier_fault fault = reply.type == RESP_ERROR ? refused(store, reply.line, err) : TIER_FAULT_NONE;
    *granted = reply.type == RESP_SIMPLE || fault == TIER_FAULT_NO_ROOM;
    if (*granted || reply.type == RESP_NIL)
        return TIER_FAULT_NONE;
    return fault == TIER_FAULT_NONE ? broken(store, STATUS_CORRUPT, err) : fault;
}

/* Replies are read to the last one, whatever they say: none is owed when the connection is used again.
 * Whoever has the first absent block of a chain computes all of it, so only that one decides; the others are
 * claimed for those whose chain shares them and who have the first already. */
static enum tier_fault redis_lease(struct tier_store *base, const struct block_identity *blocks, size_t count,
                                   int64_t lease_ms, int64_t deadline_ns, bool *granted, struct error *err)
{
    struct redis_store *store = (struct redis_store *)base;
    *granted = false;
    enum tier_fault fault = redis_connection_ensure(&store->connection, err);
    if (fault != TIER_FAULT_NONE)
        return fault;
    store->connection.resp.deadline_ns = deadline_ns;
    enum status status = send_claim(store, &blocks[0], lease_ms);
    if (status != STATUS_OK)
        return broken(store, status, err);
    fault = read_claim(store, granted, err);
    if (fault != TIER_FAULT_NONE || !*granted)
        return fault;
    for (size_t i = 1; i < count; i++)
        if ((status = send_claim(store, &blocks[i], lease_ms)) != STATUS_OK)
            return broken(store, status, err);
    for (size_t i = 1; i < count && fault != TIER_FAULT_CONNECTION; i++) {
        bool unused;
        enum tier_fault one = read_claim(store, &unused, err);
        fault = one == TIER_FAULT_NONE ? fault : one;
    }
    return fault;
}

static void redis_close(struct tier_store *base)
{
    struct redis_store *store = (struct redis_store *)base;
    redis_connection_release(&store->connection);
    free(store);
}

enum status redis_store_open(struct tier_store **out, const struct redis_store_options *options,
                             struct error *err)
{
    *out = NULL;
    struct redis_address address;
    if (options->cluster || strchr(options->address, ','))
        return redis_nodes_open(out, options, err);
    enum status status = redis_address_parse(&address, options->address, err);
    if (status != STATUS_OK)
        return status;
    struct redis_store *store = calloc(1, sizeof *store);
    if (!store)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a Redis connection");
    store->base = (struct tier_store){
        .get = redis_get, .put = redis_put, .touch = redis_touch, .lease = redis_lease, .close = redis_close};
    store->ttl_s = options->ttl_s;
    status = redis_connection_init(&store->connection, &address, options->user, options->password, err);
    if (status != STATUS_OK) {
        free(store);
        return status;
    }
    store->connection.writer = options->writer;
    *out = &store->base;
    return STATUS_OK;
}
