#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One test per thing that can be wrong with Redis or with what lies in it: every job is answered, with the bytes of a
run that has no tier, whatever the worker finds there."""
import json
import pathlib
import random
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from batch import millrace_argument  # noqa: E402
from fault_proxy import FaultProxy, OnceInReply  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from redis_process import Redis  # noqa: E402
from tier_bench import TierBench, metric  # noqa: E402

HITS, STORED = "millrace_kvtier_hit_blocks_total", "millrace_kvtier_stored_blocks_total"
MISSES, CORRUPT = "millrace_kvtier_miss_blocks_total", "millrace_kvtier_corrupt_total"
DROPPED = "millrace_kvtier_dropped_blocks_total"
MOST_PASSES = 6


class Case:
    """A fresh worker on a given Redis; counts what it hit, missed and dropped in one pass."""

    def __init__(self, bench, name, address):
        self.bench, self.name = bench, name
        self.worker = bench.worker(name.replace(" ", "-"), address)

    def check(self):
        before = self.worker.get("/metrics")[0]
        assert before == 200
        was = [metric(self.worker, name) for name in (HITS, MISSES, CORRUPT, DROPPED)]
        self.bench.check(self.name)
        now = [metric(self.worker, name) for name in (HITS, MISSES, CORRUPT, DROPPED)]
        hits, misses, corrupt, dropped = (int(b - a) for a, b in zip(was, now))
        print("%-24s answers equal; %d blocks loaded, %d missed, %d corrupt, %d not stored"
              % (self.name, hits, misses, corrupt, dropped))
        assert self.worker.get("/readyz")[0] == 200, "%s made the worker unready" % self.name
        return hits, misses, corrupt, dropped

    def until(self, enough, prepare=lambda: None):
        """Passes until the fault was met: on a loaded machine loads are late, and then a pass may not meet it."""
        for _ in range(MOST_PASSES):
            prepare()
            counts = self.check()
            if enough(*counts):
                return counts
        raise AssertionError("%s: not met in %d passes" % (self.name, MOST_PASSES))

    def stop(self):
        assert self.worker.process.stop() == 0, self.worker.process.log_tail()


def fill(bench, redis):
    """The undisturbed pass, and Redis with all its blocks."""
    plain = bench.worker("plain", None)
    bench.expected = bench.run()
    plain.process.stop()
    first = Case(bench, "cold", "unix://%s" % redis.path)
    first.check()
    wait_until("blocks to be stored", lambda: len(redis.blocks()) > 8 * bench.jobs, 20)
    first.until(lambda hits, misses, corrupt, dropped: hits > 5)
    look_up(bench, redis)
    return first, {key: redis.call("GET", key) for key in redis.blocks()}


def restore(redis, values):
    """The store as it was, whatever the workers have made of it since."""
    redis.call("FLUSHALL")
    for key, value in values.items():
        redis.call("SET", key, value)


def look_up(bench, redis):
    """`kv lookup` finds every full block of every prompt, as a worker would."""
    found = subprocess.run([bench.binary, "kv", "lookup", "-m", bench.model, "-i", bench.space / "tier-1.jsonl",
                            "--address", "unix://%s" % redis.path, "--engine.threads=1", "--json"],
                           capture_output=True, text=True, timeout=60)
    rows = [json.loads(row) for row in found.stdout.splitlines()]
    assert found.returncode == 0 and [row["line"] for row in rows] == list(range(1, bench.jobs + 1)), found
    assert all(row["stored_blocks"] == row["full_blocks"] >= 5 and row["miss"] is None for row in rows), found.stdout


def damaged_values(case, redis, values):
    """A flipped bit in each value: in the header's bytes in turn, then in a sample of the others."""
    chance = random.Random(7)

    def damage():
        restore(redis, values)
        for i, (key, value) in enumerate(values.items()):
            at = i if i < 144 else chance.randrange(144, len(value))
            redis.call("SETRANGE", key, at, bytes([value[at] ^ (1 << chance.randrange(8))]))

    hits, _, _, _ = case.until(lambda hits, misses, corrupt, dropped: corrupt > 1 or hits, damage)
    assert hits == 0, "a damaged value was used"


def misplaced_values(case, redis, values):
    """Good values, each under another's key."""
    def misplace():
        good = list(values.values())
        restore(redis, dict(zip(values, good[1:] + good[:1])))

    hits, _, _, _ = case.until(lambda hits, misses, corrupt, dropped: corrupt > 1 or hits, misplace)
    assert hits == 0, "a value of another block was used"


def deleted_blocks(case, redis, values):
    chance = random.Random(3)
    case.until(lambda hits, misses, corrupt, dropped: hits > 0 and misses > 0,
               lambda: restore(redis, {key: value for key, value in values.items() if chance.random() > 0.2}))


def constant_eviction(bench, redis):
    """Full of keys that are nobody's: every write evicts something, also ours."""
    redis.call("FLUSHALL")
    redis.call("CONFIG", "SET", "maxmemory", "64mb")
    for i in range(2200):
        redis.call("SET", "unrelated:%d" % i, b"x" * 32000)
    before = int(redis.info("evicted_keys"))
    case = Case(bench, "constant eviction", "unix://%s" % redis.path)
    case.until(lambda *_: int(redis.info("evicted_keys")) > before + 50)
    case.check()
    case.stop()
    redis.call("CONFIG", "SET", "maxmemory", "200mb")


def out_of_memory(bench, redis):
    """-OOM: the policy is changed under the feet of a worker that has written already."""
    case = Case(bench, "out of memory", "unix://%s" % redis.path)
    bench.run(first=5000)
    wait_until("the worker to write", lambda: metric(case.worker, STORED) > 0, 20)
    redis.call("FLUSHALL")
    redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis.call("CONFIG", "SET", "maxmemory", "1")
    case.until(lambda hits, misses, corrupt, dropped: dropped > 0)
    case.stop()
    redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    redis.call("CONFIG", "SET", "maxmemory", "200mb")


def stopped_and_killed(bench, redis):
    """SIGSTOP, then another time SIGKILL, between the bytes of a value; then an empty Redis at the same place."""
    proxy = FaultProxy(bench.space / "proxy.sock", redis.path)
    for name, what in (("stopped in a GET", lambda: redis.process.signal(signal.SIGSTOP)),
                       ("killed in a GET", redis.process.kill)):
        case = Case(bench, name, "unix://%s" % proxy.path)
        proxy.fault = OnceInReply(100_000, what)
        case.until(lambda hits, misses, corrupt, dropped: proxy.fault.fired and misses > 0)
        redis.process.signal(signal.SIGCONT)
        if name.startswith("stopped"):
            case.stop()
    redis.start()
    case.name = "restarted empty"
    wait_until("the tier to be back", lambda: (case.check(), metric(case.worker, STORED) > 0)[1], 40)
    case.stop()


def no_password(bench):
    locked = Redis(bench.space, name="locked", extra=("--requirepass", "x")).start()
    case = Case(bench, "no password", "unix://%s" % locked.path)
    hits, _, _, dropped = case.check()
    assert hits == 0 and dropped > 0
    case.stop()
    locked.process.kill()


def still_loading(bench, redis):
    """-LOADING: a server that needs minutes to read its file."""
    redis.call("MSET", *(word for i in range(4000) for word in ("unrelated:%d" % i, "x")))
    redis.call("SAVE")
    slow = Redis(bench.space, name="slow", extra=("--key-load-delay", "30000", "--loading-process-events-interval-bytes",
                                                  "1024")).start()
    case = Case(bench, "loading", "unix://%s" % slow.path)
    hits, _, _, _ = case.check()
    assert hits == 0
    try:
        slow.call("DBSIZE")
        raise AssertionError("the server has loaded its file already")
    except RuntimeError as error:
        assert "LOADING" in str(error), error
    case.stop()
    slow.process.kill()
    (bench.space / "dump.rdb").unlink()


def main():
    with Workspace("kv-faults") as space:
        redis = Redis(space).start()
        bench = TierBench(space, millrace_argument(), jobs=16)
        case, values = fill(bench, redis)
        for name, fault in (("damaged values", damaged_values), ("misplaced values", misplaced_values),
                            ("deleted blocks", deleted_blocks)):
            case.name = name
            fault(case, redis, values)
        case.stop()
        constant_eviction(bench, redis)
        out_of_memory(bench, redis)
        restore(redis, values)
        no_password(bench)
        still_loading(bench, redis)
        stopped_and_killed(bench, redis)


if __name__ == "__main__":
    main()
