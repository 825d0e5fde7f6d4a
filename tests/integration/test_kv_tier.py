#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The KV tier between real workers and a real Redis: a second worker loads what the first computed and gives the same
answers; killed, stopped or emptied, Redis costs time at most, never an answer."""
import argparse
import json
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from jobs import line  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace, free_port, wait_until  # noqa: E402
from redis_process import Redis  # noqa: E402
from worker import Worker, metric  # noqa: E402

PREFIX = "Bought: kettle, mug, loose-leaf tea, tea towel, wooden spoon, chopping board, bread knife. " * 6


class Bench:
    """The embedded broker and what runs on it."""

    def __init__(self, space, binary, redis):
        self.space, self.binary, self.redis, self.model = space, binary, redis, any_model()
        self.address = "127.0.0.1:%d" % free_port()
        ready = space / "broker.ready"
        space.start([binary, "broker", "--port", self.address.split(":")[1], "--ready-file", ready], "broker")
        wait_until("the embedded broker", ready.exists, 20)

    def worker(self, name, **kvtier):
        tier = {"enabled": True, "address": "unix://%s" % self.redis.path, **kvtier}
        return Worker(self.space, self.binary, name, self.address, self.model, kvtier=tier,
                      kafka={"session_timeout_ms": 3000, "delivery": "at-least-once"}).start().wait_ready()

    def run(self, name, count, limit_s=120):
        """{suffix of custom_id: (choices, usage)} of a fresh batch of the same jobs."""
        source, out = self.space / (name + ".jsonl"), self.space / (name + ".out")
        source.write_text("".join(json.dumps(line("%s-%d" % (name, i), prompt=PREFIX + "Customer %d asks:" % i,
                                                  max_tokens=12, temperature=0.8, seed=i)) + "\n"
                                  for i in range(count)))
        submit = self.space.start([self.binary, "submit", source, "--kafka.bootstrap_servers", self.address, "--wait",
                                   "-o", out], "submit-" + name)
        assert submit.wait(limit_s) == 0, submit.log_tail()
        answers = {}
        for result in map(json.loads, out.read_text().splitlines()):
            body = result["response"]["body"]
            answers[result["custom_id"].rsplit("-", 1)[1]] = (body["choices"], body["usage"])
        assert len(answers) == count
        return answers


def choices(answers):
    return {name: answer[0] for name, answer in answers.items()}


def cold_and_warm(bench, count):
    first = bench.worker("cold")
    cold = bench.run("cold", count)
    wait_until("blocks to be stored", lambda: metric(first, "millrace_kvtier_stored_blocks_total") > 0, 20)
    first.process.stop()
    second = bench.worker("warm")
    warm = bench.run("warm", count)
    loaded = metric(second, "millrace_kvtier_hit_blocks_total")
    assert loaded > 0, "the second worker loaded nothing"
    assert choices(cold) == choices(warm), "answers differ between computed and loaded prefixes"
    assert all(usage["prompt_tokens_details"]["cached_tokens"] > 0 for _, usage in warm.values())
    print("warm: %d blocks loaded, answers equal" % loaded)
    return second, cold


def survive(bench, worker, redis, expected, count):
    redis.process.signal(signal.SIGSTOP)
    assert choices(bench.run("stopped", count)) == choices(expected)
    redis.process.signal(signal.SIGCONT)
    redis.process.kill()
    assert choices(bench.run("dead", count)) == choices(expected)
    redis.start()  # empty
    time.sleep(1.5)
    assert choices(bench.run("empty", count)) == choices(expected)
    assert worker.get("/readyz")[0] == 200, "Redis trouble made the worker unready"
    print("stopped, dead, empty: every answer equal, worker ready throughout")


def another_salt_hits_nothing(bench, count):
    worker = bench.worker("salted", salt="tenant-b")
    time.sleep(3)
    bench.run("salted", count)
    assert metric(worker, "millrace_kvtier_hit_blocks_total") == 0, "another salt saw this salt's blocks"
    print("another salt: no block seen")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    binary = parser.parse_args().millrace
    with Workspace("kv-tier") as space:
        redis = Redis(space).start()
        bench = Bench(space, binary, redis)
        worker, expected = cold_and_warm(bench, 12)
        survive(bench, worker, redis, expected, 12)
        worker.process.stop()
        another_salt_hits_nothing(bench, 6)


if __name__ == "__main__":
    main()
