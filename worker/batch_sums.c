// SPDX-License-Identifier: Apache-2.0
#include "worker/batch_sums.h"

#include <string.h>

#include "base/json.h"

void batch_sums_init(struct batch_sums *sums)
{
    *sums = (struct batch_sums){.total = -1, .created_ms = -1, .first_ms = -1, .last_ms = -1};
}

void batch_sums_add(struct batch_sums *sums, const struct batch_sums *part)
{
    if (part->total >= 0)
        sums->total = part->total;
    if (part->created_ms >= 0)
        sums->created_ms = part->created_ms;
    sums->completed += part->completed;
    sums->failed += part->failed;
    sums->cancelled += part->cancelled;
    sums->expired += part->expired;
    sums->input_tokens += part->input_tokens;
    sums->cached_tokens += part->cached_tokens;
    sums->output_tokens += part->output_tokens;
    sums->core_us += part->core_us;
    if (part->first_ms >= 0 && (sums->first_ms < 0 || part->first_ms < sums->first_ms))
        sums->first_ms = part->first_ms;
    if (part->last_ms > sums->last_ms)
        sums->last_ms = part->last_ms;
}

int64_t batch_sums_answered(const struct batch_sums *sums)
{
    return sums->completed + sums->failed + sums->cancelled + sums->expired;
}

const char *batch_sums_word(const struct batch_sums *sums)
{
    int64_t answered = batch_sums_answered(sums);
    if (sums->total >= 0 && answered >= sums->total)
        return sums->cancelled == answered && answered > 0 ? "cancelled" : "completed";
    return answered == 0 ? "validating" : "in_progress";
}

/* ---- as JSON ---- */

static void append_time(struct bytes *out, const char *name, int64_t time, int64_t unit)
{
    if (time < 0)
        bytes_appendf(out, ",\"%s\":null", name);
    else
        bytes_appendf(out, ",\"%s\":%lld", name, (long long)(time / unit));
}

void batch_sums_write(const struct batch_sums *s, const char *batch_id, struct bytes *out)
{
    const char *word = batch_sums_word(s);
    bool over = strcmp(word, "completed") == 0 || strcmp(word, "cancelled") == 0;
    bytes_append_text(out, "{\"id\":");
    json_append_string(out, batch_id, strlen(batch_id));
    bytes_appendf(out, ",\"object\":\"batch\",\"version\":%d,\"status\":\"%s\"", BATCH_SUMS_VERSION, word);
    append_time(out, "created_at", s->created_ms, 1000);
    append_time(out, "in_progress_at", s->first_ms, 1000);
    append_time(out, "completed_at", over ? s->last_ms : -1, 1000);
    bytes_appendf(out, ",\"request_counts\":{\"total\":%lld,\"completed\":%lld,\"failed\":%lld,",
                  (long long)(s->total >= 0 ? s->total : batch_sums_answered(s)), (long long)s->completed,
                  (long long)(s->failed + s->cancelled + s->expired));
    bytes_appendf(out, "\"cancelled\":%lld,\"expired\":%lld}", (long long)s->cancelled,
                  (long long)s->expired);
    bytes_appendf(out, ",\"usage\":{\"input_tokens\":%lld,\"input_tokens_details\":{\"cached_tokens\":%lld},",
                  (long long)s->input_tokens, (long long)s->cached_tokens);
    bytes_appendf(out, "\"output_tokens\":%lld,\"total_tokens\":%lld}", (long long)s->output_tokens,
                  (long long)(s->input_tokens + s->output_tokens));
    bytes_appendf(out, ",\"core_seconds\":%lld.%06lld", (long long)(s->core_us / 1000000),
                  (long long)(s->core_us % 1000000));
    append_time(out, "first_answer_ms", s->first_ms, 1);
    append_time(out, "last_answer_ms", s->last_ms, 1);
    bytes_append_char(out, '}');
}

static int64_t count_of(const struct json *object, const char *name)
{
    int64_t count = json_integer_or(json_member(object, name), 0);
    return count > 0 ? count : 0;
}

bool batch_sums_read(struct batch_sums *out, const char *value, size_t bytes)
{
    struct json_document *document;
    batch_sums_init(out);
    if (json_parse(&document, value, bytes, NULL, NULL) != STATUS_OK)
        return false;
    const struct json *root = json_root(document);
    const struct json *counts = json_member(root, "request_counts"), *usage = json_member(root, "usage");
    bool found = counts && counts->type == JSON_OBJECT &&
                 json_integer_or(json_member(root, "version"), BATCH_SUMS_VERSION) == BATCH_SUMS_VERSION;
    out->total = json_integer_or(json_member(counts, "total"), -1);
    int64_t created_s = json_integer_or(json_member(root, "created_at"), -1);
    out->created_ms = created_s >= 0 ? created_s * 1000 : -1;
    out->completed = count_of(counts, "completed");
    out->cancelled = count_of(counts, "cancelled");
    out->expired = count_of(counts, "expired");
    int64_t failed = count_of(counts, "failed") - out->cancelled - out->expired;
    out->failed = failed > 0 ? failed : 0;
    out->input_tokens = count_of(usage, "input_tokens");
    out->cached_tokens = count_of(json_member(usage, "input_tokens_details"), "cached_tokens");
    out->output_tokens = count_of(usage, "output_tokens");
    out->core_us = (int64_t)(json_number_or(json_member(root, "core_seconds"), 0) * 1e6 + 0.5);
    out->first_ms = json_integer_or(json_member(root, "first_answer_ms"), -1);
    out->last_ms = json_integer_or(json_member(root, "last_answer_ms"), -1);
    json_close(document);
    if (!found)
        batch_sums_init(out);
    return found;
}

/* ---- keys ---- */

/* Where the last slash before `end` is; `end` when there is none. */
static size_t slash_before(const char *key, size_t end)
{
    for (size_t i = end; i-- > 0;)
        if (key[i] == '/')
            return i;
    return end;
}

static bool read_number(const char *text, size_t bytes, int32_t *out)
{
    int64_t number = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] < '0' || text[i] > '9' || number > INT32_MAX / 10)
            return false;
        number = number * 10 + (text[i] - '0');
    }
    *out = (int32_t)number;
    return bytes > 0;
}

size_t batch_sums_split_key(const char *key, size_t key_bytes, const char **topic, size_t *topic_bytes,
                            int32_t *partition)
{
    size_t second = slash_before(key, key_bytes), first = slash_before(key, second);
    *topic = NULL;
    *topic_bytes = 0;
    *partition = -1;
    if (second == key_bytes || first == second || first + 1 == second ||
        !read_number(key + second + 1, key_bytes - second - 1, partition)) {
        *partition = -1;
        return key_bytes;
    }
    *topic = key + first + 1;
    *topic_bytes = second - first - 1;
    return first;
}
