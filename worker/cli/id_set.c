// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/id_set.h"

#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"

enum { FIRST_CAPACITY = 1024 };

void id_set_init(struct id_set *set)
{
    *set = (struct id_set){0};
}

void id_set_release(struct id_set *set)
{
    free(set->slots);
    id_set_init(set);
}

static struct id_set_key key_of(const char *name)
{
    uint8_t digest[32];
    struct id_set_key key;
    sha256_digest(name, strlen(name), digest);
    memcpy(&key, digest, sizeof key);
    key.words[0] |= 1; /* zero means free */
    return key;
}

/* The key's slot, or the free one where it belongs. */
static struct id_set_key *find(const struct id_set *set, struct id_set_key key)
{
    size_t at = key.words[1] & (set->capacity - 1);
    while (set->slots[at].words[0] &&
           (set->slots[at].words[0] != key.words[0] || set->slots[at].words[1] != key.words[1]))
        at = (at + 1) & (set->capacity - 1);
    return &set->slots[at];
}

static enum status grow(struct id_set *set, struct error *err)
{
    struct id_set larger = {.capacity = set->capacity ? set->capacity * 2 : FIRST_CAPACITY,
                            .count = set->count};
    if (larger.capacity > ID_SET_MAX)
        return error_set(err, STATUS_TOO_LARGE, "more than %d names: split the file", ID_SET_MAX / 2);
    larger.slots = calloc(larger.capacity, sizeof *larger.slots);
    if (!larger.slots)
        return error_set(err, STATUS_NO_MEMORY, "no memory to remember which jobs were answered");
    for (size_t i = 0; i < set->capacity; i++)
        if (set->slots[i].words[0])
            *find(&larger, set->slots[i]) = set->slots[i];
    free(set->slots);
    *set = larger;
    return STATUS_OK;
}

enum status id_set_add(struct id_set *set, const char *name, bool *added, struct error *err)
{
    enum status status = set->count * 2 >= set->capacity ? grow(set, err) : STATUS_OK;
    if (status != STATUS_OK)
        return status;
    struct id_set_key key = key_of(name);
    struct id_set_key *slot = find(set, key);
    *added = slot->words[0] == 0;
    if (*added) {
        *slot = key;
        set->count++;
    }
    return STATUS_OK;
}

bool id_set_has(const struct id_set *set, const char *name)
{
    return set->capacity > 0 && find(set, key_of(name))->words[0] != 0;
}
