// SPDX-License-Identifier: Apache-2.0
// `millrace bench tier`: how near the tier's verified reads and its writes come to what the same Redis gives
// a raw RESP reader in the same run, by value size. Rounds are alternated and the median is taken, because
// the loopback's speed moves by itself.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "kvtier/redis_connection.h"
#include "kvtier/redis_store.h"
#include "worker/cli/bench.h"
#include "worker/cli/cli.h"

enum { ROUNDS = 7, ROUND_BYTES = 64 << 20, BLOCK_TOKENS = 16, OP_LIMIT_S = 30 };

static const size_t sizes[] = {16 << 10, 64 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20};

struct bench { /* one value size */
    struct tier_store *store;
    struct redis_connection raw;
    size_t payload_bytes, count;
    struct block_identity *blocks; /* [count] */
    uint8_t **payloads;            /* [count] */
    uint8_t fingerprint[SHA256_BYTES];
    int32_t tokens[BLOCK_TOKENS];
};

static double gigabytes_per_second(const struct bench *bench, int64_t begin_ns)
{
    return (double)(bench->payload_bytes * bench->count) / (double)(monotime_ns() - begin_ns);
}

static int64_t limit_ns(void)
{
    return monotime_ns() + (int64_t)OP_LIMIT_S * 1000000000;
}

static void release(struct bench *bench)
{
    for (size_t i = 0; bench->payloads && i < bench->count; i++)
        free(bench->payloads[i]);
    free(bench->payloads);
    free(bench->blocks);
}

static enum status prepare(struct bench *bench, size_t payload_bytes, struct error *err)
{
    bench->payload_bytes = payload_bytes;
    bench->count = ROUND_BYTES / payload_bytes;
    bench->blocks = calloc(bench->count, sizeof *bench->blocks);
    bench->payloads = calloc(bench->count, sizeof *bench->payloads);
    struct block_key parent = block_key_root(bench->fingerprint, &payload_bytes, sizeof payload_bytes);
    for (size_t i = 0; bench->blocks && bench->payloads && i < bench->count; i++) {
        bench->payloads[i] = malloc(payload_bytes);
        if (!bench->payloads[i])
            return error_set(err, STATUS_NO_MEMORY, "no memory for the benchmark's blocks");
        for (size_t at = 0; at < payload_bytes; at++)
            bench->payloads[i][at] = (uint8_t)(at * 31 + i);
        bench->blocks[i] = (struct block_identity){.fingerprint = bench->fingerprint,
                                                   .parent = parent,
                                                   .tokens = bench->tokens,
                                                   .token_count = BLOCK_TOKENS,
                                                   .first_position = (uint32_t)i * BLOCK_TOKENS,
                                                   .payload_bytes = payload_bytes};
        bench->blocks[i].key = parent = block_key_next(&parent, bench->tokens, BLOCK_TOKENS);
    }
    return bench->blocks && bench->payloads ? STATUS_OK : error_set(err, STATUS_NO_MEMORY, "no memory");
}

static enum status write_all(struct bench *bench, double *speed, struct error *err)
{
    int64_t begin_ns = monotime_ns();
    for (size_t i = 0; i < bench->count; i++)
        if (bench->store->put(bench->store, &bench->blocks[i], bench->payloads[i], limit_ns(), err) !=
            TIER_FAULT_NONE)
            return STATUS_UNAVAILABLE;
    *speed = gigabytes_per_second(bench, begin_ns);
    return STATUS_OK;
}

static enum status read_verified(struct bench *bench, double *speed, struct error *err)
{
    struct tier_get get = {.blocks = bench->blocks,
                           .payloads = bench->payloads,
                           .count = bench->count,
                           .deadline_ns = limit_ns()};
    int64_t begin_ns = monotime_ns();
    if (bench->store->get(bench->store, &get, err) != TIER_FAULT_NONE)
        return STATUS_UNAVAILABLE;
    *speed = gigabytes_per_second(bench, begin_ns);
    if (get.loaded != get.count)
        return error_set(
            err, STATUS_UNAVAILABLE,
            "only %zu of %zu blocks came back (%s): give this Redis more than 256 MB of maxmemory",
            get.loaded, get.count, block_verdict_name(get.verdict));
    return STATUS_OK;
}

static enum status send_get(struct bench *bench, size_t index)
{
    char key[REDIS_STORE_KEY_BYTES], command[256];
    size_t bytes = redis_store_key(&bench->blocks[index], key);
    int length = snprintf(command, sizeof command, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", bytes, key);
    struct iovec part = {command, (size_t)length};
    return resp_send(&bench->raw.resp, &part, 1);
}

/* The limit: the same GETs in the same window, payloads read into the same places and not looked at. */
static enum status read_raw(struct bench *bench, double *speed, struct error *err)
{
    struct resp_reply reply;
    size_t asked = 0, head = block_codec_head_bytes(BLOCK_TOKENS);
    if (redis_connection_ensure(&bench->raw, err) != TIER_FAULT_NONE)
        return STATUS_UNAVAILABLE;
    bench->raw.resp.deadline_ns = limit_ns();
    enum status status = STATUS_OK;
    int64_t begin_ns = monotime_ns();
    for (size_t i = 0; i < bench->count && status == STATUS_OK; i++) {
        while (status == STATUS_OK && asked < bench->count && asked - i < REDIS_STORE_WINDOW)
            status = send_get(bench, asked++);
        if (status == STATUS_OK)
            status = resp_read_reply(&bench->raw.resp, &reply);
        if (status == STATUS_OK &&
            (reply.type != RESP_BULK || (size_t)reply.number != head + bench->payload_bytes))
            status = STATUS_CORRUPT;
        if (status == STATUS_OK)
            status = resp_skip_bytes(&bench->raw.resp, head);
        if (status == STATUS_OK)
            status = resp_read_bytes(&bench->raw.resp, bench->payloads[i], bench->payload_bytes);
        if (status == STATUS_OK)
            status = resp_read_crlf(&bench->raw.resp);
    }
    *speed = gigabytes_per_second(bench, begin_ns);
    return status == STATUS_OK ? STATUS_OK : error_set(err, status, "raw read: %s", status_text(status));
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, compare);
    return values[ROUNDS / 2];
}

static enum status run_size(struct bench *bench, bool json, struct error *err)
{
    double put = 0, raw[ROUNDS], verified[ROUNDS];
    enum status status = write_all(bench, &put, err);
    for (int i = 0; i < ROUNDS && status == STATUS_OK; i++) {
        status = read_raw(bench, &raw[i], err);
        if (status == STATUS_OK)
            status = read_verified(bench, &verified[i], err);
    }
    if (status != STATUS_OK)
        return status;
    double limit = median(raw), reached = median(verified);
    if (json)
        printf("{\"work\":\"tier_get\",\"value_bytes\":%zu,\"gigabytes_per_second\":%.3f,\"share_of_limit\":%"
               ".3f,"
               "\"limit\":{\"raw_resp_gigabytes_per_second\":%.3f},\"put_gigabytes_per_second\":%.3f}\n",
               bench->payload_bytes, reached, reached / limit, limit, put);
    else
        printf("%8zu KiB   put %5.2f GB/s   raw %5.2f GB/s   verified get %5.2f GB/s   %3.0f %% of raw\n",
               bench->payload_bytes >> 10, put, limit, reached, 100 * reached / limit);
    fflush(stdout);
    return STATUS_OK;
}

int bench_tier(int argc, char **argv)
{
    const char *address = "redis://127.0.0.1:6379";
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--address") == 0 && i + 1 < argc)
            address = argv[++i];
        else
            return cli_usage("bench tier",
                             "usage: millrace bench tier [--address redis://HOST:PORT] [--json]");
    }
    struct error err = {0};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && status == STATUS_OK; i++) {
        struct redis_address place;
        struct bench bench = {.fingerprint = "bench"};
        struct redis_store_options options = {.address = address, .ttl_s = 60, .writer = true};
        /* 64 bytes under a power of two with its header, so that the allocator's class is not overshot */
        size_t payload = sizes[i] - block_codec_head_bytes(BLOCK_TOKENS) - 64;
        status = redis_store_open(&bench.store, &options, &err);
        if (status != STATUS_OK)
            break;
        status = redis_address_parse(&place, address, &err);
        if (status == STATUS_OK)
            status = redis_connection_init(&bench.raw, &place, "", "", &err);
        if (status == STATUS_OK)
            status = prepare(&bench, payload, &err);
        if (status == STATUS_OK)
            status = run_size(&bench, json, &err);
        release(&bench);
        redis_connection_release(&bench.raw);
        bench.store->close(bench.store);
    }
    return status == STATUS_OK ? EXIT_DONE : cli_fail(&err);
}
