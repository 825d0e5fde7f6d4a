#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/models: miniature random-weight models and what Hugging Face transformers computes
with them in float32. Run in an environment with torch and transformers (the files were made with torch 2.15
and transformers 5.23 and 5.24 on a CPU):  python3 tools/make_model_golden.py [OUT_DIR [MODEL...]]

Each model directory also holds golden.bin, little-endian:
  int32 prompt_tokens, greedy_tokens, vocab | int32 prompt[] | int32 greedy[] | float32 logits[prompt][vocab]
Weights are drawn wide enough for logits to differ by several units; a prompt is taken only when no greedy
step is closer than MARGIN between the first and the second token.
"""
import json
import pathlib
import struct
import sys

import torch
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, MixtralConfig,
                          MixtralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM,
                          Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM)

PROMPT_TOKENS = 90
GREEDY_TOKENS = 32
MARGIN = 5e-3

SHAPE = dict(vocab_size=288, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=0,
             eos_token_id=1, pad_token_id=None)


def llama(**more):
    return LlamaConfig(**{**SHAPE, **more}), LlamaForCausalLM


def rope(kind, **more):
    return {"rope_type": kind, "rope_theta": 10000.0, **more}


MODELS = {
    # name: (config and class, dtype of the file, other options)
    "llama-llama3": (llama(rope_parameters=rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                                original_max_position_embeddings=32), eos_token_id=[1, 2, 3]),
                     torch.float32, {}),
    "llama-linear": (llama(rope_parameters=rope("linear", factor=4.0), attention_bias=True, mlp_bias=True),
                     torch.float16, {}),
    "llama-yarn": (llama(rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=64)),
                   torch.float32, {"shard": "150KB", "old_spelling": True}),
    "mistral": ((MistralConfig(**{**SHAPE, "num_hidden_layers": 3}, sliding_window=24,
                               rope_parameters=rope("default")), MistralForCausalLM), torch.bfloat16, {}),
    "qwen2": ((Qwen2Config(**{**SHAPE, "num_hidden_layers": 3}, tie_word_embeddings=True, use_sliding_window=True,
                           sliding_window=40, max_window_layers=1,
                           rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}), Qwen2ForCausalLM),
              torch.float32, {"old_spelling": True}),
    "qwen3": ((Qwen3Config(**{**SHAPE, "num_attention_heads": 6}, head_dim=24, tie_word_embeddings=True,
                           rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}), Qwen3ForCausalLM),
              torch.float32, {}),
    "mixtral": ((MixtralConfig(**{**SHAPE, "intermediate_size": 40}, num_local_experts=5, num_experts_per_tok=2,
                               sliding_window=40, rope_parameters=rope("default")), MixtralForCausalLM),
                torch.float16, {}),
    "qwen2-moe": ((Qwen2MoeConfig(**{**SHAPE, "num_hidden_layers": 3}, num_experts=6, num_experts_per_tok=4,
                                  moe_intermediate_size=24, shared_expert_intermediate_size=48,
                                  decoder_sparse_step=2, norm_topk_prob=False, tie_word_embeddings=True,
                                  rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
                   Qwen2MoeForCausalLM), torch.float16, {"old_spelling": True}),
    "qwen3-moe": ((Qwen3MoeConfig(**{**SHAPE, "num_hidden_layers": 3}, head_dim=24, num_experts=9,
                                  num_experts_per_tok=3, moe_intermediate_size=24, mlp_only_layers=[1],
                                  norm_topk_prob=True, tie_word_embeddings=True,
                                  rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
                   Qwen3MoeForCausalLM), torch.bfloat16, {}),
}


def randomise(model, generator):
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            parameter.data = 1.0 + 0.3 * noise
        elif name.endswith("bias"):
            parameter.data = 0.5 * noise
        elif "embed_tokens" in name or "lm_head" in name:
            parameter.data = 0.4 * noise
        else:
            parameter.data = 1.5 * noise / parameter.shape[-1] ** 0.5


def old_spelling(path):
    """config.json as transformers 4 wrote it: rope_theta and rope_scaling, torch_dtype."""
    config = json.loads(path.read_text())
    rope_parameters = config.pop("rope_parameters")
    config["rope_theta"] = rope_parameters.pop("rope_theta")
    rope_type = rope_parameters.pop("rope_type")
    config["rope_scaling"] = {"type": rope_type, **rope_parameters} if rope_type != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    path.write_text(json.dumps(config, indent=1) + "\n")


@torch.no_grad()
def greedy_run(model, prompt):
    """The prompt's logits, the greedy continuation and the smallest margin on the way."""
    tokens, margin, logits = list(prompt), float("inf"), None
    for _ in range(GREEDY_TOKENS):
        out = model(torch.tensor([tokens]), use_cache=False).logits[0].float()
        logits = out if logits is None else logits
        best = out[-1].topk(2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        tokens.append(int(best.indices[0]))
    return logits, tokens[len(prompt):], margin


def write_golden(path, model, vocab, generator):
    while True:
        prompt = torch.randint(0, vocab, (PROMPT_TOKENS,), generator=generator).tolist()
        logits, greedy, margin = greedy_run(model, prompt)
        if margin > MARGIN and len(set(greedy)) > GREEDY_TOKENS // 3:
            break
    header = struct.pack("<3i", len(prompt), len(greedy), vocab)
    ids = struct.pack(f"<{len(prompt) + len(greedy)}i", *prompt, *greedy)
    path.write_bytes(header + ids + logits.numpy().astype("<f4").tobytes())
    print(f"{path.parent.name}: logits std {float(logits.std()):.2f}, greedy margin {margin:.4f}, "
          f"{len(set(greedy))} different greedy tokens")


def make(name, out):
    (config, cls), dtype, options = MODELS[name]
    generator = torch.Generator().manual_seed(1000 + list(MODELS).index(name))
    model = cls._from_config(config, attn_implementation="eager").float().eval()
    randomise(model, generator)
    model.tie_weights()
    directory = out / name
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    model.to(dtype).save_pretrained(directory, max_shard_size=options.get("shard", "100MB"))
    if options.get("old_spelling"):
        old_spelling(directory / "config.json")
    model = cls.from_pretrained(directory, attn_implementation="eager", dtype=torch.float32).eval()
    write_golden(directory / "golden.bin", model, config.vocab_size, generator)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "tests" / "golden" / "models"
    torch.set_num_threads(1)
    for name in sys.argv[2:] or MODELS:
        make(name, out)


if __name__ == "__main__":
    main()
