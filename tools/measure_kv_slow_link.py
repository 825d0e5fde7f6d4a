#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a slow link to Redis costs a worker that has other jobs to compute meanwhile: the same jobs, each with a prefix of
its own that Redis has and the small pool has not, over links of several speeds, in rounds that take turns; beside them a
worker without a tier. One job alone is `millrace bench prefix` over the same proxy (--alone).

usage: measure_kv_slow_link.py --millrace BIN [--jobs 48] [--rounds 5] [--max-tokens 64]
       measure_kv_slow_link.py --millrace BIN --alone MBIT … [--tokens 1024] (seconds to the first token, JSON)
"""
import argparse
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/support"))
from fault_proxy import FaultProxy, Nothing, Rate  # noqa: E402
from process import Workspace  # noqa: E402
from redis_process import Redis  # noqa: E402
from tier_bench import TierBench, metric  # noqa: E402

LINKS = ((None, "no tier"), (0, "loopback"), (1000, "1 Gbit/s"), (300, "300 Mbit/s"), (100, "100 Mbit/s"))


def link(space, redis, mbit):
    proxy = FaultProxy(space / ("link-%d" % mbit), redis.path)
    proxy.fault = Rate(mbit * 1e6) if mbit else Nothing()
    return "unix://%s" % proxy.path


class Case:
    def __init__(self, space, options, name, address):
        self.name, self.options, self.speeds = name, options, []
        self.bench = TierBench(space, options.millrace, options.jobs, name.replace("/", "-").replace(" ", "-"))
        self.worker = self.bench.worker(self.bench.name + "-worker", address)

    def round(self):
        begin = time.monotonic()
        answers = self.bench.run(max_tokens=self.options.max_tokens)
        self.speeds.append(self.options.jobs / (time.monotonic() - begin))
        return answers

    def report(self, base):
        ratios = sorted(mine / theirs for mine, theirs in zip(self.speeds, base.speeds))
        counts = [int(metric(self.worker, "millrace_kvtier_%s_blocks_total" % kind)) for kind in ("hit", "miss", "lookup")]
        print("%-11s %6.2f jobs/s, %+.1f %% of loopback (%+.1f to %+.1f); blocks hit, missed, asked for: %s"
              % (self.name, statistics.median(self.speeds), *(100 * (ratio - 1) for ratio in (
                  statistics.median(ratios), ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4])), counts))


def together(space, options, redis):
    cases = [Case(space, options, name, None if mbit is None else link(space, redis, mbit)) for mbit, name in LINKS]
    expected = cases[1].round()  # fills Redis
    for number in range(options.rounds + 1):
        for case in cases[number % len(cases):] + cases[:number % len(cases)]:
            assert case.round() == expected, "%s changed an answer" % case.name
    for case in cases:
        case.speeds = case.speeds[-options.rounds:]
    for case in cases:
        case.report(cases[1])


def alone(space, options, redis):
    for mbit in options.alone:
        print("%d Mbit/s:" % mbit, flush=True)
        subprocess.run([options.millrace, "bench", "prefix", "--address", link(space, redis, mbit), "--rounds", "1",
                        "--tokens", str(options.tokens), "--json"], check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--jobs", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--alone", type=int, nargs="+")
    parser.add_argument("--tokens", type=int, default=1024)
    options = parser.parse_args()
    with Workspace("kv-slow-link") as space:
        redis = Redis(space, memory="2gb").start()
        (alone if options.alone else together)(space, options, redis)


if __name__ == "__main__":
    main()
