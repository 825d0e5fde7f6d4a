# SPDX-License-Identifier: Apache-2.0
"""Loads the exported model as any user would and decodes greedily; shared by evaluation and golden file."""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(folder):
    """The tokenizer and the model, its bf16 weights computed in float32."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return tokenizer, model.eval()


def render(tokenizer, messages):
    """The prompt as the shipped chat template renders it."""
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


@torch.inference_mode()
def answer_all(tokenizer, model, prompts, max_tokens, batch=50):
    """Greedy answers to rendered prompts, as text without special tokens."""
    answers = []
    for first in range(0, len(prompts), batch):
        inputs = tokenizer(prompts[first:first + batch], return_tensors="pt", padding=True)
        output = model.generate(**inputs, do_sample=False, max_new_tokens=max_tokens, temperature=None, top_p=None, top_k=None)
        answers += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
    return answers


@torch.inference_mode()
def answer_loss(tokenizer, model, prompt, answer):
    """Summed negative log-likelihood of a reference answer, its end mark included, and its token count."""
    head = tokenizer(prompt).input_ids
    tail = tokenizer(answer + tokenizer.eos_token).input_ids
    logits = model(torch.tensor([head + tail])).logits[0, len(head) - 1:-1]
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor(tail), reduction="sum")
    return losses.item(), len(tail)
