# SPDX-License-Identifier: Apache-2.0
"""Jobs over the shop's catalogue through the real binary: every answer is an item, never an excluded one; the same
bytes alone and in a batch; an unknown version is refused by name, and known once its file is there, without a restart;
the example consumer joins by item id."""
import json
import os
import pathlib
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCE / "tests" / "support"), str(SOURCE / "examples" / "shop")]

import batch  # noqa: E402
import publish_catalog  # noqa: E402
import shop  # noqa: E402
from process import Workspace, wait_until  # noqa: E402

VERSION = "shop@2026-11-23"
MODEL = SOURCE / "examples" / "models" / "shop-qwen3"


def half_sampled(jobs):
    for i, job in enumerate(jobs):
        if i % 2:
            job["body"].update(temperature=1, n=3, seed=i)
        yield job


def check_choices(custom_id, body, items):
    for choice in body["choices"]:
        assert choice["finish_reason"] == "stop", choice
        assert len(choice["item_ids"]) == 1 and "rec-" + choice["item_ids"][0] != custom_id, choice
        assert choice["message"]["content"] == items[choice["item_ids"][0]]["name"], choice
        assert choice["cumulative_logprob"] < 0 and choice["score"] >= choice["cumulative_logprob"], choice
    assert "+catalog:" in body["system_fingerprint"]


def check_submit(millrace, path):
    """A producer without catalogues leaves them to the workers; one that has them is told."""
    command = [millrace, "submit", path, "-m", MODEL, "--dry-run"]
    without = {name: value for name, value in os.environ.items() if name != "MILLRACE_CATALOGS_DIRECTORY"}
    done = subprocess.run(command, env=without, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 78 and "1999-01-01" in done.stderr, done


def check_added(millrace, space, job):
    """A version whose file comes while the process runs."""
    def ask(process, name):
        body = dict(job["body"], structured_outputs={"catalog": "later@1"})
        process.stdin.write(json.dumps(dict(job, custom_id=name, body=body)) + "\n")
        process.stdin.flush()
        wait_until("an answer to " + name, lambda: results.exists() and name in batch.read_results(results), 60)
        return batch.read_results(results)[name][0]["response"]
    results = space / "later.jsonl"
    with subprocess.Popen(batch.command(millrace, MODEL, "-", results), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        before = ask(process, "before")
        assert before["body"]["error"]["code"] == "catalog_not_found", before
        (space / "coming").write_text('{"item_id":"only","text":"Only"}\n')
        (space / "coming").rename(space / "later@1.jsonl")
        after = ask(process, "after")
        assert after["status_code"] == 200 and after["body"]["choices"][0]["item_ids"] == ["only"], after
        process.stdin.close()
        assert process.wait(60) == 1  # one job failed


def main():
    millrace, items = batch.millrace_argument(), shop.catalog()
    with Workspace("catalog") as space:
        os.environ["MILLRACE_CATALOGS_DIRECTORY"] = str(space / ".")
        published = publish_catalog.publish(space / ".", VERSION)
        assert published.read_bytes() == (SOURCE / "examples" / "catalogs" / published.name).read_bytes(), "not as published"
        jobs = list(half_sampled(shop.jobs(24, VERSION)))
        unknown = dict(jobs[0], custom_id="unknown")
        unknown["body"] = dict(jobs[0]["body"], structured_outputs={"catalog": "shop@1999-01-01"})
        nothing = dict(jobs[0], custom_id="nothing")
        (space / "one@1.jsonl").write_text('{"item_id":"only","text":"Only"}\n')
        nothing["body"] = dict(jobs[0]["body"], structured_outputs={"catalog": "one@1", "exclude": ["only"]})
        results = space / "all.jsonl"
        batch.run(millrace, MODEL, batch.write_jobs(space / "jobs.jsonl", jobs + [unknown, nothing]), results,
                  codes=(1,))
        answers = batch.read_results(results)
        for job in jobs:
            check_choices(job["custom_id"], answers[job["custom_id"]][0]["response"]["body"], items)
        for name, code in (("unknown", "catalog_not_found"), ("nothing", "no_valid_item")):
            response = answers[name][0]["response"]
            assert (response["status_code"], response["body"]["error"]["code"]) == (400, code), response
        check_submit(millrace, space / "jobs.jsonl")
        check_added(millrace, space, jobs[0])
        for job in jobs[:2]:
            alone = space / ("alone-%s.jsonl" % job["custom_id"])
            batch.run(millrace, MODEL, batch.write_jobs(space / "one.jsonl", [job]), alone)
            line = batch.read_results(alone)[job["custom_id"]][1]
            assert batch.digest(line) == batch.digest(answers[job["custom_id"]][1])
        wanted = space / "recommendations.jsonl"
        wanted.write_text("".join(answers[job["custom_id"]][1] + "\n" for job in jobs))
        shown = subprocess.run([sys.executable, str(SOURCE / "examples/shop/recommend.py"), "--results", str(wanted)],
                               capture_output=True, text=True, timeout=60)
        assert shown.returncode == 0 and "24 results: 24 recommended" in shown.stdout, shown.stdout + shown.stderr
    print("%d jobs answered with items of the catalogue" % len(jobs))


main()
