// SPDX-License-Identifier: Apache-2.0
#include "engine/model/product_list.h"

enum { PIECES_PER_MEMBER = 8 };

static int32_t panels_of(const struct listed_product *p, int32_t granule)
{
    return (p->product.weight->n + granule - 1) / granule;
}

void product_list_cut(struct listed_product *list, int count, int32_t granule, int members)
{
    int64_t cost = 0;
    for (int i = 0; i < count; i++)
        cost += panels_of(&list[i], granule) * product_panel_cost(list[i].x.rows);
    const int64_t pieces = members == 1 ? 1 : (int64_t)members * PIECES_PER_MEMBER;
    const int64_t piece_cost = (cost + pieces - 1) / pieces;
    for (int i = 0; i < count; i++) {
        const int32_t all = panels_of(&list[i], granule);
        const int64_t product_cost = all * product_panel_cost(list[i].x.rows);
        int64_t parts = (product_cost + piece_cost - 1) / piece_cost;
        parts = parts < all ? parts : all;
        list[i].piece = (int32_t)((all + parts - 1) / parts) * granule;
    }
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
