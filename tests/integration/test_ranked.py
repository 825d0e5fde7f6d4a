# SPDX-License-Identifier: Apache-2.0
"""Beams and scores through the real binary: beams over a catalogue are its items and nothing else, best first; scores
equal what echoed log-probabilities say, with the query computed once; all with the same bytes alone and among others.

    test_ranked.py --millrace build/release/millrace [--items 1000000 --beams 100000]
"""
import argparse
import json
import math
import os
import pathlib
import random
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCE / "tests" / "support")]

import batch  # noqa: E402
from process import Workspace  # noqa: E402

MODEL = SOURCE / "examples" / "models" / "shop-qwen3"
VOCAB, WIDTH = 4000, 50
CATALOG = "random@1"


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--items", type=int, default=20000)
    parser.add_argument("--beams", type=int, default=2000)
    return parser.parse_args()


def line(custom_id, url, **body):
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def write_catalog(path, count, dice):
    items = {}
    while len(items) < count:
        tokens = tuple(dice.randrange(VOCAB) for _ in range(4 if len(items) % 10 else dice.randrange(1, 4)))
        items.setdefault(tokens, "item-%d" % len(items))
    with open(path, "w") as out:
        for tokens, name in items.items():
            out.write('{"item_id":"%s","token_ids":%s}\n' % (name, list(tokens)))
    return {name: list(tokens) for tokens, name in items.items()}


def beam_jobs(count, dice):
    for i in range(count):
        yield line("beam-%d" % i, "/v1/completions", prompt=[dice.randrange(VOCAB) for _ in range(dice.randrange(1, 40))],
                   max_tokens=5, n=WIDTH, use_beam_search=True, length_penalty=(1, 0, 0.6)[i % 3],
                   structured_outputs={"catalog": CATALOG, "exclude": ["item-%d" % (i + k) for k in range(i % 4)]})


def check_beams(job, answer, items):
    assert answer["response"]["status_code"] == 200, answer
    choices = answer["response"]["body"]["choices"]
    assert len(choices) == WIDTH
    scores = [choice["score"] for choice in choices]
    assert scores == sorted(scores, reverse=True), "not best first"
    assert len({tuple(choice["token_ids"]) for choice in choices}) == WIDTH, "a sequence came twice"
    penalty = job["body"]["length_penalty"]
    for choice in choices:
        names, tokens = choice["item_ids"], choice["token_ids"]
        assert choice["finish_reason"] in ("stop", "length")
        said = tokens[:-1] if choice["finish_reason"] == "stop" else tokens
        assert names and all(items[name] == said for name in names), "no item of the catalogue: %s" % choice
        assert not set(names) & set(job["body"]["structured_outputs"]["exclude"])
        assert math.isclose(choice["score"], choice["cumulative_logprob"] / len(tokens) ** penalty, rel_tol=1e-6)
    return len(choices)


def score_jobs(dice):
    query = [dice.randrange(VOCAB) for _ in range(1024)]
    items = [[dice.randrange(VOCAB) for _ in range(dice.randrange(3, 30))] for _ in range(100)]
    labels = [5, 900, 44]
    yield line("sum", "/v1/score", query=query, items=items)
    yield line("mean", "/generative_scoring", query=query, items=items, normalize="mean")
    yield line("labels", "/v1/score", query=query, items=items, label_token_ids=labels)
    yield line("softmax", "/v1/score", query=query, items=items[:5], label_token_ids=labels, apply_softmax=True)
    yield line("first", "/v1/score", query=" is good", items=["tea", "a kettle"], label_token_ids=labels, item_first=True)
    yield line("text", "/v1/score", query="The shop sells", items=[" tea", " nothing"])
    yield line("one", "/v1/score", query="The shop sells", items=" tea")
    for i in range(3):
        yield line("echo-%d" % i, "/v1/completions", prompt=query + items[i], echo=True, max_tokens=0, logprobs=0)
        yield line("next-%d" % i, "/v1/completions", prompt=query + items[i], max_tokens=1, logprobs=0, temperature=0,
                   logprob_token_ids=labels, return_tokens_as_token_ids=True)
    yield line("no-items", "/v1/score", query="x", items=[])
    yield line("no-query", "/v1/score", items=["x"])
    yield line("long", "/v1/score", query=query, items=[query + [1]])
    yield line("wrong", "/v1/score", query="x", items=["x"], apply_softmax=True)


def check_scores(jobs, answers):
    body = {name: answer["response"]["body"] for name, (answer, _) in answers.items()}
    asked = {job["custom_id"]: job["body"] for job in jobs}
    items = asked["sum"]["items"]
    for name in ("sum", "mean"):
        usage = body[name]["usage"]
        assert usage["prompt_tokens"] == sum(1024 + len(item) for item in items) and usage["completion_tokens"] == 0
        assert body[name]["object"] == "scoring" and len(body[name]["scores"]) == len(items)
    computed = body["sum"]["usage"]["prompt_tokens"] - body["sum"]["usage"]["prompt_tokens_details"]["cached_tokens"]
    least = 1024 + sum(len(item) for item in items)
    assert computed <= 1.1 * least, "%d tokens computed, %d would be enough" % (computed, least)
    for i, (total, mean) in enumerate(zip(body["sum"]["scores"], body["mean"]["scores"])):
        assert math.isclose(total / len(items[i]), mean, rel_tol=1e-6)
    for i in range(3):
        echoed = body["echo-%d" % i]["choices"][0]["logprobs"]["token_logprobs"][1024:]
        assert len(echoed) == len(items[i]) and math.isclose(sum(echoed), body["sum"]["scores"][i], rel_tol=1e-6)
        entry = body["next-%d" % i]["choices"][0]["logprobs"]["top_logprobs"][0]
        wanted = [math.exp(entry["token_id:%d" % label]) for label in (5, 900, 44)]
        assert all(math.isclose(a, b, rel_tol=1e-5) for a, b in zip(wanted, body["labels"]["scores"][i]))
        total = sum(body["labels"]["scores"][i])
        assert all(math.isclose(a / total, b, rel_tol=1e-5)
                   for a, b in zip(body["labels"]["scores"][i], body["softmax"]["scores"][i]))
    assert len(body["first"]["scores"]) == 2 and body["one"]["scores"] == body["text"]["scores"][:1]
    for name, words in {"no-items": "1 to", "no-query": "query", "long": "maximum context", "wrong": "label_token_ids"}.items():
        assert answers[name][0]["response"]["status_code"] == 400 and words in body[name]["error"]["message"], body[name]
    return computed / least


def main():
    options, dice = arguments(), random.Random(8)
    with Workspace("ranked") as space:
        os.environ["MILLRACE_CATALOGS_DIRECTORY"] = str(space / ".")
        items = write_catalog(space / (CATALOG + ".jsonl"), options.items, dice)
        beams = list(beam_jobs(options.beams // WIDTH, dice))
        scores = list(score_jobs(dice))
        flags = ("--engine.max_sequences=128", "--engine.max_waiting=2048")
        jobs = [job for pair in zip(beams, scores) for job in pair] + beams[len(scores):] + scores[len(beams):]
        batch.run(options.millrace, MODEL, batch.write_jobs(space / "jobs.jsonl", jobs), space / "all.jsonl", *flags, codes=(1,),
                  timeout_s=3000)
        answers = batch.read_results(space / "all.jsonl")
        checked = sum(check_beams(job, answers[job["custom_id"]][0], items) for job in beams)
        share = check_scores(scores, answers)
        for job in beams[:3] + scores[:5]:
            alone = space / ("%s.jsonl" % job["custom_id"])
            batch.run(options.millrace, MODEL, batch.write_jobs(space / "one.jsonl", [job]), alone, *flags)
            assert batch.digest(batch.read_results(alone)[job["custom_id"]][1]) == batch.digest(answers[job["custom_id"]][1])
    print("%d beams over %d items, none of them anything else; scoring computed %.3f of the least" % (checked, len(items), share))


main()
