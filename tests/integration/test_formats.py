# SPDX-License-Identifier: Apache-2.0
"""Result lines of every kind of job, good and bad, hold to docs/formats/result.schema.json; so do the jobs."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import batch  # noqa: E402
import schema  # noqa: E402
from jobs import bad, bad_kinds, good, line  # noqa: E402
from models import ROOT, any_model  # noqa: E402
from process import Workspace  # noqa: E402

MAX_JOB_BYTES = 100000
ORDER = {
    "line": ["id", "custom_id", "response", "error"],
    "response": ["status_code", "request_id", "body"],
    "text_completion": ["id", "object", "created", "model", "choices", "usage", "system_fingerprint"],
    "choice": ["index", "text", "logprobs", "finish_reason", "stop_reason", "token_ids", "prompt_logprobs",
               "prompt_token_ids"],
}


def read_schema(name):
    return json.loads((ROOT / "docs/formats" / ("%s.schema.json" % name)).read_text())


def rich_jobs():
    many = dict(n=2, temperature=1, seed=3, logprobs=2, prompt_logprobs=1, return_token_ids=True, max_tokens=6)
    return {"rich": line("rich", prompt=["Bought: kettle", "Bought: mug, lamp"], **many),
            "echo": line("echo", prompt="Bought: kettle", echo=True, logprobs=1, max_tokens=0),
            "as ids": line("as ids", prompt=[5, 6, 7], logprobs=0, return_tokens_as_token_ids=True, max_tokens=3),
            "expired": {**line("expired", prompt="x"), "millrace": {"deadline_ms": 1}},
            "unknown": line("unknown", prompt="x", temprature=1, max_tokens=1)}


def check_order(answer):
    assert list(answer) == ORDER["line"], list(answer)
    if answer["response"]:
        assert list(answer["response"]) == ORDER["response"]
    if answer["response"] and answer["response"]["status_code"] == 200:
        body = answer["response"]["body"]
        assert list(body) == ORDER[body["object"]] and list(body["choices"][0]) == ORDER["choice"], list(body)


def main():
    millrace, model = batch.millrace_argument(), any_model()
    result_schema, job_schema = read_schema("result"), read_schema("job")
    rich = rich_jobs()
    jobs = [good(i) for i in range(8)] + [bad(i, MAX_JOB_BYTES) for i in range(len(bad_kinds(MAX_JOB_BYTES)))]
    values = [job.value for job in jobs if job.value] + [json.dumps(job).encode() for job in rich.values()]
    for value in [job.value for job in jobs if job.kind == "good"] + values[-len(rich):]:
        fault = schema.check(json.loads(value), job_schema)
        assert fault is None, fault
    with Workspace("formats") as space:
        (space / "jobs.jsonl").write_bytes(b"".join(value + b"\n" for value in values))
        done = batch.run(millrace, model, space / "jobs.jsonl", space / "results.jsonl",
                         "--limits.max_job_bytes=%d" % MAX_JOB_BYTES, codes=(1,))
        answers = [json.loads(text) for text in (space / "results.jsonl").read_text().splitlines()]
    assert len(answers) == len(values), "%d answers to %d lines" % (len(answers), len(values))
    for answer in answers:
        fault = schema.check(answer, result_schema)
        assert fault is None, "%s\n%s" % (fault, json.dumps(answer)[:2000])
        check_order(answer)
    named = {answer["custom_id"]: answer for answer in answers}
    for job in jobs:
        if job.custom_id:
            status = named[job.custom_id]["response"]["status_code"]
            assert status in job.statuses, "%s: %d\n%s" % (job.kind, status, named[job.custom_id])
    assert named["expired"]["error"]["code"] == "batch_expired"
    assert len(named["rich"]["response"]["body"]["choices"]) == 4
    assert 'did you mean "temperature"?' in done.stderr, done.stderr
    print("%d lines of every kind hold to the schema" % len(answers))


main()
