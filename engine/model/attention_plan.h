// SPDX-License-Identifier: Apache-2.0
// Which rows of a step attend together. Rows of sequences whose block tables begin with the same physical
// blocks form a cluster: they take in the shared positions side by side, so that keys and values are read
// once for all, and then each its own. Built once per step on the engine thread, read by the kernel team.
//
// A row's positions are taken in ascending order in whole tiles, shared or not: no byte depends on sharing.
#ifndef ENGINE_MODEL_ATTENTION_PLAN_H
#define ENGINE_MODEL_ATTENTION_PLAN_H

#include "engine/batch.h"
#include "engine/kernels/kernels.h"

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
};

/* Arrays for a step of at most R rows. */
struct attention_plan {
    struct attention_row *rows;         /* [R] */
    struct attention_span *spans;       /* [2 R]; `first` counts from the cluster's first row */
    struct attention_cluster *clusters; /* [R] */
    struct attention_part *parts;       /* [R] */
    int32_t row_count, span_count, cluster_count, part_count;
};

struct attention_plan_limits {
    int32_t block_tokens;
    int32_t tile_tokens;  /* of the kernel set's attention_spans; 0: it has none, every part is a cluster */
    int32_t part_rows;    /* at most, of one sequence in one part */
    int32_t cluster_rows; /* at most, of parts that share */
};

void attention_plan_build(struct attention_plan *plan, const struct batch *batch,
                          const struct attention_plan_limits *limits);

#endif
