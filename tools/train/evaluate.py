# SPDX-License-Identifier: Apache-2.0
"""Measures the exported model on held-out and on hand-written prompts and writes eval.json."""

import argparse
import json
import math
from pathlib import Path
import random

import torch

from checks import CHECKS
from decode import answer_all, answer_loss, load, render
from shop.catalog import Catalog
from shop.example import Example
from shop.jobs import JOB_KINDS, make_example

HANDWRITTEN = Path(__file__).parent / "handwritten.jsonl"
MAX_TOKENS = 96


def average(marks):
    """The share of true marks, name by name."""
    return {name: round(sum(mark[name] for mark in marks) / len(marks), 4) for name in marks[0]}


def judge(kind, examples, prompts, tokenizer, model, catalog):
    """Averages of the kind's checks over its examples, and the answers that failed one."""
    answers = answer_all(tokenizer, model, prompts, MAX_TOKENS)
    marks = [CHECKS[kind](answer, example.facts, catalog) for answer, example in zip(answers, examples)]
    misses = [
        {"prompt": example.prompt, "answer": answer, "failed": [name for name, good in mark.items() if not good]}
        for example, answer, mark in zip(examples, answers, marks) if not all(mark.values())
    ]
    return {"prompts": len(examples), **average(marks)}, misses


def perplexity(examples, prompts, tokenizer, model):
    """Per-token perplexity of the reference answers."""
    pairs = [answer_loss(tokenizer, model, prompt, example.answer) for prompt, example in zip(prompts, examples)]
    return round(math.exp(sum(loss for loss, _ in pairs) / sum(count for _, count in pairs)), 4)


def read_handwritten():
    """Prompts written by hand, away from the generator's templates, grouped by kind."""
    groups = {}
    for line in HANDWRITTEN.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        groups.setdefault(row["kind"], []).append(Example(row["kind"], row["prompt"], "", "", row["facts"]))
    return groups


def main():
    """Reads the command line, runs every check and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--misses", type=Path, help="also write the answers that failed a check")
    parser.add_argument("--count", type=int, default=300, help="held-out prompts per kind")
    parser.add_argument("--seed", type=int, default=99)
    args = parser.parse_args()
    torch.set_num_threads(2)
    tokenizer, model = load(args.model)
    rng, catalog = random.Random(args.seed), Catalog()
    report = {"decoding": "greedy, float32", "seed": args.seed, "held_out": {}, "perplexity": {}, "handwritten": {}}
    misses = []
    for kind in JOB_KINDS:
        examples = [make_example(rng, catalog, kind, held_out=True) for _ in range(args.count)]
        prompts = [render(tokenizer, example.messages()) for example in examples]
        report["held_out"][kind], failed = judge(kind, examples, prompts, tokenizer, model, catalog)
        report["perplexity"][kind] = perplexity(examples, prompts, tokenizer, model)
        misses += failed
    for kind, examples in read_handwritten().items():
        prompts = [render(tokenizer, example.messages()) for example in examples]
        report["handwritten"][kind], failed = judge(kind, examples, prompts, tokenizer, model, catalog)
        misses += failed
    args.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if args.misses:
        args.misses.write_text("".join(json.dumps(miss) + "\n" for miss in misses), encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
