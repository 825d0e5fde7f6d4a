// SPDX-License-Identifier: Apache-2.0
#include "engine/model/product_list.h"

#include <string.h>

#include "base/check.h"

static int32_t panels_of(const struct listed_product *p, int32_t granule)
{
    return (p->product.weight->n + granule - 1) / granule;
}

void product_list_cut(struct listed_product *list, int count, int32_t granule, int pieces)
{
    int64_t cost = 0;
    for (int i = 0; i < count; i++)
        cost += panels_of(&list[i], granule) * product_panel_cost(list[i].x.rows);
    const int64_t piece_cost = (cost + pieces - 1) / pieces;
    for (int i = 0; i < count; i++) {
        const int32_t all = panels_of(&list[i], granule);
        const int64_t product_cost = all * product_panel_cost(list[i].x.rows);
        int64_t parts = (product_cost + piece_cost - 1) / piece_cost;
        parts = parts < all ? parts : all;
        list[i].piece = (int32_t)((all + parts - 1) / parts) * granule;
    }
}

/* Gives `cost` to the member that has least, which is at the root of the heap. */
static void give(int64_t *busy, int members, int64_t cost)
{
    const int64_t least = busy[0] + cost;
    int at = 0;
    for (int child; (child = 2 * at + 1) < members; at = child) {
        if (child + 1 < members && busy[child + 1] < busy[child])
            child++;
        if (busy[child] >= least)
            break;
        busy[at] = busy[child];
    }
    busy[at] = least;
}

int64_t product_list_busiest(const struct listed_product *list, int count, int32_t granule, int members)
{
    int64_t busy[PRODUCT_LIST_MAX_MEMBERS], most = 0;
    CHECK(members <= PRODUCT_LIST_MAX_MEMBERS);
    memset(busy, 0, (size_t)members * sizeof *busy);
    for (int i = 0; i < count; i++) {
        const int32_t all = panels_of(&list[i], granule), piece = list[i].piece / granule;
        for (int32_t first = 0; first < all; first += piece)
            give(busy, members,
                 (all - first < piece ? all - first : piece) * product_panel_cost(list[i].x.rows));
    }
    for (int i = 0; i < members; i++)
        most = busy[i] > most ? busy[i] : most;
    return most;
}

void product_list_run(const struct listed_product *list, int count, const struct kernels *kernels,
                      struct thread_team *team)
{
    int index = thread_team_next(team);
    for (int i = 0, first = 0; i < count; i++) {
        const struct product *p = &list[i].product;
        const int32_t n = p->weight->n, piece = list[i].piece;
        const int last = first + (n + piece - 1) / piece; /* this product's pieces: [first, last) */
        for (; index < last; index = thread_team_next(team)) {
            const int32_t begin = (index - first) * piece;
            const int32_t end = begin + piece < n ? begin + piece : n;
            kernels->matmul(p->y, (size_t)n, p->weight, &list[i].x, p->bias, begin, end);
        }
        first = last;
    }
}
