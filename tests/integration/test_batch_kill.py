# SPDX-License-Identifier: Apache-2.0
"""`millrace batch` killed at random moments, then run to the end: nothing lost, nothing doubled, no half line."""
import pathlib
import random
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import batch  # noqa: E402
from jobs import bad, good  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace  # noqa: E402

COUNT, KILLS, SEED = 400, 10, 20240613


def lines_of(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_at_random(space, command, results, moments):
    """Starts it and kills it after some more answers, at a random moment within one."""
    before = lines_of(results)
    process = space.start(command, "killed")
    wanted = before + moments.randint(0, COUNT // (KILLS + 4))
    deadline = time.monotonic() + 60
    while process.poll() is None and lines_of(results) < wanted and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(moments.random() * 0.02)
    running = process.poll() is None
    process.kill()
    return running, lines_of(results)


def check_answers(results, jobs):
    answers = batch.read_results(results)
    known = {job.custom_id for job in jobs if job.custom_id}
    assert known <= set(answers), "lost: %s" % sorted(known - set(answers))[:5]
    faults = [batch.check_status(job, answers[job.custom_id][0]) for job in jobs if job.custom_id]
    assert not any(faults), [fault for fault in faults if fault][:3]
    return answers


def main():
    millrace, model, moments = batch.millrace_argument(), any_model(), random.Random(SEED)
    jobs = [bad(i, 8 << 20) if i % 40 == 7 else good(i) for i in range(COUNT)]
    jobs = [job for job in jobs if job.custom_id and b"\n" not in job.value]
    with Workspace("kill") as space:
        (space / "jobs.jsonl").write_bytes(b"".join(job.value + b"\n" for job in jobs))
        results = space / "results.jsonl"
        command = batch.command(millrace, model, space / "jobs.jsonl", results, "--max-batch", 4, "--threads", 1)
        interrupted = 0
        for _ in range(KILLS):
            running, lines = kill_at_random(space, command, results, moments)
            interrupted += running
            if moments.random() < 0.5:  # what a torn write leaves
                with open(results, "ab") as file:
                    file.write(b'{"id":"batch_req_half","custom_id":"job-0')
        assert interrupted >= KILLS // 2, "only %d kills met a running process" % interrupted
        batch.run(millrace, model, space / "jobs.jsonl", results, codes=(0, 1))
        answers = check_answers(results, jobs)
        lines = lines_of(results)
        assert lines == len(jobs), "%d lines for %d jobs" % (lines, len(jobs))
        again = batch.run(millrace, model, space / "jobs.jsonl", results, "--json", codes=(0, 1))
        assert '"resumed":%d' % len(jobs) in again.stdout and lines_of(results) == lines, again.stdout
        fresh = space / "fresh.jsonl"
        batch.run(millrace, model, space / "jobs.jsonl", fresh, codes=(0, 1))
        for name, (answer, line) in batch.read_results(fresh).items():
            if answer["response"]["status_code"] == 200:
                assert batch.digest(line) == batch.digest(answers[name][1]), "%s differs after the kills" % name
        check_interrupt(space, command, results)
    print("%d kills, %d of them in the middle; %d custom_ids answered once" % (KILLS, interrupted, len(jobs)))


def check_interrupt(space, command, results):
    """SIGINT ends it cleanly: whole lines, exit code 75, and the next run goes on."""
    results.unlink()
    process = space.start(command, "interrupted")
    while lines_of(results) < 5:
        time.sleep(0.001)
    process.signal(signal.SIGINT)
    code = process.wait(30)
    assert code == 75, "exit code %d after SIGINT" % code
    assert 5 <= len(batch.read_results(results)) < COUNT


main()
