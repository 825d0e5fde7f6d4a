// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/id_map.h"

#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"

enum { FIRST_CAPACITY = 1024 };

void id_map_init(struct id_map *map)
{
    *map = (struct id_map){0};
}

void id_map_release(struct id_map *map)
{
    free(map->entries);
    id_map_init(map);
}

static void hash_id(const char *id, size_t bytes, uint64_t hash[2])
{
    uint8_t digest[32];
    sha256_digest(id, bytes, digest);
    memcpy(hash, digest, 16);
    hash[0] |= hash[0] == 0; /* zero means empty */
}

static struct id_map_entry *place_of(const struct id_map *map, const uint64_t hash[2])
{
    size_t at = hash[0] & (map->capacity - 1);
    while (map->entries[at].hash[0] &&
           (map->entries[at].hash[0] != hash[0] || map->entries[at].hash[1] != hash[1]))
        at = (at + 1) & (map->capacity - 1);
    return &map->entries[at];
}

static bool grow(struct id_map *map)
{
    struct id_map grown = {.capacity = map->capacity ? map->capacity * 2 : FIRST_CAPACITY,
                           .count = map->count};
    grown.entries = calloc(grown.capacity, sizeof *grown.entries);
    if (!grown.entries)
        return false;
    for (size_t i = 0; i < map->capacity; i++)
        if (map->entries[i].hash[0])
            *place_of(&grown, map->entries[i].hash) = map->entries[i];
    free(map->entries);
    *map = grown;
    return true;
}

struct id_map_entry *id_map_add(struct id_map *map, const char *id, size_t bytes, bool *added)
{
    uint64_t hash[2];
    if (map->count * 2 >= map->capacity && !grow(map))
        return NULL;
    hash_id(id, bytes, hash);
    struct id_map_entry *entry = place_of(map, hash);
    *added = entry->hash[0] == 0;
    if (*added) {
        *entry = (struct id_map_entry){.hash = {hash[0], hash[1]}};
        map->count++;
    }
    return entry;
}

struct id_map_entry *id_map_find(const struct id_map *map, const char *id, size_t bytes)
{
    uint64_t hash[2];
    if (map->capacity == 0)
        return NULL;
    hash_id(id, bytes, hash);
    struct id_map_entry *entry = place_of(map, hash);
    return entry->hash[0] ? entry : NULL;
}

enum status id_map_put(struct id_map *map, const char *name, bool *added, struct error *err)
{
    return id_map_add(map, name, strlen(name), added)
               ? STATUS_OK
               : error_set(err, STATUS_NO_MEMORY, "no memory to remember %zu custom_ids", map->count);
}
