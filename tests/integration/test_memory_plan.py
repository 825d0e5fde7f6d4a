# SPDX-License-Identifier: Apache-2.0
"""The memory that `millrace batch` says at its start that it will take, against what it comes to have: the bundled
model and a directory of Qwen3-0.6B's shape (weights of zeros, a file of holes), each until the KV pool is full;
of the bundled model with as many jobs in flight as there may be."""
import json
import pathlib
import random
import re
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import batch  # noqa: E402
from models import BUNDLED  # noqa: E402
from process import Workspace  # noqa: E402

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, MLP, VOCAB = 28, 1024, 16, 8, 128, 3072, 151936
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN,
    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "intermediate_size": MLP,
    "vocab_size": VOCAB, "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000,
    "tie_word_embeddings": True, "hidden_act": "silu", "torch_dtype": "bfloat16", "eos_token_id": 4095,
}


def tensors():
    yield "model.embed_tokens.weight", [VOCAB, HIDDEN]
    yield "model.norm.weight", [HIDDEN]
    for layer in range(LAYERS):
        at = "model.layers.%d." % layer
        yield at + "input_layernorm.weight", [HIDDEN]
        yield at + "post_attention_layernorm.weight", [HIDDEN]
        yield at + "self_attn.q_proj.weight", [HEADS * HEAD_DIM, HIDDEN]
        yield at + "self_attn.k_proj.weight", [KV_HEADS * HEAD_DIM, HIDDEN]
        yield at + "self_attn.v_proj.weight", [KV_HEADS * HEAD_DIM, HIDDEN]
        yield at + "self_attn.o_proj.weight", [HIDDEN, HEADS * HEAD_DIM]
        yield at + "self_attn.q_norm.weight", [HEAD_DIM]
        yield at + "self_attn.k_norm.weight", [HEAD_DIM]
        yield at + "mlp.gate_proj.weight", [MLP, HIDDEN]
        yield at + "mlp.up_proj.weight", [MLP, HIDDEN]
        yield at + "mlp.down_proj.weight", [HIDDEN, MLP]


def write_model(path):
    header, offset = {}, 0
    for name, shape in tensors():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
    (path / "config.json").write_text(json.dumps(CONFIG))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).write_bytes((BUNDLED / name).read_bytes())


def write_jobs(path, count, tokens):
    """Prompts without a common beginning: together more tokens than the pool holds."""
    dice = random.Random(7)
    return batch.write_jobs(path, [
        {"custom_id": "job-%d" % i, "method": "POST", "url": "/v1/completions",
         "body": {"prompt": [dice.randrange(10, 4000) for _ in range(tokens)], "max_tokens": 4, "ignore_eos": True}}
        for i in range(count)])


def private_mb(pid):
    """What it has without pages of files, a page that is mapped twice counted once; 0 when it is gone."""
    try:
        rollup = pathlib.Path("/proc/%d/smaps_rollup" % pid).read_text()
    except OSError:
        return 0
    return sum(int(size) for size in re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", rollup, re.M)) / 1024


def run(millrace, space, model, jobs, *flags):
    """Its plan and what it had at most."""
    command = batch.command(millrace, model, jobs, space / "results.jsonl", "--threads", 2, *flags)
    with open(space / "stderr.txt", "w") as log, subprocess.Popen(command, stderr=log) as process:
        most = 0
        while process.poll() is None:
            most = max(most, private_mb(process.pid))
            time.sleep(0.05)
    text = (space / "stderr.txt").read_text()
    assert process.returncode == 0, text[-2000:]
    planned = re.search(r"memory ([\d.]+) MB when the KV pool is full: (.*)", text)
    return float(planned[1]), planned[2].split("\r")[0], most


def check(millrace, model, jobs, tokens, *flags):
    with Workspace("memory") as space:
        if model is None:
            write_model(space.path)
        planned, parts, most = run(millrace, space, model or space.path,
                                         write_jobs(space / "jobs.jsonl", jobs, tokens), *flags)
        answers = batch.read_results(space / "results.jsonl")
        assert len(answers) == jobs and all(a["response"]["status_code"] == 200 for a, _ in answers.values())
    print("planned %.1f MB (%s), had %.1f MB at most (%+.2f %%)" % (planned, parts, most, 100 * (most / planned - 1)))
    assert abs(most / planned - 1) <= 0.02, "the plan is off by more than 2 %"


def main():
    millrace = batch.millrace_argument()
    check(millrace, BUNDLED, 1400, 43, "--engine.kv_memory_mb=96")
    check(millrace, BUNDLED, 1400, 43, "--engine.kv_memory_mb=96", "--engine.kv_backend=contiguous")
    check(millrace, BUNDLED, 1500, 24, "--engine.kv_memory_mb=32")
    check(millrace, None, 2, 300, "--engine.kv_memory_mb=64")


main()
