// SPDX-License-Identifier: Apache-2.0
// Which rows attend together: over random trees of shared blocks every row takes in its own blocks, each
// position once and in order; what is shared is read once.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model/attention_plan.h"

enum {
    SEQUENCES = 64,
    BLOCKS = 80,
    ROWS = 2048,
    BLOCK_TOKENS = 16,
    TILE_TOKENS = 64,
    PART_ROWS = 64,
    SEGMENT_TOKENS = 128,
    STATE_ROWS = 100
};

static uint32_t seed = 11;
static int32_t tables[SEQUENCES][BLOCKS];
static struct batch_sequence sequences[SEQUENCES];
static struct batch batch;

static struct attention_row rows[ROWS];
static struct attention_span spans[2 * ROWS];
static struct attention_cluster clusters[ROWS];
static struct attention_part parts[ROWS];
static struct attention_task tasks[ROWS + STATE_ROWS];
static struct attention_plan plan = {
    .rows = rows, .spans = spans, .clusters = clusters, .parts = parts, .tasks = tasks};

static int32_t below(int32_t limit)
{
    seed = seed * 1664525u + 1013904223u;
    return (int32_t)((seed >> 8) % (uint32_t)limit);
}

/* Every sequence begins with `shared` blocks of an earlier one (or of none) and goes on with its own. */
static void add_sequence(int32_t parent, int32_t shared, int32_t context, int32_t count)
{
    const int32_t i = batch.sequence_count++;
    for (int32_t b = 0; b < BLOCKS; b++)
        tables[i][b] = b < shared ? tables[parent][b] : i * BLOCKS + b;
    sequences[i] = (struct batch_sequence){
        .first_row = batch.row_count, .rows = count, .context_tokens = context, .block_table = tables[i]};
    batch.row_count += count;
}

static void clear_batch(void)
{
    batch = (struct batch){.sequences = sequences};
}

static void random_batch(void)
{
    clear_batch();
    const int32_t count = 1 + below(SEQUENCES);
    for (int32_t i = 0; i < count; i++) {
        const int32_t new_rows = below(4) == 0 ? 1 + below(100) : 1;
        const int32_t context = below(BLOCKS * BLOCK_TOKENS - new_rows);
        const int32_t own = context / BLOCK_TOKENS; /* a block that is written is nobody else's */
        const int32_t parent = i > 0 ? below(i) : 0, blocks = i > 0 ? below(own + 1) : 0;
        const int32_t whole = sequences[parent].context_tokens / BLOCK_TOKENS;
        if (batch.row_count + new_rows <= ROWS)
            add_sequence(parent, blocks < whole ? blocks : i > 0 ? whole : 0, context, new_rows);
    }
}

static const struct batch_sequence *sequence_of_row(int32_t row)
{
    int32_t i = 0;
    while (row >= sequences[i].first_row + sequences[i].rows)
        i++;
    return &sequences[i];
}

/* The spans of one row, in the order in which they are taken in. */
static void check_row(const struct attention_cluster *cluster, int32_t index)
{
    const struct attention_row *row = &plan.rows[cluster->first_row + index];
    const struct batch_sequence *sequence = sequence_of_row(row->row);
    int32_t reached = 0;
    assert_int_equal(row->position, sequence->context_tokens + row->row - sequence->first_row);
    for (int32_t i = 0; i < cluster->spans; i++) {
        const struct attention_span *span = &plan.spans[cluster->first_span + i];
        if (index < span->first || index >= span->first + span->rows)
            continue;
        assert_int_equal(span->begin, reached);
        assert_int_equal(span->begin % TILE_TOKENS, 0);
        for (int32_t b = span->begin / BLOCK_TOKENS; b * BLOCK_TOKENS < span->end; b++)
            assert_int_equal(span->block_table[b], sequence->block_table[b]);
        reached = span->end;
    }
    assert_true(reached > row->position && reached <= sequence->context_tokens + sequence->rows);
}

static void check_plan(int32_t cluster_rows)
{
    static bool seen[ROWS];
    memset(seen, 0, sizeof seen);
    assert_int_equal(plan.row_count, batch.row_count);
    for (int32_t i = 0; i < plan.row_count; i++) {
        assert_false(seen[plan.rows[i].row]);
        seen[plan.rows[i].row] = true;
    }
    for (int32_t c = 0; c < plan.cluster_count; c++) {
        const struct attention_cluster *cluster = &plan.clusters[c];
        assert_true(cluster->rows <= (cluster->parts > 1 ? cluster_rows : PART_ROWS));
        assert_true(cluster->parts > 1 || cluster->spans == 1);
        for (int32_t i = 0; i < cluster->rows; i++)
            check_row(cluster, i);
    }
}

/* Every cluster is one task, or one for each segment, with places of their own for its states. */
static void check_tasks(int32_t state_rows)
{
    int32_t next = 0, states = 0;
    for (int32_t c = plan.cluster_count - 1; c >= 0; c--) {
        const struct attention_cluster *cluster = &plan.clusters[c];
        int32_t longest = 0, least = INT32_MAX;
        for (int32_t i = 0; i < cluster->rows; i++) {
            const int32_t position = plan.rows[cluster->first_row + i].position;
            longest = position > longest ? position : longest;
            least = position < least ? position : least;
        }
        assert_int_equal(cluster->segments, longest / SEGMENT_TOKENS + 1);
        assert_int_equal(cluster->least_position, least);
        if (cluster->first_state < 0) {
            assert_int_equal(plan.tasks[next].cluster, c);
            assert_int_equal(plan.tasks[next++].segment, ATTENTION_ALL_SEGMENTS);
            continue;
        }
        assert_int_equal(cluster->first_state, states);
        states += cluster->rows * cluster->segments;
        for (int32_t segment = 0; segment < cluster->segments; segment++, next++) {
            assert_int_equal(plan.tasks[next].cluster, c);
            assert_int_equal(plan.tasks[next].segment, segment);
        }
    }
    assert_int_equal(next, plan.task_count);
    assert_int_equal(states, plan.state_rows);
    assert_true(states <= state_rows);
}

static void every_row_takes_in_its_own_blocks_in_order(void **state)
{
    (void)state;
    int32_t shared = 0, split = 0;
    for (int round = 0; round < 500; round++) {
        const struct attention_plan_limits limits = {.block_tokens = BLOCK_TOKENS,
                                                     .tile_tokens = TILE_TOKENS,
                                                     .part_rows = PART_ROWS,
                                                     .cluster_rows = 1 + below(64),
                                                     .segment_tokens = SEGMENT_TOKENS,
                                                     .members = 1 + below(64),
                                                     .kv_heads = 1 + below(4),
                                                     .state_rows = below(STATE_ROWS + 1)};
        random_batch();
        attention_plan_build(&plan, &batch, &limits);
        check_plan(limits.cluster_rows);
        check_tasks(limits.state_rows);
        split += plan.state_rows > 0;
        shared += plan.cluster_count < plan.part_count;
    }
    assert_true(shared > 300); /* the batches did share */
    assert_true(split > 50);   /* and some were split */
}

static int32_t tokens_read(void)
{
    int32_t tokens = 0;
    for (int32_t i = 0; i < plan.span_count; i++)
        tokens += plan.spans[i].end - plan.spans[i].begin;
    return tokens;
}

/* 32 sequences in shuffled order behind one prompt of 1,024 tokens; half of them share 128 tokens more. */
static void what_is_shared_is_read_once(void **state)
{
    (void)state;
    struct attention_plan_limits limits = {.block_tokens = BLOCK_TOKENS,
                                           .tile_tokens = TILE_TOKENS,
                                           .part_rows = PART_ROWS,
                                           .cluster_rows = 64,
                                           .segment_tokens = SEGMENT_TOKENS};
    clear_batch();
    add_sequence(0, 0, 1200, 1);
    for (int32_t i = 1; i < 32; i++)
        add_sequence(0, i % 2 == 0 ? 72 : 64, 1200, 1);
    attention_plan_build(&plan, &batch, &limits);
    assert_int_equal(plan.cluster_count, 1);
    assert_int_equal(tokens_read(), 1024 + 128 + 16 * (1201 - 1152) + 16 * (1201 - 1024));
    limits.cluster_rows = 16; /* so that there is work for more members */
    attention_plan_build(&plan, &batch, &limits);
    assert_int_equal(plan.cluster_count, 2);
    limits.tile_tokens = 0; /* the kernel set cannot */
    attention_plan_build(&plan, &batch, &limits);
    assert_int_equal(plan.cluster_count, 32);
    assert_int_equal(tokens_read(), 32 * 1201);
}

static int64_t positions_of(struct attention_task task)
{
    const struct attention_cluster *cluster = &plan.clusters[task.cluster];
    const bool all = task.segment == ATTENTION_ALL_SEGMENTS;
    const int32_t begin = all ? 0 : task.segment * SEGMENT_TOKENS;
    const int32_t end = all ? INT32_MAX : begin + SEGMENT_TOKENS;
    int64_t positions = 0;
    for (int32_t i = cluster->first_span; i < cluster->first_span + cluster->spans; i++) {
        const int32_t from = spans[i].begin > begin ? spans[i].begin : begin;
        const int32_t to = spans[i].end < end ? spans[i].end : end;
        positions += from < to ? (int64_t)spans[i].rows * (to - from) : 0;
    }
    return positions;
}

/* Positions of the busiest of `members`, each of which takes the next item when it is free, for every
 * position that one would have if all had the same. */
static double busiest_share(int32_t members, int32_t kv_heads, int32_t state_rows)
{
    const struct attention_plan_limits limits = {.block_tokens = BLOCK_TOKENS,
                                                 .tile_tokens = TILE_TOKENS,
                                                 .part_rows = PART_ROWS,
                                                 .cluster_rows = PART_ROWS,
                                                 .segment_tokens = SEGMENT_TOKENS,
                                                 .members = members,
                                                 .kv_heads = kv_heads,
                                                 .state_rows = state_rows};
    int64_t busy[64] = {0}, all = 0, most = 0;
    attention_plan_build(&plan, &batch, &limits);
    for (int32_t item = 0; item < plan.task_count * kv_heads; item++) {
        int32_t free_member = 0;
        for (int32_t i = 1; i < members; i++)
            free_member = busy[i] < busy[free_member] ? i : free_member;
        const int64_t positions = positions_of(plan.tasks[item % plan.task_count]);
        busy[free_member] += positions, all += positions;
        most = busy[free_member] > most ? busy[free_member] : most;
    }
    return (double)most * members / (double)all;
}

static void a_long_context_is_shared_by_the_team(void **state)
{
    (void)state;
    clear_batch();
    add_sequence(0, 0, 8 * SEGMENT_TOKENS - 1, 1);
    assert_true(busiest_share(8, 1, 0) == 8.0);
    assert_true(busiest_share(8, 1, 7) == 8.0); /* no room */
    assert_true(busiest_share(8, 1, 8) == 1.0);
    assert_true(busiest_share(8, 2, 8) == 1.0);
    assert_true(busiest_share(16, 8, 8) == 1.0);
    assert_true(busiest_share(2, 4, 8) == 1.0);
    assert_int_equal(plan.state_rows, 0); /* heads are enough */
    add_sequence(0, 0, 3, 1);             /* beside a short one */
    assert_true(busiest_share(8, 1, 8) < 1.05);
    assert_int_equal(plan.state_rows, 8);
    clear_batch();
    for (int i = 0; i < 8; i++) /* beside a prompt: only the long one */
        add_sequence(0, 0, 8, 1);
    add_sequence(0, 0, 0, 256);
    add_sequence(0, 0, 10 * SEGMENT_TOKENS - 1, 1);
    busiest_share(64, 1, STATE_ROWS);
    assert_int_equal(plan.state_rows, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_takes_in_its_own_blocks_in_order),
        cmocka_unit_test(what_is_shared_is_read_once),
        cmocka_unit_test(a_long_context_is_shared_by_the_team),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
