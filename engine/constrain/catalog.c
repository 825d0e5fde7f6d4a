// SPDX-License-Identifier: Apache-2.0
// DESIGN: items are sorted by their tokens; then every node of the trie is a range of them, and one pass in
// breadth-first order writes nodes so that children and items need no pointers of their own.
#include "engine/constrain/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "engine/constrain/catalog_internal.h"

struct node_range { /* items of a node while the trie is built */
    uint32_t begin, end, depth;
};

struct named_item {
    const char *id;
    uint32_t item;
};

static int compare_items(const void *a, const void *b)
{
    const struct catalog_item *x = a, *y = b;
    uint32_t shorter = x->count < y->count ? x->count : y->count;
    for (uint32_t i = 0; i < shorter; i++)
        if (x->tokens[i] != y->tokens[i])
            return x->tokens[i] < y->tokens[i] ? -1 : 1;
    if (x->count != y->count)
        return x->count < y->count ? -1 : 1;
    return (x->id_at > y->id_at) - (x->id_at < y->id_at);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct named_item *)a)->id, ((const struct named_item *)b)->id);
}

static enum status no_memory(struct error *err)
{
    return error_set(err, STATUS_NO_MEMORY, "no memory for a catalogue");
}

static bool allocate(struct catalog *catalog, size_t most_nodes, uint32_t items)
{
    catalog->tokens = malloc(most_nodes * sizeof *catalog->tokens);
    catalog->first_child = malloc((most_nodes + 1) * sizeof *catalog->first_child);
    catalog->first_item = malloc((most_nodes + 1) * sizeof *catalog->first_item);
    catalog->id_at = malloc(items * sizeof *catalog->id_at);
    catalog->by_id = malloc(items * sizeof *catalog->by_id);
    return catalog->tokens && catalog->first_child && catalog->first_item && catalog->id_at && catalog->by_id;
}

static void add_children(struct catalog *catalog, struct node_range *ranges, struct node_range range,
                         const struct catalog_item *items)
{
    for (uint32_t begin = range.begin; begin < range.end;) {
        int32_t token = items[begin].tokens[range.depth];
        uint32_t end = begin + 1;
        while (end < range.end && items[end].tokens[range.depth] == token)
            end++;
        catalog->tokens[catalog->nodes] = token;
        ranges[catalog->nodes++] = (struct node_range){begin, end, range.depth + 1};
        begin = end;
    }
}

static void write_nodes(struct catalog *catalog, struct node_range *ranges, const struct catalog_item *items,
                        uint32_t count)
{
    catalog->tokens[0] = -1;
    catalog->nodes = 1;
    ranges[0] = (struct node_range){0, count, 0};
    for (uint32_t node = 0; node < catalog->nodes; node++) {
        struct node_range range = ranges[node];
        catalog->first_item[node] = catalog->items;
        for (; range.begin < range.end && items[range.begin].count == range.depth; range.begin++)
            catalog->id_at[catalog->items++] = items[range.begin].id_at;
        catalog->first_child[node] = catalog->nodes;
        add_children(catalog, ranges, range, items);
    }
    catalog->first_item[catalog->nodes] = catalog->items;
    catalog->first_child[catalog->nodes] = catalog->nodes;
}

/* Gives back what shared prefixes saved; a smaller block may stay where it is. */
static void shrink(struct catalog *catalog)
{
    size_t nodes = catalog->nodes;
    int32_t *tokens = realloc(catalog->tokens, nodes * sizeof *tokens);
    uint32_t *children = realloc(catalog->first_child, (nodes + 1) * sizeof *children);
    uint32_t *items = realloc(catalog->first_item, (nodes + 1) * sizeof *items);
    catalog->tokens = tokens ? tokens : catalog->tokens;
    catalog->first_child = children ? children : catalog->first_child;
    catalog->first_item = items ? items : catalog->first_item;
}

static enum status index_ids(struct catalog *catalog, struct error *err)
{
    struct named_item *named = malloc(catalog->items * sizeof *named);
    if (!named)
        return no_memory(err);
    for (uint32_t i = 0; i < catalog->items; i++)
        named[i] = (struct named_item){catalog->ids + catalog->id_at[i], i};
    qsort(named, catalog->items, sizeof *named, compare_names);
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < catalog->items && status == STATUS_OK; i++) {
        catalog->by_id[i] = named[i].item;
        if (i > 0 && strcmp(named[i - 1].id, named[i].id) == 0)
            status =
                error_set(err, STATUS_INVALID, "the catalogue has item_id \"%.100s\" twice", named[i].id);
    }
    free(named);
    return status;
}

enum status catalog_build(struct catalog *catalog, struct catalog_item *items, uint32_t count,
                          struct error *err)
{
    size_t most_nodes = 1;
    for (uint32_t i = 0; i < count; i++)
        most_nodes += items[i].count;
    if (most_nodes >= CONSTRAINT_DEAD)
        return error_set(err, STATUS_TOO_LARGE, "the catalogue has %zu tokens, too many to number",
                         most_nodes);
    struct node_range *ranges = malloc(most_nodes * sizeof *ranges);
    if (!ranges || !allocate(catalog, most_nodes, count)) {
        free(ranges);
        return no_memory(err);
    }
    qsort(items, count, sizeof *items, compare_items);
    write_nodes(catalog, ranges, items, count);
    free(ranges);
    shrink(catalog);
    return index_ids(catalog, err);
}

void catalog_take(struct catalog *catalog)
{
    catalog->references++;
}

void catalog_give_back(struct catalog *catalog)
{
    if (!catalog || --catalog->references > 0)
        return;
    free(catalog->tokens);
    free(catalog->first_child);
    free(catalog->first_item);
    free(catalog->id_at);
    free(catalog->by_id);
    free(catalog->ids);
    free(catalog);
}

size_t catalog_items(const struct catalog *catalog)
{
    return catalog->items;
}

size_t catalog_memory_bytes(const struct catalog *catalog)
{
    return sizeof *catalog + (size_t)catalog->nodes * 12 + (size_t)catalog->items * 8 + catalog->id_bytes;
}

const char *catalog_digest(const struct catalog *catalog)
{
    return catalog->digest;
}

uint32_t catalog_child(const struct catalog *catalog, uint32_t node, int32_t token)
{
    uint32_t low = catalog->first_child[node], high = catalog->first_child[node + 1], end = high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (catalog->tokens[middle] < token)
            low = middle + 1;
        else
            high = middle;
    }
    return low < end && catalog->tokens[low] == token ? low : CONSTRAINT_DEAD;
}

uint32_t catalog_item_by_id(const struct catalog *catalog, const char *id)
{
    uint32_t low = 0, high = catalog->items;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(catalog->ids + catalog->id_at[catalog->by_id[middle]], id);
        if (order == 0)
            return catalog->by_id[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return CATALOG_NO_ITEM;
}

/* The last node whose range begins at or before `member`: of the empty ranges that begin there, none is last.
 */
static uint32_t owner_of(const uint32_t *first, uint32_t nodes, uint32_t member)
{
    uint32_t low = 0, high = nodes;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (first[middle] <= member)
            low = middle;
        else
            high = middle;
    }
    return low;
}

uint32_t catalog_item_node(const struct catalog *catalog, uint32_t item)
{
    return owner_of(catalog->first_item, catalog->nodes, item);
}

uint32_t catalog_parent(const struct catalog *catalog, uint32_t node)
{
    return owner_of(catalog->first_child, catalog->nodes, node);
}
