# SPDX-License-Identifier: Apache-2.0
"""Jobs for tests: good ones, and one of every kind of bad one that docs/ARCHITECTURE.md's formats name."""
import json
from typing import NamedTuple, Optional

URL = "/v1/completions"


class Job(NamedTuple):
    value: bytes
    statuses: tuple  # allowed response.status_code
    custom_id: Optional[str]  # None: unreadable, the answer's may be null
    kind: str


def line(custom_id, url=URL, **body):
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def encode(content):
    return json.dumps(content, ensure_ascii=False).encode()


def good(index, prefix="job"):
    words = ("kettle", "mug", "lamp", "chair", "scarf", "drill", "novel", "puzzle")
    body = {"prompt": "Bought: %s, %s" % (words[index % 8], words[index // 8 % 8]), "max_tokens": 3 + index % 4}
    if index % 3:
        body.update(temperature=0.8, seed=index, top_p=0.9)
    else:
        body.update(temperature=0)
    name = "%s-%05d" % (prefix, index)
    return Job(encode(line(name, **body)), (200,), name, "good")


def _bad_makers(max_job_bytes):
    def ordinary(name, **change):
        return line(name, **{"prompt": "x", "max_tokens": 2, **change})

    def raw(make):
        return lambda name: (make(name), (400,), None)

    def known(make, statuses=(400,)):
        return lambda name: (encode(make(name)), statuses, name)

    return {
        "invalid UTF-8": raw(lambda n: encode(ordinary(n)).replace(b'"x"', b'"\xff\xfe"')),
        "trailing garbage": raw(lambda n: encode(ordinary(n)) + b" {}"),
        "cut": raw(lambda n: encode(ordinary(n))[:-3]),
        "no JSON": raw(lambda n: b"hello " + n.encode()),
        "empty value": raw(lambda n: b""),
        "duplicate keys": raw(lambda n: encode(ordinary(n)).replace(b'"max_tokens": 2', b'"max_tokens": 2, "max_tokens": 3')),
        "too deep": raw(lambda n: encode(ordinary(n)).replace(b'"x"', b"[" * 500 + b"]" * 500)),
        "too large": lambda n: (encode(ordinary(n, prompt="x" * (max_job_bytes + 1))), (400, 413), None),
        "list": raw(lambda n: b"[1]"),
        "NUL in the id": raw(lambda n: encode(ordinary(n + "\0z"))),
        "id of the wrong type": raw(lambda n: encode(ordinary(7))),
        "no id": raw(lambda n: encode({"method": "POST", "url": URL, "body": {"prompt": "x"}})),
        "wrong type": known(lambda n: ordinary(n, temperature="hot")),
        "out of range": known(lambda n: ordinary(n, temperature=7)),
        "prompt of the wrong type": known(lambda n: ordinary(n, prompt={"a": 1})),
        "no prompt": known(lambda n: line(n, max_tokens=2)),
        "longer than the context": known(lambda n: ordinary(n, prompt=[5] * 9000)),
        "token id out of range": known(lambda n: ordinary(n, prompt=[1 << 30])),
        "unknown model": known(lambda n: ordinary(n, model="no-such-model"), (404,)),
        "unknown url": known(lambda n: {**ordinary(n), "url": "/v1/images"}, (404, 400)),
        "method GET": known(lambda n: {**ordinary(n), "method": "GET"}, (400, 405)),
        "body of the wrong type": known(lambda n: {**ordinary(n), "body": "x"}),
    }


def bad_kinds(max_job_bytes):
    return list(_bad_makers(max_job_bytes))


def bad(index, max_job_bytes):
    makers = _bad_makers(max_job_bytes)
    kind = list(makers)[index % len(makers)]
    name = "bad-%05d" % index
    value, statuses, custom_id = makers[kind](name)
    return Job(value, statuses, custom_id, kind)


def check_answer(job, record, faults):
    """One answer against what its job asks for: OpenAI's batch output line, OpenAI's error shape."""
    def fault(text):
        faults.append("%s (%r…): %s: %s" % (job.kind, job.value[:60], text, record.value[:300]))

    answer = json.loads(record.value)
    if set(answer) != {"id", "custom_id", "response", "error"} or not answer["id"].startswith("batch_req_"):
        return fault("not a batch output line")
    response = answer["response"]
    if answer["error"] is not None or response is None or response["status_code"] not in job.statuses:
        return fault("wanted status %s" % (job.statuses,))
    if job.custom_id is not None and answer["custom_id"] != job.custom_id:
        return fault("wanted custom_id %s" % job.custom_id)
    if response["status_code"] == 200:
        choices, usage = response["body"]["choices"], response["body"]["usage"]
        if not choices or choices[0]["finish_reason"] not in ("stop", "length"):
            return fault("no finished choice")
        if usage["total_tokens"] != usage["prompt_tokens"] + usage["completion_tokens"] or not usage["prompt_tokens"]:
            return fault("usage does not add up")
    else:
        error = response["body"]["error"]
        if set(error) != {"message", "type", "param", "code"} or not error["message"] or not error["type"]:
            return fault("not OpenAI's error shape")
    return None
