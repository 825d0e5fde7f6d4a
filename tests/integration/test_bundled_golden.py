#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The bundled model answers as transformers does: chat prompts rendered and tokenized to the same ids, greedy answers
the same to the token (float32 KV, portable kernels; a step whose two best logits are nearly equal ends the comparison).
golden.jsonl is made by tools/train/make_golden.py."""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "examples/models/shop-qwen3"
NEAR_TIE = 2e-3  # logits closer than this may swap between two correct float32 programs


def run_batch(binary, lines, *flags):
    with tempfile.TemporaryDirectory() as folder:
        source, out = pathlib.Path(folder, "jobs.jsonl"), pathlib.Path(folder, "out.jsonl")
        source.write_text("".join(json.dumps(job) + "\n" for job in lines))
        subprocess.run([binary, "batch", "-m", MODEL, "-i", source, "-o", out, *flags], check=True, timeout=300,
                       stderr=subprocess.DEVNULL)
        return {answer["custom_id"]: answer["response"] for answer in map(json.loads, out.read_text().splitlines())}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    binary = parser.parse_args().millrace
    goldens = [json.loads(text) for text in (MODEL / "golden.jsonl").read_text().splitlines()]
    jobs = [{"custom_id": golden["id"], "method": "POST", "url": "/v1/chat/completions",
             "body": {"messages": golden["messages"], "max_tokens": len(golden["output_ids"]), "temperature": 0,
                      "repetition_penalty": 1, "return_token_ids": True}} for golden in goldens]
    answers = run_batch(binary, jobs, "--kernels", "generic", "--model.kv_format=f32")
    for golden in goldens:
        body = answers[golden["id"]]["body"]
        choice = body["choices"][0]
        prompt_ids = choice.get("prompt_token_ids") or body.get("prompt_token_ids")
        assert prompt_ids == golden["prompt_ids"], "%s: the rendered prompt has other tokens" % golden["id"]
        count = len(golden["output_ids"])
        if golden["min_top2_gap"] < NEAR_TIE:
            count = golden["min_top2_step"]
        assert choice["token_ids"][:count] == golden["output_ids"][:count], "%s: %r is not %r" % (
            golden["id"], choice["message"]["content"], golden["output_text"])
    print("%d chat prompts: tokens of prompt and greedy answer as transformers gives them" % len(goldens))


if __name__ == "__main__":
    main()
