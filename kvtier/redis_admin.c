// SPDX-License-Identifier: Apache-2.0
#include "kvtier/redis_admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvtier/redis_connection.h"
#include "kvtier/redis_store.h"

enum { SCAN_COUNT = 500, CURSOR_BYTES = 32, PATTERN_BYTES = 64 };

struct redis_admin {
    struct redis_connection connection;
};

struct scan_page {
    bool have_cursor;
    char cursor[CURSOR_BYTES];
    enum status (*visit)(void *context, const char *key);
    void *context;
    enum status status;
};

enum status redis_admin_open(struct redis_admin **out, const char *address, const char *user,
                             const char *password, struct error *err)
{
    *out = NULL;
    struct redis_admin *admin = calloc(1, sizeof *admin);
    if (!admin)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a Redis connection");
    enum status status = redis_connection_init(&admin->connection, address, user, password, err);
    if (status != STATUS_OK) {
        free(admin);
        return status;
    }
    if (redis_connection_ensure(&admin->connection, err) != TIER_FAULT_NONE) {
        redis_admin_close(admin);
        return STATUS_UNAVAILABLE;
    }
    *out = admin;
    return STATUS_OK;
}

void redis_admin_close(struct redis_admin *admin)
{
    if (!admin)
        return;
    redis_connection_release(&admin->connection);
    free(admin);
}

static enum status run(struct redis_admin *admin, int argc, const char **argv,
                       void (*visit)(void *, const char *, size_t), void *context, struct error *err)
{
    if (redis_connection_ensure(&admin->connection, err) != TIER_FAULT_NONE ||
        redis_connection_control(&admin->connection, argc, argv, visit, context, err) != TIER_FAULT_NONE)
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

static void take_info(void *context, const char *text, size_t bytes)
{
    struct redis_admin_memory *out = context;
    (void)bytes;
    info_field(text, "\nused_memory:", out->used_bytes);
    info_field(text, "\nmaxmemory:", out->max_bytes);
    info_field(text, "\nmaxmemory_policy:", out->policy);
    info_field(text, "\nevicted_keys:", out->evicted_keys);
}

enum status redis_admin_memory_read(struct redis_admin *admin, struct redis_admin_memory *out,
                                    struct error *err)
{
    return run(admin, 2, (const char *[]){"INFO", "all"}, take_info, out, err);
}

static void take_page(void *context, const char *text, size_t bytes)
{
    struct scan_page *page = context;
    (void)bytes;
    if (!page->have_cursor) {
        page->have_cursor = true;
        snprintf(page->cursor, sizeof page->cursor, "%s", text);
    } else if (page->status == STATUS_OK) {
        page->status = page->visit(page->context, text);
    }
}

enum status redis_admin_walk(struct redis_admin *admin, const char *fingerprint_hex,
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

static void take_count(void *context, const char *text, size_t bytes)
{
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

static void check_value(void *context, const char *text, size_t bytes)
{
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
