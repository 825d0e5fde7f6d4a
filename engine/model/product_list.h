// SPDX-License-Identifier: Apache-2.0
// Products that the kernel team does together: cut into pieces of about equal cost, which form one list and
// are taken by whoever is free. A product with more rows than the others is cut finer, so that it does not
// leave a member idle; ordered by falling cost, the list ends with its smallest pieces.
#ifndef ENGINE_MODEL_PRODUCT_LIST_H
#define ENGINE_MODEL_PRODUCT_LIST_H

#include "engine/kernels/kernels.h"
#include "engine/kernels/thread_team.h"

enum { PRODUCT_LIST_PIECES = 8 /* for each member, where nothing better is known */ };
enum { PRODUCT_LIST_MAX_MEMBERS = 1024 };

struct product {
    const struct weight *weight;
    const float *bias; /* [n] or NULL */
    float *y;          /* [rows][n] */
};

struct listed_product {
    struct product product;
    struct activation x; /* converted */
    int32_t piece;       /* columns of a piece, set by product_list_cut; the last one has the rest */
};

/* What a panel of columns costs when `rows` rows are multiplied with it, in multiplied rows: reading it from
 * memory takes about as long as the arithmetic of a few rows. */
static inline int64_t product_panel_cost(int32_t rows)
{
    return rows + 8;
}

/* Chooses pieces so that there are about `pieces` of equal cost; `granule`: the kernel set's n_granule. */
void product_list_cut(struct listed_product *list, int count, int32_t granule, int pieces);
/* The cost that falls to the busiest of equally fast members, when each piece goes to the one that is free
 * first. (In the order of the list; where pieces cost the same, any order comes to the same.) */
int64_t product_list_busiest(const struct listed_product *list, int count, int32_t granule, int members);
/* On every member of the team, with a fresh counter (thread_team_next): computes the pieces it can get. */
void product_list_run(const struct listed_product *list, int count, const struct kernels *kernels,
                      struct thread_team *team);
/* The same for pieces of about equal cost, where order is of no use to balance: each member has a run of
 * them, so that what the kernels ask of memory beyond a piece's end is what the member does next. */
void product_list_run_equal(const struct listed_product *list, int count, const struct kernels *kernels,
                            struct thread_team *team, int member);

#endif
