// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/batch_status.h"

#include <string.h>

#include "base/json.h"

void batch_status_init(struct batch_status *status, const char *batch_id)
{
    *status = (struct batch_status){
        .batch_id = batch_id, .total = -1, .created_ms = -1, .first_ms = -1, .last_ms = -1};
    id_map_init(&status->seen);
}

void batch_status_release(struct batch_status *status)
{
    id_map_release(&status->seen);
}

void batch_status_take_total(struct batch_status *status, const char *value, size_t bytes)
{
    struct json_document *document;
    if (json_parse(&document, value, bytes, NULL, NULL) != STATUS_OK)
        return;
    const struct json *root = json_root(document);
    status->total = json_integer_or(json_member(json_member(root, "request_counts"), "total"), status->total);
    int64_t created_s = json_integer_or(json_member(root, "created_at"), -1);
    if (created_s >= 0)
        status->created_ms = created_s * 1000;
    json_close(document);
}

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

static void count_outcome(struct batch_status *status, const struct json *line)
{
    const struct json *response = json_member(line, "response");
    const char *code = json_string_or(json_member(json_member(line, "error"), "code"), "");
    if (json_integer_or(json_member(response, "status_code"), 0) == 200)
        status->completed++;
    else if (strcmp(code, "batch_cancelled") == 0)
        status->cancelled++;
    else if (strcmp(code, "batch_expired") == 0 || strcmp(code, "request_timeout") == 0)
        status->expired++;
    else
        status->failed++;
    const struct json *usage = json_member(json_member(response, "body"), "usage");
    const struct json *details = json_member(usage, "prompt_tokens_details");
    status->input_tokens += json_integer_or(json_member(usage, "prompt_tokens"), 0);
    status->cached_tokens += json_integer_or(json_member(details, "cached_tokens"), 0);
    status->output_tokens += json_integer_or(json_member(usage, "completion_tokens"), 0);
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
        count_outcome(status, json_root(document));
        if (status->first_ms < 0 || record->timestamp_ms < status->first_ms)
            status->first_ms = record->timestamp_ms;
        if (record->timestamp_ms > status->last_ms)
            status->last_ms = record->timestamp_ms;
    }
    json_close(document);
    return kept ? STATUS_OK : STATUS_NO_MEMORY;
}

int64_t batch_status_answered(const struct batch_status *status)
{
    return status->completed + status->failed + status->cancelled + status->expired;
}

const char *batch_status_word(const struct batch_status *status)
{
    int64_t answered = batch_status_answered(status);
    if (status->total >= 0 && answered >= status->total)
        return status->cancelled == answered && answered > 0 ? "cancelled" : "completed";
    return answered == 0 ? "validating" : "in_progress";
}

static void append_time(struct bytes *out, const char *name, int64_t time_ms)
{
    if (time_ms < 0)
        bytes_appendf(out, ",\"%s\":null", name);
    else
        bytes_appendf(out, ",\"%s\":%lld", name, (long long)time_ms / 1000);
}

void batch_status_write(const struct batch_status *s, struct bytes *out)
{
    const char *word = batch_status_word(s);
    bool over = strcmp(word, "completed") == 0 || strcmp(word, "cancelled") == 0;
    bytes_appendf(out, "{\"id\":");
    json_append_string(out, s->batch_id, strlen(s->batch_id));
    bytes_appendf(out, ",\"object\":\"batch\",\"status\":\"%s\"", word);
    append_time(out, "created_at", s->created_ms);
    append_time(out, "in_progress_at", s->first_ms);
    append_time(out, "completed_at", over ? s->last_ms : -1);
    bytes_appendf(out, ",\"request_counts\":{\"total\":%lld,\"completed\":%lld,\"failed\":%lld,",
                  (long long)(s->total >= 0 ? s->total : batch_status_answered(s)), (long long)s->completed,
                  (long long)(s->failed + s->cancelled + s->expired));
    bytes_appendf(out, "\"cancelled\":%lld,\"expired\":%lld}", (long long)s->cancelled,
                  (long long)s->expired);
    bytes_appendf(out, ",\"usage\":{\"input_tokens\":%lld,\"input_tokens_details\":{\"cached_tokens\":%lld},",
                  (long long)s->input_tokens, (long long)s->cached_tokens);
    bytes_appendf(out, "\"output_tokens\":%lld,\"total_tokens\":%lld}}", (long long)s->output_tokens,
                  (long long)(s->input_tokens + s->output_tokens));
}

void batch_status_write_total(const char *batch_id, int64_t total, int64_t created_ms, struct bytes *out)
{
    struct batch_status fresh;
    batch_status_init(&fresh, batch_id);
    fresh.total = total;
    fresh.created_ms = created_ms;
    batch_status_write(&fresh, out);
    batch_status_release(&fresh);
}
