// SPDX-License-Identifier: Apache-2.0
// Counters that any thread may raise and the HTTP thread renders: vLLM's names for the engine, so that
// existing dashboards work, and millrace_ names for queue, delivery, stream and tier. Atomics only.
#ifndef WORKER_METRICS_H
#define WORKER_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "engine/engine.h"
#include "worker/infer/kv_bridge.h"

enum { METRICS_MAX_PARTITIONS = 256, METRICS_MAX_BUCKETS = 24 };

enum metrics_result {
    METRICS_COMPLETED,
    METRICS_FAILED,
    METRICS_CANCELLED,
    METRICS_EXPIRED,
    METRICS_RESULTS
};

struct metrics_histogram {
    _Atomic uint64_t counts[METRICS_MAX_BUCKETS + 1];
    _Atomic uint64_t sum; /* microseconds, or tokens */
};

struct metrics_partition {
    char topic[128];
    int32_t partition;
    _Atomic int64_t lag;       /* -1: unknown */
    _Atomic int64_t oldest_ms; /* record timestamp of the oldest unanswered job, 0: none */
    _Atomic bool used;
};

struct metrics {
    char model[128];
    _Atomic uint64_t jobs_consumed, jobs_refused, jobs_repeated, commits, commit_failures, produce_failures,
        rebalances, offset_resets, dead_letters;
    _Atomic uint64_t results[METRICS_RESULTS];
    _Atomic uint64_t finished_stop, finished_length, finished_abort;
    _Atomic int64_t inflight_jobs, paused;
    _Atomic uint64_t stream_chunks, stream_dropped, stream_replays, stream_subscribers;
    struct metrics_histogram ttft, e2e, queue, inter_token, prefill, decode, inference;
    struct metrics_histogram prompt_tokens, generation_tokens, max_generation_tokens, params_n,
        params_max_tokens;
    struct metrics_partition partitions[METRICS_MAX_PARTITIONS];
};

void metrics_observe(struct metrics_histogram *histogram, int64_t duration_ns);
void metrics_count(struct metrics_histogram *histogram, uint64_t tokens);
/* The slot of a partition; NULL when all are taken. */
struct metrics_partition *metrics_partition(struct metrics *metrics, const char *topic, int32_t partition);
struct metrics_sources {
    const struct engine_stats *engine;
    const struct kvtier_stats *tier;      /* NULL: none */
    const struct kv_bridge_stats *bridge; /* NULL: none */
    const struct kv_events_stats *events; /* NULL: none */
};

/* Prometheus text format 0.0.4. */
void metrics_render(const struct metrics *metrics, const struct metrics_sources *sources, int64_t now_ms,
                    struct bytes *out);

#endif
