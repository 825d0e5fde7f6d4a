// SPDX-License-Identifier: Apache-2.0
#include "engine/model/product_list.h"

#include <limits.h>
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

static int pieces_of(const struct listed_product *p)
{
    return (p->product.weight->n + p->piece - 1) / p->piece;
}

/* Finds the product of a piece, from where the last piece was. */
struct cursor {
    const struct listed_product *list;
    int count, at, first; /* the product's first piece */
};

static bool find(struct cursor *cursor, int piece)
{
    if (piece < cursor->first)
        cursor->at = cursor->first = 0;
    for (; cursor->at < cursor->count; cursor->at++) {
        const int pieces = pieces_of(&cursor->list[cursor->at]);
        if (piece < cursor->first + pieces)
            return true;
        cursor->first += pieces;
    }
    return false;
}

/* Pieces [begin, end) of the product at the cursor. */
static void run_pieces(const struct cursor *cursor, int begin, int end, const struct kernels *kernels)
{
    const struct listed_product *p = &cursor->list[cursor->at];
    const int32_t n = p->product.weight->n, from = (begin - cursor->first) * p->piece,
                  to = (end - cursor->first) * p->piece;
    kernels->matmul(p->product.y, (size_t)n, p->product.weight, &p->x, p->product.bias, from,
                    to < n ? to : n);
}

void product_list_run(const struct listed_product *list, int count, const struct kernels *kernels,
                      struct thread_team *team)
{
    struct cursor cursor = {.list = list, .count = count};
    for (int piece; find(&cursor, piece = thread_team_next(team));)
        run_pieces(&cursor, piece, piece + 1, kernels);
}

void product_list_run_equal(const struct listed_product *list, int count, const struct kernels *kernels,
                            struct thread_team *team, int member)
{
    struct team_split split = {.divisor = INT_MAX};
    if (list[0].x.rows == 1) /* which waits for memory wherever a share begins */
        split.divisor = 2;
    for (int i = 0; i < count; i++)
        split.count += pieces_of(&list[i]);
    struct cursor cursor = {.list = list, .count = count};
    for (struct team_share share; thread_team_take(team, member, split, &share);)
        while (share.begin < share.end && find(&cursor, share.begin)) {
            const int last = cursor.first + pieces_of(&list[cursor.at]),
                      end = share.end < last ? share.end : last;
            run_pieces(&cursor, share.begin, end, kernels);
            share.begin = end;
        }
}
