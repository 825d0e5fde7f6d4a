// SPDX-License-Identifier: Apache-2.0
// The trie itself, shared by the files catalog*.c. Nodes are numbered breadth first, so the children of node
// i are the nodes [first_child[i], first_child[i + 1]), ascending by token, and the items that end at it are
// [first_item[i], first_item[i + 1]). Node 0 is the root.
#ifndef ENGINE_CONSTRAIN_CATALOG_INTERNAL_H
#define ENGINE_CONSTRAIN_CATALOG_INTERNAL_H

#include "engine/constrain/catalog.h"

#define CATALOG_NO_ITEM UINT32_MAX

struct catalog {
    _Atomic uint32_t references;
    int32_t vocab;
    uint32_t nodes, items;
    int32_t *tokens;       /* [nodes] on the edge from the parent; the root's is -1 */
    uint32_t *first_child; /* [nodes + 1] */
    uint32_t *first_item;  /* [nodes + 1] */
    uint32_t *id_at;       /* [items] where the item's id begins in ids */
    uint32_t *by_id;       /* [items] items in order of their ids */
    char *ids;             /* NUL after each */
    size_t id_bytes;
    char digest[65];
};

/* One line of the file, while it is being read. */
struct catalog_item {
    size_t first; /* in the list of all tokens */
    const int32_t *tokens;
    uint32_t count, id_at;
};

/* Builds the trie of items[0..count), which it sorts; `tokens` of them all together. ids are in place. */
enum status catalog_build(struct catalog *catalog, struct catalog_item *items, uint32_t count,
                          struct error *err);
/* The child of a node by its token, or CONSTRAINT_DEAD. */
uint32_t catalog_child(const struct catalog *catalog, uint32_t node, int32_t token);
uint32_t catalog_item_by_id(const struct catalog *catalog, const char *id); /* or CATALOG_NO_ITEM */
/* The node at which an item ends, and the parent of a node. */
uint32_t catalog_item_node(const struct catalog *catalog, uint32_t item);
uint32_t catalog_parent(const struct catalog *catalog, uint32_t node);

#endif
