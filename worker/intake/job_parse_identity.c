// SPDX-License-Identifier: Apache-2.0
// Who a record is, even when it is no job: names that are the same for every delivery of the same record.
#include <stdio.h>
#include <string.h>

#include "base/monotime.h"
#include "base/sha256.h"
#include "worker/intake/job_parse_internal.h"

enum { HASH_DIGITS = 32 };

static void hash_text(struct sha256 *sha, const char *text)
{
    uint64_t bytes = text ? strlen(text) : 0; /* framed: two different places never share an encoding */
    sha256_update(sha, &bytes, sizeof bytes);
    if (bytes)
        sha256_update(sha, text, bytes);
}

static void hash_record(const struct job_record *record, char hex[65])
{
    struct sha256 sha;
    uint8_t digest[32];
    sha256_digest(record->value ? record->value : "", record->value_bytes, digest);
    sha256_init(&sha);
    hash_text(&sha, record->cluster_id);
    hash_text(&sha, record->topic);
    sha256_update(&sha, &record->partition, sizeof record->partition);
    sha256_update(&sha, &record->offset, sizeof record->offset);
    sha256_update(&sha, digest, sizeof digest);
    sha256_final(&sha, digest);
    sha256_hex(digest, hex);
}

/* A string member of the text between begin and end, when it is one and fits. */
static bool read_string(const char *text, size_t bytes, char *out, size_t out_bytes)
{
    struct json_limits limits = {.max_bytes = bytes, .max_depth = 1, .reject_nul = true};
    struct json_document *document;
    bool found = false;
    if (bytes == 0 || json_parse(&document, text, bytes, &limits, NULL) != STATUS_OK)
        return false;
    const struct json *root = json_root(document);
    if (root->type == JSON_STRING && root->count > 0 && root->count < out_bytes) {
        memcpy(out, root->as.string, root->count + 1);
        found = true;
    }
    json_close(document);
    return found;
}

static void read_batch_id(struct job_identity *out, const struct job_record *record)
{
    for (size_t i = 0; i < record->header_count; i++)
        if (strcmp(record->headers[i].name, "millrace-batch-id") == 0 && record->headers[i].value &&
            record->headers[i].value_bytes <= JOB_MAX_BATCH_ID_BYTES) {
            snprintf(out->batch_id, sizeof out->batch_id, "%.*s", (int)record->headers[i].value_bytes,
                     record->headers[i].value);
            return;
        }
    size_t begin, end, inner, inner_end;
    if (!record->value || !job_parse_span(record->value, record->value_bytes, "millrace", &begin, &end))
        return;
    const char *object = record->value + begin;
    if (job_parse_span(object, end - begin, "batch_id", &inner, &inner_end))
        read_string(object + inner, inner_end - inner, out->batch_id, sizeof out->batch_id);
}

void job_identity_read(struct job_identity *out, const struct job_record *record)
{
    char hex[65];
    size_t begin, end;
    *out = (struct job_identity){
        .created_s = (record->timestamp_ms >= 0 ? record->timestamp_ms : walltime_ms()) / 1000};
    hash_record(record, hex);
    snprintf(out->id, sizeof out->id, "batch_req_%.*s", HASH_DIGITS, hex);
    snprintf(out->request_id, sizeof out->request_id, "req_%.*s", HASH_DIGITS, hex + HASH_DIGITS);
    if (record->value && job_parse_span(record->value, record->value_bytes, "custom_id", &begin, &end))
        out->has_custom_id =
            read_string(record->value + begin, end - begin, out->custom_id, sizeof out->custom_id);
    read_batch_id(out, record);
}
