// SPDX-License-Identifier: Apache-2.0
// Which rows of a step attend together. Rows of sequences whose block tables begin with the same physical
// blocks form a cluster: they take in the shared positions side by side, so that keys and values are read
// once for all, and then each its own. Built once per step on the engine thread, read by the kernel team.
//
// A row's positions are taken in ascending order in whole tiles, shared or not: no byte depends on sharing.
// A context longer than a segment is attended to segment by segment, each from a fresh state, and the states
// are merged in ascending order, for every row on every machine; who takes in a segment is what a plan may
// choose: one member all of them in turn, or, where items are few, every member some.
#ifndef ENGINE_MODEL_ATTENTION_PLAN_H
#define ENGINE_MODEL_ATTENTION_PLAN_H

#include "engine/batch.h"
#include "engine/kernels/kernels.h"

enum {
    ATTENTION_SEGMENT_TOKENS = 2048, /* in every byte of a longer context: a change is NUMERICS_VERSION's */
    ATTENTION_ITEMS_PER_MEMBER = 2,  /* that keep a team busy to the end, when they are equal */
    ATTENTION_ALL_SEGMENTS = -1
};

/* Consecutive rows of one sequence. */
struct attention_part {
    const int32_t *block_table;
    const uint8_t *window;   /* of the sequence, or NULL */
    int32_t first_row, rows; /* of the batch */
    int32_t first_position;
    int32_t shared_tokens; /* positions in whole tiles that it has in common with the part before it */
};

struct attention_cluster {
    int32_t parts;
    const uint8_t *window;     /* of the only part: where its blocks lie in order; else NULL */
    int32_t first_row, rows;   /* in plan->rows */
    int32_t first_span, spans; /* in plan->spans; one part has one span */
    int32_t least_position;    /* of its rows */
    int32_t segments;          /* that its longest row reaches into */
    int32_t first_state;       /* of [segments][rows] in the states' buffer; -1: it is not split */
};

/* What one member attends to at a time, for one or more kv heads. */
struct attention_task {
    int32_t cluster;
    int32_t segment; /* of a cluster that is split; else ATTENTION_ALL_SEGMENTS */
};

/* Arrays for a step of at most R rows and S rows of states. */
struct attention_plan {
    struct attention_row *rows;         /* [R] */
    struct attention_span *spans;       /* [2 R]; `first` counts from the cluster's first row */
    struct attention_cluster *clusters; /* [R] */
    struct attention_part *parts;       /* [R] */
    struct attention_task *tasks;       /* [R + S]; the last rows of a prompt, which see most, first */
    int32_t row_count, span_count, cluster_count, part_count, task_count;
    int32_t segment_tokens;
    int32_t state_rows; /* taken of S: rows of split clusters times their segments */
};

struct attention_plan_limits {
    int32_t block_tokens;
    int32_t tile_tokens;  /* of the kernel set's attention_spans; 0: it has none, every part is a cluster */
    int32_t part_rows;    /* at most, of one sequence in one part */
    int32_t cluster_rows; /* at most, of parts that share */
    int32_t segment_tokens;
    int32_t members, kv_heads;
    int32_t state_rows; /* S; 0: nothing is split */
};

void attention_plan_build(struct attention_plan *plan, const struct batch *batch,
                          const struct attention_plan_limits *limits);

#endif
