// SPDX-License-Identifier: Apache-2.0
#include "kvtier/redis_admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvtier/cluster_map.h"
#include "kvtier/redis_connection.h"
#include "kvtier/redis_store.h"

enum { SCAN_COUNT = 500, CURSOR_BYTES = 32, PATTERN_BYTES = 64 };

struct redis_admin {
    size_t count, at; /* servers; the one that is walked */
    struct redis_connection servers[CLUSTER_MAX_NODES];
    char names[CLUSTER_MAX_NODES][REDIS_ADDRESS_BYTES];
};

struct scan_page {
    bool have_cursor;
    char cursor[CURSOR_BYTES];
    enum status (*visit)(void *context, const char *key);
    void *context;
    enum status status;
};

static enum status add_servers(struct redis_admin *admin, const struct redis_address *addresses, size_t count,
                               const struct redis_store_options *options, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        enum status status = redis_connection_init(&admin->servers[admin->count], &addresses[i],
                                                   options->user, options->password, err);
        if (status != STATUS_OK)
            return status;
        redis_address_print(&addresses[i], admin->names[admin->count++]);
    }
    return STATUS_OK;
}

/* The masters, from the first of the addresses that answers. */
static enum status add_masters(struct redis_admin *admin, const struct redis_address *entries, size_t count,
                               const struct redis_store_options *options, struct error *err)
{
    struct cluster_map *map = malloc(sizeof *map);
    enum status status = map ? STATUS_UNAVAILABLE : error_set(err, STATUS_NO_MEMORY, "no memory");
    for (size_t i = 0; map && i < count && status == STATUS_UNAVAILABLE; i++) {
        struct redis_connection look;
        if (redis_connection_init(&look, &entries[i], options->user, options->password, err) != STATUS_OK)
            break;
        cluster_map_clear(map);
        if (redis_connection_ensure(&look, err) == TIER_FAULT_NONE &&
            cluster_map_read(map, &look, err) == TIER_FAULT_NONE)
            status = add_servers(admin, map->nodes, map->node_count, options, err);
        redis_connection_release(&look);
    }
    free(map);
    return status;
}

enum status redis_admin_open(struct redis_admin **out, const struct redis_store_options *options,
                             struct error *err)
{
    struct redis_address addresses[REDIS_MAX_ADDRESSES];
    size_t count = 0;
    *out = NULL;
    enum status status = redis_address_parse_list(addresses, &count, options->address, err);
    struct redis_admin *admin = status == STATUS_OK ? calloc(1, sizeof *admin) : NULL;
    if (status == STATUS_OK && !admin)
        status = error_set(err, STATUS_NO_MEMORY, "no memory for a Redis connection");
    if (status == STATUS_OK)
        status = options->cluster ? add_masters(admin, addresses, count, options, err)
                                  : add_servers(admin, addresses, count, options, err);
    if (status != STATUS_OK) {
        redis_admin_close(admin);
        return status;
    }
    *out = admin;
    return STATUS_OK;
}

void redis_admin_close(struct redis_admin *admin)
{
    if (!admin)
        return;
    for (size_t i = 0; i < admin->count; i++)
        redis_connection_release(&admin->servers[i]);
    free(admin);
}

size_t redis_admin_count(const struct redis_admin *admin)
{
    return admin->count;
}

const char *redis_admin_name(const struct redis_admin *admin, size_t index)
{
    return admin->names[index];
}

static enum status run(struct redis_admin *admin, int argc, const char **argv, redis_leaf_fn *visit,
                       void *context, struct error *err)
{
    struct redis_connection *server = &admin->servers[admin->at];
    if (redis_connection_ensure(server, err) != TIER_FAULT_NONE ||
        redis_connection_control(server, argc, argv, visit, context, err) != TIER_FAULT_NONE)
        return STATUS_UNAVAILABLE;
    return STATUS_OK;
}

/* The value of "name:" in INFO's lines. */
static void info_field(const char *info, const char *name, char out[32])
{
    const char *at = strstr(info, name);
    size_t bytes = at ? strcspn(at + strlen(name), "\r\n") : 0;
    snprintf(out, 32, "%.*s", bytes < 31 ? (int)bytes : 31, at ? at + strlen(name) : "?");
}

static void take_info(void *context, int depth, const char *text, size_t bytes)
{
    (void)depth;
    struct redis_admin_memory *out = context;
    (void)bytes;
    info_field(text, "\nused_memory:", out->used_bytes);
    info_field(text, "\nmaxmemory:", out->max_bytes);
    info_field(text, "\nmaxmemory_policy:", out->policy);
    info_field(text, "\nevicted_keys:", out->evicted_keys);
}

enum status redis_admin_memory_read(struct redis_admin *admin, size_t index, struct redis_admin_memory *out,
                                    struct error *err)
{
    admin->at = index;
    return run(admin, 2, (const char *[]){"INFO", "all"}, take_info, out, err);
}

static void take_page(void *context, int depth, const char *text, size_t bytes)
{
    (void)depth;
    struct scan_page *page = context;
    (void)bytes;
    if (!page->have_cursor) {
        page->have_cursor = true;
        snprintf(page->cursor, sizeof page->cursor, "%s", text);
    } else if (page->status == STATUS_OK) {
        page->status = page->visit(page->context, text);
    }
}

static enum status walk_server(struct redis_admin *admin, const char *fingerprint_hex,
                               enum status (*visit)(void *context, const char *key), void *context,
                               struct error *err)
{
    char pattern[PATTERN_BYTES], count[16], cursor[CURSOR_BYTES] = "0";
    snprintf(pattern, sizeof pattern, "kvt1:%.16s:*", /* not the leases */
             fingerprint_hex ? fingerprint_hex : "????????????????");
    snprintf(count, sizeof count, "%d", SCAN_COUNT);
    do {
        struct scan_page page = {.visit = visit, .context = context};
        const char *argv[] = {"SCAN", cursor, "MATCH", pattern, "COUNT", count};
        enum status status = run(admin, 6, argv, take_page, &page, err);
        if (status == STATUS_OK)
            status = page.status;
        if (status != STATUS_OK)
            return status;
        memcpy(cursor, page.cursor, sizeof cursor);
    } while (strcmp(cursor, "0") != 0);
    return STATUS_OK;
}

enum status redis_admin_walk(struct redis_admin *admin, const char *fingerprint_hex,
                             enum status (*visit)(void *context, const char *key), void *context,
                             struct error *err)
{
    enum status worst = STATUS_OK;
    for (admin->at = 0; admin->at < admin->count; admin->at++) {
        enum status status = walk_server(admin, fingerprint_hex, visit, context, err);
        worst = status == STATUS_OK ? worst : status;
    }
    return worst;
}

static void take_count(void *context, int depth, const char *text, size_t bytes)
{
    (void)depth;
    (void)bytes;
    *(uint64_t *)context += text[0] == '1';
}

enum status redis_admin_unlink(struct redis_admin *admin, const char *key, uint64_t *removed,
                               struct error *err)
{
    return run(admin, 2, (const char *[]){"UNLINK", key}, take_count, removed, err);
}

struct value_check {
    const char *key;
    struct redis_admin_verify *tally;
};

static void check_value(void *context, int depth, const char *text, size_t bytes)
{
    (void)depth;
    struct value_check *check = context;
    struct block_identity block;
    char key[REDIS_STORE_KEY_BYTES];
    if (bytes == 0) {
        check->tally->vanished++;
        return;
    }
    check->tally->read++;
    enum block_verdict verdict = block_codec_check_self((const uint8_t *)text, bytes, &block);
    if (verdict == BLOCK_VERDICT_OK) {
        redis_store_key(&block, key);
        if (strcmp(key, check->key) != 0)
            verdict = BLOCK_VERDICT_KEY;
    }
    if (verdict == BLOCK_VERDICT_OK)
        check->tally->good++;
    else
        check->tally->bad[verdict]++;
}

enum status redis_admin_verify_key(struct redis_admin *admin, const char *key,
                                   struct redis_admin_verify *tally, struct error *err)
{
    struct value_check check = {.key = key, .tally = tally};
    return run(admin, 2, (const char *[]){"GET", key}, check_value, &check, err);
}
