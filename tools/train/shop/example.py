# SPDX-License-Identifier: Apache-2.0
"""The record every generator returns, and small text helpers they share."""

from dataclasses import dataclass, field

SYSTEM_PROMPTS = (
    "You are a shop assistant.",
    "You are the assistant of an online shop.",
    "You help an online shop with recommendations, blurbs, reviews and data.",
    "You are a helpful assistant.",
    "You work for an online shop and answer in one line.",
    "You are the shop's batch worker.",
    "Answer briefly.",
    "Be short and precise.",
    "You assist the customers of a home and leisure shop.",
)


@dataclass
class Example:
    """One job: the chat so far, the reference answer, and the facts a check needs."""

    kind: str
    prompt: str
    answer: str
    key: str
    facts: dict = field(default_factory=dict)
    system: str = ""

    def messages(self):
        """The chat messages before the answer."""
        turns = [{"role": "system", "content": self.system}] if self.system else []
        return turns + [{"role": "user", "content": self.prompt}]


def article(word):
    """The indefinite article for a word."""
    return "an" if word[0] in "aeiou" else "a"


def sentence(text):
    """Capitalises the first letter only."""
    return text[0].upper() + text[1:]


def maybe_invented(rng, word, syllables, chance):
    """Sometimes swaps a known brand for a made-up one, so the model learns to copy names."""
    if rng.random() >= chance:
        return word
    return sentence("".join(rng.choice(syllables) for _ in range(rng.choice((2, 2, 3)))))
