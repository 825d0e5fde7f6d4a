#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Workers that must not share blocks on one Redis: other tenants, weights, block sizes, kernels and KV formats. Each
finds nothing of what the others stored for the same prompts, and all of its own."""
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from batch import millrace_argument  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from redis_process import Redis  # noqa: E402
from tier_bench import TierBench, metric  # noqa: E402

HITS, STORED = "millrace_kvtier_hit_blocks_total", "millrace_kvtier_stored_blocks_total"


def flip_one_byte(model, copy):
    """The same model but for the lowest bit of its last weight."""
    shutil.copytree(model, copy)
    with open(copy / "model.safetensors", "r+b") as weights:
        weights.seek(-2, 2)
        low = weights.read(1)[0]
        weights.seek(-2, 2)
        weights.write(bytes([low ^ 1]))
    return copy


def sees_only_its_own(bench, redis, name, body=(), **worker):
    worker = bench.worker(name, "unix://%s" % redis.path, **worker)
    first = bench.run(**dict(body))
    strangers = metric(worker, HITS)
    assert strangers == 0, "%s loaded %d blocks that others computed" % (name, strangers)
    wait_until("%s to store its blocks" % name, lambda: metric(worker, STORED) > bench.jobs, 20)
    second = bench.run(**dict(body))
    assert first == second, "%s: loaded blocks changed an answer" % name
    assert metric(worker, HITS) > bench.jobs, "%s does not find its own blocks" % name
    print("%-12s 0 blocks of others, %d of its own, answers equal" % (name, metric(worker, HITS)))
    assert worker.process.stop() == 0, worker.process.log_tail()


def main():
    with Workspace("kv-isolation") as space:
        redis = Redis(space).start()
        bench = TierBench(space, millrace_argument(), jobs=12)
        other = flip_one_byte(bench.model, space / bench.model.name)
        sees_only_its_own(bench, redis, "plain")
        sees_only_its_own(bench, redis, "group-salt", kvtier={"salt": "group-b"})
        sees_only_its_own(bench, redis, "job-salt", body={"cache_salt": "tenant-b"})
        sees_only_its_own(bench, redis, "one-byte", model={"path": str(other)})
        sees_only_its_own(bench, redis, "block-32", engine={"block_tokens": 32})
        sees_only_its_own(bench, redis, "generic", model={"kernels": "generic"})
        sees_only_its_own(bench, redis, "kv-f32", model={"kv_format": "f32"}, engine={"kv_memory_mb": 6})


if __name__ == "__main__":
    main()
