// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/result_follow.h"

#include <errno.h>
#include <string.h>

#include "base/json.h"

void result_follow_init(struct result_follow *follow)
{
    *follow = (struct result_follow){0};
    id_map_init(&follow->expected);
    id_map_init(&follow->seen);
}

void result_follow_release(struct result_follow *follow)
{
    id_map_release(&follow->expected);
    id_map_release(&follow->seen);
}

bool result_follow_custom_id(const char *line, size_t bytes, char *out, size_t capacity, size_t *out_bytes)
{
    struct json_document *document;
    if (json_parse(&document, line, bytes, NULL, NULL) != STATUS_OK)
        return false;
    const struct json *id = json_member(json_root(document), "custom_id");
    bool ok = id && id->type == JSON_STRING && id->count > 0 && id->count < capacity;
    if (ok) {
        memcpy(out, id->as.string, id->count + 1);
        *out_bytes = id->count;
    }
    json_close(document);
    return ok;
}

static bool header_is(const struct job_record *record, const char *name, const char *value)
{
    for (size_t i = record->header_count; i-- > 0;) /* the last of a name counts */
        if (strcmp(record->headers[i].name, name) == 0)
            return record->headers[i].value && record->headers[i].value_bytes == strlen(value) &&
                   memcmp(record->headers[i].value, value, record->headers[i].value_bytes) == 0;
    return *value == '\0';
}

static void count_usage(struct result_follow *follow, const struct json *root)
{
    const struct json *usage = json_member(json_member(json_member(root, "response"), "body"), "usage");
    follow->prompt_tokens += (uint64_t)json_integer_or(json_member(usage, "prompt_tokens"), 0);
    follow->completion_tokens += (uint64_t)json_integer_or(json_member(usage, "completion_tokens"), 0);
}

/* True when the line is new and wanted; counts what it says. */
static enum status consider(struct result_follow *follow, const struct json *root, bool *wanted, bool *good)
{
    const struct json *id = json_member(root, "id");
    const struct json *custom_id = json_member(root, "custom_id");
    int64_t code = json_integer_or(json_member(json_member(root, "response"), "status_code"), 0);
    bool added = true;
    *good = code == 200;
    *wanted = true;
    if (id && id->type == JSON_STRING && !id_map_add(&follow->seen, id->as.string, id->count, &added))
        return STATUS_NO_MEMORY;
    if (!added) {
        follow->duplicates++;
        *wanted = false;
        return STATUS_OK;
    }
    if (follow->expected.count > 0 && custom_id && custom_id->type == JSON_STRING) {
        struct id_map_entry *entry = id_map_find(&follow->expected, custom_id->as.string, custom_id->count);
        *wanted = entry && entry->value == 0;
        follow->duplicates += entry && entry->value;
        follow->answered_expected += *wanted;
        if (entry)
            entry->value = 1;
    }
    return STATUS_OK;
}

enum status result_follow_take(struct result_follow *follow, const struct job_record *record,
                               struct error *err)
{
    struct json_document *document;
    bool wanted, good;
    if (!record->value || (follow->batch_id && !header_is(record, "millrace-batch-id", follow->batch_id)))
        return STATUS_OK;
    if (json_parse(&document, record->value, record->value_bytes, NULL, NULL) != STATUS_OK)
        return STATUS_OK; /* somebody else's record */
    enum status status = consider(follow, json_root(document), &wanted, &good);
    if (status == STATUS_OK && wanted) {
        FILE *file = good || !follow->errors ? follow->out : follow->errors;
        follow->written++;
        follow->failed += !good;
        count_usage(follow, json_root(document));
        if (fwrite(record->value, 1, record->value_bytes, file) != record->value_bytes ||
            fputc('\n', file) == EOF)
            status = error_set(err, STATUS_IO, "results cannot be written: %s", strerror(errno));
    } else if (status != STATUS_OK) {
        error_set(err, status, "no memory to follow results");
    }
    json_close(document);
    return status;
}
