// SPDX-License-Identifier: Apache-2.0
// Fork-join over pthreads. A round number starts a run and a second one each barrier; both are plain
// atomics, waited for by a short spin and then a futex, so that a busy step pays nanoseconds and an idle
// worker nothing; with fewer processors than members spinning would keep the others from working, so it is
// left out. Who raises a round pays for a wake-up only when somebody sleeps. The caller is member 0; all
// state belongs to the team.
#include "engine/kernels/thread_team.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/kernels/cut.h"

enum { SPINS = 4000, CACHE_LINE_BYTES = 64 };

struct member {
    struct thread_team *team;
    pthread_t thread;
    int index;
    _Alignas(CACHE_LINE_BYTES) atomic_int taken; /* of its run of indices */
};

struct thread_team {
    int size, spins;
    void (*task)(void *context, int member, int members);
    void *context;
    struct member *members; /* [size]; 0 is the caller and has no thread */
    atomic_bool closing;
    atomic_int sleepers;                                       /* members in a futex call, or about to be */
    _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t run_round;     /* raised by the caller to start a run */
    _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t barrier_round; /* raised by the last member that arrives */
    _Alignas(CACHE_LINE_BYTES) atomic_int arrived;
    _Alignas(CACHE_LINE_BYTES) atomic_int next;
};

/* A sleeper counts itself before it looks again, a raiser raises before it looks for sleepers; both in the
 * one order of sequentially consistent atomics, so one of them sees the other. */
static void wait_past(struct thread_team *team, _Atomic uint32_t *word, uint32_t seen)
{
    for (int i = 0; i < team->spins; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != seen)
            return;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(word) == seen)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&team->sleepers, 1);
}

static void raise_round(struct thread_team *team, _Atomic uint32_t *word)
{
    atomic_fetch_add(word, 1);
    if (atomic_load(&team->sleepers) > 0)
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void reset_counters(struct thread_team *team)
{
    atomic_store(&team->next, 0);
    for (int i = 0; i < team->size; i++)
        atomic_store_explicit(&team->members[i].taken, 0, memory_order_relaxed);
}

void thread_team_barrier(struct thread_team *team)
{
    uint32_t seen = atomic_load_explicit(&team->barrier_round, memory_order_acquire);
    if (atomic_fetch_add(&team->arrived, 1) + 1 < team->size) {
        wait_past(team, &team->barrier_round, seen);
        return;
    }
    atomic_store(&team->arrived, 0);
    reset_counters(team);
    if (team->size > 1)
        raise_round(team, &team->barrier_round);
}

static void *member_main(void *argument)
{
    struct member *member = argument;
    struct thread_team *team = member->team;
    for (uint32_t round = 0;; round++) {
        wait_past(team, &team->run_round, round);
        if (atomic_load(&team->closing))
            return NULL;
        team->task(team->context, member->index, team->size);
        thread_team_barrier(team);
    }
}

/* Processors that this process may use. */
static int processors(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* Signals are the main thread's business: the member inherits a mask that blocks all of them. */
static bool start_member(struct member *member)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&member->thread, NULL, member_main, member) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

/* NULL: no memory. */
static void *zeroed_lines(size_t bytes)
{
    void *memory = aligned_alloc(CACHE_LINE_BYTES, bytes);
    if (memory)
        memset(memory, 0, bytes);
    return memory;
}

enum status thread_team_open(struct thread_team **out, int threads, struct error *err)
{
    *out = NULL;
    struct thread_team *team = zeroed_lines(sizeof *team);
    struct member *members = team ? zeroed_lines((size_t)threads * sizeof *members) : NULL;
    if (!members) {
        free(team);
        return error_set(err, STATUS_NO_MEMORY, "no memory for %d threads", threads);
    }
    team->members = members;
    team->spins = processors() < threads ? 0 : SPINS;
    for (team->size = 1; team->size < threads; team->size++) {
        struct member *member = &members[team->size];
        member->team = team, member->index = team->size;
        if (!start_member(member)) {
            thread_team_close(team);
            return error_set(err, STATUS_NO_MEMORY, "cannot start %d threads; lower engine.threads", threads);
        }
    }
    *out = team;
    return STATUS_OK;
}

void thread_team_close(struct thread_team *team)
{
    if (!team)
        return;
    atomic_store(&team->closing, true);
    raise_round(team, &team->run_round);
    for (int i = 1; i < team->size; i++)
        pthread_join(team->members[i].thread, NULL);
    free(team->members);
    free(team);
}

int thread_team_size(const struct thread_team *team)
{
    return team->size;
}

void thread_team_run(struct thread_team *team, void (*task)(void *context, int member, int members),
                     void *context)
{
    team->task = task;
    team->context = context;
    reset_counters(team);
    if (team->size > 1)
        raise_round(team, &team->run_round);
    task(context, 0, team->size);
    thread_team_barrier(team);
}

int thread_team_next(struct thread_team *team)
{
    return atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed);
}

/* Takes some of what is left of the victim's run. */
static bool take_from(struct thread_team *team, int victim, struct team_split split, struct team_share *out)
{
    const struct cut runs = {.count = split.count, .parts = team->size};
    const int begin = cut_at(runs, victim), end = cut_at(runs, victim + 1);
    atomic_int *taken = &team->members[victim].taken;
    int from = atomic_load_explicit(taken, memory_order_relaxed), left, part;
    do {
        left = end - begin - from;
        part = left / split.divisor > 1 ? left / split.divisor : 1;
    } while (left > 0 && !atomic_compare_exchange_weak_explicit(taken, &from, from + part,
                                                                memory_order_relaxed, memory_order_relaxed));
    *out = (struct team_share){begin + from, begin + from + part};
    return left > 0;
}

bool thread_team_take(struct thread_team *team, int member, struct team_split split, struct team_share *out)
{
    for (int i = 0; i < team->size; i++)
        if (take_from(team, (member + i) % team->size, split, out))
            return true;
    return false;
}
