# SPDX-License-Identifier: Apache-2.0
"""Writes the reference an engine is held to: held-out prompts with greedy continuations and first-step logits.

The weights are the exported bf16 ones, computed in float32. A line also gives its closest call, the step
where the two best logits are nearest, so that a reader can tell rounding from a mistake.
"""

import argparse
import json
from pathlib import Path
import random

import torch

from decode import load, render
from shop.catalog import Catalog
from shop.jobs import JOB_KINDS, make_example

MAX_TOKENS = 64


@torch.inference_mode()
def continue_greedily(model, ids, stops):
    """Greedy token ids up to a stop id (included), the first step's logits and each step's top-two gap."""
    tokens, first, gaps = [], None, []
    while len(tokens) < MAX_TOKENS and not (tokens and tokens[-1] in stops):
        logits = model(torch.tensor([ids + tokens])).logits[0, -1]
        first = logits if first is None else first
        best = logits.topk(2)
        gaps.append((best.values[0] - best.values[1]).item())
        tokens.append(best.indices[0].item())
    return tokens, first, gaps


def main():
    """Reads the command line and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=31)
    args = parser.parse_args()
    torch.set_num_threads(2)
    tokenizer, model = load(args.model)
    stops = model.generation_config.eos_token_id
    rng, catalog = random.Random(args.seed), Catalog()
    with args.out.open("w", encoding="utf-8") as out:
        for number in range(args.count):
            kind = JOB_KINDS[number % len(JOB_KINDS)]
            messages = make_example(rng, catalog, kind, held_out=True).messages()
            prompt = render(tokenizer, messages)
            ids = tokenizer(prompt).input_ids
            continuation, logits, gaps = continue_greedily(model, ids, stops)
            top = logits.topk(5)
            out.write(json.dumps({
                "id": f"{kind}-{number:02d}",
                "messages": messages,
                "prompt": prompt,
                "prompt_ids": ids,
                "output_ids": continuation,
                "output_text": tokenizer.decode(continuation, skip_special_tokens=True),
                "first_top5": [[index, round(value, 5)] for index, value in zip(top.indices.tolist(), top.values.tolist())],
                "min_top2_gap": round(min(gaps), 5),
                "min_top2_step": gaps.index(min(gaps)),
            }) + "\n")


if __name__ == "__main__":
    main()
