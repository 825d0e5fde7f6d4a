#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a worker gives many clients: each puts a job on the queue, waits for its committed answer, and then puts the next one.
Qwen3-0.6B's shape with random weights, a real broker on the same machine, prompts of 32 to 256 tokens (behind --shared tokens that
all begin with), 16 to 96 tokens said. Printed: tokens said per second from the first job to the last answer, and the 99th
percentile of the time between tokens (the upper bound of its bucket). A quiet machine is the caller's.

usage: measure_clients.py --millrace BIN [--format int4] [--clients 32] [--requests 64] [--shared 0] [--threads 2]
"""
import argparse
import json
import pathlib
import random
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/support"))
import jobs  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from kafka_wire import TopicReader  # noqa: E402
from process import Workspace  # noqa: E402
from qwen3_shape import random_weights, write_model  # noqa: E402
from worker import Worker, create_topics  # noqa: E402

GAPS = r'vllm:inter_token_latency_seconds_bucket\{.*le="([^"]+)".*\} (\d+)'


def make_jobs(count, shared):
    dice = random.Random(5)
    beginning = [dice.randrange(10, 4000) for _ in range(shared)]
    for i in range(count):
        prompt = beginning + [dice.randrange(10, 4000) for _ in range(dice.randrange(32, 257))]
        yield jobs.line("job-%d" % i, prompt=prompt, max_tokens=dice.randrange(16, 97), temperature=1, seed=i, ignore_eos=True)


def run(kafka, lines, clients):
    """Seconds, tokens of prompts and tokens said."""
    waiting, reader = list(enumerate(lines)), TopicReader(kafka, "millrace.results")
    reader.next = {p: kafka.offset("millrace.results", p) for p in reader.next}

    def put():
        number, line = waiting.pop(0)
        kafka.produce("millrace.jobs", number % 6, [(None, jobs.encode(line), [])])

    began, answered, prompts, said = time.monotonic(), 0, 0, 0
    for _ in range(min(clients, len(lines))):
        put()
    while answered < len(lines):
        for record in reader.poll(wait_ms=5):
            response = json.loads(record.value)["response"]
            assert response["status_code"] == 200, response
            usage = response["body"]["usage"]
            answered, prompts, said = answered + 1, prompts + usage["prompt_tokens"], said + usage["completion_tokens"]
            if waiting:
                put()
    return time.monotonic() - began, prompts, said


def gap_p99(page):
    buckets = [(float(bound.replace("+Inf", "inf")), int(count)) for bound, count in re.findall(GAPS, page)]
    return next(bound for bound, count in buckets if count >= 0.99 * buckets[-1][1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--format", default="int4")
    for name, default in (("clients", 32), ("requests", 64), ("shared", 0), ("threads", 2)):
        parser.add_argument("--" + name, type=int, default=default)
    args = parser.parse_args()
    with Workspace("clients") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        (space / "model").mkdir()
        write_model(space / "model", random_weights(1 << 20))
        create_topics(kafka)
        worker = Worker(space, args.millrace, "worker", broker.address, space / "model", model={"weight_format": args.format},
                        engine={"threads": args.threads, "kv_memory_mb": 3000}).start().wait_ready(300)
        seconds, prompts, said = run(kafka, list(make_jobs(args.requests, args.shared)), args.clients)
        p99 = gap_p99(worker.get("/metrics")[1])
        assert worker.process.stop(60) == 0
    print("%s: %d requests of %d clients, %d prompt tokens, %d said, %.1f s: %.1f tokens said per second; p99 between tokens "
          "at most %.0f ms" % (args.format, args.requests, args.clients, prompts, said, seconds, said / seconds, 1000 * p99))


main()
