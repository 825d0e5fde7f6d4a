#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the queue costs: processor time of a worker per job, exactly once, streaming on and nobody reading, against that of
`millrace batch` over the same jobs; and how much later than it was made a single job's answer is committed at low load.
  --jobs N (default 1500), --tokens N (32), --singles N (20); --strict: at most 1.05 times, and 150 ms at the 99th percentile;
without, bounds that a machine with other work keeps: 1.5 times, a median of 1.5 s"""
import json
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import batch  # noqa: E402
import jobs  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from kafka_wire import TopicReader  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from worker import Worker, create_topics  # noqa: E402


def option(name, default):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


MILLRACE = option("--millrace", None)
COUNT, TOKENS, SINGLES = int(option("--jobs", 1500)), int(option("--tokens", 32)), int(option("--singles", 20))
PARTITIONS = 6
MOST_COST, MOST_LATER_MS = (1.05, 150) if "--strict" in sys.argv else (1.5, 1500)
TICKS = os.sysconf("SC_CLK_TCK")


def make(i):
    return jobs.line("job-%d" % i, prompt="Bought: mug %d, kettle %d" % (i, i * 7 % 100), max_tokens=TOKENS, seed=i,
                     temperature=0.9, ignore_eos=True)


def cpu_seconds(pid):
    fields = pathlib.Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def run_batch(space, name, lines):
    """(processor seconds, seconds) of a whole run."""
    source = batch.write_jobs(space / (name + ".jsonl"), lines)
    before, began = os.times(), time.monotonic()
    batch.run(MILLRACE, any_model(), source, space / (name + ".out"), "--threads", "1")
    after = os.times()
    return (after.children_user + after.children_system - before.children_user - before.children_system,
            time.monotonic() - began)


def batch_cost(space, lines):
    """Without what it takes to start."""
    start, all_of_it = run_batch(space, "one", lines[:1]), run_batch(space, "all", lines)
    return all_of_it[0] - start[0], all_of_it[1] - start[1]


def answers(kafka):
    """How many records and markers are on the results topic."""
    return sum(kafka.offset("millrace.results", p) for p in range(3))


def worker_cost(kafka, worker, lines):
    records = [(None, jobs.encode(line), []) for line in lines]
    before, began = cpu_seconds(worker.process.pid), time.monotonic()
    for partition in range(PARTITIONS):
        mine = records[partition::PARTITIONS]
        for first in range(0, len(mine), 500):
            kafka.produce("millrace.jobs", partition, mine[first:first + 500])
    wait_until("all answers", lambda: answers(kafka) >= len(lines) and 'status="completed"} %d\n' % len(lines) in
               worker.get("/metrics")[1], 900, 0.5)
    return cpu_seconds(worker.process.pid) - before, time.monotonic() - began


def latencies(kafka):
    """[milliseconds] from a job's record to its committed answer, without those in which it was generated."""
    reader, out = TopicReader(kafka, "millrace.results"), []
    reader.next = {p: kafka.offset("millrace.results", p) for p in reader.next}
    for i in range(SINGLES):
        time.sleep(0.15)
        began = time.monotonic()
        kafka.produce("millrace.jobs", i % PARTITIONS, [(None, jobs.encode(make(1000000 + i)), [])])
        record = wait_until("an answer", lambda: next(iter(reader.poll(wait_ms=2)), None), 60, 0)
        assert json.loads(record.value)["custom_id"] == "job-%d" % (1000000 + i)
        out.append(1000 * (time.monotonic() - began) - int(record.header("millrace-e2e-ms")))
    return sorted(out)


def main():
    lines = [make(i) for i in range(COUNT)]
    with Workspace("throughput") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        create_topics(kafka)
        worker = Worker(space, MILLRACE, "worker", broker.address, any_model(), kafka={"session_timeout_ms": 30000},
                        engine={"threads": 1, "kv_memory_mb": 0}).start().wait_ready()
        cost, seconds = worker_cost(kafka, worker, lines)
        later = latencies(kafka)
        p50, p99 = later[len(later) // 2], later[int(0.99 * len(later))]
        assert worker.process.stop(60) == 0
        broker.stop()
        plain, plain_seconds = batch_cost(space, lines)
    print("%d jobs of %d tokens: worker %.3f ms of processor time each, batch %.3f ms: %.3f times; %.1f s with the broker beside "
          "it, %.1f s in a batch; a single answer is committed %.0f ms later (median), %.0f ms (99th percentile)" % (
              COUNT, TOKENS, 1000 * cost / COUNT, 1000 * plain / COUNT, cost / plain, seconds, plain_seconds, p50, p99))
    assert cost <= MOST_COST * plain, "the queue costs too much"
    assert (p99 if "--strict" in sys.argv else p50) <= MOST_LATER_MS, "a single answer waits too long"


main()
