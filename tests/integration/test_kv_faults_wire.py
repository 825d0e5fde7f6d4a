#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A bad line to Redis: late, cut, truncated, with flipped bits. Every job is answered, with the bytes of a run that
has no tier, and what does come through is used."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from batch import millrace_argument  # noqa: E402
from fault_proxy import CutEvery, Delay, FaultProxy, FlipBits, Nothing, Truncate  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from redis_process import Redis  # noqa: E402
from tier_bench import TierBench, metric  # noqa: E402

HITS, MISSES = "millrace_kvtier_hit_blocks_total", "millrace_kvtier_miss_blocks_total"
MOST_PASSES = 8


def through(bench, proxy, name, fault, enough=lambda hits, misses: True):
    """Passes of a fresh worker behind the fault until it was hit often enough; its hits and misses."""
    proxy.fault = fault
    worker = bench.worker(name, "unix://%s" % proxy.path)
    for number in range(1, MOST_PASSES + 1):
        bench.check(name)
        hits, misses = int(metric(worker, HITS)), int(metric(worker, MISSES))
        if enough(hits, misses):
            break
    else:
        raise AssertionError("%s: %d hits, %d misses after %d passes: the fault was hardly there"
                             % (name, hits, misses, number))
    corrupt = int(metric(worker, "millrace_kvtier_corrupt_total"))
    print("%-10s %d passes, answers equal; %d blocks loaded, %d missed, %d corrupt"
          % (name, number, hits, misses, corrupt))
    assert worker.process.stop() == 0, worker.process.log_tail()


def main():
    with Workspace("kv-wire") as space:
        redis = Redis(space).start()
        bench = TierBench(space, millrace_argument())
        plain = bench.worker("plain", None)
        bench.expected = bench.run()
        plain.process.stop()
        writer = bench.worker("writer", "unix://%s" % redis.path)
        bench.check("writer")
        wait_until("blocks to be stored", lambda: len(redis.blocks()) > 8 * bench.jobs, 20)
        writer.process.stop()
        proxy = FaultProxy(space / "proxy.sock", redis.path)
        through(bench, proxy, "late", Delay(0.2), lambda hits, misses: misses > 0)
        truncate, cut, flip = Truncate(), CutEvery(50), FlipBits()
        through(bench, proxy, "truncated", truncate, lambda hits, misses: misses > 0 and truncate.cuts >= 3)
        through(bench, proxy, "cut", cut, lambda hits, misses: hits > 0 and cut.cuts >= 1)
        through(bench, proxy, "flipped", flip, lambda hits, misses: hits > 0 and misses > 0 and flip.flips >= 10)
        through(bench, proxy, "clean", Nothing(), lambda hits, misses: hits > 0)
        print("%d replies truncated, %d of %d connections cut, %d bits flipped"
              % (truncate.cuts, cut.cuts, cut.connections, flip.flips))


if __name__ == "__main__":
    main()
