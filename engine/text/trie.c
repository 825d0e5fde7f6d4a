// SPDX-License-Identifier: Apache-2.0
#include "engine/text/trie.h"

#include <stdlib.h>
#include <string.h>

void trie_release(struct trie *trie)
{
    free(trie->values);
    free(trie->edges);
    *trie = (struct trie){0};
}

static struct trie_edge *find_edge(const struct trie *trie, uint64_t key)
{
    const size_t mask = trie->edge_slots - 1;
    uint64_t hash = key * UINT64_C(0x9E3779B97F4A7C15);
    size_t at = (size_t)(hash ^ hash >> 31) & mask;
    while (trie->edges[at].key && trie->edges[at].key != key)
        at = (at + 1) & mask;
    return &trie->edges[at];
}

static enum status grow_edges(struct trie *trie)
{
    if (trie->edge_count * 2 < trie->edge_slots)
        return STATUS_OK;
    struct trie grown = *trie;
    grown.edge_slots = trie->edge_slots ? trie->edge_slots * 2 : 64;
    grown.edges = calloc(grown.edge_slots, sizeof *grown.edges);
    if (!grown.edges)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < trie->edge_slots; i++)
        if (trie->edges[i].key)
            *find_edge(&grown, trie->edges[i].key) = trie->edges[i];
    free(trie->edges);
    *trie = grown;
    return STATUS_OK;
}

static enum status new_state(struct trie *trie, uint32_t *state)
{
    if (trie->state_count == TRIE_MAX_STATES)
        return STATUS_TOO_LARGE;
    if (trie->state_count == trie->value_capacity) {
        const size_t capacity = trie->value_capacity ? trie->value_capacity * 2 : 256;
        int32_t *values = realloc(trie->values, capacity * sizeof *values);
        if (!values)
            return STATUS_NO_MEMORY;
        trie->values = values;
        trie->value_capacity = capacity;
    }
    *state = trie->state_count++;
    trie->values[*state] = -1;
    return STATUS_OK;
}

static enum status step_or_add(struct trie *trie, uint32_t *state, unsigned char byte)
{
    const uint32_t next = trie_step(trie, *state, byte);
    if (next != TRIE_DEAD) {
        *state = next;
        return STATUS_OK;
    }
    uint32_t added;
    enum status status = new_state(trie, &added);
    if (status == STATUS_OK && *state != TRIE_ROOT)
        status = grow_edges(trie);
    if (status != STATUS_OK)
        return status;
    if (*state == TRIE_ROOT) {
        trie->root[byte] = added;
    } else {
        const uint64_t key = ((uint64_t)*state << 8 | byte) + 1;
        *find_edge(trie, key) = (struct trie_edge){.key = key, .to = added};
        trie->edge_count++;
    }
    *state = added;
    return STATUS_OK;
}

enum status trie_add(struct trie *trie, const char *text, size_t bytes, int32_t id, struct error *err)
{
    uint32_t state = TRIE_ROOT;
    enum status status = trie->state_count ? STATUS_OK : new_state(trie, &state);
    for (size_t i = 0; i < bytes && status == STATUS_OK; i++)
        status = step_or_add(trie, &state, (unsigned char)text[i]);
    if (status != STATUS_OK)
        return error_set(err, status, "no room for a trie of the vocabulary");
    if (trie->values[state] < 0)
        trie->values[state] = id;
    return STATUS_OK;
}

uint32_t trie_step(const struct trie *trie, uint32_t state, unsigned char byte)
{
    if (state == TRIE_ROOT)
        return trie->root[byte] ? trie->root[byte] : TRIE_DEAD;
    if (!trie->edge_slots)
        return TRIE_DEAD;
    const struct trie_edge *edge = find_edge(trie, ((uint64_t)state << 8 | byte) + 1);
    return edge->key ? edge->to : TRIE_DEAD;
}

int32_t trie_value(const struct trie *trie, uint32_t state)
{
    return trie->values[state];
}
