# SPDX-License-Identifier: Apache-2.0
"""Trains the bundled model on generated conversations; resumable, with a checkpoint every few minutes."""

import argparse
from itertools import islice
from pathlib import Path
import time

import torch
from torch.nn import functional
from tokenizers import Tokenizer

from data import training_batches
from export import write_configs, write_weights
from make_tokenizer import train_tokenizer, write_tokenizer
from model import ModelConfig, ShopModel

PEAK_RATE, WARMUP_STEPS, DECAY_SHARE, WEIGHT_DECAY = 2e-3, 200, 0.35, 0.05


def learning_rate(step, steps):
    """Linear warm-up, constant, then linear decay; a run can be shortened until the decay starts."""
    decay_from = steps - int(DECAY_SHARE * steps)
    if step < WARMUP_STEPS:
        return PEAK_RATE * (step + 1) / WARMUP_STEPS
    if step < decay_from:
        return PEAK_RATE
    return PEAK_RATE * (steps - step) / (steps - decay_from)


def make_optimizer(model):
    """AdamW; norms and the embedding are not decayed."""
    decayed = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and "embed" not in name]
    others = [weight for name, weight in model.named_parameters() if weight.dim() == 1 or "embed" in name]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95), fused=True)


def weighted_loss(model, tokens, weights):
    """Next-token cross-entropy, averaged with the given weight per predicted token."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.hidden(tokens)[:, :-1]
        targets, marks = tokens[:, 1:], weights[:, 1:]
        used = marks > 0
        logits = functional.linear(hidden[used], model.model.embed_tokens.weight)
    losses = functional.cross_entropy(logits.float(), targets[used], reduction="none")
    return (losses * marks[used]).sum() / marks[used].sum()


def staged_batches(tokenizer, args):
    """The first stage's fixed templates, then the second stage's looser wording."""
    yield from islice(training_batches(tokenizer, args.seed, args.batch_tokens, varied=False), args.template_steps)
    yield from training_batches(tokenizer, args.seed + 1, args.batch_tokens, varied=True)


def save_checkpoint(path, model, optimizer, step):
    """Writes a checkpoint beside the old one first, so that a kill never loses both."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def train(args):
    """Runs the training loop from the last checkpoint, or from the start."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    config = ModelConfig()
    args.out.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(parents=True, exist_ok=True)
    if not (args.out / "tokenizer.json").exists():
        write_tokenizer(train_tokenizer(config.vocab_size), args.out, config.max_position_embeddings)
    tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    write_configs(config, tokenizer, args.out)
    model = ShopModel(config)
    optimizer = make_optimizer(model)
    checkpoint, first = args.work / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    batches = staged_batches(tokenizer, args)
    for _ in range(first):
        next(batches)
    print(f"{sum(weight.numel() for weight in model.parameters())} parameters, from step {first}", flush=True)
    started, mean, seen = time.time(), None, 0
    for step in range(first, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps)
        tokens, weights = next(batches)
        loss = weighted_loss(model, tokens, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        mean = loss.item() if mean is None else 0.95 * mean + 0.05 * loss.item()
        seen += tokens.numel()
        if (step + 1) % 50 == 0:
            spent = time.time() - started
            print(f"step {step + 1} loss {mean:.4f} tokens/s {seen / spent:.0f} seconds {spent:.0f}", flush=True)
        if (step + 1) % args.save_every == 0:
            save_checkpoint(checkpoint, model, optimizer, step + 1)
            write_weights(model.state_dict(), args.out)
    write_weights(model.state_dict(), args.out)


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--steps", type=int, default=3100)
    parser.add_argument("--template-steps", type=int, default=1750, help="steps before the wording loosens")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--save-every", type=int, default=250)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=20)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
