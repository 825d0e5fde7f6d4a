#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A worker that must leave while it runs long jobs, on a real Kafka with a KV tier: another goes on where it stood, computes
only the rest, and answers with the bytes of an undisturbed run; the checkpoints are gone then. A second signal ends a worker
at once. One whose engine stands still says so and exits 75."""
import ctypes
import json
import os
import pathlib
import re
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import batch  # noqa: E402
import jobs  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from kafka_wire import TopicReader  # noqa: E402
from models import any_model  # noqa: E402
from once import AnsweredOnce  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from redis_process import Redis  # noqa: E402
from worker import Worker, create_topics  # noqa: E402

MILLRACE = sys.argv[sys.argv.index("--millrace") + 1]
TOKENS, DONE = 1600, 1000
ENGINE = {"threads": 1, "kv_memory_mb": 256}
PTRACE_ATTACH, PTRACE_DETACH, WALL = 16, 17, 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
LONG = {"prompt": "Bought: kettle, mug, tea towel. " * 8, "max_tokens": TOKENS, "temperature": 0.9, "ignore_eos": True}
BODIES = {  # plain ones go on, those with more than one choice or with log-probabilities begin again
    "plain": {"seed": 1}, "penalties": {"seed": 2, "frequency_penalty": 0.3, "repetition_penalty": 1.05},
    "stops": {"seed": 3, "stop": ["never to be said", "nor this"]}, "greedy": {"temperature": 0},
    "two": {"seed": 4, "n": 2, "max_tokens": TOKENS // 4}, "logprobs": {"seed": 5, "logprobs": 1, "max_tokens": TOKENS // 4}}
RESUMED = ("plain", "penalties", "stops", "greedy")


def metric(worker, name):
    return float(re.search(r"^%s(?:{[^}]*})? (\S+)" % name, worker.get("/metrics")[1], re.M).group(1))


def tokens_of(worker):
    """{custom_id: tokens so far} of the running jobs."""
    content = json.loads(worker.get("/debug/jobs")[1] or '{"jobs": []}')
    return {job["custom_id"]: job["tokens"] for job in content["jobs"]}


def checkpoints(kafka):
    """{offset: value or None} of all checkpoints, the latest of each."""
    found, reader = {}, TopicReader(kafka, "millrace.status")
    while records := reader.poll():
        found.update({record.key: record.value for record in records if record.key.startswith(b"checkpoint:")})
    return found


def reference(space, lines):
    batch.run(MILLRACE, any_model(), batch.write_jobs(space / "jobs.jsonl", lines), space / "batch.jsonl", "--threads", "1")
    return {name: batch.digest(text) for name, (_, text) in batch.read_results(space / "batch.jsonl").items()}


def check_handover(space, kafka, start):
    lines = [jobs.line(name, **{**LONG, **body}) for name, body in BODIES.items()]
    expected = reference(space, lines)
    answers = AnsweredOnce(kafka)
    # without guesses the jobs of the first go on side by side; the second guesses, and must say the same
    first = start("first", worker={"id": "first", "drain_grace_ms": 300}, engine={**ENGINE, "speculative_tokens": 0})
    kafka.produce("millrace.jobs", 0, [(None, jobs.encode(line), []) for line in lines])
    wait_until("long jobs to be far on", lambda: min(tokens_of(first).get(name, 0) for name in RESUMED) > DONE, 180, 0.02)
    assert first.process.stop(30) == 0, first.process.log_tail()
    kept = checkpoints(kafka)
    before = {line["custom_id"]: len(json.loads(kept[b"checkpoint:millrace.jobs:0:%d" % i])["tokens"])
              for i, line in enumerate(lines) if b"checkpoint:millrace.jobs:0:%d" % i in kept}
    assert set(before) == set(RESUMED) and min(before.values()) > DONE, (before, answers.poll().lines.keys())
    second = start("second")
    answers.wait(len(lines), 240)
    for name, record in answers.records.items():
        assert batch.digest(record.value.decode()) == expected[name], "%s differs from the undisturbed run" % name
        assert record.header("millrace-attempt") == b"0", "leaving in good order was held against %s" % name
    said, rest = metric(second, "vllm:generation_tokens_total"), sum(TOKENS - before[name] for name in RESUMED)
    again = sum(BODIES[name].get("n", 1) * TOKENS // 4 for name in ("two", "logprobs") if name in answers.lines)
    assert said <= rest + again, "%d tokens were generated for the rest of %d and %d" % (said, rest, again)
    hits = metric(second, "millrace_kvtier_hit_blocks_total")
    assert hits > 30, "%d blocks came from the tier, those of the prompts alone" % hits
    wait_until("no checkpoint to be left", lambda: not any(checkpoints(kafka).values()), 10)
    assert second.process.stop(60) == 0
    return min(before.values()), rest, hits


def check_second_signal(kafka, start):
    worker = start("hasty", worker={"id": "hasty", "drain_grace_ms": 600000})
    kafka.produce("millrace.jobs", 1, [(None, jobs.encode(jobs.line("slow", **{**LONG, "n": 64, "seed": 6})), [])])
    wait_until("the job to run", lambda: tokens_of(worker).get("slow", 0) > 0, 60)
    worker.process.signal(signal.SIGTERM)
    time.sleep(1)
    assert worker.process.poll() is None, "it did not wait for its job"
    began = time.monotonic()
    worker.process.signal(signal.SIGTERM)
    assert worker.process.wait(30) == 0
    assert "as they are" in worker.process.log.read_text()
    return time.monotonic() - began


def busiest_thread(pid):
    def ticks(task):
        return int((task / "stat").read_text().rsplit(")", 1)[1].split()[11])
    return int(max(pathlib.Path("/proc/%d/task" % pid).iterdir(), key=ticks).name)


def stop_thread(worker, thread):
    """A tracer stops this thread alone. True: the worker has ended."""
    def ended():
        try:
            os.waitpid(thread, WALL | os.WNOHANG)  # a traced thread that ends must be waited for as well
        except ChildProcessError:
            pass
        return worker.process.poll() is not None
    assert LIBC.ptrace(PTRACE_ATTACH, thread, None, None) == 0, "ptrace: error %d" % ctypes.get_errno()
    os.waitpid(thread, WALL)
    try:
        return wait_until("the worker to end", ended, 10)
    except AssertionError:
        LIBC.ptrace(PTRACE_DETACH, thread, None, None)
        return False


def check_stuck(start):
    """The engine's thread stands still: the others go on, and one of them notices."""
    worker = start("stuck", worker={"id": "stuck", "stuck_ms": 3000})
    wait_until("the job to run", lambda: tokens_of(worker).get("slow", 0) > 200, 120)
    thread = busiest_thread(worker.process.pid)
    assert any(stop_thread(worker, thread) for _ in range(10)), "never stopped within a step"
    assert worker.process.poll() == 75, worker.process.log_tail()
    assert "engine thread is stuck" in worker.process.log.read_text()


def main():
    with Workspace("checkpoint") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        create_topics(kafka)
        redis = Redis(space).start()

        def start(name, **sections):
            sections.setdefault("engine", ENGINE)
            return Worker(space, MILLRACE, name, broker.address, any_model(),
                          kvtier={"enabled": True, "address": "unix://%s" % redis.path}, **sections).start().wait_ready()

        tokens, rest, hits = check_handover(space, kafka, start)
        took = check_second_signal(kafka, start)
        check_stuck(start)
    print("%d jobs went on behind %d tokens or more with equal bytes, %d tokens were left to generate, %d blocks came from the "
          "tier; a second signal took %.1f s; a stuck engine exits 75" % (len(RESUMED), tokens, rest, hits, took))


main()
