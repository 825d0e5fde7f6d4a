#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Exactly once under fire, on a real Kafka: workers killed with SIGKILL, the broker killed and restarted, a bad line
now and then, Redis behind the KV tier killed and restarted, a stream reader that never reads. Under read_committed every job has exactly one result, with the digest of an undisturbed run.

usage: test_kafka_exactly_once.py --millrace PATH [--jobs 1000] [--seed 1] [--workers 3] [--broker-kills 1]
       [--redis-kills 1]
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
from redis_process import Redis  # noqa: E402
from stream_reader import StreamReader  # noqa: E402
from worker import Worker, create_topics  # noqa: E402


def make_jobs(count, seed):
    """Mostly short jobs over a few long prefixes, one line in twenty broken (it is answered too)."""
    rng = random.Random(seed)
    jobs = []
    for i in range(count):
        job = good(i)
        line = json.loads(job.value)
        line["body"]["max_tokens"] = rng.randint(2, 40)
        line["body"]["prompt"] = "Customer %d bought: " % (i % 8) + "kettle, mug, tea towel, " * 12 + line["body"]["prompt"]
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


class Results:
    """Everything committed on the results topic; goes on where it was when the broker comes back."""

    def __init__(self, broker):
        self.broker, self.next, self.found = broker, None, collections.defaultdict(list)

    def read(self, limit_s=20):
        with self.broker.connect() as kafka:
            reader = TopicReader(kafka, "millrace.results")
            reader.next = self.next or reader.next
            end, quiet = time.monotonic() + limit_s, 0
            while time.monotonic() < end and quiet < 2:
                records = reader.poll()
                quiet = 0 if records else quiet + 1
                for record in records:
                    line = json.loads(record.value)
                    self.found[line["custom_id"]].append(line["response"])
                self.next = reader.next
        return len(self.found)


class Chaos:
    """One broken thing at a time, every few seconds; each is mended at once, or with the next blow. More jobs come just
    before the broker or Redis is killed, so that there is work to hit however fast the workers are."""

    def __init__(self, arguments, workers, broker, redis, feed):
        self.rng, self.workers, self.broker, self.redis = random.Random(arguments.seed), workers, broker, redis
        self.feed = feed
        self.rare = ["broker"] * arguments.broker_kills + ["redis"] * arguments.redis_kills
        self.rng.shuffle(self.rare)
        self.log, self.redis_down = [], False
        self.next_at = time.monotonic() + 2

    def strike(self):
        if time.monotonic() < self.next_at:
            return
        if self.redis_down:
            self.redis.start()
            self.redis_down = False
        what = self.rare.pop() if self.rare and len(self.log) % 2 else "worker"
        if what != "worker":
            self.feed()
            time.sleep(self.rng.uniform(0, 1))
        if what == "broker":
            self.broker.kill()
            self.broker.start()
        elif what == "redis":
            self.redis.process.kill()
            self.redis_down = True
        else:
            worker = self.rng.choice(self.workers)
            what = worker.name
            worker.process.kill()
            worker.start()
        self.log.append(what)
        self.next_at = time.monotonic() + self.rng.uniform(2, 5)

    def more_to_come(self):
        return bool(self.rare)


def check_offsets(broker):
    """Nothing is left: the group's offsets are at the log's end."""
    with broker.connect() as kafka:
        for partition in range(6):
            committed = kafka.committed_offset("millrace", "millrace.jobs", partition)
            end = kafka.offset("millrace.jobs", partition)
            assert committed == end, "partition %d: committed %s of %d" % (partition, committed, end)


def start_workers(arguments, space, broker, redis, model):
    sections = {"kafka": {"delivery": "exactly-once", "session_timeout_ms": 6000},
                # blows fall many times a minute here: three in a row say nothing about the job that they hit
                "limits": {"max_inflight_jobs": 24, "max_attempts": 20},
                "stream": {"high_water_mark": 1000}}
    if redis:
        sections["kvtier"] = {"enabled": True, "address": "unix://%s" % redis.path}
    return [Worker(space, arguments.millrace, "w%d" % i, broker.address, model, **sections).start()
            for i in range(arguments.workers)]


def produce(broker, jobs):
    with broker.connect() as kafka:
        for partition in range(6):
            mine = [(name.encode(), value, [("millrace-stream", b"1")]) for i, (name, value) in enumerate(jobs)
                    if i % 6 == partition]
            for first in range(0, len(mine), 500):
                kafka.produce("millrace.jobs", partition, mine[first:first + 500])


def check_results(jobs, results, expected):
    missing = [name for name, _ in jobs if not results[name]]
    doubled = [name for name, _ in jobs if len(results[name]) > 1]
    assert not missing, "%d jobs without a result, for example %s" % (len(missing), missing[:5])
    assert not doubled, "%d jobs with more than one result, for example %s" % (len(doubled), doubled[:5])
    for name, _ in jobs:
        assert content(results[name][0]) == content(expected[name]), "%s differs from the undisturbed run" % name


def run(arguments, space, broker):
    model = any_model()
    jobs = make_jobs(arguments.jobs, arguments.seed)
    expected = reference(space, arguments.millrace, model, jobs)
    assert len(expected) == len(jobs), "the reference run answered %d of %d jobs" % (len(expected), len(jobs))
    with broker.connect() as kafka:
        create_topics(kafka)
    blows = arguments.broker_kills + arguments.redis_kills
    portions = [jobs[i::blows + 1] for i in range(blows + 1)]
    produce(broker, portions.pop())
    redis = Redis(space).start() if arguments.redis_kills else None
    workers = start_workers(arguments, space, broker, redis, model)
    workers[0].wait_ready()
    stalled = StreamReader(workers[0].stream, receive_bytes=4096)  # subscribes and never reads
    chaos = Chaos(arguments, workers, broker, redis, lambda: produce(broker, portions.pop()))
    results = Results(broker)
    began = time.monotonic()
    while time.monotonic() - began < arguments.limit_s:
        time.sleep(0.3)
        try:
            if results.read() == len(jobs):
                break
        except (KafkaError, OSError):
            continue
        if len(results.found) < len(jobs) * 0.95 or chaos.more_to_come():
            chaos.strike()
    took = time.monotonic() - began
    for worker in workers:
        worker.process.stop(timeout_s=60)
    stalled.close()
    time.sleep(0.5)
    results = Results(broker)  # the verdict is on the topic as it is now, from its beginning
    results.read(120)
    check_results(jobs, results.found, expected)
    check_offsets(broker)
    print("%d jobs, seed %d: each answered once, all equal to the undisturbed run, offsets at the end; killed: %s; %.0f s" %
          (len(jobs), arguments.seed, ", ".join("%s %d" % pair for pair in sorted(collections.Counter(chaos.log).items())) or
           "none", took))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--broker-kills", type=int, default=1)
    parser.add_argument("--redis-kills", type=int, default=1)
    parser.add_argument("--limit-s", type=int, default=240)
    arguments = parser.parse_args()
    with Workspace("exactly-once") as space, KafkaBroker(space / "kafka") as broker:
        run(arguments, space, broker)


if __name__ == "__main__":
    main()
