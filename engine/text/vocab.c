// SPDX-License-Identifier: Apache-2.0
#include "engine/text/vocab.h"

#include <stdlib.h>
#include <string.h>

/* Eight bytes a round; multiply and fold (after the wyhash family: the high half feeds the low one). */
static uint64_t hash_text(const char *text, size_t bytes)
{
    uint64_t hash = UINT64_C(0x9E3779B97F4A7C15) ^ bytes;
    while (bytes >= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        hash = (hash ^ word) * UINT64_C(0xFF51AFD7ED558CCD);
        hash ^= hash >> 32;
        text += 8;
        bytes -= 8;
    }
    uint64_t tail = 0;
    for (size_t i = 0; i < bytes; i++)
        tail |= (uint64_t)(unsigned char)text[i] << (8 * i);
    hash = (hash ^ tail) * UINT64_C(0xC4CEB9FE1A85EC53);
    hash ^= hash >> 29;
    hash *= UINT64_C(0xFF51AFD7ED558CCD);
    return hash ^ hash >> 32;
}

void vocab_release(struct vocab *vocab)
{
    free(vocab->pool);
    free(vocab->entries);
    free(vocab->slots);
    *vocab = (struct vocab){0};
}

static bool same_text(const struct vocab *vocab, int32_t id, const char *text, size_t bytes)
{
    const struct vocab_entry *entry = &vocab->entries[id];
    return entry->bytes == bytes && memcmp(vocab->pool + entry->offset, text, bytes) == 0;
}

/* The slot that holds the text, or the free one where it belongs. */
static struct vocab_slot *find_slot(const struct vocab *vocab, uint64_t hash, const char *text, size_t bytes)
{
    const size_t mask = vocab->slot_count - 1;
    const uint32_t tag = (uint32_t)(hash >> 32);
    size_t at = (size_t)hash & mask;
    while (vocab->slots[at].id >= 0 &&
           (vocab->slots[at].tag != tag || !same_text(vocab, vocab->slots[at].id, text, bytes)))
        at = (at + 1) & mask;
    return &vocab->slots[at];
}

static enum status grow_slots(struct vocab *vocab, size_t count)
{
    size_t slot_count = 16;
    while (slot_count < count * 2)
        slot_count *= 2;
    if (slot_count <= vocab->slot_count)
        return STATUS_OK;
    struct vocab grown = *vocab;
    grown.slots = malloc(slot_count * sizeof *grown.slots);
    if (!grown.slots)
        return STATUS_NO_MEMORY;
    grown.slot_count = slot_count;
    memset(grown.slots, 0xFF, slot_count * sizeof *grown.slots);
    for (size_t i = 0; i < vocab->slot_count; i++) {
        if (vocab->slots[i].id < 0)
            continue;
        const struct vocab_entry *entry = &vocab->entries[vocab->slots[i].id];
        const char *text = vocab->pool + entry->offset;
        *find_slot(&grown, hash_text(text, entry->bytes), text, entry->bytes) = vocab->slots[i];
    }
    free(vocab->slots);
    *vocab = grown;
    return STATUS_OK;
}

static enum status grow_entries(struct vocab *vocab, size_t count)
{
    if (count <= vocab->entry_capacity)
        return STATUS_OK;
    size_t capacity = vocab->entry_capacity ? vocab->entry_capacity : 64;
    while (capacity < count)
        capacity *= 2;
    struct vocab_entry *entries = realloc(vocab->entries, capacity * sizeof *entries);
    if (!entries)
        return STATUS_NO_MEMORY;
    memset(entries + vocab->entry_capacity, 0xFF, (capacity - vocab->entry_capacity) * sizeof *entries);
    vocab->entries = entries;
    vocab->entry_capacity = capacity;
    return STATUS_OK;
}

static enum status grow_pool(struct vocab *vocab, size_t bytes)
{
    if (bytes > VOCAB_MAX_POOL_BYTES - vocab->pool_bytes)
        return STATUS_TOO_LARGE;
    if (vocab->pool_bytes + bytes <= vocab->pool_capacity && vocab->pool)
        return STATUS_OK;
    size_t capacity = vocab->pool_capacity ? vocab->pool_capacity : 1024;
    while (capacity < vocab->pool_bytes + bytes)
        capacity *= 2;
    char *pool = realloc(vocab->pool, capacity);
    if (!pool)
        return STATUS_NO_MEMORY;
    vocab->pool = pool;
    vocab->pool_capacity = capacity;
    return STATUS_OK;
}

enum status vocab_reserve(struct vocab *vocab, size_t count, size_t bytes, int32_t id_end, struct error *err)
{
    if (id_end < 0 || id_end > VOCAB_MAX_ID)
        return error_set(err, STATUS_INVALID, "token id %d is not below %d", id_end - 1, VOCAB_MAX_ID);
    enum status status = grow_slots(vocab, vocab->used + count);
    if (status == STATUS_OK)
        status = grow_entries(vocab, (size_t)id_end);
    if (status == STATUS_OK)
        status = grow_pool(vocab, bytes);
    return status == STATUS_OK ? STATUS_OK : error_set(err, status, "no room for a vocabulary of %zu", count);
}

enum status vocab_add(struct vocab *vocab, int32_t id, const char *text, size_t bytes, struct error *err)
{
    if (id < 0 || id >= VOCAB_MAX_ID)
        return error_set(err, STATUS_INVALID, "token id %d of \"%.60s\" is not in [0, %d)", id, text,
                         VOCAB_MAX_ID);
    enum status status = vocab_reserve(vocab, 1, bytes, id + 1, err);
    if (status != STATUS_OK)
        return status;
    struct vocab_entry *entry = &vocab->entries[id];
    if (entry->offset != VOCAB_ABSENT)
        return same_text(vocab, id, text, bytes)
                   ? STATUS_OK
                   : error_set(err, STATUS_INVALID, "token id %d is given to two tokens (\"%.60s\")", id,
                               text);
    const uint64_t hash = hash_text(text, bytes);
    struct vocab_slot *slot = find_slot(vocab, hash, text, bytes);
    memcpy(vocab->pool + vocab->pool_bytes, text, bytes);
    *entry = (struct vocab_entry){.offset = (uint32_t)vocab->pool_bytes, .bytes = (uint32_t)bytes};
    vocab->pool_bytes += bytes;
    if (slot->id < 0) {
        *slot = (struct vocab_slot){.tag = (uint32_t)(hash >> 32), .id = id};
        vocab->used++;
    }
    if (id >= vocab->id_end)
        vocab->id_end = id + 1;
    if (bytes > vocab->max_text_bytes)
        vocab->max_text_bytes = bytes;
    return STATUS_OK;
}

int32_t vocab_find(const struct vocab *vocab, const char *text, size_t bytes)
{
    if (!vocab->slot_count || bytes > vocab->max_text_bytes)
        return -1;
    return find_slot(vocab, hash_text(text, bytes), text, bytes)->id;
}

const char *vocab_text(const struct vocab *vocab, int32_t id, size_t *bytes)
{
    *bytes = 0;
    if (id < 0 || id >= vocab->id_end || vocab->entries[id].offset == VOCAB_ABSENT)
        return NULL;
    *bytes = vocab->entries[id].bytes;
    return vocab->pool + vocab->entries[id].offset;
}
