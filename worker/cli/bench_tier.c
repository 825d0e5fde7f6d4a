// SPDX-License-Identifier: Apache-2.0
// `millrace bench tier`: how near the tier's verified reads and its writes come to what the same servers give
// a raw RESP reader in the same run, by value size. Rounds are alternated and the median is taken, because
// the loopback's speed moves by itself; processor time per byte hardly does.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "kvtier/redis_connection.h"
#include "kvtier/redis_store.h"
#include "worker/cli/bench.h"
#include "worker/cli/cli.h"

enum { ROUNDS = 7, MOST_ROUNDS = 99, ROUND_BYTES = 64 << 20, BLOCK_TOKENS = 16, OP_LIMIT_S = 30 };

static const char usage[] =
    "usage: millrace bench tier [--address redis://HOST:PORT,…] [--rounds N] [--min-kib N] [--max-kib N] "
    "[--json]";
static const size_t sizes[] = {16 << 10, 64 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20};

struct bench {
    struct tier_store *store;
    struct redis_connection *raw; /* [servers] */
    size_t servers;
    uint8_t fingerprint[SHA256_BYTES];
    int32_t tokens[BLOCK_TOKENS];
    int rounds;
    bool json;
    /* of one value size */
    size_t payload_bytes, count;
    struct block_identity *blocks; /* [count] */
    uint8_t **payloads;            /* [count] */
    uint8_t *server;               /* [count] which has it */
};

struct speed { /* of a round, or the medians of all */
    double gb_per_s;
    double core_s_per_gb; /* processor time of the reader */
};

static int64_t limit_ns(void)
{
    return monotime_ns() + (int64_t)OP_LIMIT_S * 1000000000;
}

static struct speed speed_since(const struct bench *bench, int64_t begin_ns, int64_t begin_core_ns)
{
    double bytes = (double)(bench->payload_bytes * bench->count);
    return (struct speed){bytes / (double)(monotime_ns() - begin_ns),
                          (double)(monotime_core_ns() - begin_core_ns) / bytes};
}

static void release(struct bench *bench)
{
    for (size_t i = 0; bench->payloads && i < bench->count; i++)
        free(bench->payloads[i]);
    free(bench->payloads);
    free(bench->blocks);
    free(bench->server);
    bench->payloads = NULL;
    bench->blocks = NULL;
    bench->server = NULL;
}

static enum status prepare(struct bench *bench, size_t payload_bytes, struct error *err)
{
    bench->payload_bytes = payload_bytes;
    bench->count = ROUND_BYTES / payload_bytes;
    bench->blocks = calloc(bench->count, sizeof *bench->blocks);
    bench->payloads = calloc(bench->count, sizeof *bench->payloads);
    bench->server = calloc(bench->count, sizeof *bench->server);
    if (!bench->blocks || !bench->payloads || !bench->server)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the benchmark's blocks");
    int64_t salt = walltime_ms(); /* nobody has these blocks yet */
    struct block_key parent = block_key_root(bench->fingerprint, &salt, sizeof salt);
    for (size_t i = 0; i < bench->count; i++) {
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
    return STATUS_OK;
}

/* ---- the tier ---- */

static enum status write_all(struct bench *bench, struct speed *speed, struct error *err)
{
    int64_t begin_ns = monotime_ns(), begin_core_ns = monotime_core_ns();
    for (size_t i = 0; i < bench->count; i++)
        if (bench->store->put(bench->store, &bench->blocks[i], bench->payloads[i], limit_ns(), err) !=
            TIER_FAULT_NONE)
            return STATUS_UNAVAILABLE;
    *speed = speed_since(bench, begin_ns, begin_core_ns);
    return STATUS_OK;
}

static enum status read_verified(struct bench *bench, struct speed *speed, struct error *err)
{
    struct tier_get get = {.blocks = bench->blocks,
                           .payloads = bench->payloads,
                           .count = bench->count,
                           .deadline_ns = limit_ns()};
    int64_t begin_ns = monotime_ns(), begin_core_ns = monotime_core_ns();
    if (bench->store->get(bench->store, &get, err) != TIER_FAULT_NONE)
        return STATUS_UNAVAILABLE;
    *speed = speed_since(bench, begin_ns, begin_core_ns);
    if (get.loaded != get.count)
        return error_set(
            err, STATUS_UNAVAILABLE,
            "only %zu of %zu blocks came back (%s): give this Redis more than 128 MB of maxmemory",
            get.loaded, get.count, block_verdict_name(get.verdict));
    return STATUS_OK;
}

/* ---- the limit: the same GETs in the same window, payloads read into the same places, not looked at ---- */

static enum status send_command(struct bench *bench, size_t server, const char *verb, size_t index)
{
    char key[REDIS_STORE_KEY_BYTES], command[256];
    size_t bytes = redis_store_key(&bench->blocks[index], key);
    int length = snprintf(command, sizeof command, "*2\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n", strlen(verb), verb,
                          bytes, key);
    struct iovec part = {command, (size_t)length};
    return resp_send(&bench->raw[server].resp, &part, 1);
}

static enum status read_payload(struct bench *bench, struct resp *resp, size_t index)
{
    struct resp_reply reply;
    size_t head = block_codec_head_bytes(BLOCK_TOKENS);
    enum status status = resp_read_reply(resp, &reply);
    if (status == STATUS_OK &&
        (reply.type != RESP_BULK || (size_t)reply.number != head + bench->payload_bytes))
        status = STATUS_CORRUPT;
    if (status == STATUS_OK)
        status = resp_skip_bytes(resp, head);
    if (status == STATUS_OK)
        status = resp_read_bytes(resp, bench->payloads[index], bench->payload_bytes);
    return status == STATUS_OK ? resp_read_crlf(resp) : status;
}

static size_t next_of(const struct bench *bench, size_t server, size_t index)
{
    while (index < bench->count && bench->server[index] != server)
        index++;
    return index;
}

static enum status read_server(struct bench *bench, size_t server)
{
    struct resp *resp = &bench->raw[server].resp;
    size_t fit = REDIS_STORE_WINDOW_BYTES / bench->payload_bytes;
    size_t window = fit < REDIS_STORE_WINDOW ? fit : REDIS_STORE_WINDOW;
    enum status status = STATUS_OK;
    size_t asked = next_of(bench, server, 0), owed = 0;
    resp->deadline_ns = limit_ns();
    for (size_t i = asked; i < bench->count && status == STATUS_OK; i = next_of(bench, server, i + 1)) {
        while (status == STATUS_OK && asked < bench->count && owed < window) {
            status = send_command(bench, server, "GET", asked);
            asked = next_of(bench, server, asked + 1);
            owed++;
        }
        if (status == STATUS_OK)
            status = read_payload(bench, resp, i);
        owed--;
    }
    return status;
}

static enum status read_raw(struct bench *bench, struct speed *speed, struct error *err)
{
    enum status status = STATUS_OK;
    int64_t begin_ns = monotime_ns(), begin_core_ns = monotime_core_ns();
    for (size_t i = 0; i < bench->servers && status == STATUS_OK; i++)
        status = read_server(bench, i);
    *speed = speed_since(bench, begin_ns, begin_core_ns);
    return status == STATUS_OK ? STATUS_OK : error_set(err, status, "raw read: %s", status_text(status));
}

/* One command for every block to one server; `take` (may be NULL) gets the integers that it answers. */
static enum status ask_all(struct bench *bench, size_t server, const char *verb,
                           void (*take)(struct bench *bench, size_t server, size_t index, int64_t answer),
                           struct error *err)
{
    if (redis_connection_ensure(&bench->raw[server], err) != TIER_FAULT_NONE)
        return STATUS_UNAVAILABLE;
    struct resp *resp = &bench->raw[server].resp;
    resp->deadline_ns = limit_ns();
    for (size_t i = 0; i < bench->count; i++) {
        struct resp_reply reply;
        enum status status = send_command(bench, server, verb, i);
        if (status == STATUS_OK)
            status = resp_read_reply(resp, &reply);
        if (status == STATUS_OK && reply.type != RESP_INTEGER)
            status = STATUS_CORRUPT;
        if (status != STATUS_OK)
            return error_set(err, status, "%s: %s", verb, status_text(status));
        if (take)
            take(bench, server, i, reply.number);
    }
    return STATUS_OK;
}

static void note_server(struct bench *bench, size_t server, size_t index, int64_t exists)
{
    if (exists)
        bench->server[index] = (uint8_t)server;
}

/* The tier spread the blocks by its own rule: the raw reader asks who has which. */
static enum status find_servers(struct bench *bench, struct error *err)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < bench->servers && status == STATUS_OK; i++)
        status = ask_all(bench, i, "EXISTS", note_server, err);
    return status;
}

static enum status remove_all(struct bench *bench, struct error *err)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < bench->servers && status == STATUS_OK; i++)
        status = ask_all(bench, i, "UNLINK", NULL, err);
    return status;
}

/* ---- rounds ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of one number of each round; `low` and `high` are its quartiles. */
static double median(const struct speed *rounds, int count, size_t offset, double *low, double *high)
{
    double values[MOST_ROUNDS];
    for (int i = 0; i < count; i++)
        memcpy(&values[i], (const char *)&rounds[i] + offset, sizeof values[i]);
    qsort(values, (size_t)count, sizeof *values, compare);
    *low = values[count / 4];
    *high = values[(count - 1) - count / 4];
    return values[count / 2];
}

static void report(const struct bench *bench, const struct speed *put, const struct speed *raw,
                   const struct speed *tier, const struct speed *share)
{
    double low, high, unused[2];
    double limit = median(raw, bench->rounds, offsetof(struct speed, gb_per_s), &unused[0], &unused[1]);
    double reached = median(tier, bench->rounds, offsetof(struct speed, gb_per_s), &unused[0], &unused[1]);
    double ratio = median(share, bench->rounds, offsetof(struct speed, gb_per_s), &low, &high);
    double raw_core =
        median(raw, bench->rounds, offsetof(struct speed, core_s_per_gb), &unused[0], &unused[1]);
    double tier_core =
        median(tier, bench->rounds, offsetof(struct speed, core_s_per_gb), &unused[0], &unused[1]);
    if (bench->json)
        printf("{\"work\":\"tier_get\",\"value_bytes\":%zu,\"servers\":%zu,\"rounds\":%d,"
               "\"gigabytes_per_second\":%.3f,\"share_of_limit\":%.3f,\"share_quartiles\":[%.3f,%.3f],"
               "\"core_seconds_per_gigabyte\":%.3f,\"limit\":{\"raw_resp_gigabytes_per_second\":%.3f,"
               "\"core_seconds_per_gigabyte\":%.3f},\"put_gigabytes_per_second\":%.3f}\n",
               bench->payload_bytes, bench->servers, bench->rounds, reached, ratio, low, high, tier_core,
               limit, raw_core, put->gb_per_s);
    else
        printf("%8zu KiB   put %5.2f GB/s   raw %5.2f GB/s %4.2f core-s/GB   verified %5.2f GB/s %4.2f "
               "core-s/GB   %3.0f %% of raw (%.0f to %.0f)\n",
               bench->payload_bytes >> 10, put->gb_per_s, limit, raw_core, reached, tier_core, 100 * ratio,
               100 * low, 100 * high);
    fflush(stdout);
}

/* The share is that of neighbours: what the machine does meanwhile meets both. */
static enum status run_size(struct bench *bench, struct error *err)
{
    struct speed put = {0}, raw[MOST_ROUNDS], tier[MOST_ROUNDS], share[MOST_ROUNDS] = {0};
    enum status status = write_all(bench, &put, err);
    if (status == STATUS_OK)
        status = find_servers(bench, err);
    for (int i = 0; i < bench->rounds && status == STATUS_OK; i++) {
        status = read_raw(bench, &raw[i], err);
        if (status == STATUS_OK)
            status = read_verified(bench, &tier[i], err);
        if (status == STATUS_OK)
            share[i].gb_per_s = tier[i].gb_per_s / raw[i].gb_per_s;
    }
    if (status == STATUS_OK)
        report(bench, &put, raw, tier, share);
    return status == STATUS_OK ? remove_all(bench, err) : status;
}

/* ---- the servers ---- */

static enum status open_servers(struct bench *bench, const char *address, struct error *err)
{
    struct redis_address places[REDIS_MAX_ADDRESSES];
    size_t count = 0;
    struct redis_store_options options = {.address = address, .ttl_s = 600, .writer = true};
    enum status status = redis_address_parse_list(places, &count, address, err);
    if (status != STATUS_OK)
        return status;
    bench->raw = calloc(count, sizeof *bench->raw);
    if (!bench->raw)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the connections");
    for (; bench->servers < count && status == STATUS_OK; bench->servers++)
        status = redis_connection_init(&bench->raw[bench->servers], &places[bench->servers], "", "", err);
    return status == STATUS_OK ? redis_store_open(&bench->store, &options, err) : status;
}

static void close_servers(struct bench *bench)
{
    for (size_t i = 0; i < bench->servers; i++)
        redis_connection_release(&bench->raw[i]);
    free(bench->raw);
    if (bench->store)
        bench->store->close(bench->store);
}

int bench_tier(int argc, char **argv)
{
    const char *address = "redis://127.0.0.1:6379";
    struct bench bench = {.fingerprint = "bench", .rounds = ROUNDS};
    int min_kib = 0, max_kib = 1 << 20, exit_code;
    const struct bench_option options[] = {
        {"--address", .text = &address},   {"--rounds", .number = &bench.rounds, .most = MOST_ROUNDS},
        {"--min-kib", .number = &min_kib}, {"--max-kib", .number = &max_kib},
        {"--json", .flag = &bench.json},   {0}};
    if (!bench_options(options, argc, argv, "bench tier", usage, &exit_code))
        return exit_code;
    struct error err = {0};
    enum status status = open_servers(&bench, address, &err);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && status == STATUS_OK; i++) {
        if (sizes[i] < (size_t)min_kib << 10 || sizes[i] > (size_t)max_kib << 10)
            continue;
        /* 64 bytes under a power of two with its header, so that the allocator's class is not overshot */
        status = prepare(&bench, sizes[i] - block_codec_head_bytes(BLOCK_TOKENS) - 64, &err);
        if (status == STATUS_OK)
            status = run_size(&bench, &err);
        release(&bench);
    }
    close_servers(&bench);
    return status == STATUS_OK ? EXIT_DONE : cli_fail(&err);
}
