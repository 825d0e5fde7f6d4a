// SPDX-License-Identifier: Apache-2.0
// The kernel team: every member runs, barriers separate phases, the shared counter hands out each index once,
// also with more members than processors and after the team has gone to sleep. Run under TSan as well.
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/kernels/thread_team.h"

enum { INDICES = 1000, PHASES = 50, MAX_MEMBERS = 8 };

struct work {
    struct thread_team *team;
    int runs[MAX_MEMBERS];
    int owner[INDICES]; /* times that the shared counter handed out each index */
    int divisor;
    int taker[INDICES];        /* times that it was taken from the runs */
    int phase_of[MAX_MEMBERS]; /* written before a barrier, read by all after it */
    atomic_int disagreements;
};

static void phases(void *context, int member, int members)
{
    struct work *work = context;
    work->runs[member]++;
    for (int phase = 0; phase < PHASES; phase++) {
        for (int i = thread_team_next(work->team); i < INDICES; i = thread_team_next(work->team))
            work->owner[i]++; /* a race, and a TSan report, if two members get the same i */
        const struct team_split split = {.count = INDICES, .divisor = 2};
        for (struct team_share s; thread_team_take(work->team, member, split, &s);)
            for (int i = s.begin; i < s.end; i++)
                work->taker[i]++;
        work->phase_of[member] = phase;
        thread_team_barrier(work->team);
        for (int other = 0; other < members; other++)
            if (work->phase_of[other] != phase)
                atomic_fetch_add(&work->disagreements, 1);
        thread_team_barrier(work->team);
    }
}

static void check_team(int members, int runs, long pause_ns)
{
    struct work work = {0};
    assert_int_equal(thread_team_open(&work.team, members, NULL), STATUS_OK);
    assert_int_equal(thread_team_size(work.team), members);
    for (int run = 0; run < runs; run++) {
        thread_team_run(work.team, phases, &work);
        nanosleep(&(struct timespec){.tv_nsec = pause_ns}, NULL);
    }
    for (int member = 0; member < MAX_MEMBERS; member++)
        assert_int_equal(work.runs[member], member < members ? runs : 0);
    for (int i = 0; i < INDICES; i++)
        assert_true(work.owner[i] == runs * PHASES && work.taker[i] == runs * PHASES);
    assert_int_equal(atomic_load(&work.disagreements), 0);
    thread_team_close(work.team);
}

/* The others wait, so that one member takes its own run and then everybody's. */
static void take_all(void *context, int member, int members)
{
    (void)members;
    struct work *work = context;
    int *out = work->owner;
    const struct team_split split = {.count = 10, .divisor = work->divisor};
    for (struct team_share s; member == 1 && thread_team_take(work->team, member, split, &s);)
        *out++ = s.begin, *out++ = s.end;
}

static void check_shares(int divisor, const int *expected, int count)
{
    struct work work = {.divisor = divisor};
    assert_int_equal(thread_team_open(&work.team, 3, NULL), STATUS_OK);
    for (int run = 0; run < 2; run++) {
        memset(work.owner, 0, sizeof work.owner);
        thread_team_run(work.team, take_all, &work);
        assert_memory_equal(work.owner, expected, (size_t)count * sizeof *expected);
        assert_int_equal(work.owner[count], 0);
    }
    thread_team_close(work.team);
}

/* Runs: 0-2, 3-5, 6-9. */
static void a_member_begins_with_its_own_run(void **state)
{
    (void)state;
    static const int singles[] = {3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 0, 1, 1, 2, 2, 3};
    static const int halves[] = {3, 4, 4, 5, 5, 6, 6, 8, 8, 9, 9, 10, 0, 1, 1, 2, 2, 3};
    check_shares(INT_MAX, singles, sizeof singles / sizeof *singles);
    check_shares(2, halves, sizeof halves / sizeof *halves);
}

static void every_member_runs_every_phase_together(void **state)
{
    (void)state;
    check_team(1, 3, 0);
    check_team(2, 20, 0);
}

static void more_members_than_processors(void **state)
{
    (void)state;
    check_team(MAX_MEMBERS, 5, 0);
}

static void a_sleeping_team_wakes(void **state)
{
    (void)state;
    check_team(2, 10, 5000000);
}

static void closing_an_unused_team(void **state)
{
    (void)state;
    struct thread_team *team = NULL;
    assert_int_equal(thread_team_open(&team, 4, NULL), STATUS_OK);
    thread_team_close(team);
    thread_team_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_member_begins_with_its_own_run),
        cmocka_unit_test(every_member_runs_every_phase_together),
        cmocka_unit_test(more_members_than_processors),
        cmocka_unit_test(a_sleeping_team_wakes),
        cmocka_unit_test(closing_an_unused_team),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
