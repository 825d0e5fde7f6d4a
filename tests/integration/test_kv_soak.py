#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two workers over one small Redis while it is stopped, killed, emptied and restarted at random, and one of the workers is
killed now and then: every job is answered, with the bytes of `millrace batch`; the memory of the worker that lives on
does not grow, and in the end nothing is reserved, held or in flight.

usage: test_kv_soak.py --millrace BIN [--minutes N] [--seed N] [--pause SECONDS between rounds]
"""
import argparse
import collections
import json
import pathlib
import random
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from jobs import line  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace, free_port, wait_until  # noqa: E402
from redis_process import Redis  # noqa: E402
from worker import Worker, metric  # noqa: E402

JOBS, PREFIXES, PREFIX_TOKENS = 120, 24, 320
MEGABYTE = 1 << 20


def write_jobs(path, name):
    chance = random.Random(3)
    prefixes = [[chance.randrange(10, 250) for _ in range(PREFIX_TOKENS)] for _ in range(PREFIXES)]
    path.write_text("".join(
        json.dumps(line("%s-%d" % (name, i), prompt=prefixes[i % PREFIXES] + [10 + i, 20, 30], max_tokens=8,
                        ignore_eos=True, temperature=0.8, seed=i)) + "\n" for i in range(JOBS)))
    return path


def choices(path):
    """{number: choices} of the results."""
    results = (json.loads(text) for text in path.read_text().splitlines())
    return {result["custom_id"].rsplit("-", 1)[1]: result["response"]["body"]["choices"] for result in results}


class Soak:
    def __init__(self, space, binary, seed):
        self.space, self.binary, self.chance = space, binary, random.Random(seed)
        self.redis = Redis(space, memory="24mb").start()
        self.address = "127.0.0.1:%d" % free_port()
        ready = space / "broker.ready"
        space.start([binary, "broker", "--port", self.address.split(":")[1], "--ready-file", ready], "broker")
        wait_until("the embedded broker", ready.exists, 20)
        self.workers = [self.worker(i) for i in range(2)]
        for worker in self.workers:
            worker.wait_ready()
        self.faults = collections.Counter()

    def worker(self, number):
        return Worker(self.space, self.binary, "worker-%d" % number, self.address, any_model(),
                      kvtier={"enabled": True, "address": "unix://%s" % self.redis.path, "host_mb": 2},
                      engine={"threads": 1, "kv_memory_mb": 16, "max_context_tokens": 512},
                      limits={"max_attempts": 100},  # being killed often is no sign of a poisonous job here
                      kafka={"session_timeout_ms": 3000, "delivery": "at-least-once"}).start()

    # ---- faults ----

    def stop_redis(self):
        self.redis.process.signal(signal.SIGSTOP)
        time.sleep(self.chance.uniform(0.2, 2))
        self.redis.process.signal(signal.SIGCONT)

    def kill_redis(self):
        self.redis.process.kill()
        time.sleep(self.chance.uniform(0, 2))
        self.redis.start()

    def empty_redis(self):
        self.redis.call("FLUSHALL")

    def kill_worker(self):
        self.workers[1].process.kill()
        self.workers[1] = self.worker(1)
        self.workers[1].wait_ready()

    def disturb(self):
        fault = self.chance.choice([self.stop_redis, self.kill_redis, self.empty_redis, self.empty_redis,
                                    self.stop_redis, self.kill_worker])
        fault()
        self.faults[fault.__name__] += 1

    # ---- work ----

    def run(self, number, expected, limit_s=240):
        """One round of jobs, disturbed until all are answered."""
        name = "round%d" % number
        source, out = write_jobs(self.space / (name + ".jsonl"), name), self.space / (name + ".out")
        submit = self.space.start([self.binary, "submit", source, "--kafka.bootstrap_servers", self.address, "--wait",
                                   "-o", out], name)
        end = time.monotonic() + limit_s
        while submit.poll() is None and time.monotonic() < end:
            time.sleep(self.chance.uniform(0.2, 3))
            self.disturb()
        assert submit.wait(1) == 0, submit.log_tail()
        assert choices(out) == expected, "answers of %s differ from those of one process" % name
        out.unlink()
        source.unlink()

    def check_nothing_left(self):
        def idle():
            worker = self.workers[0]
            state = json.loads(worker.get("/debug/state")[1])
            held = sum(metric(worker, "millrace_kv_requests", '"%s"' % name)
                       for name in ("queued", "loading", "elsewhere", "behind", "ready"))
            flying = sum(metric(worker, "millrace_kvtier_inflight_bytes", '"%s"' % way) for way in ("load", "store"))
            return held == 0 and flying == 0 and state["blocks"]["used"] == 0 and state["batch"]["running"] == 0
        wait_until("nothing to be held, loaded, stored or used", idle, 40)


def soak(bench, expected, seconds, pause_s):
    """Rounds of jobs until the time is over; resident bytes of the surviving worker after each."""
    end, memory = time.monotonic() + seconds, []
    while time.monotonic() < end or len(memory) < 3:
        bench.run(len(memory), expected)
        memory.append(bench.workers[0].process.resident_bytes())
        time.sleep(pause_s)
    return memory


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--minutes", type=float, default=0.75)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0)
    options = parser.parse_args()
    with Workspace("kv-soak") as space:
        out = space / "expected.jsonl"
        batch = space.start([options.millrace, "batch", "-m", any_model(), "-i", write_jobs(space / "jobs.jsonl", "x"), "-o",
                             out], "batch")
        assert batch.wait(300) == 0, batch.log_tail()
        bench = Soak(space, options.millrace, options.seed)
        memory = soak(bench, choices(out), 60 * options.minutes, options.pause)
        bench.check_nothing_left()
        early, late = max(memory[:len(memory) // 2 + 1]), max(memory[-(len(memory) // 3 + 1):])
        survivor = bench.workers[0]
        print("%d rounds of %d jobs, all answered and equal; faults %s; resident %.1f MB, at most %.1f MB at the end; "
              "%d blocks loaded, %d from host memory, %d waits" %
              (len(memory), JOBS, dict(bench.faults), early / MEGABYTE, late / MEGABYTE,
               metric(survivor, "millrace_kvtier_hit_blocks_total"), metric(survivor, "millrace_kv_host_promoted_total"),
               metric(survivor, "millrace_kv_waits_total")))
        assert bench.faults, "nothing was disturbed"
        assert late <= early + max(4 * MEGABYTE, early // 20), "the worker's memory grows"
        for worker in bench.workers:
            assert worker.process.stop() == 0, worker.process.log_tail()


if __name__ == "__main__":
    main()
