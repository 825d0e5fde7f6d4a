# SPDX-License-Identifier: Apache-2.0
"""`millrace bench engine --json` and `bench products --json`: one object per cell with the fields that readers rely on,
limits counted from the shapes, and wrong use refused."""
import argparse
import json
import subprocess

FIELDS = {"work", "shape", "format", "batch", "context", "tokens_per_second", "share_of_limit", "bound", "limit"}


def run(millrace, *arguments):
    return subprocess.run([millrace, "bench", *arguments], capture_output=True, text=True, timeout=600, check=False)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    millrace = parser.parse_args().millrace

    done = run(millrace, "engine", "--quick", "--json", "--rounds", "1", "--format", "bf16", "--kv-mb", "64")
    assert done.returncode == 0, done.stderr
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    cells = [o for o in objects if o["work"] != "memory"]
    assert {(c["work"], c["batch"]) for c in cells} == {("prefill", 1), ("decode", 1), ("decode", 8), ("decode", 32)}
    for cell in cells:
        assert FIELDS <= set(cell), cell
        assert cell["shape"] == "qwen3-0.6b" and cell["format"] == "bf16" and cell["context"] == 128, cell
        assert cell["bound"] in ("memory", "compute"), cell
        limit = cell["limit"]["tokens_per_second"]
        assert abs(cell["tokens_per_second"] / limit - cell["share_of_limit"]) < 0.01, cell
    prefill = next(c for c in cells if c["work"] == "prefill")
    weights = 28 * (1024 * (2 * 2048 + 2 * 1024) + 3 * 1024 * 3072)
    head, attention = 151936 * 1024, 4 * 2048 * 28 * 128 * 129 // 2
    expected = 2 * (weights * 128 + head) + attention
    assert abs(prefill["limit"]["operations"] / expected - 1) < 1e-3, (prefill, expected)

    done = run(millrace, "engine", "--quick", "--json", "--rounds", "1", "--format", "bf16", "--kv-mb", "64", "--shape",
               "qwen3-moe-small")
    assert done.returncode == 0, done.stderr
    cells = {(c["work"], c["batch"]): c["limit"] for c in map(json.loads, done.stdout.splitlines())
             if c["work"] != "memory"}
    dense, expert = 12 * 1024 * (2 * 2048 + 2 * 1024 + 32), 12 * 3 * 1024 * 512
    expected = 2 * ((dense + 4 * expert) * 128 + head) + 4 * 2048 * 12 * 128 * 129 // 2
    assert abs(cells["prefill", 1]["operations"] / expected - 1) < 1e-3, (cells, expected)
    experts = {}  # of a layer, by the bytes that a step reads besides its other weights and its keys and values
    for batch in (1, 8, 32):
        other = 2 * (dense + head) + batch * 129 * 12 * 2 * 1024 * 2
        experts[batch] = (cells["decode", batch]["bytes"] - other) / (2 * expert)
    assert abs(experts[1] - 4) < 0.1 and experts[1] < experts[8] < experts[32] < 32.2, experts

    memory = next(o for o in objects if o["work"] == "memory")
    planned = memory["weight_bytes"] + memory["buffer_bytes"] + memory["kv_bytes"]
    assert 0.9 < memory["resident_bytes"] / planned < 1.15, memory

    # sequences that share a prompt need not read its keys and values more than once
    done = run(millrace, "engine", "--json", "--work", "decode", "--rounds", "1", "--format", "bf16", "--kv-mb", "64",
               "--batches", "4", "--contexts", "130")
    assert done.returncode == 0, done.stderr
    bytes_of = {o["prompts"]: o["limit"]["bytes"] for o in map(json.loads, done.stdout.splitlines()) if "prompts" in o}
    token_bytes = 2 * 28 * 8 * 128 * 2
    assert abs(bytes_of["private"] - bytes_of["shared"] - 3 * 128 * token_bytes) < 1e4, bytes_of

    done = run(millrace, "products", "--json", "--rounds", "1", "--format", "f32", "--n", "64", "--k", "64")
    assert done.returncode == 0, done.stderr
    products = [json.loads(line) for line in done.stdout.splitlines()]
    assert [p["rows"] for p in products] == [1, 2, 4, 8, 13, 16, 32, 64, 128, 512], products
    for product in products:
        assert abs(product["operations_per_second"] * product["seconds"] / (2 * 64 * 64 * product["rows"]) - 1) < 0.01

    for wrong in (["engine", "--shape", "no-such"], ["engine", "--rounds", "0"], ["engine", "--batches", "0"],
                  ["engine", "--contexts", "1,"], ["products", "--format", "int5"], ["nothing"], []):
        refused = run(millrace, *wrong)
        assert refused.returncode == 64 and refused.stderr, (wrong, refused)


main()
