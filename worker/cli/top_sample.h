// SPDX-License-Identifier: Apache-2.0
// What `millrace top` shows of one worker: a few values of its /metrics, and rates between two looks.
#ifndef WORKER_CLI_TOP_SAMPLE_H
#define WORKER_CLI_TOP_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* name of the field, metric */
#define TOP_VALUES(X)                                      \
    X(running, "vllm:num_requests_running")                \
    X(waiting, "vllm:num_requests_waiting")                \
    X(kv_share, "vllm:kv_cache_usage_perc")                \
    X(prompt_tokens, "vllm:prompt_tokens_total")           \
    X(tokens, "vllm:generation_tokens_total")              \
    X(queries, "vllm:prefix_cache_queries_total")          \
    X(hits, "vllm:prefix_cache_hits_total")                \
    X(inflight, "millrace_inflight_jobs")                  \
    X(paused, "millrace_consumer_paused")                  \
    X(lag, "millrace_consumer_lag")                        \
    X(oldest_s, "millrace_oldest_job_age_seconds")         \
    X(results, "millrace_results_total")                   \
    X(dead_letters, "millrace_dead_letters_total")         \
    X(tier_lookups, "millrace_kvtier_lookup_blocks_total") \
    X(tier_hits, "millrace_kvtier_hit_blocks_total")

struct top_sample {
    int64_t taken_ms; /* monotonic; 0: the worker did not answer */
#define TOP_FIELD(name, metric) double name;
    TOP_VALUES(TOP_FIELD)
#undef TOP_FIELD
};

/* Prometheus text: the sum over labels of each value; what is not there stays 0. */
void top_sample_read(struct top_sample *out, const char *text, size_t bytes);
/* Adds a worker to the sums; shares are averaged by the caller, ages are the largest. */
void top_sample_add(struct top_sample *sum, const struct top_sample *part);
/* Growth per second between two looks; 0 when there is no earlier one or the worker has started anew. */
double top_rate(double now, double before, int64_t ms);

#endif
