// SPDX-License-Identifier: Apache-2.0
// DESIGN: a ring of entries in order of arrival, and an open hash table of positions in it. An entry that is
// overwritten leaves the table first (its slot is closed by moving its followers up), so that the table never
// fills with graves.
#include "worker/intake/cancellations.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/sha256.h"

enum { SLOTS = 2 * CANCEL_MAX_ENTRIES, MAX_VALUE_BYTES = 4096 };

struct entry {
    struct cancel_key key;
    int64_t until_ms;
};

struct cancellations {
    struct entry entries[CANCEL_MAX_ENTRIES]; /* the oldest at `added` % CANCEL_MAX_ENTRIES once it is full */
    uint64_t added;
    int32_t slots[SLOTS]; /* 1 + index of an entry; 0: empty */
};

struct cancel_key cancel_key(const char *batch_id, const char *custom_id)
{
    struct sha256 sha;
    struct cancel_key key;
    uint8_t digest[32];
    sha256_init(&sha);
    sha256_update(&sha, batch_id, strlen(batch_id) + 1);
    if (custom_id)
        sha256_update(&sha, custom_id, strlen(custom_id) + 1);
    sha256_final(&sha, digest);
    memcpy(key.bytes, digest, sizeof key.bytes);
    return key;
}

struct cancel_key cancel_key_of_id(const char *custom_id, size_t bytes)
{
    struct sha256 sha;
    struct cancel_key key;
    uint8_t digest[32];
    sha256_init(&sha);
    sha256_update(&sha, custom_id, bytes);
    sha256_final(&sha, digest);
    memcpy(key.bytes, digest, sizeof key.bytes);
    return key;
}

enum status cancellations_open(struct cancellations **out, struct error *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? STATUS_OK : error_set(err, STATUS_NO_MEMORY, "no memory for the table of cancellations");
}

void cancellations_close(struct cancellations *cancellations)
{
    free(cancellations);
}

static size_t home(const struct cancel_key *key)
{
    uint64_t hash;
    memcpy(&hash, key->bytes, sizeof hash);
    return hash % SLOTS;
}

/* The slot of the key, or the empty one where it would go. */
static size_t find(const struct cancellations *c, const struct cancel_key *key)
{
    size_t slot = home(key);
    while (c->slots[slot] && memcmp(&c->entries[c->slots[slot] - 1].key, key, sizeof *key) != 0)
        slot = (slot + 1) % SLOTS;
    return slot;
}

static void forget(struct cancellations *c, const struct cancel_key *key)
{
    size_t hole = find(c, key);
    c->slots[hole] = 0;
    for (size_t slot = (hole + 1) % SLOTS; c->slots[slot]; slot = (slot + 1) % SLOTS) {
        size_t wanted = home(&c->entries[c->slots[slot] - 1].key);
        if ((slot + SLOTS - wanted) % SLOTS < (slot + SLOTS - hole) % SLOTS)
            continue; /* it lies between its home and the hole: stays */
        c->slots[hole] = c->slots[slot];
        c->slots[slot] = 0;
        hole = slot;
    }
}

void cancellations_add(struct cancellations *c, const struct cancel_key *key, int64_t until_ms)
{
    size_t slot = find(c, key);
    if (c->slots[slot]) {
        struct entry *entry = &c->entries[c->slots[slot] - 1];
        if (until_ms > entry->until_ms)
            entry->until_ms = until_ms;
        return;
    }
    size_t index = c->added % CANCEL_MAX_ENTRIES;
    if (c->added >= CANCEL_MAX_ENTRIES) {
        forget(c, &c->entries[index].key);
        slot = find(c, key);
    }
    c->entries[index] = (struct entry){*key, until_ms};
    c->slots[slot] = (int32_t)index + 1;
    c->added++;
}

static bool covers(const struct cancellations *c, const struct cancel_key *key, int64_t enqueued_ms)
{
    size_t slot = find(c, key);
    return c->slots[slot] && c->entries[c->slots[slot] - 1].until_ms >= enqueued_ms;
}

bool cancellations_cover(const struct cancellations *c, const struct cancel_names *names, int64_t enqueued_ms)
{
    return c->added > 0 && (covers(c, &names->batch, enqueued_ms) || covers(c, &names->job, enqueued_ms));
}

enum status cancel_read(const char *value, size_t bytes, struct cancel_key *out, struct error *err)
{
    struct json_document *document;
    const struct json_limits limits = {.max_bytes = MAX_VALUE_BYTES, .max_depth = 2, .reject_nul = true};
    enum status status = json_parse(&document, value, bytes, &limits, err);
    if (status != STATUS_OK)
        return status == STATUS_NO_MEMORY ? status : STATUS_INVALID;
    const char *batch_id = json_string_or(json_member(json_root(document), "batch_id"), NULL);
    const struct json *custom_id = json_member(json_root(document), "custom_id");
    if (!batch_id || (custom_id && custom_id->type != JSON_STRING))
        status = error_set(err, STATUS_INVALID, "a cancellation needs a batch_id, and custom_id as a text");
    else
        *out = cancel_key(batch_id, custom_id ? custom_id->as.string : NULL);
    json_close(document);
    return status;
}
