#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a Redis that is dead or stopped costs a worker: tokens per second and the engine's step times, beside a worker
without a tier, in alternated rounds of the same jobs. Prints one line per case; a quiet machine is the caller's."""
import argparse
import json
import pathlib
import signal
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/support"))
from process import Workspace  # noqa: E402
from redis_process import Redis  # noqa: E402
from tier_bench import TierBench  # noqa: E402

POOL = {"threads": 2, "kv_memory_mb": 64, "max_sequences": 32}


class Case:
    def __init__(self, space, binary, name, address, jobs):
        self.name, self.speeds, self.steps_ms = name, [], []
        self.bench = TierBench(space, binary, jobs, name.replace(" ", "-"))
        self.worker = self.bench.worker(self.bench.name + "-worker", address, engine=POOL)

    def round(self, number):
        """New prompts each round, so that each is computed."""
        begin = time.monotonic()
        answers = self.bench.run(first=number * self.bench.jobs)
        took = time.monotonic() - begin
        trace = json.loads(self.worker.get("/debug/trace?seconds=%d" % (int(took) + 1))[1])
        events = trace["traceEvents"] if isinstance(trace, dict) else trace
        steps = [event["dur"] / 1000 for event in events if event.get("name") == "step"]
        self.speeds.append(len(answers) / took)
        self.steps_ms.append(steps)

    def report(self, base):
        steps = sorted(step for steps in self.steps_ms for step in steps)
        speed = statistics.median(self.speeds)
        # each round beside the same round of the base case
        ratio = statistics.median(mine / theirs for mine, theirs in zip(self.speeds, base.speeds))
        print("%-14s %6.2f jobs/s (%+.1f %% of no tier), %d steps: p50 %.2f ms, p99 %.2f ms, longest %.2f ms"
              % (self.name, speed, 100 * (ratio - 1), len(steps), steps[len(steps) // 2],
                 steps[int(len(steps) * 0.99)], steps[-1]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--jobs", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with Workspace("kv-outage") as space:
        redis = Redis(space).start()
        cases = [Case(space, arguments.millrace, name, address, arguments.jobs)
                 for name, address in (("no tier", None), ("Redis dead", "unix://%s/nobody" % space.path),
                                       ("Redis stopped", "unix://%s" % redis.path))]
        redis.process.signal(signal.SIGSTOP)
        for number in range(arguments.rounds + 1):
            for case in cases:
                case.round(number)
        for case in cases:  # the first round opened the breaker and warmed everything up
            case.speeds, case.steps_ms = case.speeds[1:], case.steps_ms[1:]
        for case in cases:
            case.report(cases[0])
        redis.process.signal(signal.SIGCONT)


if __name__ == "__main__":
    main()
