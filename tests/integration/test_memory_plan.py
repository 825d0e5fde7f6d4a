# SPDX-License-Identifier: Apache-2.0
"""The memory that `millrace batch` says at its start that it will take, against what it comes to have: the bundled
model and a directory of Qwen3-0.6B's shape (weights of zeros, a file of holes), each until the KV pool is full;
of the bundled model with as many jobs in flight as there may be."""
import json
import pathlib
import random
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import batch  # noqa: E402
from models import BUNDLED  # noqa: E402
from process import Workspace  # noqa: E402
from qwen3_shape import write_model  # noqa: E402


def write_jobs(path, count, tokens):
    """Prompts without a common beginning: together more tokens than the pool holds."""
    dice = random.Random(7)
    return batch.write_jobs(path, [
        {"custom_id": "job-%d" % i, "method": "POST", "url": "/v1/completions",
         "body": {"prompt": [dice.randrange(10, 4000) for _ in range(tokens)], "max_tokens": 4, "ignore_eos": True}}
        for i in range(count)])


def private_mb(pid):
    """What it has without pages of files, a page that is mapped twice counted once; 0 when it is gone."""
    try:
        rollup = pathlib.Path("/proc/%d/smaps_rollup" % pid).read_text()
    except OSError:
        return 0
    return sum(int(size) for size in re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", rollup, re.M)) / 1024


def run(millrace, space, model, jobs, *flags):
    """Its plan and what it had at most."""
    command = batch.command(millrace, model, jobs, space / "results.jsonl", "--threads", 2, *flags)
    with open(space / "stderr.txt", "w") as log, subprocess.Popen(command, stderr=log) as process:
        most = 0
        while process.poll() is None:
            most = max(most, private_mb(process.pid))
            time.sleep(0.05)
    text = (space / "stderr.txt").read_text()
    assert process.returncode == 0, text[-2000:]
    planned = re.search(r"memory ([\d.]+) MB when the KV pool is full: (.*)", text)
    return float(planned[1]), planned[2].split("\r")[0], most


def check(millrace, model, jobs, tokens, *flags):
    with Workspace("memory") as space:
        if model is None:
            write_model(space.path)
        planned, parts, most = run(millrace, space, model or space.path,
                                         write_jobs(space / "jobs.jsonl", jobs, tokens), *flags)
        answers = batch.read_results(space / "results.jsonl")
        assert len(answers) == jobs and all(a["response"]["status_code"] == 200 for a, _ in answers.values())
    print("planned %.1f MB (%s), had %.1f MB at most (%+.2f %%)" % (planned, parts, most, 100 * (most / planned - 1)))
    assert abs(most / planned - 1) <= 0.02, "the plan is off by more than 2 %"


def main():
    millrace = batch.millrace_argument()
    check(millrace, BUNDLED, 1400, 43, "--engine.kv_memory_mb=96")
    check(millrace, BUNDLED, 1400, 43, "--engine.kv_memory_mb=96", "--engine.kv_backend=contiguous")
    check(millrace, BUNDLED, 1500, 24, "--engine.kv_memory_mb=32")
    check(millrace, None, 2, 300, "--engine.kv_memory_mb=64")


main()
