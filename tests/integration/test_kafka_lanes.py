#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two job topics: a backlog far larger than what may be in flight on one, single live jobs on the other, which say that they
are urgent. A live job is answered before most of what is in flight of the backlog: the backlog can neither fill the worker nor
go first. How long a live job takes is printed, with and without the backlog.
  --backlog N, --live N (default 3000 and 8); --strict: the 99th percentile may at most double"""
import json
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import jobs  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from kafka_wire import TopicReader  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from worker import Worker, create_topics  # noqa: E402


def option(name, default):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


MILLRACE = option("--millrace", None)
BACKLOG, LIVE = int(option("--backlog", 3000)), int(option("--live", 8))
IN_FLIGHT, WEIGHT = 1600, 0.75
SHARE = int(IN_FLIGHT * WEIGHT)  # of the backlog's topic
MOST_AHEAD = SHARE // 4  # far more than end while a live job is fetched, put on record, run and committed
SEQUENCES, BACKLOG_TOKENS, LIVE_TOKENS = 16, 100, 20


def job(name, seed, tokens):
    return jobs.encode(jobs.line(name, prompt="Bought: mug %d" % seed, max_tokens=tokens, seed=seed, temperature=0.9,
                                 ignore_eos=True))


class Live:
    """Live jobs, one after the other; their answers have a topic of their own, so that reading the others' costs no time."""

    def __init__(self, kafka):
        self.kafka, self.reader = kafka, TopicReader(kafka, "live.results")

    def answered(self):
        """The end of the backlog's answers: how many there are, and one marker per transaction."""
        return self.kafka.offset("millrace.results", 0)

    def run(self, prefix, count):
        """[(seconds, answers of the backlog meanwhile)] of each."""
        out = []
        for i in range(count):
            began, before = time.monotonic(), self.answered()
            headers = [("millrace-priority", b"-10"), ("millrace-reply-topic", b"live.results")]
            self.kafka.produce("millrace.live", 0, [(None, job("%s-%d" % (prefix, i), i, LIVE_TOKENS), headers)])
            found = wait_until("a live answer", lambda: self.reader.poll(wait_ms=5), 120, 0)
            assert [json.loads(record.value)["custom_id"] for record in found] == ["%s-%d" % (prefix, i)]
            out.append((time.monotonic() - began, self.answered() - before))
        return out


def metric(worker, name):
    return float(re.search(r"^%s(?:{[^}]*})? (\S+)" % name, worker.get("/metrics")[1], re.M).group(1))


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def describe(seconds):
    return "p50 %.0f ms, p99 %.0f ms" % (1000 * percentile(seconds, 0.5), 1000 * percentile(seconds, 0.99))


def run(space, broker, kafka):
    create_topics(kafka, **{"millrace.results": 1})
    kafka.create_topic("millrace.live", 1)
    kafka.create_topic("live.results", 1)
    worker = Worker(space, MILLRACE, "worker", broker.address, any_model(),
                    kafka={"topics": [{"name": "millrace.jobs", "weight": 3}, {"name": "millrace.live", "weight": 1}],
                           "reply_topics": ["live.results"], "session_timeout_ms": 30000},
                    engine={"threads": 1, "kv_memory_mb": 64, "max_sequences": SEQUENCES, "max_waiting": 2048},
                    limits={"max_inflight_jobs": IN_FLIGHT}).start()
    worker.wait_ready()
    live = Live(kafka)
    live.run("first", 1)
    calm = [seconds for seconds, _ in live.run("calm", LIVE)]
    for first in range(0, BACKLOG, 500):
        kafka.produce("millrace.jobs", 0, [(None, job("back-%d" % i, i, BACKLOG_TOKENS), [])
                                           for i in range(first, min(first + 500, BACKLOG))])
    wait_until("a full worker", lambda: metric(worker, "millrace_inflight_jobs") > SHARE * 0.9 and
               metric(worker, "vllm:num_requests_running") == SEQUENCES and live.answered() > SEQUENCES, 120)
    measured = live.run("busy", LIVE)
    held = metric(worker, "millrace_inflight_jobs")
    assert SHARE * 0.5 < held < SHARE * 1.1, "%d of the backlog are in flight; its share is %d" % (held, SHARE)
    busy, ahead = [seconds for seconds, _ in measured], [count for _, count in measured]
    assert percentile(ahead, 0.5) < MOST_AHEAD, "%s of the backlog were answered before a live job" % ahead
    ratio = percentile(busy, 0.99) / percentile(calm, 0.99)
    print("live jobs alone: %s; beside a backlog of %d: %s (%.2f times), %d of the backlog ahead of the median one" % (
        describe(calm), BACKLOG, describe(busy), ratio, percentile(ahead, 0.5)))
    assert ratio <= 2 or "--strict" not in sys.argv


def main():
    with Workspace("lanes") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        run(space, broker, kafka)


main()
