# SPDX-License-Identifier: Apache-2.0
"""Writes the trained weights in the Hugging Face layout: bf16 safetensors and the two configs."""

import json

import torch
from safetensors.torch import save_file

import chat


def write_weights(state, folder):
    """Writes the parameters as bf16; the tied output projection is not stored."""
    tensors = {name: value.to(torch.bfloat16).contiguous() for name, value in state.items()}
    path = folder / "model.safetensors"
    save_file(tensors, str(path), metadata={"format": "pt"})
    path.chmod(0o644)


def write_configs(config, tokenizer, folder):
    """Writes config.json and generation_config.json."""
    end, end_of_text = (tokenizer.token_to_id(text) for text in (chat.END, chat.END_OF_TEXT))
    model = {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": end,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "model_type": "qwen3",
        "pad_token_id": end_of_text,
        "rope_scaling": None,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        **config.as_dict(),
    }
    generation = {
        "do_sample": True,
        "eos_token_id": [end, end_of_text],
        "max_new_tokens": 128,
        "pad_token_id": end_of_text,
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.9,
    }
    for name, values in (("config.json", model), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(dict(sorted(values.items())), indent=2) + "\n", encoding="utf-8")
