# SPDX-License-Identifier: Apache-2.0
"""Writes job files for the demonstration: one chat completion per line; standard library only.

All prompts come from the held-out split, so the model has seen none of them.
"""

import argparse
import json
from pathlib import Path
import random
import sys

from shop.catalog import Catalog
from shop.jobs import JOB_KINDS, make_example

# Answers that must be right are decoded greedily; the others may vary a little.
SETTINGS = {
    "rec": {"max_tokens": 64, "temperature": 0.4, "top_p": 0.9},
    "blurb": {"max_tokens": 64, "temperature": 0.7, "top_p": 0.9},
    "sent": {"max_tokens": 48, "temperature": 0},
    "extract": {"max_tokens": 80, "temperature": 0},
}


def make_job(rng, catalog, number, model):
    """One line of the file: kind, prompt and sampling settings drawn from the generator."""
    kind = rng.choice(JOB_KINDS)
    example = make_example(rng, catalog, kind, held_out=True)
    settings = dict(SETTINGS[kind])
    if settings["temperature"]:
        settings["seed"] = rng.randrange(1 << 31)
    body = {"model": model, "messages": example.messages(), **settings}
    return {"custom_id": f"{kind}-{number:05d}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def main():
    """Reads the command line and writes the jobs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--model", default="shop-qwen3")
    parser.add_argument("--out", type=Path, help="file to write; the standard output if not given")
    args = parser.parse_args()
    rng, catalog = random.Random(args.seed), Catalog()
    lines = [json.dumps(make_job(rng, catalog, number, args.model)) for number in range(1, args.count + 1)]
    text = "".join(line + "\n" for line in lines)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
