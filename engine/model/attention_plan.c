// SPDX-License-Identifier: Apache-2.0
// Parts in the order of their block tables, so that those with the same beginning are neighbours; then runs
// of neighbours become clusters, and the tree of their common beginnings the spans. A cluster that is more
// than a member's share of the step is split into its segments.
#include "engine/model/attention_plan.h"

#include <string.h>

static int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t end_of(const struct attention_part *part)
{
    return part->first_position + part->rows;
}

/* Leading blocks that two parts have in common. */
static int32_t common_blocks(const struct attention_part *a, const struct attention_part *b,
                             int32_t block_tokens)
{
    const int32_t blocks = (least(end_of(a), end_of(b)) + block_tokens - 1) / block_tokens;
    int32_t i = 0;
    while (i < blocks && a->block_table[i] == b->block_table[i])
        i++;
    return i;
}

static bool goes_before(const struct attention_part *a, const struct attention_part *b, int32_t block_tokens)
{
    const int32_t i = common_blocks(a, b, block_tokens);
    if (i * block_tokens >= least(end_of(a), end_of(b)))
        return end_of(a) < end_of(b);
    return a->block_table[i] < b->block_table[i];
}

/* Keeps the parts sorted: a step's parts are few, and often in order already. */
static void insert_part(struct attention_plan *plan, struct attention_part part, bool sort,
                        int32_t block_tokens)
{
    int32_t low = sort ? 0 : plan->part_count, high = plan->part_count;
    while (low < high) {
        const int32_t middle = (low + high) / 2;
        if (goes_before(&part, &plan->parts[middle], block_tokens))
            high = middle;
        else
            low = middle + 1;
    }
    memmove(&plan->parts[low + 1], &plan->parts[low], (size_t)(plan->part_count - low) * sizeof *plan->parts);
    plan->parts[low] = part;
    plan->part_count++;
}

static void list_parts(struct attention_plan *plan, const struct batch *batch,
                       const struct attention_plan_limits *limits)
{
    const bool sort = limits->tile_tokens > 0 && batch->sequence_count > 1;
    for (int32_t i = 0; i < batch->sequence_count; i++) {
        const struct batch_sequence *sequence = &batch->sequences[i];
        for (int32_t done = 0; done < sequence->rows; done += limits->part_rows) {
            const struct attention_part part = {.block_table = sequence->block_table,
                                                .window = sequence->window,
                                                .first_row = sequence->first_row + done,
                                                .rows = least(sequence->rows - done, limits->part_rows),
                                                .first_position = sequence->context_tokens + done};
            insert_part(plan, part, sort, limits->block_tokens);
        }
    }
    for (int32_t i = 1; sort && i < plan->part_count; i++) {
        struct attention_part *part = &plan->parts[i];
        const int32_t tokens = common_blocks(part - 1, part, limits->block_tokens) * limits->block_tokens;
        part->shared_tokens =
            least(tokens, least(end_of(part - 1), end_of(part))) / limits->tile_tokens * limits->tile_tokens;
    }
}

static void add_span(struct attention_plan *plan, int32_t cluster_row, int32_t rows, int32_t begin,
                     int32_t end, const int32_t *block_table)
{
    if (begin < end)
        plan->spans[plan->span_count++] = (struct attention_span){
            .first = cluster_row, .rows = rows, .begin = begin, .end = end, .block_table = block_table};
}

/* Spans of parts [first, last), whose rows begin at `row` of the cluster and have taken in [0, begin) so far:
 * what all share, then what groups of them share, each group apart. As deep as there are parts at most. */
static void add_tree(struct attention_plan *plan, int32_t first, int32_t last, int32_t row, int32_t begin)
{
    const struct attention_part *parts = plan->parts;
    int32_t shared = end_of(&parts[first]), rows = parts[first].rows;
    for (int32_t i = first + 1; i < last; i++) {
        shared = least(shared, parts[i].shared_tokens);
        rows += parts[i].rows;
    }
    add_span(plan, row, rows, begin, shared, parts[first].block_table);
    if (last - first == 1)
        return;
    for (int32_t i = first + 1, group = first; i <= last; i++)
        if (i == last || parts[i].shared_tokens == shared) {
            rows = 0;
            for (int32_t j = group; j < i; j++)
                rows += parts[j].rows;
            add_tree(plan, group, i, row, shared);
            row += rows;
            group = i;
        }
}

static void add_cluster(struct attention_plan *plan, int32_t first, int32_t last)
{
    struct attention_cluster *cluster = &plan->clusters[plan->cluster_count++];
    *cluster = (struct attention_cluster){.parts = last - first,
                                          .window = last - first == 1 ? plan->parts[first].window : NULL,
                                          .first_row = plan->row_count,
                                          .first_span = plan->span_count};
    for (int32_t i = first; i < last; i++)
        for (int32_t row = 0; row < plan->parts[i].rows; row++)
            plan->rows[plan->row_count++] = (struct attention_row){
                .row = plan->parts[i].first_row + row, .position = plan->parts[i].first_position + row};
    add_tree(plan, first, last, 0, 0);
    cluster->rows = plan->row_count - cluster->first_row;
    cluster->spans = plan->span_count - cluster->first_span;
    int32_t end = 0;
    cluster->least_position = plan->parts[first].first_position;
    for (int32_t i = first; i < last; i++) {
        cluster->least_position = least(cluster->least_position, plan->parts[i].first_position);
        end = end_of(&plan->parts[i]) > end ? end_of(&plan->parts[i]) : end;
    }
    cluster->segments = (end + plan->segment_tokens - 1) / plan->segment_tokens;
}

/* Positions that the rows of a cluster take in. */
static int64_t positions_of(const struct attention_plan *plan, const struct attention_cluster *cluster)
{
    int64_t positions = 0;
    for (int32_t i = cluster->first_span; i < cluster->first_span + cluster->spans; i++)
        positions += (int64_t)plan->spans[i].rows * (plan->spans[i].end - plan->spans[i].begin);
    return positions;
}

static void add_tasks(struct attention_plan *plan, const struct attention_plan_limits *limits)
{
    const int64_t items = (int64_t)limits->members * ATTENTION_ITEMS_PER_MEMBER;
    int64_t all = 0;
    for (int32_t i = 0; i < plan->cluster_count; i++)
        all += positions_of(plan, &plan->clusters[i]);
    for (int32_t i = plan->cluster_count - 1; i >= 0; i--) {
        struct attention_cluster *cluster = &plan->clusters[i];
        const int32_t rows = cluster->rows * cluster->segments;
        cluster->first_state = -1;
        if (cluster->segments == 1 || plan->state_rows + rows > limits->state_rows ||
            positions_of(plan, cluster) * items <= all * limits->kv_heads) {
            plan->tasks[plan->task_count++] = (struct attention_task){i, ATTENTION_ALL_SEGMENTS};
            continue;
        }
        cluster->first_state = plan->state_rows;
        plan->state_rows += rows;
        for (int32_t segment = 0; segment < cluster->segments; segment++)
            plan->tasks[plan->task_count++] = (struct attention_task){i, segment};
    }
}

void attention_plan_build(struct attention_plan *plan, const struct batch *batch,
                          const struct attention_plan_limits *limits)
{
    plan->row_count = plan->span_count = plan->cluster_count = plan->part_count = 0;
    plan->task_count = plan->state_rows = 0;
    plan->segment_tokens = limits->segment_tokens;
    list_parts(plan, batch, limits);
    for (int32_t first = 0, last; first < plan->part_count; first = last) {
        int32_t rows = plan->parts[first].rows;
        for (last = first + 1; last < plan->part_count && plan->parts[last].shared_tokens > 0; last++) {
            rows += plan->parts[last].rows;
            if (rows > limits->cluster_rows)
                break;
        }
        add_cluster(plan, first, last);
    }
    add_tasks(plan, limits);
}
