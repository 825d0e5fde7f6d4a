# SPDX-License-Identifier: Apache-2.0
"""Jobs over 50 schemas, patterns, choices and grammars through the real binary: every answer that ended is valid for
python3-jsonschema and re, cut ones say `length`; the same bytes alone and among all others; what cannot be is refused;
what grows too large fails alone.

    test_structured.py --millrace build/release/millrace [--jobs 1000]
"""
import argparse
import datetime
import ipaddress
import json
import pathlib
import re
import sys
import uuid

import jsonschema

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCE / "tests" / "support")]

import batch  # noqa: E402
from process import Workspace  # noqa: E402
from schemas import CHOICES, GRAMMARS, PATTERNS, SCHEMAS  # noqa: E402

MODEL = SOURCE / "examples" / "models" / "shop-qwen3"
FORMATS = jsonschema.FormatChecker(formats=())
for name, check in {"date": datetime.date.fromisoformat,
                    "time": lambda text: datetime.time.fromisoformat(text.replace("Z", "+00:00")),
                    "date-time": lambda text: datetime.datetime.fromisoformat(text.replace("Z", "+00:00")),
                    "uuid": uuid.UUID, "ipv4": ipaddress.IPv4Address,
                    "email": re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+").fullmatch}.items():
    FORMATS.checks(name, ValueError)(lambda text, check=check: check(text) is not None)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--jobs", type=int, default=400)
    return parser.parse_args()


def job(custom_id, index, form):
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/completions",
            "body": {"prompt": "Fill the form of order %d: " % index, "max_tokens": 60 if index % 9 == 8 else 600, "seed": index,
                     "temperature": (0, 0.7, 1.0, 1.6)[index % 4], "top_p": 1, "top_k": -1, **form}}


def form_of(schema, index):
    if index % 3 == 0:
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "form", "strict": True, "schema": schema}}}
    return {"structured_outputs": {"json": schema}} if index % 3 == 1 else {"guided_json": json.dumps(schema)}


def jobs_of(count):
    """custom_id -> (job, check of its text)"""
    jobs = {}
    for i in range(count):
        schema = SCHEMAS[i % len(SCHEMAS)]
        validator = jsonschema.Draft202012Validator(schema, format_checker=FORMATS)
        jobs["schema-%d" % i] = (form_of(schema, i), lambda text, validator=validator: validator.validate(json.loads(text)))
    for i, pattern in enumerate(PATTERNS * 2):
        def check(text, pattern=pattern):
            assert re.fullmatch(pattern, text), "%r is not %r" % (text, pattern)
        jobs["regex-%d" % i] = ({"structured_outputs": {"regex": pattern}} if i % 2 else {"guided_regex": pattern}, check)
    for i, choices in enumerate(CHOICES):
        def check_choice(text, choices=choices):
            assert text in choices, "%r is none of %r" % (text, choices)
        jobs["choice-%d" % i] = ({"structured_outputs": {"choice": choices}}, check_choice)
    for i, (grammar, check_text) in enumerate(GRAMMARS):
        jobs["grammar-%d" % i] = ({"structured_outputs": {"grammar": grammar}}, check_text)
    for i in range(8):
        def check_object(text):
            assert isinstance(json.loads(text), dict), text
        jobs["object-%d" % i] = ({"response_format": {"type": "json_object"}}, check_object)
    return {name: (job(name, i, form), check) for i, (name, (form, check)) in enumerate(jobs.items())}


REFUSED = {
    "keyword": ({"guided_json": {"type": "array", "contains": {"type": "integer"}}}, "contains"),
    "reference": ({"guided_json": {"$ref": "https://example.com/schema"}}, "$ref"),
    "type": ({"guided_json": {"type": "text"}}, "type"),
    "json": ({"guided_json": "{\"type\":"}, "guided_json"),
    "huge": ({"guided_json": {"type": "string", "minLength": 1000000}}, "minLength"),
    "nested": ({"guided_regex": "(" * 500 + "a" + ")" * 500}, "guided_regex"),
    "look": ({"guided_regex": "a(?!b)"}, "look-around"),
    "left": ({"guided_grammar": "root ::= root \"a\" | \"b\""}, "itself"),
    "empty": ({"guided_choice": []}, "guided_choice"),
}


BEAMS = [({"guided_regex": r"[A-Z][a-z]{3,8}( [a-z]{3,8}){1,3}\."}, re.compile(r"[A-Z][a-z]{3,8}( [a-z]{3,8}){1,3}\.").fullmatch),
         ({"guided_json": SCHEMAS[9]}, lambda text: 10 < json.loads(text) < 20)]


def check_beams(response, check):
    assert response["status_code"] == 200, response
    choices = response["body"]["choices"]
    scores = [choice["score"] for choice in choices]
    texts = [choice["text"] for choice in choices]
    assert len(set(texts)) == len(texts) == 4 and scores == sorted(scores, reverse=True), choices
    assert all(check(choice["text"]) for choice in choices if choice["finish_reason"] == "stop"), choices
    assert any(choice["finish_reason"] == "stop" for choice in choices), choices


OUTGROWS = r"([^a]{9,50}[^b]{9,50}){50}"  # compiles, and has more states than anybody can keep


def check_answers(jobs, answers):
    finished = cut = 0
    for name, (_, check) in jobs.items():
        response = answers[name][0]["response"]
        assert response["status_code"] == 200, answers[name][1]
        choice = response["body"]["choices"][0]
        assert choice["finish_reason"] in ("stop", "length"), choice
        if choice["finish_reason"] == "length":
            cut += 1
            continue
        finished += 1
        try:
            check(choice["text"])
        except Exception as error:
            raise AssertionError("%s: %r: %s" % (name, choice["text"], error)) from error
    return finished, cut


def main():
    options = arguments()
    jobs = jobs_of(options.jobs)
    with Workspace("structured") as space:
        lines = [line for line, _ in jobs.values()]
        lines += [job(name, i, form) for i, (name, (form, _)) in enumerate(REFUSED.items())]
        lines[20:20] = [job("outgrows", 3, {"guided_regex": OUTGROWS})]
        lines += [job("beams-%d" % i, i, {"use_beam_search": True, "n": 4, "max_tokens": 40, **form})
                  for i, (form, _) in enumerate(BEAMS)]
        free = [job("free-%d" % i, i, {}) for i in range(40)]
        mixed = [line for pair in zip(lines, free) for line in pair] + lines[len(free):]
        batch.run(options.millrace, MODEL, batch.write_jobs(space / "jobs.jsonl", mixed), space / "all.jsonl", codes=(1,))
        answers = batch.read_results(space / "all.jsonl")
        assert len(answers) == len(mixed)
        finished, cut = check_answers(jobs, answers)
        assert finished > 0.7 * len(jobs) and cut > 0, (finished, cut)
        for name, (_, words) in REFUSED.items():
            response = answers[name][0]["response"]
            assert response["status_code"] == 400 and words in response["body"]["error"]["message"], answers[name][1]
        for i, (_, check) in enumerate(BEAMS):
            check_beams(answers["beams-%d" % i][0]["response"], check)
        response = answers["outgrows"][0]["response"]
        assert response["status_code"] == 500 and "too large" in response["body"]["error"]["message"], response
        for name in ("schema-1", "schema-22", "regex-3", "choice-0", "grammar-1", "object-2", "free-5", "beams-0", "beams-1"):
            line = next(line for line in mixed if line["custom_id"] == name)
            batch.run(options.millrace, MODEL, batch.write_jobs(space / "one.jsonl", [line]), space / ("%s.jsonl" % name))
            alone = batch.read_results(space / ("%s.jsonl" % name))[name][1]
            assert batch.digest(alone) == batch.digest(answers[name][1]), name
    print("%d jobs with a form: %d ended and valid, %d cut; %d refused by name" % (len(jobs), finished, cut, len(REFUSED)))


main()
