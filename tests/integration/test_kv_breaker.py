#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How soon a worker under load stops asking a Redis that was killed, or stopped, in the middle of its work: the seconds
until its metrics say that the tier is away, and that neither reading nor writing asks for anything any more. Every job is
answered, with the bytes of a run that has no tier."""
import concurrent.futures
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from batch import millrace_argument  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from redis_process import Redis  # noqa: E402
from tier_bench import TierBench, metric  # noqa: E402

LIMIT_S = 1.0
STORED, UP = "millrace_kvtier_stored_blocks_total", "millrace_kvtier_up"
REFUSED = {"reading": "millrace_kvtier_miss_blocks_total", "writing": "millrace_kvtier_dropped_blocks_total"}


def seconds_until(what, condition, begin):
    wait_until(what, condition, 20, interval_s=0.01)
    return time.monotonic() - begin


def fault_under_load(bench, redis, name, number):
    """New prompts, so that every job reads and writes; the fault comes once the worker does both."""
    worker = bench.worker(name, "unix://%s" % redis.path)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        jobs = pool.submit(bench.check, name)
        wait_until("the worker to write", lambda: metric(worker, STORED) > 40, 30)
        assert metric(worker, UP) == 1
        begin = time.monotonic()
        redis.process.signal(number)
        opened = seconds_until("the tier to be away", lambda: metric(worker, UP) == 0, begin)
        refused = {way: seconds_until("the %s breaker" % way, lambda: metric(worker, counter, reason="breaker") > 0, begin)
                   for way, counter in REFUSED.items()}
        assert not jobs.done(), "the jobs ended before the fault: it was not met under load"
        jobs.result()
    print("%-8s away after %.2f s, nothing read after %.2f s, nothing written after %.2f s; %d answers equal"
          % (name, opened, refused["reading"], refused["writing"], bench.jobs))
    assert max(opened, *refused.values()) <= LIMIT_S, "the breakers opened too late"
    redis.process.signal(signal.SIGCONT)
    assert worker.process.stop() == 0, worker.process.log_tail()


def main():
    with Workspace("kv-breaker") as space:
        redis = Redis(space).start()
        bench = TierBench(space, millrace_argument(), jobs=256)
        plain = bench.worker("plain", None)
        begin = time.monotonic()
        bench.expected = bench.run()
        print("%d jobs without a tier: %.1f s" % (bench.jobs, time.monotonic() - begin))
        plain.process.stop()
        fault_under_load(bench, redis, "stopped", signal.SIGSTOP)
        redis.call("FLUSHALL")
        fault_under_load(bench, redis, "killed", signal.SIGKILL)


if __name__ == "__main__":
    main()
