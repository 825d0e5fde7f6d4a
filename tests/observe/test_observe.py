#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an operator sees, with Debian's prometheus and promtool: the rules are well-formed and each alert fires on its own
trouble; workers under load, with Redis and with experts, are scraped, and every curve of our dashboards and of vLLM's has data;
`promtool check metrics` finds nothing to say about millrace_*, and about vllm:* only what vLLM's own names bring along.
Not part of ./test: it needs the package prometheus.

usage: test_observe.py --millrace PATH"""
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
import jobs  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace, free_port, wait_until  # noqa: E402
from redis_process import Redis  # noqa: E402
from worker import Worker, create_topics  # noqa: E402

MILLRACE = sys.argv[sys.argv.index("--millrace") + 1]
WINDOW = "20s"
ALLOWED = re.compile(r"vllm:\S+ (metric names should not contain ':'|counter metrics should have \"_total\" suffix"
                     r"|no help text|metric names should not contain abbreviated units.*)")


def check_rules():
    for words in (["check", "rules", ROOT / "docker/observe/alerts.yml"], ["test", "rules", ROOT / "tests/observe/alerts_test.yml"]):
        done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    alerts = re.findall(r"alert: (\w+)", (ROOT / "docker/observe/alerts.yml").read_text())
    guide = (ROOT / "docs/OPERATIONS.md").read_text()
    assert alerts and all("`%s`" % alert in guide for alert in alerts), "an alert without advice in docs/OPERATIONS.md"
    return len(alerts)


def check_metrics(text):
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    findings = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    bad = [line for line in findings if not ALLOWED.fullmatch(line.strip())]
    assert not bad, bad


def expressions():
    """[(where, expression)] of every curve."""
    out = []
    for path in sorted((ROOT / "docker/observe/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            out += [("%s: %s" % (path.stem, panel["title"]), target["expr"]) for target in panel["targets"]]
    for line in (ROOT / "tests/observe/vllm_dashboard.txt").read_text().splitlines():
        if not line.startswith("#"):
            out.append(("vLLM", line))
    return out


class Prometheus:
    def __init__(self, space, targets):
        self.address = "127.0.0.1:%d" % free_port()
        config = space / "prometheus.yml"
        config.write_text(json.dumps({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ROOT / "docker/observe/alerts.yml")],
            "scrape_configs": [{"job_name": "millrace", "static_configs": [{"targets": targets}]}]}))
        self.process = space.start(["prometheus", "--config.file", config, "--storage.tsdb.path", space / "tsdb",
                                    "--web.listen-address", self.address], "prometheus")
        wait_until("prometheus", self.ready, 60)

    def ask(self, path, **words):
        url = "http://%s%s?%s" % (self.address, path, urllib.parse.urlencode(words))
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)["data"]

    def ready(self):
        try:
            return self.ask("/api/v1/query", query="vector(1)")["result"]
        except OSError:
            return False

    def has_data(self, expression):
        found = self.ask("/api/v1/query", query=expression)["result"]
        return any(math.isfinite(float(one["value"][1])) for one in found)


def model_with_experts(space):
    """The miniature mixture of experts, with a tokenizer that says bytes."""
    folder = space / "experts-model"
    shutil.copytree(ROOT / "tests/golden/models/qwen3-moe", folder)
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]  # GPT-2's letters for bytes
    letters = [chr(byte) for byte in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": {letter: 4 + i for i, letter in enumerate(letters)}, "merges": []}}))
    return folder


def send(kafka, first, count):
    for partition in range(6):
        records = []
        for i in range(first + partition, first + count, 6):
            bought = "a mug" if i % 10 == 9 else "kettle, mug, tea towel, " * 20
            body = {"prompt": "Customer %d bought: %s" % (i % 5, bought), "max_tokens": 20, "seed": i,
                    "temperature": 7 if i % 25 == 3 else 0.9}
            records.append((None, jobs.encode(jobs.line("o-%d" % i, **body)), [("millrace-stream", b"1")]))
        kafka.produce("millrace.jobs", partition, records)


def main():
    alerts = check_rules()
    with Workspace("observe") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        create_topics(kafka)
        redis = Redis(space).start()
        options = {"engine": {"threads": 1, "kv_memory_mb": 8, "max_sequences": 16},
                   "kvtier": {"enabled": True, "address": "unix://%s" % redis.path, "host_mb": 16}}
        workers = [Worker(space, MILLRACE, "w%d" % i, broker.address, any_model(),
                          kv_events={"bind": "tcp://127.0.0.1:%d" % free_port()}, **options).start() for i in range(2)]
        workers.append(Worker(space, MILLRACE, "experts", broker.address, model_with_experts(space),
                              kafka={"group_id": "experts"}).start())  # answers the short jobs too
        for worker in workers:
            worker.wait_ready()
        prometheus = Prometheus(space, ["127.0.0.1:%d" % worker.http for worker in workers])
        missing, sent = dict((expression, where) for where, expression in expressions()), 0
        count, end = len(missing), time.monotonic() + 180
        while missing and time.monotonic() < end:
            send(kafka, sent, 300)
            sent += 300
            time.sleep(2)
            for expression in list(missing):
                query = expression.replace("$__rate_interval", WINDOW).replace("$model_name", any_model().name)
                if prometheus.has_data(query):
                    del missing[expression]
        assert not missing, "no data for " + json.dumps(missing, indent=1)
        rules = prometheus.ask("/api/v1/rules")["groups"][0]["rules"]
        assert len(rules) == alerts and all(rule["health"] == "ok" for rule in rules), rules
        for worker in workers:
            check_metrics(worker.get("/metrics")[1])
    print("%d curves have data, %d alerts are tested and loaded, promtool has nothing to say" % (count, alerts))


main()
