// SPDX-License-Identifier: Apache-2.0
#include "worker/intake/batch_tally.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum { FIRST_SLOTS = 64, TOPIC_BYTES = 256, VALUE_BYTES = 4096 };

struct entry {
    char *batch_id; /* owned; NULL: free */
    bool changed;
    struct batch_sums sums;
};

struct batch_tally {
    struct entry *table; /* [slots], open addressing; slots is a power of two, at most half are used */
    size_t slots, count;
    bool warned;
    char topic[TOPIC_BYTES];
    int32_t partition;
};

enum status batch_tally_open(struct batch_tally **out, struct error *err)
{
    *out = calloc(1, sizeof **out);
    if (*out && ((*out)->table = calloc(FIRST_SLOTS, sizeof *(*out)->table))) {
        (*out)->slots = FIRST_SLOTS;
        return STATUS_OK;
    }
    free(*out);
    *out = NULL;
    return error_set(err, STATUS_NO_MEMORY, "no memory to count batches");
}

static void forget(struct batch_tally *tally)
{
    for (size_t i = 0; i < tally->slots; i++)
        free(tally->table[i].batch_id);
    memset(tally->table, 0, tally->slots * sizeof *tally->table);
    tally->count = 0;
}

void batch_tally_close(struct batch_tally *tally)
{
    if (!tally)
        return;
    forget(tally);
    free(tally->table);
    free(tally);
}

void batch_tally_begin(struct batch_tally *tally, const char *topic, int32_t partition)
{
    forget(tally);
    snprintf(tally->topic, sizeof tally->topic, "%s", topic);
    tally->partition = partition;
}

/* ---- the table ---- */

/* FNV-1a. */
static size_t hash(const char *id, size_t bytes)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ (unsigned char)id[i]) * 1099511628211u;
    return (size_t)(h ^ h >> 32);
}

static struct entry *slot_of(struct entry *table, size_t slots, const char *id, size_t bytes)
{
    size_t at = hash(id, bytes) & (slots - 1);
    while (table[at].batch_id &&
           (strlen(table[at].batch_id) != bytes || memcmp(table[at].batch_id, id, bytes) != 0))
        at = (at + 1) & (slots - 1);
    return &table[at];
}

static bool grow(struct batch_tally *tally)
{
    size_t slots = tally->slots * 2;
    struct entry *table = calloc(slots, sizeof *table);
    if (!table)
        return false;
    for (size_t i = 0; i < tally->slots; i++) {
        const struct entry *entry = &tally->table[i];
        if (entry->batch_id)
            *slot_of(table, slots, entry->batch_id, strlen(entry->batch_id)) = *entry;
    }
    free(tally->table);
    tally->table = table;
    tally->slots = slots;
    return true;
}

/* NULL: it cannot be counted. */
static struct entry *find_or_add(struct batch_tally *tally, const char *id, size_t bytes)
{
    struct entry *entry = slot_of(tally->table, tally->slots, id, bytes);
    if (entry->batch_id)
        return entry;
    bool room = tally->count < BATCH_TALLY_MOST && (tally->count * 2 < tally->slots || grow(tally));
    char *copy = room ? strndup(id, bytes) : NULL;
    if (!copy) {
        if (!tally->warned)
            log_warn("intake", "%s/%d has more than %d batches: the progress of others is not written",
                     tally->topic, tally->partition, BATCH_TALLY_MOST);
        tally->warned = true;
        return NULL;
    }
    entry = slot_of(tally->table, tally->slots, id, bytes);
    entry->batch_id = copy;
    batch_sums_init(&entry->sums);
    tally->count++;
    return entry;
}

/* ---- counting ---- */

void batch_tally_restore(struct batch_tally *tally, const struct job_record *record)
{
    const char *topic;
    size_t topic_bytes;
    int32_t partition;
    if (!record->key)
        return;
    size_t bytes = batch_sums_split_key(record->key, record->key_bytes, &topic, &topic_bytes, &partition);
    if (partition != tally->partition || !topic || topic_bytes != strlen(tally->topic) ||
        memcmp(topic, tally->topic, topic_bytes) != 0 || bytes == 0)
        return;
    struct batch_sums sums;
    struct entry *entry = find_or_add(tally, record->key, bytes);
    if (!entry)
        return;
    if (!record->value)
        batch_sums_init(&sums);
    else if (!batch_sums_read(&sums, record->value, record->value_bytes))
        log_warn("intake",
                 "the progress of a batch on %s/%d is of an unknown version and is ignored: it is counted "
                 "from nothing",
                 tally->topic, tally->partition);
    sums.total = sums.created_ms = -1;
    entry->sums = sums;
}

void batch_tally_add(struct batch_tally *tally, const char *batch_id, const struct batch_sums *part)
{
    size_t bytes = strlen(batch_id);
    struct entry *entry = bytes > 0 ? find_or_add(tally, batch_id, bytes) : NULL;
    if (!entry)
        return;
    batch_sums_add(&entry->sums, part);
    entry->changed = true;
}

/* ---- writing ---- */

static struct finished_result *describe(const struct batch_tally *tally, const struct entry *entry,
                                        const char *status_topic)
{
    struct bytes key, value;
    bytes_init(&key, VALUE_BYTES);
    bytes_init(&value, VALUE_BYTES);
    bytes_appendf(&key, "%s/%s/%d", entry->batch_id, tally->topic, (int)tally->partition);
    batch_sums_write(&entry->sums, entry->batch_id, &value);
    const struct sink_record record = {.topic = status_topic,
                                       .key = key.data,
                                       .key_bytes = key.count_bytes,
                                       .value = value.data,
                                       .value_bytes = value.count_bytes};
    struct finished_result *made = key.failed || value.failed ? NULL : finished_result_new(0, &record);
    if (made)
        made->kind = FINISHED_STATUS;
    bytes_release(&key);
    bytes_release(&value);
    return made;
}

size_t batch_tally_changed(struct batch_tally *tally, const char *status_topic, struct finished_result **out,
                           size_t most)
{
    size_t count = 0;
    for (size_t i = 0; i < tally->slots && count < most; i++)
        if (tally->table[i].changed && (out[count] = describe(tally, &tally->table[i], status_topic)))
            count++;
    return count;
}

void batch_tally_written(struct batch_tally *tally)
{
    for (size_t i = 0; i < tally->slots; i++)
        tally->table[i].changed = false;
}
