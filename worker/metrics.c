// SPDX-License-Identifier: Apache-2.0
#include "worker/metrics.h"

#include <stdio.h>
#include <string.h>

static const double seconds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                                 1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
static const double tokens[] = {1,   2,    5,    10,   20,    50,    100,   200,
                                500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
enum { SECONDS = sizeof seconds / sizeof seconds[0], TOKENS = sizeof tokens / sizeof tokens[0] };
_Static_assert((int)SECONDS <= (int)METRICS_MAX_BUCKETS && (int)TOKENS <= (int)METRICS_MAX_BUCKETS,
               "a count per bound");

static void count(struct metrics_histogram *histogram, const double *bounds, int most, double value)
{
    int bucket = 0;
    while (bucket < most && value > bounds[bucket])
        bucket++;
    histogram->counts[bucket]++;
}

void metrics_observe(struct metrics_histogram *histogram, int64_t duration_ns)
{
    if (duration_ns < 0)
        return; /* unknown */
    count(histogram, seconds, SECONDS, (double)duration_ns / 1e9);
    histogram->sum += (uint64_t)duration_ns / 1000;
}

void metrics_count(struct metrics_histogram *histogram, uint64_t amount)
{
    count(histogram, tokens, TOKENS, (double)amount);
    histogram->sum += amount;
}

struct metrics_partition *metrics_partition(struct metrics *metrics, const char *topic, int32_t partition)
{
    for (int i = 0; i < METRICS_MAX_PARTITIONS; i++) {
        struct metrics_partition *at = &metrics->partitions[i];
        if (at->used && at->partition == partition && strcmp(at->topic, topic) == 0)
            return at;
        if (at->used)
            continue;
        snprintf(at->topic, sizeof at->topic, "%s", topic);
        at->partition = partition;
        at->lag = -1;
        at->used = true;
        return at;
    }
    return NULL;
}

struct page {
    struct bytes *out;
    const char *model;
};

static void head(struct page page, const char *name, const char *type, const char *help)
{
    bytes_appendf(page.out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void engine_value(struct page page, const char *name, const char *type, const char *help, double value)
{
    head(page, name, type, help);
    bytes_appendf(page.out, "%s{model_name=\"%s\",engine=\"0\"} %.17g\n", name, page.model, value);
}

static void plain_value(struct page page, const char *name, const char *type, const char *help, double value)
{
    head(page, name, type, help);
    bytes_appendf(page.out, "%s %.17g\n", name, value);
}

struct histogram_row {
    const char *name, *help;
    const struct metrics_histogram *histogram;
};

static void histogram(struct page page, const struct histogram_row *row, const double *bounds, int most)
{
    uint64_t total = 0;
    head(page, row->name, "histogram", row->help);
    for (int i = 0; i <= most; i++) {
        char bound[24] = "+Inf";
        total += row->histogram->counts[i];
        if (i < most)
            snprintf(bound, sizeof bound, "%g", bounds[i]);
        bytes_appendf(page.out, "%s_bucket{model_name=\"%s\",engine=\"0\",le=\"%s\"} %llu\n", row->name,
                      page.model, bound, (unsigned long long)total);
    }
    double sum = (double)row->histogram->sum / (bounds == seconds ? 1e6 : 1);
    bytes_appendf(page.out, "%s_sum{model_name=\"%s\",engine=\"0\"} %.6f\n", row->name, page.model, sum);
    bytes_appendf(page.out, "%s_count{model_name=\"%s\",engine=\"0\"} %llu\n", row->name, page.model,
                  (unsigned long long)total);
}

/* Under vLLM's names, so that its dashboards work; two have a newer and an older name. */
static void render_histograms(struct page page, const struct metrics *m)
{
    const struct histogram_row times[] = {
        {"vllm:time_to_first_token_seconds", "From taking a job to its first token.", &m->ttft},
        {"vllm:e2e_request_latency_seconds", "From taking a job to its result.", &m->e2e},
        {"vllm:request_queue_time_seconds", "From taking a job to its admission.", &m->queue},
        {"vllm:request_prefill_time_seconds", "From admission to the first token.", &m->prefill},
        {"vllm:request_decode_time_seconds", "From the first token to the last.", &m->decode},
        {"vllm:request_inference_time_seconds", "From admission to the last token.", &m->inference},
        {"vllm:inter_token_latency_seconds", "Between the tokens of one choice.", &m->inter_token},
        {"vllm:time_per_output_token_seconds", "The older name of inter_token_latency_seconds.",
         &m->inter_token}};
    const struct histogram_row sizes[] = {
        {"vllm:request_prompt_tokens", "Prompt tokens of a job.", &m->prompt_tokens},
        {"vllm:request_generation_tokens", "Tokens generated for a job.", &m->generation_tokens},
        {"vllm:request_max_num_generation_tokens", "Tokens generated per choice of a job.",
         &m->max_generation_tokens},
        {"vllm:request_params_n", "n of a job.", &m->params_n},
        {"vllm:request_params_max_tokens", "max_tokens of a job.", &m->params_max_tokens}};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        histogram(page, &times[i], seconds, SECONDS);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        histogram(page, &sizes[i], tokens, TOKENS);
}

static void render_engine(struct page page, const struct metrics *m, const struct engine_stats *e)
{
    double blocks = e->blocks_total ? (double)e->blocks_used / e->blocks_total : 0;
    engine_value(page, "vllm:num_requests_running", "gauge", "Sequences in the running batch.", e->running);
    engine_value(page, "vllm:num_requests_waiting", "gauge", "Sequences waiting for a place.", e->waiting);
    engine_value(page, "vllm:kv_cache_usage_perc", "gauge", "Share of KV blocks in use, 0 to 1.", blocks);
    engine_value(page, "vllm:gpu_cache_usage_perc", "gauge", "The older name of kv_cache_usage_perc.",
                 blocks);
    engine_value(page, "vllm:cpu_cache_usage_perc", "gauge", "0: nothing is swapped.", 0);
    engine_value(page, "vllm:num_requests_swapped", "gauge", "0: nothing is swapped.", 0);
    engine_value(page, "vllm:num_preemptions_total", "counter", "Sequences put back to waiting.",
                 (double)e->preemptions);
    engine_value(page, "vllm:prompt_tokens_total", "counter", "Prompt tokens computed or found in a cache.",
                 (double)(e->prompt_tokens + e->cached_tokens));
    engine_value(page, "vllm:generation_tokens_total", "counter", "Tokens generated.",
                 (double)e->generated_tokens);
    engine_value(page, "vllm:prefix_cache_queries_total", "counter",
                 "Prompt tokens looked up in the prefix cache.", (double)e->prefix_queries_tokens);
    engine_value(page, "vllm:prefix_cache_hits_total", "counter", "Prompt tokens found in the prefix cache.",
                 (double)e->prefix_hits_tokens);
    engine_value(page, "vllm:spec_decode_num_drafts_total", "counter",
                 "Times that a sequence had tokens guessed in a step.", (double)e->drafts);
    engine_value(page, "vllm:spec_decode_num_draft_tokens_total", "counter", "Tokens guessed and verified.",
                 (double)e->drafted_tokens);
    engine_value(page, "vllm:spec_decode_num_accepted_tokens_total", "counter",
                 "Guessed tokens that were right.", (double)e->accepted_tokens);
    engine_value(page, "millrace_engine_step_seconds_total", "counter", "Time inside engine steps.",
                 (double)e->step_ns * 1e-9);
    engine_value(page, "millrace_engine_gap_seconds_total", "counter",
                 "Time between two steps while there was work.", (double)e->gap_ns * 1e-9);
    head(page, "vllm:request_success_total", "counter", "Requests finished, by reason.");
    const struct {
        const char *reason;
        uint64_t count;
    } reasons[] = {{"stop", m->finished_stop}, {"length", m->finished_length}, {"abort", m->finished_abort}};
    for (int i = 0; i < 3; i++)
        bytes_appendf(
            page.out,
            "vllm:request_success_total{model_name=\"%s\",engine=\"0\",finished_reason=\"%s\"} %llu\n",
            page.model, reasons[i].reason, (unsigned long long)reasons[i].count);
    render_histograms(page, m);
}

/* Ratios over time are rates of these: hottest * experts / rows is the busiest expert over the mean. */
static void render_experts(struct page page, const struct engine_stats *e)
{
    const struct expert_load *load = &e->expert_load;
    if (e->experts == 0)
        return;
    plain_value(page, "millrace_moe_experts", "gauge", "Experts of a layer.", e->experts);
    plain_value(page, "millrace_moe_imbalance", "gauge",
                "Rows of a layer's busiest expert in a step over the mean, since the start.",
                load->rows ? (double)load->hottest_rows * e->experts / (double)load->rows : 0);
    plain_value(page, "millrace_moe_layer_steps_total", "counter", "Layers with experts computed.",
                (double)load->layer_steps);
    plain_value(page, "millrace_moe_expert_rows_total", "counter", "Rows given to experts.",
                (double)load->rows);
    plain_value(page, "millrace_moe_hottest_expert_rows_total", "counter",
                "Rows given to the busiest expert of each layer and step.", (double)load->hottest_rows);
    plain_value(page, "millrace_moe_experts_used_total", "counter",
                "Experts that had rows, of each layer and step: whose weights were read.",
                (double)load->touched);
}

static void render_queue(struct page page, const struct metrics *m, int64_t now_ms)
{
    static const char *const statuses[METRICS_RESULTS] = {"completed", "failed", "cancelled", "expired"};
    int64_t oldest_ms = 0;
    head(page, "millrace_results_total", "counter", "Results acknowledged by the broker, by status.");
    for (int i = 0; i < METRICS_RESULTS; i++)
        bytes_appendf(page.out, "millrace_results_total{status=\"%s\"} %llu\n", statuses[i],
                      (unsigned long long)m->results[i]);
    plain_value(page, "millrace_jobs_consumed_total", "counter", "Job records taken from Kafka.",
                (double)m->jobs_consumed);
    plain_value(page, "millrace_jobs_refused_total", "counter", "Job records answered with an error line.",
                (double)m->jobs_refused);
    plain_value(page, "millrace_jobs_repeated_total", "counter",
                "Job records skipped because they were answered before.", (double)m->jobs_repeated);
    plain_value(page, "millrace_inflight_jobs", "gauge", "Jobs taken and not answered yet.",
                (double)m->inflight_jobs);
    plain_value(page, "millrace_consumer_paused", "gauge", "1 while back-pressure stops fetching.",
                (double)m->paused);
    plain_value(page, "millrace_offset_commits_total", "counter", "Offset commits.", (double)m->commits);
    plain_value(page, "millrace_offset_commit_failures_total", "counter", "Failed offset commits.",
                (double)m->commit_failures);
    plain_value(page, "millrace_produce_failures_total", "counter",
                "Results that a broker did not store at once.", (double)m->produce_failures);
    plain_value(page, "millrace_rebalances_total", "counter", "Partitions assigned or revoked.",
                (double)m->rebalances);
    plain_value(page, "millrace_offset_out_of_range_total", "counter",
                "Jobs deleted by retention before they were taken.", (double)m->offset_resets);
    plain_value(page, "millrace_dead_letters_total", "counter",
                "Jobs that ended workers, kept on the dead-letter topic.", (double)m->dead_letters);
    head(page, "millrace_consumer_lag", "gauge", "Records not answered yet, per assigned partition.");
    for (int i = 0; i < METRICS_MAX_PARTITIONS; i++) {
        const struct metrics_partition *at = &m->partitions[i];
        if (!at->used || at->lag < 0)
            continue;
        bytes_appendf(page.out, "millrace_consumer_lag{topic=\"%s\",partition=\"%d\"} %lld\n", at->topic,
                      at->partition, (long long)at->lag);
        if (at->oldest_ms > 0 && (oldest_ms == 0 || at->oldest_ms < oldest_ms))
            oldest_ms = at->oldest_ms;
    }
    plain_value(page, "millrace_oldest_job_age_seconds", "gauge",
                "Age of the oldest job that is not answered yet.",
                oldest_ms && now_ms > oldest_ms ? (double)(now_ms - oldest_ms) / 1e3 : 0);
    plain_value(page, "millrace_stream_chunks_total", "counter", "Chunks published.",
                (double)m->stream_chunks);
    plain_value(page, "millrace_stream_dropped_total", "counter", "Chunks that could not be published.",
                (double)m->stream_dropped);
    plain_value(page, "millrace_stream_replays_total", "counter", "Replay requests answered.",
                (double)m->stream_replays);
    plain_value(page, "millrace_stream_subscriptions", "gauge", "Subscriptions at present.",
                (double)m->stream_subscribers);
}

static void render_tier(struct page page, const struct kvtier_stats *t)
{
    plain_value(page, "millrace_kvtier_up", "gauge", "1 while the tier's store answers.",
                t->reader_up && t->writer_up);
    plain_value(page, "millrace_kvtier_lookup_blocks_total", "counter", "Blocks asked for.",
                (double)t->lookup_blocks);
    plain_value(page, "millrace_kvtier_hit_blocks_total", "counter", "Blocks loaded and verified.",
                (double)t->hit_blocks);
    head(page, "millrace_kvtier_miss_blocks_total", "counter", "Blocks not loaded, by reason.");
    for (int i = TIER_MISS_none + 1; i < TIER_MISS_COUNT; i++)
        bytes_appendf(page.out, "millrace_kvtier_miss_blocks_total{reason=\"%s\"} %llu\n",
                      tier_miss_name((enum tier_miss)i), (unsigned long long)t->miss_blocks[i]);
    head(page, "millrace_kvtier_corrupt_total", "counter", "Stored values refused, by failed check.");
    for (int i = BLOCK_VERDICT_OK + 1; i < BLOCK_VERDICT_COUNT; i++)
        bytes_appendf(page.out, "millrace_kvtier_corrupt_total{check=\"%s\"} %llu\n",
                      block_verdict_name((enum block_verdict)i), (unsigned long long)t->corrupt[i]);
    plain_value(page, "millrace_kvtier_stored_blocks_total", "counter", "Blocks written.",
                (double)t->stored_blocks);
    plain_value(page, "millrace_kvtier_load_bytes_total", "counter", "Bytes loaded.", (double)t->load_bytes);
    plain_value(page, "millrace_kvtier_store_bytes_total", "counter", "Bytes written.",
                (double)t->store_bytes);
    head(page, "millrace_kvtier_inflight_bytes", "gauge", "Bytes of loads and stores under way.");
    bytes_appendf(page.out,
                  "millrace_kvtier_inflight_bytes{way=\"load\"} %llu\n"
                  "millrace_kvtier_inflight_bytes{way=\"store\"} %llu\n",
                  (unsigned long long)t->loading_bytes, (unsigned long long)t->storing_bytes);
    plain_value(page, "millrace_kvtier_touched_blocks_total", "counter",
                "Blocks hit locally whose recency was refreshed.", (double)t->touched_blocks);
    head(page, "millrace_kvtier_leases_total", "counter", "Leases asked for, by who has them.");
    bytes_appendf(page.out,
                  "millrace_kvtier_leases_total{holder=\"this\"} %llu\n"
                  "millrace_kvtier_leases_total{holder=\"other\"} %llu\n",
                  (unsigned long long)t->leases_granted, (unsigned long long)t->leases_elsewhere);
    plain_value(page, "millrace_kvtier_round_trip_seconds", "gauge",
                "Moving average of lookups without a hit.", t->round_trip_s);
    plain_value(page, "millrace_kvtier_load_bytes_per_second", "gauge", "Moving average of loads.",
                t->load_bytes_per_s);
    head(page, "millrace_kvtier_dropped_blocks_total", "counter", "Blocks not written, by reason.");
    bytes_appendf(page.out,
                  "millrace_kvtier_dropped_blocks_total{reason=\"queue_full\"} %llu\n"
                  "millrace_kvtier_dropped_blocks_total{reason=\"breaker\"} %llu\n"
                  "millrace_kvtier_dropped_blocks_total{reason=\"failed\"} %llu\n",
                  (unsigned long long)t->dropped_full, (unsigned long long)t->dropped_breaker,
                  (unsigned long long)t->dropped_failed);
}

static void render_bridge(struct page page, const struct kv_bridge_stats *b)
{
    head(page, "millrace_kv_requests", "gauge", "Requests held until their KV blocks are here, by state.");
    for (int i = 0; i < KV_BRIDGE_STATE_COUNT; i++)
        bytes_appendf(page.out, "millrace_kv_requests{state=\"%s\"} %d\n",
                      kv_bridge_state_name((enum kv_bridge_state)i), (int)b->held[i]);
    head(page, "millrace_kv_prefixes_total", "counter", "Prefixes of requests, by where they came from.");
    for (int i = 0; i < KV_BRIDGE_END_COUNT; i++)
        bytes_appendf(page.out, "millrace_kv_prefixes_total{from=\"%s\"} %llu\n",
                      kv_bridge_end_name((enum kv_bridge_end)i), (unsigned long long)b->ended[i]);
    plain_value(page, "millrace_kv_waits_total", "counter",
                "Requests that waited for another worker to compute their prefix.", (double)b->waits);
    plain_value(page, "millrace_kv_prefill_seconds_per_token", "gauge", "Moving average, for deadlines.",
                b->prefill_s_per_token);
    plain_value(page, "millrace_kv_host_blocks", "gauge", "Evicted blocks kept in host memory.",
                (double)b->host.used);
    plain_value(page, "millrace_kv_host_blocks_limit", "gauge", "Room for them.", (double)b->host.slots);
    plain_value(page, "millrace_kv_host_demoted_total", "counter", "Blocks put into host memory.",
                (double)b->host.demoted);
    plain_value(page, "millrace_kv_host_promoted_total", "counter", "Blocks taken back into the pool.",
                (double)b->host.promoted);
    plain_value(page, "millrace_kv_host_dropped_total", "counter", "Blocks pushed out by later ones.",
                (double)b->host.dropped);
}

static void render_events(struct page page, const struct kv_events_stats *e)
{
    plain_value(page, "millrace_kv_event_batches_total", "counter", "Batches of KV events published.",
                (double)e->batches);
    plain_value(page, "millrace_kv_event_batches_lost_total", "counter", "Batches that readers never get.",
                (double)e->dropped);
    plain_value(page, "millrace_kv_event_replays_total", "counter", "Replay requests answered.",
                (double)e->replays);
}

void metrics_render(const struct metrics *metrics, const struct metrics_sources *sources, int64_t now_ms,
                    struct bytes *out)
{
    struct page page = {out, metrics->model};
    render_engine(page, metrics, sources->engine);
    render_experts(page, sources->engine);
    render_queue(page, metrics, now_ms);
    if (sources->tier)
        render_tier(page, sources->tier);
    if (sources->bridge)
        render_bridge(page, sources->bridge);
    if (sources->events)
        render_events(page, sources->events);
}
