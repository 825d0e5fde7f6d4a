#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The same jobs give the same bytes whatever Redis still has: with all blocks, with a random half of them, while a small
maxmemory evicts all the time, after a restart of everything but Redis; with keys and values as bf16 and as f32.

usage: test_kv_evictions.py --millrace BIN [--memory 64mb --prefixes 120]
"""
import argparse
import json
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from jobs import line  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace, free_port, wait_until  # noqa: E402
from redis_process import Redis  # noqa: E402
from worker import Worker, metric  # noqa: E402

PREFIX_TOKENS = 256


class Bench:
    def __init__(self, space, binary, redis, prefixes):
        self.space, self.binary, self.redis, self.prefixes = space, binary, redis, prefixes
        self.address = "127.0.0.1:%d" % free_port()
        ready = space / "broker.ready"
        space.start([binary, "broker", "--port", self.address.split(":")[1], "--ready-file", ready], "broker")
        wait_until("the embedded broker", ready.exists, 20)

    def write_jobs(self, name):
        chance = random.Random(9)
        path = self.space / (name + ".jsonl")
        path.write_text("".join(
            json.dumps(line("%s-%d" % (name, i), prompt=[chance.randrange(10, 250) for _ in range(PREFIX_TOKENS)] + [30, i],
                            max_tokens=6, ignore_eos=True, temperature=0.9, seed=i, logprobs=1)) + "\n"
            for i in range(self.prefixes)))
        return path

    def answers(self, path):
        """{number: choices and usage} without where the prompt's tokens came from."""
        found = {}
        for result in map(json.loads, path.read_text().splitlines()):
            body = result["response"]["body"]
            usage = {name: value for name, value in body["usage"].items() if name != "prompt_tokens_details"}
            found[result["custom_id"].rsplit("-", 1)[1]] = (body["choices"], usage)
        assert len(found) == self.prefixes
        return found

    def alone(self, kv_format):
        out = self.space / ("alone-%s.out" % kv_format)
        batch = self.space.start([self.binary, "batch", "-m", any_model(), "-i", self.write_jobs("alone-" + kv_format), "-o",
                                  out, "--model.kv_format=" + kv_format], "batch")
        assert batch.wait(300) == 0, batch.log_tail()
        return self.answers(out)

    def worker(self, name, kv_format):
        return Worker(self.space, self.binary, name, self.address, any_model(), model={"kv_format": kv_format},
                      kvtier={"enabled": True, "address": "unix://%s" % self.redis.path},
                      kafka={"session_timeout_ms": 3000, "delivery": "at-least-once"}).start().wait_ready()

    def run(self, name, kv_format, expected):
        """One batch through a fresh worker; blocks that it loaded."""
        worker, out = self.worker(name, kv_format), self.space / (name + ".out")
        submit = self.space.start([self.binary, "submit", self.write_jobs(name), "--kafka.bootstrap_servers", self.address,
                                   "--wait", "-o", out], "submit-" + name)
        assert submit.wait(240) == 0, submit.log_tail()
        assert self.answers(out) == expected, "%s: answers differ from those of one process without Redis" % name
        loaded = metric(worker, "millrace_kvtier_hit_blocks_total")
        missed = {reason: int(metric(worker, "millrace_kvtier_miss_blocks_total", '"%s"' % reason))
                  for reason in ("absent", "timeout", "too_slow", "unavailable", "pool_full", "corrupt")}
        print("%s: %d blocks loaded, not loaded: %s" % (name, loaded, missed))
        assert worker.process.stop() == 0
        return int(loaded)

    def evicted(self):
        return int(self.redis.info("evicted_keys"))

    def forget_half(self):
        names = self.redis.call("KEYS", "kvt1:*")
        blocks = sorted(name for name in names if not name.startswith(b"kvt1:lease:"))
        doomed = random.Random(4).sample(blocks, len(blocks) // 2)
        self.redis.call("DEL", *doomed)
        return len(blocks), len(doomed)


def check_format(bench, kv_format, memory):
    expected = bench.alone(kv_format)
    bench.redis.call("CONFIG", "SET", "maxmemory", "1gb")
    bench.redis.call("FLUSHALL")
    assert bench.run("cold-" + kv_format, kv_format, expected) == 0
    warm = bench.run("warm-" + kv_format, kv_format, expected)
    stored, doomed = bench.forget_half()
    half = bench.run("half-" + kv_format, kv_format, expected)
    assert warm > 0 and half > 0
    before = bench.evicted()
    bench.redis.call("CONFIG", "SET", "maxmemory", memory)
    tight = [bench.run("tight%d-%s" % (i, kv_format), kv_format, expected) for i in range(2)]
    evicted = bench.evicted() - before
    assert evicted > stored // 4, "nothing was evicted"
    print("KV %s: %d blocks stored; loaded: all %d, after losing %d of them %d, with %s and %d evictions %s; answers equal" %
          (kv_format, stored, warm, doomed, half, memory, evicted, tight))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--memory", default="10mb")
    parser.add_argument("--prefixes", type=int, default=24)
    options = parser.parse_args()
    with Workspace("kv-evictions") as space:
        bench = Bench(space, options.millrace, Redis(space, memory="1gb").start(), options.prefixes)
        for kv_format in ("bf16", "f32"):
            check_format(bench, kv_format, options.memory)


if __name__ == "__main__":
    main()
