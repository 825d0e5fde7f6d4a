# SPDX-License-Identifier: Apache-2.0
"""Draws jobs of all kinds from one seeded generator, for training, evaluation and job files."""

from . import blurb, extract, recommend, sentiment, smalltalk
from .example import SYSTEM_PROMPTS
from .varied import make_varied

MAKERS = {"rec": recommend.make, "blurb": blurb.make, "sent": sentiment.make, "extract": extract.make,
          "talk": smalltalk.make}
JOB_KINDS = ("rec", "blurb", "sent", "extract")
TRAINING_WEIGHTS = {"rec": 34, "blurb": 17, "sent": 24, "extract": 24, "talk": 1}


def make_example(rng, catalog, kind, held_out):
    """Draws until a job of that kind falls in the wanted split."""
    while True:
        example = MAKERS[kind](rng, catalog, held_out)
        if example is not None:
            if rng.random() < 0.35:
                example.system = rng.choice(SYSTEM_PROMPTS)
            return example


def training_example(rng, catalog, kind, varied):
    """One training job; with varied, half of them are worded loosely."""
    if varied and kind in JOB_KINDS and rng.random() < 0.5:
        example = make_varied(rng, catalog, kind)
        if rng.random() < 0.3:
            example.system = rng.choice(SYSTEM_PROMPTS)
        return example
    return make_example(rng, catalog, kind, held_out=False)


def training_conversation(rng, catalog, varied=False):
    """A conversation to learn from: mostly one job, sometimes several in a row."""
    turns = rng.choice((2, 2, 3, 4)) if rng.random() < 0.06 else 1
    kinds = rng.choices(list(TRAINING_WEIGHTS), TRAINING_WEIGHTS.values(), k=turns)
    messages = []
    for kind in kinds:
        example = training_example(rng, catalog, kind, varied)
        messages += (example.messages() if not messages else example.messages()[-1:])
        messages.append({"role": "assistant", "content": example.answer})
    return messages
