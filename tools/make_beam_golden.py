#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/beams.jsonl: beam searches of Hugging Face transformers (float32, torch on the CPU) over the
miniature models of tests/golden/models, free and constrained to random items, for tests/unit/test_beam_golden.c.

    pip install torch transformers && tools/make_beam_golden.py
"""
import json
import pathlib
import random

import torch
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[1] / "tests" / "golden"
MODELS = ["llama-llama3", "llama-linear", "llama-yarn", "mistral", "qwen2", "qwen3"]
CASES = 48  # of each model; five of six are constrained


def random_items(dice, vocab):
    starts = [dice.randrange(4, vocab) for _ in range(6)]
    items = {(dice.choice(starts), *(dice.randrange(4, vocab) for _ in range(dice.randrange(0, 4)))) for _ in range(60)}
    return sorted(items)


def allowed_after(items, ends, prompt_tokens):
    follows = {}
    for item in items:
        for i in range(len(item)):
            follows.setdefault(item[:i], set()).add(item[i])
        follows.setdefault(item, set()).update(ends)

    def allowed(_, sent):
        said = tuple(sent.tolist()[prompt_tokens:])
        return sorted(follows.get(said, ends))
    return allowed


def search(model, case):
    prompt = torch.tensor([case["prompt"]])
    ends, more = model.generation_config.eos_token_id, {}
    ends = ends if isinstance(ends, list) else [ends]
    if case["items"]:
        more["prefix_allowed_tokens_fn"] = allowed_after([tuple(item) for item in case["items"]], ends, len(case["prompt"]))
    with torch.no_grad():
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), num_beams=case["width"],
                             num_return_sequences=case["width"], do_sample=False, max_new_tokens=case["max_tokens"],
                             length_penalty=case["length_penalty"], early_stopping=case["early_stopping"],
                             eos_token_id=ends, pad_token_id=0, return_dict_in_generate=True, output_scores=True, **more)
    beams = []
    for tokens, score in zip(out.sequences.tolist(), out.sequences_scores.tolist()):
        if score < -1e6:  # a place that transformers fills with a sequence that is not allowed: the case is drawn again
            continue
        said = tokens[len(case["prompt"]):]
        end = next((i + 1 for i, token in enumerate(said) if token in ends), len(said))
        beams.append({"tokens": said[:end], "score": score})
    return beams


def draw(dice, name, vocab, constrained):
    return {"model": name, "prompt": [dice.randrange(4, vocab) for _ in range(dice.randrange(3, 60))],
            "width": dice.choice([2, 3, 4, 8, 16]), "length_penalty": dice.choice([1.0, 1.0, 0.0, 0.7, 2.0]),
            "early_stopping": dice.random() < 0.3, "max_tokens": 5 if constrained else dice.randrange(3, 12),
            "items": random_items(dice, vocab) if constrained else []}


def main():
    dice = random.Random(20261124)
    with open(ROOT / "beams.jsonl", "w", encoding="utf-8") as out:
        for name in MODELS:
            model = AutoModelForCausalLM.from_pretrained(ROOT / "models" / name, dtype=torch.float32).eval()
            vocab = model.config.vocab_size
            for i in range(CASES):
                case = {"beams": []}
                while len(case["beams"]) != case.get("width"):
                    case = draw(dice, name, vocab, i % 6 > 0)
                    case["beams"] = search(model, case)
                out.write(json.dumps(case, separators=(",", ":")) + "\n")


main()
