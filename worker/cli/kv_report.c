// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/kv_report.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "kvtier/kvtier.h"

enum { MOST_BYTES = 1 << 20 };

/* ---- JSON ---- */

static void add_name(struct bytes *out, const char *name)
{
    bytes_appendf(out, "%s\"%s\":", out->count_bytes && out->data[out->count_bytes - 1] != '{' ? "," : "",
                  name);
}

static void add_count(struct bytes *out, const char *name, uint64_t value)
{
    add_name(out, name);
    bytes_appendf(out, "%llu", (unsigned long long)value);
}

/* NULL and "" are null. */
static void add_text(struct bytes *out, const char *name, const char *text)
{
    add_name(out, name);
    if (text && *text)
        json_append_string(out, text, strlen(text));
    else
        bytes_append_text(out, "null");
}

/* A number as Redis wrote it. */
static void add_digits(struct bytes *out, const char *name, const char *digits)
{
    add_name(out, name);
    bytes_append_text(out, *digits && digits[strspn(digits, "0123456789")] == '\0' ? digits : "null");
}

static void begin(struct bytes *out, const char *object)
{
    bytes_init(out, MOST_BYTES);
    bytes_append_char(out, '{');
    add_text(out, "object", object);
}

static void end(struct bytes *out)
{
    bytes_append_text(out, "}");
    if (!out->failed)
        puts(out->data);
    bytes_release(out);
}

static void stats_json(const struct kv_report_server *servers, size_t count,
                       const struct kv_report_models *models)
{
    struct bytes out;
    begin(&out, "kv.stats");
    add_name(&out, "servers");
    for (size_t i = 0; i < count; i++) {
        bytes_append_text(&out, i ? ",{" : "[{");
        add_text(&out, "address", servers[i].address);
        add_name(&out, "up");
        bytes_append_text(&out, servers[i].up ? "true" : "false");
        add_digits(&out, "used_bytes", servers[i].memory.used_bytes);
        add_digits(&out, "max_bytes", servers[i].memory.max_bytes);
        add_text(&out, "policy", servers[i].memory.policy);
        add_digits(&out, "evicted_keys", servers[i].memory.evicted_keys);
        bytes_append_char(&out, '}');
    }
    bytes_append_text(&out, count ? "]" : "[]");
    add_name(&out, "models");
    bytes_append_char(&out, '[');
    for (size_t i = 0; i < models->count; i++) {
        bytes_append_text(&out, i ? ",{" : "{");
        add_text(&out, "fingerprint", models->fingerprints[i]);
        add_count(&out, "blocks", models->blocks[i]);
        bytes_append_char(&out, '}');
    }
    bytes_append_char(&out, ']');
    end(&out);
}

static void verify_json(const struct redis_admin_verify *tally)
{
    struct bytes out;
    begin(&out, "kv.verify");
    add_count(&out, "read_blocks", tally->read);
    add_count(&out, "good_blocks", tally->good);
    add_count(&out, "vanished_blocks", tally->vanished);
    add_name(&out, "bad_blocks");
    bytes_append_char(&out, '{');
    for (int i = 0; i < BLOCK_VERDICT_COUNT; i++)
        if (tally->bad[i])
            add_count(&out, block_verdict_name((enum block_verdict)i), tally->bad[i]);
    bytes_append_char(&out, '}');
    end(&out);
}

static void prompt_json(const struct kv_report_prompt *prompt)
{
    struct bytes out;
    begin(&out, "kv.lookup");
    add_count(&out, "line", (uint64_t)prompt->line);
    add_text(&out, "custom_id", prompt->custom_id);
    add_count(&out, "prompt_index", prompt->prompt);
    add_count(&out, "prompt_tokens", prompt->tokens);
    add_count(&out, "full_blocks", prompt->blocks);
    add_count(&out, "stored_blocks", prompt->stored);
    add_text(&out, "miss", prompt->miss == TIER_MISS_none ? NULL : tier_miss_name(prompt->miss));
    add_text(&out, "check", prompt->miss == TIER_MISS_corrupt ? block_verdict_name(prompt->verdict) : NULL);
    end(&out);
}

/* ---- either ---- */

void kv_report_stats(const struct kv_report_server *servers, size_t count,
                     const struct kv_report_models *models, bool json)
{
    if (json) {
        stats_json(servers, count, models);
        return;
    }
    bool all_up = true;
    for (size_t i = 0; i < count; i++) {
        const struct redis_admin_memory *memory = &servers[i].memory;
        all_up = all_up && servers[i].up;
        if (servers[i].up)
            printf("memory   %s of %s bytes, policy %s, evicted keys %s   %s\n", memory->used_bytes,
                   memory->max_bytes, memory->policy, memory->evicted_keys, servers[i].address);
        else
            printf("memory   away            %s\n", servers[i].address);
    }
    for (size_t i = 0; i < models->count; i++)
        printf("model    %s   %llu blocks\n", models->fingerprints[i], (unsigned long long)models->blocks[i]);
    if (models->count == 0 && all_up)
        printf("model    none: no block is stored\n");
}

void kv_report_verify(const struct redis_admin_verify *tally, bool json)
{
    if (json) {
        verify_json(tally);
        return;
    }
    printf("verify   %llu blocks read, %llu good, %llu vanished\n", (unsigned long long)tally->read,
           (unsigned long long)tally->good, (unsigned long long)tally->vanished);
    for (int i = 0; i < BLOCK_VERDICT_COUNT; i++)
        if (tally->bad[i])
            printf("bad      %llu blocks: %s\n", (unsigned long long)tally->bad[i],
                   block_verdict_name((enum block_verdict)i));
}

void kv_report_clear(uint64_t removed, bool json)
{
    printf(json ? "{\"object\":\"kv.clear\",\"removed_blocks\":%llu}\n" : "clear    %llu blocks removed\n",
           (unsigned long long)removed);
}

void kv_report_prompt(const struct kv_report_prompt *prompt, bool json)
{
    bool whole = prompt->miss == TIER_MISS_none, corrupt = prompt->miss == TIER_MISS_corrupt;
    if (json)
        prompt_json(prompt);
    else
        printf("lookup   %-24s %6zu tokens, %4zu full blocks, %4zu in the tier%s%s%s%s\n", prompt->custom_id,
               prompt->tokens, prompt->blocks, prompt->stored, whole ? "" : ", then ",
               whole ? "" : tier_miss_name(prompt->miss), corrupt ? ": " : "",
               corrupt ? block_verdict_name(prompt->verdict) : "");
}

void kv_report_no_job(int64_t line, const char *why, bool json)
{
    struct bytes out;
    if (!json) {
        printf("lookup   line %lld is no job: %s\n", (long long)line, why);
        return;
    }
    begin(&out, "kv.lookup");
    add_count(&out, "line", (uint64_t)line);
    add_text(&out, "error", why);
    end(&out);
}
