# SPDX-License-Identifier: Apache-2.0
"""Trains the byte-level BPE on generated conversations and writes the tokenizer files."""

import json
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import chat
from shop.catalog import Catalog
from shop.jobs import training_conversation

SPECIALS = (chat.END_OF_TEXT, chat.START, chat.END)
# The word pattern of the Qwen2 family, so that engines that know it can read this tokenizer.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def sample_texts(seed, count):
    """Contents of generated messages, and the role words of the template."""
    rng, catalog = random.Random(seed), Catalog()
    for _ in range(count):
        for message in training_conversation(rng, catalog):
            yield message["role"] + "\n"
            yield message["content"]
    for item in catalog.items:
        yield item.name


def train_tokenizer(vocab_size, seed=11, count=60000):
    """Returns a tokenizer of exactly vocab_size entries, the special tokens last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIALS),
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample_texts(seed, count), trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIALS])
    if tokenizer.get_vocab_size() != vocab_size:
        raise SystemExit(f"the sample yields only {tokenizer.get_vocab_size()} entries")
    return tokenizer


def write_tokenizer(tokenizer, folder, max_length):
    """Writes tokenizer.json and tokenizer_config.json."""
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {
        str(tokenizer.token_to_id(text)): {
            "content": text, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True,
        }
        for text in SPECIALS
    }
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": [chat.START, chat.END],
        "bos_token": None,
        "chat_template": chat.TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": chat.END,
        "errors": "replace",
        "model_max_length": max_length,
        "pad_token": chat.END_OF_TEXT,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
