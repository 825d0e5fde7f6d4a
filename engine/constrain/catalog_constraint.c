// SPDX-License-Identifier: Apache-2.0
// One job's view of a catalogue. A state is a node of the trie. Excluding items kills the nodes below which
// nothing else is left: only those are kept, sorted, so a view costs what it excludes, not what it holds.
#include <stdlib.h>
#include <string.h>

#include "engine/constrain/catalog_internal.h"

struct catalog_view {
    struct constraint constraint;
    struct catalog *catalog;
    uint32_t *excluded; /* [excluded_count] items, ascending */
    size_t excluded_count;
    uint32_t *dead; /* [dead_count] nodes, ascending */
    size_t dead_count;
    uint64_t *mask;   /* [(vocab + 63) / 64] what mask() gives out */
    int32_t *allowed; /* [vocab] what tokens() gives out where nodes are dead */
};

static struct catalog_view *view_of(struct constraint *constraint)
{
    return (struct catalog_view *)constraint;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static bool has(const uint32_t *sorted, size_t count, uint32_t number)
{
    return count > 0 && bsearch(&number, sorted, count, sizeof *sorted, compare_numbers) != NULL;
}

static size_t sort_unique(uint32_t *numbers, size_t count)
{
    size_t left = 0;
    qsort(numbers, count, sizeof *numbers, compare_numbers);
    for (size_t i = 0; i < count; i++)
        if (left == 0 || numbers[left - 1] != numbers[i])
            numbers[left++] = numbers[i];
    return left;
}

/* ---- the ops ---- */

static size_t view_tokens(struct constraint *constraint, uint32_t state, const int32_t **tokens)
{
    struct catalog_view *view = view_of(constraint);
    const struct catalog *catalog = view->catalog;
    uint32_t begin = catalog->first_child[state], end = catalog->first_child[state + 1];
    *tokens = catalog->tokens + begin;
    if (view->dead_count == 0)
        return end - begin;
    size_t count = 0;
    for (uint32_t child = begin; child < end; child++)
        if (!has(view->dead, view->dead_count, child))
            view->allowed[count++] = catalog->tokens[child];
    *tokens = view->allowed;
    return count;
}

static const uint64_t *view_mask(struct constraint *constraint, uint32_t state)
{
    struct catalog_view *view = view_of(constraint);
    const int32_t *tokens;
    size_t count = view_tokens(constraint, state, &tokens);
    memset(view->mask, 0, ((size_t)view->catalog->vocab + 63) / 64 * sizeof *view->mask);
    for (size_t i = 0; i < count; i++)
        view->mask[tokens[i] / 64] |= UINT64_C(1) << (tokens[i] % 64);
    return view->mask;
}

static uint32_t view_next(struct constraint *constraint, uint32_t state, int32_t token)
{
    const struct catalog_view *view = view_of(constraint);
    uint32_t child = catalog_child(view->catalog, state, token);
    return child != CONSTRAINT_DEAD && has(view->dead, view->dead_count, child) ? CONSTRAINT_DEAD : child;
}

static bool view_accepts(struct constraint *constraint, uint32_t state)
{
    return catalog_constraint_item(constraint, state, 0) != NULL;
}

static void view_close(struct constraint *constraint)
{
    struct catalog_view *view = view_of(constraint);
    catalog_give_back(view->catalog);
    free(view->excluded);
    free(view->dead);
    free(view->mask);
    free(view->allowed);
    free(view);
}

static const struct constraint_ops view_ops = {
    .mask = view_mask,
    .tokens = view_tokens,
    .next = view_next,
    .accepts = view_accepts,
    .close = view_close,
};

/* ---- excluding ---- */

/* Nothing that is left ends at the node or below it; its children are settled already. */
static bool is_dead(const struct catalog_view *view, uint32_t node, const uint32_t *dead, size_t dead_count)
{
    const struct catalog *catalog = view->catalog;
    for (uint32_t i = catalog->first_item[node]; i < catalog->first_item[node + 1]; i++)
        if (!has(view->excluded, view->excluded_count, i))
            return false;
    for (uint32_t child = catalog->first_child[node]; child < catalog->first_child[node + 1]; child++)
        if (!has(dead, dead_count, child))
            return false;
    return true;
}

/* Children have greater numbers than their parents: from the last node to the root, each is settled once.
 * dead[] fills from the end of the same array, so it is ascending. */
static void settle(struct catalog_view *view, uint32_t *nodes, size_t count)
{
    size_t first_dead = count;
    for (size_t i = count; i-- > 0;) {
        uint32_t node = nodes[i];
        if (is_dead(view, node, nodes + first_dead, count - first_dead))
            nodes[--first_dead] = node;
    }
    view->dead_count = count - first_dead;
    memmove(nodes, nodes + first_dead, view->dead_count * sizeof *nodes);
    view->dead = nodes;
}

/* The nodes on the way from the root to each excluded item. */
static bool kill_nodes(struct catalog_view *view)
{
    size_t count = 0;
    uint32_t *nodes = malloc(view->excluded_count * (CATALOG_MAX_ITEM_TOKENS + 1) * sizeof *nodes);
    if (!nodes)
        return false;
    for (size_t i = 0; i < view->excluded_count; i++)
        for (uint32_t node = catalog_item_node(view->catalog, view->excluded[i]);;
             node = catalog_parent(view->catalog, node)) {
            nodes[count++] = node;
            if (node == 0)
                break;
        }
    settle(view, nodes, sort_unique(nodes, count));
    return true;
}

static bool exclude_items(struct catalog_view *view, const char *const *exclude, size_t count)
{
    if (count == 0)
        return true;
    view->excluded = malloc(count * sizeof *view->excluded);
    if (!view->excluded)
        return false;
    for (size_t i = 0; i < count; i++) {
        uint32_t item = catalog_item_by_id(view->catalog, exclude[i]);
        if (item != CATALOG_NO_ITEM)
            view->excluded[view->excluded_count++] = item;
    }
    view->excluded_count = sort_unique(view->excluded, view->excluded_count);
    return view->excluded_count == 0 || kill_nodes(view);
}

enum status catalog_constraint(struct constraint **out, struct catalog *catalog, const char *const *exclude,
                               size_t exclude_count, struct error *err)
{
    *out = NULL;
    struct catalog_view *view = calloc(1, sizeof *view);
    if (!view)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a job's catalogue");
    size_t vocab = (size_t)catalog->vocab;
    view->constraint.ops = &view_ops;
    view->constraint.references = 1;
    view->catalog = catalog;
    catalog_take(catalog);
    view->mask = malloc((vocab + 63) / 64 * sizeof *view->mask);
    view->allowed = exclude_count ? malloc(vocab * sizeof *view->allowed) : NULL;
    enum status status = STATUS_OK;
    if (!view->mask || (exclude_count && !view->allowed) || !exclude_items(view, exclude, exclude_count))
        status = error_set(err, STATUS_NO_MEMORY, "no memory for a job's catalogue");
    else if (has(view->dead, view->dead_count, 0))
        status = error_set(err, STATUS_NOT_FOUND, "no item of the catalogue is left: exclude names them all");
    if (status == STATUS_OK)
        *out = &view->constraint;
    else
        constraint_give_back(&view->constraint);
    return status;
}

const char *catalog_constraint_item(const struct constraint *constraint, uint32_t state, size_t index)
{
    const struct catalog_view *view = (const struct catalog_view *)constraint;
    const struct catalog *catalog = view->catalog;
    for (uint32_t i = catalog->first_item[state]; i < catalog->first_item[state + 1]; i++)
        if (!has(view->excluded, view->excluded_count, i) && index-- == 0)
            return catalog->ids + catalog->id_at[i];
    return NULL;
}

const struct catalog *catalog_of(const struct constraint *constraint)
{
    return ((const struct catalog_view *)constraint)->catalog;
}
