#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a Redis that is dead or stopped costs a worker: jobs per second, processor time per job and the engine's step
times, beside a worker without a tier. Short rounds of the same jobs take turns; each round is compared with the round
without a tier beside it, and the median and the quartiles of these ratios are printed. A quiet machine is the caller's;
with --rounds-file the rounds of several calls are kept and reported together.

usage: measure_kv_outage.py --millrace BIN [--jobs 64] [--rounds 5] [--rounds-file FILE]
"""
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
MAX_TOKENS = 32  # per job: steps that decode among those that compute prompts
BASE, CASES = "no tier", ("no tier", "Redis dead", "Redis stopped")


class Case:
    def __init__(self, space, binary, name, address, jobs):
        self.name = name
        self.bench = TierBench(space, binary, jobs, name.replace(" ", "-"))
        self.worker = self.bench.worker(self.bench.name + "-worker", address, engine=POOL)

    def core_s(self):
        threads = pathlib.Path("/proc/%d/task" % self.worker.process.pid).glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def round(self, number):
        """New prompts each round, so that each is computed."""
        core_s, begin = self.core_s(), time.monotonic()
        answers = self.bench.run(first=number * self.bench.jobs, max_tokens=MAX_TOKENS)
        took = time.monotonic() - begin
        trace = json.loads(self.worker.get("/debug/trace?seconds=%d" % (int(took) + 1))[1])
        events = trace["traceEvents"] if isinstance(trace, dict) else trace
        steps = sorted(event["dur"] / 1000 for event in events if event.get("name") == "step")
        return {"jobs_per_s": len(answers) / took, "core_s_per_job": (self.core_s() - core_s) / len(answers),
                "p50_ms": steps[len(steps) // 2], "steps_ms": steps}


def spread(values):
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return low, middle, high


def report(rounds):
    for name in CASES:
        mine = [row[name] for row in rounds]
        steps = sorted(step for row in mine for step in row["steps_ms"])
        print("%-14s %d rounds: %.2f jobs/s, %.4f core-s per job; %d steps: p50 %.2f ms, p99 %.2f ms, longest %.2f ms"
              % (name, len(mine), *(statistics.median(row[key] for row in mine) for key in ("jobs_per_s", "core_s_per_job")),
                 len(steps), steps[len(steps) // 2], steps[int(len(steps) * 0.99)], steps[-1]))
        for key in ("jobs_per_s", "core_s_per_job", "p50_ms") if name != BASE else ():
            low, middle, high = spread([100 * (row[name][key] / row[BASE][key] - 1) for row in rounds])
            print("    %-15s %+.1f %% of no tier (quartiles %+.1f to %+.1f)" % (key, middle, low, high))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--jobs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rounds-file", type=pathlib.Path)
    arguments = parser.parse_args()
    rounds = []
    if arguments.rounds_file and arguments.rounds_file.exists():
        rounds = [json.loads(row) for row in arguments.rounds_file.read_text().splitlines()]
    with Workspace("kv-outage") as space:
        redis = Redis(space).start()
        addresses = (None, "unix://%s/nobody" % space.path, "unix://%s" % redis.path)
        cases = [Case(space, arguments.millrace, name, address, arguments.jobs)
                 for name, address in zip(CASES, addresses)]
        redis.process.signal(signal.SIGSTOP)
        for number in range(arguments.rounds + 1):
            turn = number % len(cases)  # nobody is always first
            row = {case.name: case.round(number) for case in cases[turn:] + cases[:turn]}
            if number == 0:
                continue  # it opened the breaker and warmed everything up
            rounds.append(row)
            if arguments.rounds_file:
                with arguments.rounds_file.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        report(rounds)
        redis.process.signal(signal.SIGCONT)


if __name__ == "__main__":
    main()
