// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/id_map.h"

#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"

enum { FIRST_CAPACITY = 1024 };

void id_map_init(struct id_map *set)
{
    *set = (struct id_map){0};
}

void id_map_release(struct id_map *set)
{
    free(set->entries);
    id_map_init(set);
}

static void hash_id(const char *id, size_t bytes, uint64_t hash[2])
{
    uint8_t digest[32];
    sha256_digest(id, bytes, digest);
    memcpy(hash, digest, 16);
    hash[0] |= hash[0] == 0; /* zero means empty */
}

static struct id_map_entry *place_of(const struct id_map *set, const uint64_t hash[2])
{
    size_t at = hash[0] & (set->capacity - 1);
    while (set->entries[at].hash[0] &&
           (set->entries[at].hash[0] != hash[0] || set->entries[at].hash[1] != hash[1]))
        at = (at + 1) & (set->capacity - 1);
    return &set->entries[at];
}

static bool grow(struct id_map *set)
{
    struct id_map grown = {.capacity = set->capacity ? set->capacity * 2 : FIRST_CAPACITY,
                           .count = set->count};
    grown.entries = calloc(grown.capacity, sizeof *grown.entries);
    if (!grown.entries)
        return false;
    for (size_t i = 0; i < set->capacity; i++)
        if (set->entries[i].hash[0])
            *place_of(&grown, set->entries[i].hash) = set->entries[i];
    free(set->entries);
    *set = grown;
    return true;
}

struct id_map_entry *id_map_add(struct id_map *set, const char *id, size_t bytes, bool *added)
{
    uint64_t hash[2];
    if (set->count * 2 >= set->capacity && !grow(set))
        return NULL;
    hash_id(id, bytes, hash);
    struct id_map_entry *entry = place_of(set, hash);
    *added = entry->hash[0] == 0;
    if (*added) {
        *entry = (struct id_map_entry){.hash = {hash[0], hash[1]}};
        set->count++;
    }
    return entry;
}

struct id_map_entry *id_map_find(const struct id_map *set, const char *id, size_t bytes)
{
    uint64_t hash[2];
    if (set->capacity == 0)
        return NULL;
    hash_id(id, bytes, hash);
    struct id_map_entry *entry = place_of(set, hash);
    return entry->hash[0] ? entry : NULL;
}
