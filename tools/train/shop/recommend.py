# SPDX-License-Identifier: Apache-2.0
"""Next-item recommendation: a purchase history in, a complementary catalogue item and a reason out."""

import json

from .catalog import is_held_out
from .example import Example, article

PROMPTS = (
    "Bought: {history}",
    "Bought: {history}. What next?",
    "Bought: {history}. What should we suggest next?",
    "Purchase history: {history}\nRecommend the next item.",
    "Purchases: {history}\nNext item?",
    "A customer bought {history}. Recommend one more item.",
    "A customer bought {history}. What goes well with that?",
    "Recommend the next item for a customer who bought {history}.",
    "Recommend a product to someone who owns {history}.",
    "The basket holds {history}. Which item should we add?",
    "I bought {history}. What else do I need?",
    "I have just ordered {history}. Any suggestions?",
    "Orders so far: {history}. Suggest one product and say why.",
    "History: {history}. Suggest one product and say why.",
)
JSON_SUFFIXES = (" Answer in JSON.", " Reply as JSON.", " Reply as JSON with item and reason.")
REASONS = (
    "because it {purpose} and goes well with the {owned}",
    "because it {purpose}, so it suits the {owned}",
    "because it {purpose} and completes the set with the {owned}",
    "because it {purpose}, a good match for the {owned}",
    "because anyone with {a} {owned} will like that it {purpose}",
    "because it {purpose}, just what {a} {owned} calls for",
)


def pick_history(rng, catalog, pool, nouns_only, held_out):
    """Chooses what was bought: one to five items, mostly around one interest."""
    first = rng.choice(pool)
    history = [first]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        related = catalog.products[rng.choice(history).noun]
        noun = rng.choice(related.complements) if rng.random() < 0.6 else rng.choice(pool).noun
        if noun in [item.noun for item in history]:
            continue
        choices = [item for item in catalog.by_noun[noun] if nouns_only or is_held_out(item.name) == held_out]
        same_brand = [item for item in choices if item.brand == first.brand]
        if same_brand and rng.random() < 0.5:
            choices = same_brand
        if choices:
            history.append(rng.choice(choices))
    return history


def pick_next(rng, catalog, history):
    """Chooses a complement of a recent purchase, keeping its brand and colour where the shop can."""
    owned_nouns = {item.noun for item in history}
    for owned in reversed(history):
        wanted = [noun for noun in catalog.products[owned.noun].complements if noun not in owned_nouns]
        if wanted:
            break
    else:
        return None, None
    noun = rng.choice(wanted)
    choices = [item for item in catalog.by_noun[noun] if not is_held_out(item.name)]
    for attribute in ("brand", "colour"):
        same = [item for item in choices if getattr(item, attribute) == getattr(owned, attribute)]
        choices = same or choices
    return (rng.choice(choices), owned) if choices else (None, None)


def history_key(history):
    """Names the combination of products bought, whatever the order."""
    return "|".join(sorted(item.noun for item in history))


def join(rng, names):
    """Writes a list of purchases in one of the usual ways."""
    if rng.random() < 0.5 or len(names) == 1:
        return rng.choice((", ", ", ", "; ")).join(names)
    return ", ".join(names[:-1]) + " and " + names[-1]


def make(rng, catalog, held_out):
    """Returns one example, or None when the draw falls in the other split."""
    pool = catalog.test_items if held_out else catalog.train_items
    nouns_only = rng.random() < 0.25
    history = pick_history(rng, catalog, pool, nouns_only, held_out)
    key = history_key(history)
    if len(history) > 1 and is_held_out(key) != held_out or held_out and nouns_only and len(history) == 1:
        return None
    item, owned = pick_next(rng, catalog, history)
    if item is None:
        return None
    names = [entry.noun if nouns_only else entry.name for entry in history]
    template = rng.choice(PROMPTS)
    purpose = rng.choice(catalog.products[item.noun].purposes)
    reason = rng.choice(REASONS).format(purpose=purpose, owned=owned.noun, a=article(owned.noun))
    prompt = template.format(history=join(rng, names))
    as_json = rng.random() < 0.15
    if as_json:
        prompt = prompt + ("" if prompt[-1] in ".?" else ".") + rng.choice(JSON_SUFFIXES)
        answer = json.dumps({"item": item.name, "reason": reason.removeprefix("because ")})
    else:
        answer = f"{item.name}, {reason}."
    facts = {"bought": [entry.noun for entry in history], "json": as_json, "noun": item.noun}
    return Example("rec", prompt, answer, key, facts)
