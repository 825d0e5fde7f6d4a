// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/batch_status.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

void batch_status_init(struct batch_status *status, const char *batch_id)
{
    *status = (struct batch_status){.batch_id = batch_id};
    batch_sums_init(&status->sums);
    id_map_init(&status->parts);
    id_map_init(&status->seen);
}

void batch_status_release(struct batch_status *status)
{
    id_map_release(&status->parts);
    id_map_release(&status->seen);
    free(status->latest);
}

/* ---- the status topic ---- */

/* Where the latest value of a partition's key is kept. NULL: no memory. */
static struct batch_sums *part_of(struct batch_status *status, const struct job_record *record)
{
    bool added;
    struct id_map_entry *entry = id_map_add(&status->parts, record->key, record->key_bytes, &added);
    if (!entry)
        return NULL;
    if (added) {
        struct batch_sums *grown = realloc(status->latest, (status->part_count + 1) * sizeof *status->latest);
        if (!grown)
            return NULL;
        status->latest = grown;
        entry->value = status->part_count++;
    }
    return &status->latest[entry->value];
}

enum status batch_status_take_status(struct batch_status *status, const struct job_record *record)
{
    const char *topic;
    size_t topic_bytes;
    int32_t partition;
    struct batch_sums sums;
    if (!record->key || !record->value || !batch_sums_read(&sums, record->value, record->value_bytes))
        return STATUS_OK;
    size_t bytes = strlen(status->batch_id);
    if (record->key_bytes == bytes && memcmp(record->key, status->batch_id, bytes) == 0) {
        status->sums.total = sums.total;
        status->sums.created_ms = sums.created_ms;
        return STATUS_OK;
    }
    if (batch_sums_split_key(record->key, record->key_bytes, &topic, &topic_bytes, &partition) != bytes ||
        !topic || memcmp(record->key, status->batch_id, bytes) != 0)
        return STATUS_OK;
    struct batch_sums *part = part_of(status, record);
    if (!part)
        return STATUS_NO_MEMORY;
    *part = sums;
    part->total = part->created_ms = -1;
    return STATUS_OK;
}

bool batch_status_sum_parts(struct batch_status *status)
{
    for (size_t i = 0; i < status->part_count; i++)
        batch_sums_add(&status->sums, &status->latest[i]);
    return status->part_count > 0;
}

/* ---- the results ---- */

static bool is_of_batch(const struct job_record *record, const char *batch_id)
{
    for (size_t i = record->header_count; i-- > 0;) {
        const struct job_header *header = &record->headers[i];
        if (strcmp(header->name, "millrace-batch-id") == 0)
            return header->value && header->value_bytes == strlen(batch_id) &&
                   memcmp(header->value, batch_id, header->value_bytes) == 0;
    }
    return *batch_id == '\0';
}

static struct batch_sums sums_of(const struct json *line, int64_t timestamp_ms)
{
    struct batch_sums sums;
    const struct json *response = json_member(line, "response");
    const char *code = json_string_or(json_member(json_member(line, "error"), "code"), "");
    batch_sums_init(&sums);
    if (strcmp(code, "batch_cancelled") == 0)
        sums.cancelled = 1;
    else if (strcmp(code, "batch_expired") == 0 || strcmp(code, "request_timeout") == 0)
        sums.expired = 1;
    else if (json_integer_or(json_member(response, "status_code"), 0) == 200)
        sums.completed = 1;
    else
        sums.failed = 1;
    const struct json *usage = json_member(json_member(response, "body"), "usage");
    const struct json *details = json_member(usage, "prompt_tokens_details");
    sums.input_tokens = json_integer_or(json_member(usage, "prompt_tokens"), 0);
    sums.cached_tokens = json_integer_or(json_member(details, "cached_tokens"), 0);
    sums.output_tokens = json_integer_or(json_member(usage, "completion_tokens"), 0);
    sums.first_ms = sums.last_ms = timestamp_ms;
    return sums;
}

enum status batch_status_take_result(struct batch_status *status, const struct job_record *record)
{
    struct json_document *document;
    bool added = true;
    if (!record->value || !is_of_batch(record, status->batch_id))
        return STATUS_OK;
    if (json_parse(&document, record->value, record->value_bytes, NULL, NULL) != STATUS_OK)
        return STATUS_OK; /* somebody else's record */
    const struct json *id = json_member(json_root(document), "id");
    bool kept = !id || id->type != JSON_STRING || id_map_add(&status->seen, id->as.string, id->count, &added);
    if (kept && added) {
        struct batch_sums one = sums_of(json_root(document), record->timestamp_ms);
        batch_sums_add(&status->sums, &one);
    }
    json_close(document);
    return kept ? STATUS_OK : STATUS_NO_MEMORY;
}

void batch_status_write_total(const char *batch_id, int64_t total, int64_t created_ms, struct bytes *out)
{
    struct batch_sums fresh;
    batch_sums_init(&fresh);
    fresh.total = total;
    fresh.created_ms = created_ms;
    batch_sums_write(&fresh, batch_id, out);
}
