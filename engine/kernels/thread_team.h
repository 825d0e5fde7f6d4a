// SPDX-License-Identifier: Apache-2.0
// The kernel team: fork-join of a fixed number of threads inside a step. The caller is member 0. Members
// spin briefly, then sleep on a futex, so that an idle worker costs nothing.
#ifndef ENGINE_KERNELS_THREAD_TEAM_H
#define ENGINE_KERNELS_THREAD_TEAM_H

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
/* Inside a task: an index of [0, count) that nobody has taken since the run or the barrier; -1: none is left.
 * A member takes its own run of them in order, and then what others have not come to. */
int thread_team_take(struct thread_team *team, int member, int count);

#endif
