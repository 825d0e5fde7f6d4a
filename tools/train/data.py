# SPDX-License-Identifier: Apache-2.0
"""Turns generated conversations into padded batches of similar length."""

import random

import torch

import chat
from shop.catalog import Catalog
from shop.jobs import training_conversation

# Prompts teach the model the domain's words; a light weight in one conversation of three is enough,
# and skipping the rest saves a quarter of the time.
PROMPT_WEIGHT, PROMPT_EVERY = 0.1, 3


def encode_conversations(tokenizer, conversations):
    """Yields (ids, weights): answers count fully in the loss, prompts a little."""
    pieces, weights, counts = [], [], []
    for index, messages in enumerate(conversations):
        prompt_weight = PROMPT_WEIGHT if index % PROMPT_EVERY == 0 else 0.0
        counts.append(2 * sum(1 for message in messages if message["role"] == "assistant"))
        text = ""
        for message in messages:
            if message["role"] == "assistant":
                pieces += [text + f"{chat.START}assistant\n", message["content"] + chat.END]
                weights += [prompt_weight, 1.0]
                text = "\n"
            else:
                text += chat.render_turn(message)
    encoded = tokenizer.encode_batch(pieces, add_special_tokens=False)
    position = 0
    for count in counts:
        ids, marks = [], []
        for piece, weight in zip(encoded[position:position + count], weights[position:position + count]):
            ids += piece.ids
            marks += [weight] * len(piece.ids)
        position += count
        yield ids, marks


def pad_batch(rows, pad_id):
    """Stacks rows into (tokens, weights), padding on the right with weight zero."""
    width = max(len(ids) for ids, _ in rows)
    tokens = torch.full((len(rows), width), pad_id, dtype=torch.long)
    weights = torch.zeros(len(rows), width)
    for row, (ids, marks) in enumerate(rows):
        tokens[row, :len(ids)] = torch.tensor(ids)
        weights[row, :len(ids)] = torch.tensor(marks)
    return tokens, weights


def training_batches(tokenizer, seed, tokens_per_batch, varied, buffer=8192):
    """Endless stream of batches; each buffer of fresh conversations is sorted by length to waste no padding."""
    rng, catalog = random.Random(seed), Catalog()
    pad_id = tokenizer.token_to_id(chat.END_OF_TEXT)
    while True:
        conversations = [training_conversation(rng, catalog, varied) for _ in range(buffer)]
        rows = sorted(encode_conversations(tokenizer, conversations), key=lambda row: len(row[0]))
        batches, batch = [], []
        for row in rows:
            if batch and (len(batch) + 1) * len(row[0]) > tokens_per_batch:
                batches.append(batch)
                batch = []
            batch.append(row)
        rng.shuffle(batches)
        for batch in batches:
            yield pad_batch(batch, pad_id)
