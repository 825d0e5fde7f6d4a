#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Grafana dashboards, docker/observe/dashboards/*.json, from the lists below: one line per curve.

usage: check_dashboards.py SOURCE_DIR [--write]     without --write: are the files what the lists say?"""
import json
import pathlib
import sys

R = "[$__rate_interval]"
W = '{job="millrace"}'


def q(share, name):
    return "histogram_quantile(%g, sum by (le) (rate(%s_bucket%s%s)))" % (share, name, W, R)


def quantiles(name):
    return [("p%d" % (100 * share), q(share, name)) for share in (0.5, 0.9, 0.99)]


def rate(name, by=None, more=""):
    labels = '{job="millrace"%s}' % more
    return "sum%s (rate(%s%s%s))" % (" by (%s)" % by if by else "", name, labels, R)


# file: (title, [(panel title, unit, [(legend, expression)])])
DASHBOARDS = {
    "flow": ("Millrace: flow", [
        ("Jobs waiting in Kafka", "short", [("{{topic}}", 'sum by (topic) (millrace_consumer_lag%s)' % W)]),
        ("Age of the oldest unanswered job", "s", [("{{instance}}", "millrace_oldest_job_age_seconds" + W)]),
        ("Jobs in the workers", "short", [("{{instance}}", "millrace_inflight_jobs" + W)]),
        ("Sequences", "short", [("running", "sum (vllm:num_requests_running%s)" % W),
                                ("waiting", "sum (vllm:num_requests_waiting%s)" % W)]),
        ("Tokens per second", "short", [("generated", rate("vllm:generation_tokens_total")),
                                        ("prompt", rate("vllm:prompt_tokens_total"))]),
        ("KV blocks in use", "percentunit", [("{{instance}}", "vllm:kv_cache_usage_perc" + W)]),
        ("Prefix cache hits, share of tokens", "percentunit", [
            ("hits", rate("vllm:prefix_cache_hits_total") + " / " + rate("vllm:prefix_cache_queries_total"))]),
        ("Results per second", "short", [("{{status}}", rate("millrace_results_total", "status"))]),
        ("Stream", "short", [("chunks/s", rate("millrace_stream_chunks_total")),
                             ("dropped/s", rate("millrace_stream_dropped_total")),
                             ("subscriptions", "sum (millrace_stream_subscriptions%s)" % W)]),
        ("Workers up", "short", [("up", 'sum (up%s)' % W)]),
    ]),
    "tier": ("Millrace: KV tier", [
        ("Prompt tokens by where they came from", "short", [
            ("computed or loaded", rate("vllm:prompt_tokens_total")), ("local prefix cache", rate("vllm:prefix_cache_hits_total"))]),
        ("Blocks asked for and loaded", "short", [("asked", rate("millrace_kvtier_lookup_blocks_total")),
                                                  ("loaded", rate("millrace_kvtier_hit_blocks_total"))]),
        ("Blocks not loaded, by reason", "short", [("{{reason}}", rate("millrace_kvtier_miss_blocks_total", "reason"))]),
        ("Values refused, by check", "short", [("{{check}}", rate("millrace_kvtier_corrupt_total", "check"))]),
        ("Bytes", "Bps", [("loaded", rate("millrace_kvtier_load_bytes_total")),
                          ("stored", rate("millrace_kvtier_store_bytes_total"))]),
        ("Blocks not stored, by reason", "short", [("{{reason}}", rate("millrace_kvtier_dropped_blocks_total", "reason"))]),
        ("Redis reached (0: away, or the breaker is open)", "short", [("{{instance}}", "millrace_kvtier_up" + W)]),
        ("Prefixes by where they came from", "short", [("{{from}}", rate("millrace_kv_prefixes_total", "from"))]),
        ("Requests held until their blocks are here", "short", [("{{state}}", "sum by (state) (millrace_kv_requests%s)" % W)]),
        ("Evicted blocks in host memory", "short", [("held", "sum (millrace_kv_host_blocks%s)" % W),
                                                    ("room", "sum (millrace_kv_host_blocks_limit%s)" % W)]),
        ("Blocks between pool and host memory", "short", [("put there", rate("millrace_kv_host_demoted_total")),
                                                          ("taken back", rate("millrace_kv_host_promoted_total")),
                                                          ("pushed out", rate("millrace_kv_host_dropped_total"))]),
        ("Under way", "bytes", [("{{way}}", "sum by (way) (millrace_kvtier_inflight_bytes%s)" % W)]),
        ("Round trip to Redis", "s", [("{{instance}}", "millrace_kvtier_round_trip_seconds" + W)]),
        ("Leases asked for, by who has them", "short", [("{{holder}}", rate("millrace_kvtier_leases_total", "holder"))]),
        ("KV events", "short", [("batches/s", rate("millrace_kv_event_batches_total")),
                                ("lost/s", rate("millrace_kv_event_batches_lost_total"))]),
    ]),
    "experts": ("Millrace: experts", [  # of mixture-of-experts models; empty for others
        ("Busiest expert over the mean", "short", [
            ("rows", "%s / %s * max (millrace_moe_experts%s)" % (
                rate("millrace_moe_hottest_expert_rows_total"), rate("millrace_moe_expert_rows_total"), W))]),
        ("Experts used by a layer in a step", "short", [
            ("experts", rate("millrace_moe_experts_used_total") + " / " + rate("millrace_moe_layer_steps_total"))]),
        ("Rows given to experts per second", "short", [("rows", rate("millrace_moe_expert_rows_total"))]),
    ]),
    "latency": ("Millrace: latency", [
        ("From taking a job to its result", "s", quantiles("vllm:e2e_request_latency_seconds")),
        ("From taking a job to its first token", "s", quantiles("vllm:time_to_first_token_seconds")),
        ("From taking a job to its admission", "s", quantiles("vllm:request_queue_time_seconds")),
        ("Between tokens", "s", quantiles("vllm:inter_token_latency_seconds")),
        ("Engine's time, seconds per second", "short", [
            ("in steps", rate("millrace_engine_step_seconds_total")),
            ("between steps, with work at hand", rate("millrace_engine_gap_seconds_total"))]),
        ("Prefill and decode, mean", "s", [
            ("prefill", rate("vllm:request_prefill_time_seconds_sum") + " / " + rate("vllm:request_prefill_time_seconds_count")),
            ("decode", rate("vllm:request_decode_time_seconds_sum") + " / " + rate("vllm:request_decode_time_seconds_count"))]),
        ("Prompt and answer length, mean", "short", [
            ("prompt", rate("vllm:request_prompt_tokens_sum") + " / " + rate("vllm:request_prompt_tokens_count")),
            ("answer", rate("vllm:request_generation_tokens_sum") + " / " + rate("vllm:request_generation_tokens_count"))]),
    ]),
    "delivery": ("Millrace: delivery", [
        ("Jobs taken", "short", [("taken", rate("millrace_jobs_consumed_total")),
                                 ("refused", rate("millrace_jobs_refused_total")),
                                 ("answered before", rate("millrace_jobs_repeated_total"))]),
        ("Commits (exactly once: transactions)", "short", [("commits", rate("millrace_offset_commits_total")),
                                                           ("failed", rate("millrace_offset_commit_failures_total"))]),
        ("Results not stored at once", "short", [("retries", rate("millrace_produce_failures_total"))]),
        ("Dead letters", "short", [("{{instance}}", "millrace_dead_letters_total" + W)]),
        ("Partitions assigned or revoked", "short", [("{{instance}}", "increase(millrace_rebalances_total%s%s)" % (W, R))]),
        ("Intake paused", "short", [("{{instance}}", "millrace_consumer_paused" + W)]),
        ("Jobs deleted by retention before they were taken", "short", [("{{instance}}", "millrace_offset_out_of_range_total" + W)]),
    ]),
}


def panel(number, title, unit, curves):
    return {
        "id": number, "title": title, "type": "timeseries", "datasource": {"type": "prometheus", "uid": "millrace"},
        "gridPos": {"h": 8, "w": 12, "x": 12 * ((number - 1) % 2), "y": 8 * ((number - 1) // 2)},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8, "lineWidth": 2}}, "overrides": []},
        "targets": [{"refId": chr(65 + i), "expr": expression, "legendFormat": legend,
                     "datasource": {"type": "prometheus", "uid": "millrace"}}
                    for i, (legend, expression) in enumerate(curves)],
    }


def dashboard(name, title, panels):
    return {
        "uid": "millrace-" + name, "title": title, "tags": ["millrace"], "schemaVersion": 39, "version": 1, "editable": True,
        "refresh": "5s", "time": {"from": "now-15m", "to": "now"}, "timezone": "browser", "templating": {"list": []},
        "links": [{"type": "dashboards", "tags": ["millrace"], "asDropdown": False, "title": "Millrace", "keepTime": True}],
        "panels": [panel(i + 1, *one) for i, one in enumerate(panels)],
    }


def main():
    folder = pathlib.Path(sys.argv[1]) / "docker/observe/dashboards"
    stale = []
    for name, (title, panels) in DASHBOARDS.items():
        path, text = folder / (name + ".json"), json.dumps(dashboard(name, title, panels), indent=1) + "\n"
        if "--write" in sys.argv:
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        print("not what tools/check_dashboards.py says (run it with --write): " + ", ".join(stale))
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
