// SPDX-License-Identifier: Apache-2.0
// The kernel team: fork-join of a fixed number of threads inside a step. The caller is member 0. Members
// spin briefly, then sleep on a futex, so that an idle worker costs nothing.
#ifndef ENGINE_KERNELS_THREAD_TEAM_H
#define ENGINE_KERNELS_THREAD_TEAM_H

#include <stdbool.h>

#include "base/error.h"

struct thread_team;

MUST_CHECK enum status thread_team_open(struct thread_team **out, int threads, struct error *err);
void thread_team_close(struct thread_team *team);
int thread_team_size(const struct thread_team *team);
/* Runs task(context, member, members) on every member; returns when all are done. */
void thread_team_run(struct thread_team *team, void (*task)(void *context, int member, int members),
                     void *context);
/* Inside a task: waits until every member is here. */
void thread_team_barrier(struct thread_team *team);
/* Inside a task: the next index of a shared counter for dynamic splits; reset by run and by barrier. */
int thread_team_next(struct thread_team *team);

/* Indices [0, count) that members take. Each has a run of them, which it takes front to back, and then takes
 * what others have not come to; each time one part in `divisor` of what is left of a run and at least one
 * index: 2 gives ever smaller shares (guided self-scheduling, Polychronopoulos and Kuck 1987), INT_MAX single
 * ones. */
struct team_split {
    int count, divisor;
};
struct team_share {
    int begin, end;
};
/* Inside a task: indices that nobody has taken since the run or the barrier; false: none are left. */
bool thread_team_take(struct thread_team *team, int member, struct team_split split, struct team_share *out);

#endif
