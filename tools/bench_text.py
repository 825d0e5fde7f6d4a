#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Millrace's tokenizer against Hugging Face tokenizers: the same vocabulary and text, one core, in one run.

usage: bench_text.py MILLRACE MODEL_DIR TEXT_FILE      (needs the Python package tokenizers)
"""
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
ROUNDS = 5


def best(work, size):
    def seconds():
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin
    return size / min(seconds() for _ in range(ROUNDS)) / 1e6


def main():
    from tokenizers import Tokenizer
    millrace, model, path = sys.argv[1:4]
    ours = json.loads(subprocess.run([millrace, "bench", "text", model, path, "--json"], check=True, text=True,
                                     capture_output=True).stdout)
    text = pathlib.Path(path).read_text(encoding="utf-8")
    size, lines = len(text.encode()), text.splitlines(keepends=True)
    begin = time.perf_counter()
    tokenizer = Tokenizer.from_file(model + "/tokenizer.json")
    load_ms = (time.perf_counter() - begin) * 1e3
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    theirs = {"tokens": len(ids), "load_ms": load_ms,
              "encode_lines_mb_s": best(lambda: [tokenizer.encode(line, add_special_tokens=False) for line in lines], size),
              "encode_whole_mb_s": best(lambda: tokenizer.encode(text, add_special_tokens=False), size),
              "decode_mb_s": best(lambda: tokenizer.decode(ids, skip_special_tokens=False), size)}
    print("%-18s %12s %12s" % ("", "millrace", "tokenizers"))
    for key in theirs:
        print("%-18s %12.2f %12.2f" % (key, ours[key], theirs[key]))
    if ours["tokens"] != theirs["tokens"]:
        sys.exit("the token counts differ")


if __name__ == "__main__":
    main()
