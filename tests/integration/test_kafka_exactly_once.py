#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Exactly once under fire, on a real Kafka: workers killed with SIGKILL, the broker killed and restarted, a bad line
now and then. Under read_committed every job has exactly one result, with the digest of an undisturbed run.

usage: test_kafka_exactly_once.py --millrace PATH [--jobs 1000] [--seed 1] [--workers 3] [--broker-kills 1]
"""
import argparse
import collections
import json
import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from jobs import good  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from kafka_wire import KafkaError, TopicReader  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace  # noqa: E402
from worker import Worker, create_topics  # noqa: E402


def make_jobs(count, seed):
    """Mostly short jobs, one line in twenty broken (it is answered too)."""
    rng = random.Random(seed)
    jobs = []
    for i in range(count):
        job = good(i)
        line = json.loads(job.value)
        line["body"]["max_tokens"] = rng.randint(2, 40)
        if i % 20 == 7:
            line["body"]["temperature"] = 7
        jobs.append((job.custom_id, json.dumps(line).encode()))
    return jobs


def reference(space, binary, model, jobs):
    """{custom_id: result} of the same jobs through `millrace batch`, which nothing disturbs."""
    source, out = space / "jobs.jsonl", space / "reference.jsonl"
    source.write_bytes(b"".join(value + b"\n" for _, value in jobs))
    process = space.start([binary, "batch", "-m", model, "-i", source, "-o", out, "--threads", "1"], "batch")
    process.wait(300)
    return {line["custom_id"]: line["response"] for line in map(json.loads, out.read_text().splitlines())}


def content(response):
    """What must be equal: the choices and usage, or the error; not ids and times."""
    body = response["body"]
    if response["status_code"] != 200:
        return response["status_code"], body["error"]["message"]
    usage = {key: value for key, value in body["usage"].items() if key != "prompt_tokens_details"}
    return 200, json.dumps([body["choices"], usage], sort_keys=True)


def disturb(rng, workers, broker, state):
    """One kill: a worker (restarted at once) or, rarely, the broker."""
    if state["broker_kills"] > 0 and rng.random() < 0.2:
        state["broker_kills"] -= 1
        broker.kill()
        broker.start()
        state["log"].append("broker")
        return
    worker = rng.choice(workers)
    worker.process.kill()
    worker.start()
    state["log"].append(worker.name)


def read_results(broker, results, limit_s):
    """Adds what is committed now; {custom_id: [response, …]}"""
    with broker.connect() as kafka:
        reader = TopicReader(kafka, "millrace.results")
        end = time.monotonic() + limit_s
        seen = 0
        results.clear()
        quiet = 0
        while time.monotonic() < end and quiet < 5:
            records = reader.poll()
            quiet = 0 if records else quiet + 1
            for record in records:
                line = json.loads(record.value)
                results[line["custom_id"]].append(line["response"])
                seen += 1
        return seen


def run(arguments, space, broker):
    rng = random.Random(arguments.seed)
    model = any_model()
    jobs = make_jobs(arguments.jobs, arguments.seed)
    expected = reference(space, arguments.millrace, model, jobs)
    assert len(expected) == len(jobs), "the reference run answered %d of %d jobs" % (len(expected), len(jobs))
    with broker.connect() as kafka:
        create_topics(kafka)
        for partition in range(6):
            records = [(name.encode(), value, []) for i, (name, value) in enumerate(jobs) if i % 6 == partition]
            kafka.produce("millrace.jobs", partition, records)
    workers = [Worker(space, arguments.millrace, "w%d" % i, broker.address, model, kafka={
        "delivery": "exactly-once", "session_timeout_ms": 6000}, limits={"max_inflight_jobs": 24}).start()
        for i in range(arguments.workers)]
    state = {"broker_kills": arguments.broker_kills, "log": []}
    results = collections.defaultdict(list)
    began = time.monotonic()
    next_kill = began + 3
    while time.monotonic() - began < arguments.limit_s:
        time.sleep(0.5)
        try:
            read_results(broker, results, 20)
        except (KafkaError, OSError):
            continue
        if len(results) == len(jobs):
            break
        if time.monotonic() >= next_kill and len(results) < len(jobs) * 0.9:
            disturb(rng, workers, broker, state)
            next_kill = time.monotonic() + rng.uniform(3, 8)
    took = time.monotonic() - began
    for worker in workers:
        worker.process.stop()
    read_results(broker, results, 30)
    missing = [name for name, _ in jobs if not results[name]]
    doubled = [name for name, _ in jobs if len(results[name]) > 1]
    assert not missing, "%d jobs without a result, for example %s" % (len(missing), missing[:5])
    assert not doubled, "%d jobs with more than one result, for example %s" % (len(doubled), doubled[:5])
    for name, _ in jobs:
        assert content(results[name][0]) == content(expected[name]), "%s differs from the undisturbed run" % name
    print("%d jobs, seed %d: each answered once, all equal to the undisturbed run; kills: %s; %.0f s" %
          (len(jobs), arguments.seed, " ".join(state["log"]) or "none", took))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--broker-kills", type=int, default=1)
    parser.add_argument("--limit-s", type=int, default=240)
    arguments = parser.parse_args()
    with Workspace("exactly-once") as space, KafkaBroker(space / "kafka") as broker:
        run(arguments, space, broker)


if __name__ == "__main__":
    main()
