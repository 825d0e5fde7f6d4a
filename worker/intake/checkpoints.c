// SPDX-License-Identifier: Apache-2.0
#include "worker/intake/checkpoints.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/sha256.h"

enum { KEY_BYTES = 320, VALUE_BYTES = 2 << 20, HEX_BYTES = 65 };

struct entry {
    char key[KEY_BYTES];
    char *value; /* owned; not terminated */
    size_t value_bytes;
};

struct checkpoints {
    struct entry *entries; /* [capacity] in no order */
    size_t count, capacity;
};

static const char prefix[] = "checkpoint:";

/* ---- the record ---- */

static void write_key(char out[KEY_BYTES], const char *topic, int32_t partition, int64_t offset)
{
    snprintf(out, KEY_BYTES, "%s%s:%d:%lld", prefix, topic, (int)partition, (long long)offset);
}

bool checkpoint_key_read(const char *key, size_t key_bytes, char topic[256], int32_t *partition,
                         int64_t *offset)
{
    char text[KEY_BYTES];
    int end = 0, number;
    long long place;
    if (!key || key_bytes >= sizeof text || key_bytes < sizeof prefix ||
        memcmp(key, prefix, sizeof prefix - 1) != 0)
        return false;
    memcpy(text, key, key_bytes);
    text[key_bytes] = '\0';
    /* A topic's name has no colon. */
    if (sscanf(text + sizeof prefix - 1, "%249[^:]:%d:%lld%n", topic, &number, &place, &end) != 3 ||
        text[sizeof prefix - 1 + (size_t)end] != '\0')
        return false;
    *partition = number;
    *offset = place;
    return true;
}

/* Everything that the tokens depend on: what was asked (the id covers the record), of which model, after
 * which prompt tokens. */
static void digest_of(const struct job *job, const char *fingerprint, char hex[HEX_BYTES])
{
    struct sha256 sha;
    uint8_t digest[32];
    sha256_init(&sha);
    sha256_update(&sha, "millrace/checkpoint/1", 22);
    sha256_update(&sha, fingerprint, strlen(fingerprint) + 1);
    sha256_update(&sha, job->id, strlen(job->id) + 1);
    sha256_update(&sha, job->prompts[0].tokens, job->prompts[0].count * sizeof(int32_t));
    sha256_final(&sha, digest);
    sha256_hex(digest, hex);
}

static void write_value(struct bytes *out, const struct job *job, const char *fingerprint,
                        const int32_t *tokens, size_t count)
{
    char digest[HEX_BYTES];
    digest_of(job, fingerprint, digest);
    bytes_appendf(
        out,
        "{\"object\":\"millrace.checkpoint\",\"version\":%d,\"id\":\"%s\",\"digest\":\"%s\",\"tokens\":[",
        CHECKPOINT_VERSION, job->id, digest);
    for (size_t i = 0; i < count; i++)
        bytes_appendf(out, i ? ",%d" : "%d", (int)tokens[i]);
    bytes_append_text(out, "]}");
}

struct finished_result *checkpoint_new(uint64_t job_handle, const struct job *job, const char *fingerprint,
                                       const char *status_topic, const int32_t *tokens, size_t count)
{
    char key[KEY_BYTES];
    struct bytes value;
    bytes_init(&value, VALUE_BYTES);
    write_key(key, job->source.topic, job->source.partition, job->source.offset);
    write_value(&value, job, fingerprint, tokens, count);
    const struct sink_record record = {.topic = status_topic,
                                       .key = key,
                                       .key_bytes = strlen(key),
                                       .value = value.data,
                                       .value_bytes = value.count_bytes};
    struct finished_result *made = value.failed ? NULL : finished_result_new(job_handle, &record);
    if (made)
        made->kind = FINISHED_GIVEN_BACK;
    bytes_release(&value);
    return made;
}

/* ---- the table ---- */

enum status checkpoints_open(struct checkpoints **out, struct error *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? STATUS_OK : error_set(err, STATUS_NO_MEMORY, "no memory for checkpoints");
}

void checkpoints_close(struct checkpoints *checkpoints)
{
    if (!checkpoints)
        return;
    for (size_t i = 0; i < checkpoints->count; i++)
        free(checkpoints->entries[i].value);
    free(checkpoints->entries);
    free(checkpoints);
}

static struct entry *find(const struct checkpoints *checkpoints, const char *key)
{
    for (size_t i = 0; i < checkpoints->count; i++)
        if (strcmp(checkpoints->entries[i].key, key) == 0)
            return &checkpoints->entries[i];
    return NULL;
}

static void drop(struct checkpoints *checkpoints, struct entry *entry)
{
    free(entry->value);
    *entry = checkpoints->entries[--checkpoints->count];
}

static struct entry *add(struct checkpoints *checkpoints)
{
    if (checkpoints->count == checkpoints->capacity) {
        size_t capacity = checkpoints->capacity ? 2 * checkpoints->capacity : 64;
        struct entry *entries =
            capacity <= CHECKPOINTS_MOST ? realloc(checkpoints->entries, capacity * sizeof *entries) : NULL;
        if (!entries)
            return NULL;
        checkpoints->entries = entries;
        checkpoints->capacity = capacity;
    }
    return &checkpoints->entries[checkpoints->count++];
}

void checkpoints_take(struct checkpoints *checkpoints, const struct job_record *record)
{
    char topic[256], key[KEY_BYTES];
    int32_t partition;
    int64_t offset;
    if (!checkpoint_key_read(record->key, record->key_bytes, topic, &partition, &offset))
        return;
    write_key(key, topic, partition, offset);
    struct entry *entry = find(checkpoints, key);
    if (entry)
        drop(checkpoints, entry);
    char *value = record->value ? malloc(record->value_bytes + 1) : NULL;
    entry = value ? add(checkpoints) : NULL;
    if (!entry) {
        free(value);
        return;
    }
    memcpy(value, record->value, record->value_bytes);
    *entry = (struct entry){.value = value, .value_bytes = record->value_bytes};
    snprintf(entry->key, sizeof entry->key, "%s", key);
}

bool checkpoints_has(const struct checkpoints *checkpoints, const char *topic, int32_t partition,
                     int64_t offset)
{
    char key[KEY_BYTES];
    if (checkpoints->count == 0)
        return false;
    write_key(key, topic, partition, offset);
    return find(checkpoints, key) != NULL;
}

/* ---- use ---- */

/* Copies the tokens out; 0: not what it should be. */
static size_t read_tokens(const struct json *list, int32_t *out)
{
    for (size_t i = 0; i < list->count; i++) {
        int64_t token = json_integer_or(&list->as.items[i], -1);
        if (token < 0 || token > INT32_MAX)
            return 0;
        out[i] = (int32_t)token;
    }
    return list->count;
}

static void resume_from(struct job *job, const struct json *root, const char *fingerprint)
{
    char digest[HEX_BYTES];
    const struct json *list = json_member(root, "tokens");
    int64_t version = json_integer_or(json_member(root, "version"), 0);
    if (version != CHECKPOINT_VERSION) {
        log_warn("intake", "a checkpoint of version %lld is ignored: its job runs from the beginning",
                 (long long)version);
        return;
    }
    digest_of(job, fingerprint, digest);
    if (!json_is_string(json_member(root, "digest"), digest) || !list || list->type != JSON_ARRAY ||
        list->count == 0 || list->count > CHECKPOINT_MOST_TOKENS)
        return;
    int32_t *tokens = malloc(list->count * sizeof *tokens);
    size_t count = tokens ? read_tokens(list, tokens) : 0;
    if (count > 0 && job_resume(job, tokens, count))
        log_info("intake", "%s/%d offset %lld goes on behind %zu tokens", job->source.topic,
                 (int)job->source.partition, (long long)job->source.offset, count);
    free(tokens);
}

void checkpoints_resume(const struct checkpoints *checkpoints, struct job *job, const char *fingerprint)
{
    char key[KEY_BYTES];
    struct json_document *document;
    if (checkpoints->count == 0 || !job_is_resumable(job))
        return;
    write_key(key, job->source.topic, job->source.partition, job->source.offset);
    const struct entry *entry = find(checkpoints, key);
    const struct json_limits limits = {.max_bytes = VALUE_BYTES, .max_depth = 4};
    if (!entry || json_parse(&document, entry->value, entry->value_bytes, &limits, NULL) != STATUS_OK)
        return;
    resume_from(job, json_root(document), fingerprint);
    json_close(document);
}

struct finished_result *checkpoints_remove(struct checkpoints *checkpoints, const char *topic,
                                           int32_t partition, int64_t offset, const char *status_topic)
{
    char key[KEY_BYTES];
    if (checkpoints->count == 0)
        return NULL;
    write_key(key, topic, partition, offset);
    struct entry *entry = find(checkpoints, key);
    if (!entry)
        return NULL;
    drop(checkpoints, entry);
    const struct sink_record record = {.topic = status_topic, .key = key, .key_bytes = strlen(key)};
    struct finished_result *made = finished_result_new(0, &record);
    if (made)
        made->kind = FINISHED_STATUS;
    return made;
}

void checkpoints_forget(struct checkpoints *checkpoints, const char *topic, int32_t partition)
{
    for (size_t i = 0; i < checkpoints->count;) {
        char own[256];
        int32_t number;
        int64_t offset;
        const char *key = checkpoints->entries[i].key;
        if (checkpoint_key_read(key, strlen(key), own, &number, &offset) && number == partition &&
            strcmp(own, topic) == 0)
            drop(checkpoints, &checkpoints->entries[i]);
        else
            i++;
    }
}
