# SPDX-License-Identifier: Apache-2.0
"""The shared stories260k model answers as another implementation (llama2.c) does, to the character."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import batch  # noqa: E402
from models import shared  # noqa: E402
from process import Workspace  # noqa: E402

POSITIONS = 256  # what the reference printed at most, prompt included


def main():
    millrace, model = batch.millrace_argument(), shared("models/stories260k")
    references = [json.loads(line) for line in (model / "reference.jsonl").read_text().splitlines()]
    jobs = [{"custom_id": "s%d" % i, "method": "POST", "url": "/v1/completions",
             "body": {"prompt": r["prompt"], "temperature": 0, "max_tokens": POSITIONS, "stop_token_ids": [1]}}
            for i, r in enumerate(references)]
    assert len(jobs) >= 8
    with Workspace("stories") as space:
        for name, flags in (("wide", ()), ("chunks", ("--chunk", "5", "--max-batch", "3"))):
            results = space / ("%s.jsonl" % name)
            batch.run(millrace, model, batch.write_jobs(space / "jobs.jsonl", jobs), results, *flags)
            answers = batch.read_results(results)
            for i, reference in enumerate(references):
                answer = answers["s%d" % i][0]
                text = reference["prompt"] + answer["response"]["body"]["choices"][0]["text"]
                wanted = reference["text"]
                assert text[:len(wanted)] == wanted, "%s, job %d:\n%r\nwanted\n%r" % (name, i, text[:len(wanted)], wanted)
    print("%d references reproduced, in one batch and in chunks of 5 tokens" % len(references))


main()
