#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many jobs over few prefixes on four workers at once, one Redis: together they compute little more than the tokens
that differ, and every answer is that of `millrace batch` without any cache between processes.

usage: test_kv_singleflight.py --millrace BIN [--jobs 3200]
"""
import argparse
import json
import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from jobs import line  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace, free_port, wait_until  # noqa: E402
from redis_process import Redis  # noqa: E402
from worker import Worker, metric  # noqa: E402

WORKERS, PREFIXES, PREFIX_TOKENS, SUFFIX_TOKENS = 4, 32, 512, 8


def write_jobs(path, count):
    """Consecutive jobs have different prefixes, so that all workers need all of them from the start."""
    chance = random.Random(5)
    prefixes = [[chance.randrange(10, 250) for _ in range(PREFIX_TOKENS)] for _ in range(PREFIXES)]
    with open(path, "w") as out:
        for i in range(count):
            suffix = [10 + i // 240 ** place % 240 for place in range(SUFFIX_TOKENS)]
            job = line("job-%05d" % i, prompt=prefixes[i % PREFIXES] + suffix, max_tokens=4, temperature=0,
                       ignore_eos=True)
            out.write(json.dumps(job) + "\n")
    return PREFIXES * PREFIX_TOKENS + count * SUFFIX_TOKENS


def choices(path):
    results = (json.loads(text) for text in path.read_text().splitlines())
    return {result["custom_id"]: result["response"]["body"]["choices"] for result in results}


def computed(worker):
    return metric(worker, "vllm:prompt_tokens_total") - metric(worker, "vllm:prefix_cache_hits_total")


def start_workers(space, binary, redis):
    address = "127.0.0.1:%d" % free_port()
    ready = space / "broker.ready"
    space.start([binary, "broker", "--port", address.split(":")[1], "--ready-file", ready], "broker")
    wait_until("the embedded broker", ready.exists, 20)
    tier = {"enabled": True, "address": "unix://%s" % redis.path}
    workers = [Worker(space, binary, "worker-%d" % i, address, any_model(), kvtier=tier,
                      kafka={"delivery": "at-least-once"}).start() for i in range(WORKERS)]
    for worker in workers:
        worker.wait_ready()
    time.sleep(4)  # the group's partitions are spread over all four
    return address, workers


def report(workers, count, unique, took_s):
    each = [computed(worker) for worker in workers]
    print("%d jobs, %d prefixes of %d tokens, %d workers: %d unique prompt tokens, %d computed (%.3f x), by worker %s; "
          "%.1f s" % (count, PREFIXES, PREFIX_TOKENS, WORKERS, unique, sum(each), sum(each) / unique,
                      [int(value) for value in each], took_s))
    for worker in workers:
        print(worker.name, {name: int(metric(worker, "millrace_kv_prefixes_total", 'from="%s"' % name))
                            for name in ("local", "loaded", "computed", "gave_up")},
              "waits", int(metric(worker, "millrace_kv_waits_total")))
    assert sum(value > 0 for value in each) >= 2, "one worker had all the jobs: nothing was shared"
    assert sum(each) <= 1.1 * unique, "prefixes were computed several times"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--jobs", type=int, default=640)
    options = parser.parse_args()
    with Workspace("kv-singleflight") as space:
        jobs, expected, out = space / "jobs.jsonl", space / "expected.jsonl", space / "out.jsonl"
        unique = write_jobs(jobs, options.jobs)
        batch = space.start([options.millrace, "batch", "-m", any_model(), "-i", jobs, "-o", expected], "batch")
        assert batch.wait(900) == 0, batch.log_tail()
        address, workers = start_workers(space, options.millrace, Redis(space).start())
        begin = time.monotonic()
        submit = space.start([options.millrace, "submit", jobs, "--kafka.bootstrap_servers", address, "--wait", "-o",
                              out], "submit")
        assert submit.wait(900) == 0, submit.log_tail()
        report(workers, options.jobs, unique, time.monotonic() - begin)
        assert choices(out) == choices(expected), "answers differ from those of one process"
        print("%d answers equal to those of one process" % options.jobs)


if __name__ == "__main__":
    main()
