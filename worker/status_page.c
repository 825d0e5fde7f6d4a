// SPDX-License-Identifier: Apache-2.0
#include "worker/status_page.h"

#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/monotime.h"

static void text_member(struct bytes *out, const char *name, const char *text)
{
    bytes_appendf(out, "\"%s\":", name);
    json_append_string(out, text, strlen(text));
    bytes_append_char(out, ',');
}

static void append_worker(const struct status_page_source *source, int64_t now_ms, struct bytes *out)
{
    const struct pipeline_shared *shared = source->shared;
    text_member(out, "worker", shared->worker_id);
    text_member(out, "model", shared->metrics->model);
    text_member(out, "version", MILLRACE_VERSION);
    text_member(out, "group", shared->config->kafka.group_id);
    text_member(out, "delivery", shared->config->kafka.delivery);
    bytes_appendf(out, "\"now_ms\":%lld,\"uptime_s\":%.1f,\"ready\":%s,\"draining\":%s,\n", (long long)now_ms,
                  (double)(now_ms - source->started_ms) / 1e3, source->ready ? "true" : "false",
                  shared->draining ? "true" : "false");
}

static void append_queue(const struct metrics *metrics, int64_t now_ms, struct bytes *out)
{
    int64_t lag = -1, oldest_ms = 0;
    int partitions = 0;
    for (int i = 0; i < METRICS_MAX_PARTITIONS; i++) {
        const struct metrics_partition *at = &metrics->partitions[i];
        if (!at->used || at->lag < 0)
            continue;
        partitions++;
        lag = (lag < 0 ? 0 : lag) + at->lag;
        if (at->oldest_ms > 0 && (oldest_ms == 0 || at->oldest_ms < oldest_ms))
            oldest_ms = at->oldest_ms;
    }
    bytes_appendf(
        out,
        "\"queue\":{\"lag\":%lld,\"oldest_s\":%.3f,\"partitions\":%d,\"inflight\":%lld,\"paused\":%s},\n",
        (long long)lag, oldest_ms && now_ms > oldest_ms ? (double)(now_ms - oldest_ms) / 1e3 : 0.0,
        partitions, (long long)metrics->inflight_jobs, metrics->paused ? "true" : "false");
}

static void append_engine(const struct status_page_source *source, int64_t now_ms, struct bytes *out)
{
    const struct engine_stats *e = source->engine;
    bytes_appendf(out,
                  "\"batch\":{\"running\":%d,\"waiting\":%d,\"steps\":%llu,\"prompt_tokens\":%llu,"
                  "\"generated_tokens\":%llu,\"cached_tokens\":%llu,\"preemptions\":%llu,\"queries\":%llu,"
                  "\"hits\":%llu},\n\"blocks\":{\"total\":%d,\"used\":%d,\"cached\":%d,\"map\":",
                  (int)e->running, (int)e->waiting, (unsigned long long)e->steps,
                  (unsigned long long)e->prompt_tokens, (unsigned long long)e->generated_tokens,
                  (unsigned long long)e->cached_tokens, (unsigned long long)e->preemptions,
                  (unsigned long long)e->prefix_queries_tokens, (unsigned long long)e->prefix_hits_tokens,
                  (int)e->blocks_total, (int)e->blocks_used, (int)e->blocks_cached);
    snapshot_read(source->block_map, "\"\"", now_ms, out);
    bytes_append_text(out, "},\n");
}

static void append_tier(const struct kvtier_stats *tier, struct bytes *out)
{
    if (!tier) {
        bytes_append_text(out, "\"tier\":null,\n");
        return;
    }
    bytes_appendf(
        out,
        "\"tier\":{\"lookups\":%llu,\"hits\":%llu,\"stored\":%llu,\"load_bytes\":%llu,\"store_bytes\":%llu,"
        "\"up\":%s},\n",
        (unsigned long long)tier->lookup_blocks, (unsigned long long)tier->hit_blocks,
        (unsigned long long)tier->stored_blocks, (unsigned long long)tier->load_bytes,
        (unsigned long long)tier->store_bytes, tier->reader_up && tier->writer_up ? "true" : "false");
}

static void append_output(const struct metrics *m, struct bytes *out)
{
    bytes_appendf(out,
                  "\"stream\":{\"subscriptions\":%llu,\"chunks\":%llu,\"dropped\":%llu,\"replays\":%llu},\n"
                  "\"results\":{\"completed\":%llu,\"failed\":%llu,\"cancelled\":%llu,\"expired\":%llu,"
                  "\"dead_letters\":%llu},\n",
                  (unsigned long long)m->stream_subscribers, (unsigned long long)m->stream_chunks,
                  (unsigned long long)m->stream_dropped, (unsigned long long)m->stream_replays,
                  (unsigned long long)m->results[METRICS_COMPLETED],
                  (unsigned long long)m->results[METRICS_FAILED],
                  (unsigned long long)m->results[METRICS_CANCELLED],
                  (unsigned long long)m->results[METRICS_EXPIRED], (unsigned long long)m->dead_letters);
}

void status_page_state(const struct status_page_source *source, struct bytes *out)
{
    int64_t now_ms = walltime_ms();
    bytes_append_char(out, '{');
    append_worker(source, now_ms, out);
    append_queue(source->shared->metrics, now_ms, out);
    append_engine(source, monotime_ms(), out);
    append_tier(source->tier, out);
    append_output(source->shared->metrics, out);
    bytes_append_text(out, "\"jobs\":");
    snapshot_read(&source->shared->jobs, "[]", monotime_ms(), out);
    bytes_append_text(out, ",\n\"errors\":");
    log_recent(out);
    bytes_append_text(out, "}\n");
}

void status_page_jobs(const struct status_page_source *source, struct bytes *out)
{
    bytes_append_text(out, "{\"jobs\":");
    snapshot_read(&source->shared->jobs, "[]", monotime_ms(), out);
    bytes_append_text(out, "}\n");
}
