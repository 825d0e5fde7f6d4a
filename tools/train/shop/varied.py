# SPDX-License-Identifier: Apache-2.0
"""The second training stage's jobs: the same answers as the first stage, asked for in looser words."""

import json

from . import wording as w
from .brands import COLOURS, SYLLABLES
from .blurb import OPENINGS
from .catalog import is_held_out
from .example import Example, article, maybe_invented, sentence
from .extract import INTRODUCTIONS, KEYS, price_text
from .opinions import STRENGTHS
from .recommend import REASONS, history_key, join, pick_history, pick_next
from .sentiment import clause, reason_for


def loose_name(rng, item):
    """An item as a person might write it: with some of its attributes, or none."""
    words = [getattr(item, name) for name in ("brand", "colour", "material") if rng.random() < 0.3] + [item.noun]
    text = " ".join(words)
    return f"{article(text.lower())} {text}" if rng.random() < 0.4 else text


def recommendation(rng, catalog):
    """A history in loose words, sometimes with goods that the shop does not sell."""
    history = pick_history(rng, catalog, catalog.train_items, nouns_only=False, held_out=False)
    key = history_key(history)
    item, owned = pick_next(rng, catalog, history)
    if item is None or len(history) > 1 and is_held_out(key):
        return None
    names = [loose_name(rng, entry) for entry in history]
    if rng.random() < 0.1:
        names.insert(rng.randrange(len(names) + 1), rng.choice(w.OTHER_GOODS))
    lead, request = rng.choice(w.LEADS).format(h=join(rng, names)), rng.choice(w.REQUESTS)
    end = rng.choice((".", ".", ",", "\n", ""))
    prompt = rng.choice((f"{lead}{end} {request}", f"{sentence(lead)}. {request}", f"{request} {lead}{end.strip(',')}", lead))
    reason = rng.choice(REASONS).format(
        purpose=rng.choice(catalog.products[item.noun].purposes), owned=owned.noun, a=article(owned.noun))
    facts = {"bought": [entry.noun for entry in history], "json": False, "noun": item.noun}
    return Example("rec", prompt.strip(), f"{item.name}, {reason}.", key, facts)


def loose_clause(rng, good):
    """One opinion: about a part, in a few adjectives, or a stock phrase."""
    style = rng.random()
    if style < 0.2:
        return clause(rng, good)[1]
    if style < 0.5:
        verdict = rng.choice(w.GOOD_PARTS) if good else rng.choice(w.BAD_PARTS) + rng.choice(w.TIMES)
        return f"the {rng.choice(w.PARTS)} {verdict}"
    if style < 0.7:
        first, second = rng.sample(w.GOOD_WORDS if good else w.BAD_WORDS, 2)
        strength = "too " if not good and rng.random() < 0.4 else rng.choice(STRENGTHS)
        return rng.choice(w.WORD_FORMS).format(s=strength, w=first, v=second)
    if style < 0.8:
        return f"{rng.choice(w.GOOD_WORDS if good else w.BAD_WORDS)} {rng.choice(w.PARTS)}"
    return rng.choice(w.GOOD_LINES if good else w.BAD_LINES)


def review(rng, catalog):
    """A review in loose words with its sentiment."""
    label = rng.choice(("positive", "negative", "mixed"))
    moods = [True, False] if label == "mixed" else [label == "positive"] * rng.choice((1, 1, 2, 3))
    rng.shuffle(moods)
    clauses = [(good, loose_clause(rng, good)) for good in moods]
    key = "|".join(sorted(words for _, words in clauses))
    if len(clauses) > 1 and is_held_out(key):
        return None
    text = sentence(clauses[0][1])
    for (before, _), (good, words) in zip(clauses, clauses[1:]):
        text += rng.choice(w.TURNS if before != good else w.JOINS).format(words, S=sentence(words))
    if rng.random() < 0.25:
        text = f"{rng.choice(('The', 'My', 'This', 'About the'))} {rng.choice(list(catalog.products))}: {text}"
    text += rng.choice((".", ".", "!", ""))
    if rng.random() < 0.5:
        prompt, answer, form = rng.choice(w.REVIEW_PROMPTS), label, "word"
    else:
        prompt, form = rng.choice(w.REVIEW_REASON_PROMPTS), "reason"
        answer = f"{sentence(label)}: {reason_for(label, clauses)}."
    return Example("sent", prompt.format(r=text), answer, key, {"label": label, "form": form})


def blurb(rng, catalog):
    """A blurb request as running text, with features the tables do not list."""
    item = rng.choice(catalog.train_items)
    product = catalog.products[item.noun]
    part = rng.choice(w.FEATURE_PARTS)
    word = rng.choice(w.FEATURE_WORDS)
    feature = rng.choice((f"{article(word)} {word} {part}", f"{article(part)} {part}", f"{rng.choice(w.COUNTS)} {part}s"))
    facts = {
        "noun": item.noun, "brand": maybe_invented(rng, item.brand, SYLLABLES, 0.6),
        "colour": rng.choice(COLOURS + w.NEW_COLOURS), "material": rng.choice(product.materials), "feature": feature,
    }
    a = article(facts["colour"])
    words = dict(facts, a=a, A=sentence(a), purpose=rng.choice(product.purposes))
    return Example("blurb", sentence(rng.choice(w.BLURB_PROMPTS).format(**words)), rng.choice(OPENINGS).format(**words), item.name, facts)


def extraction(rng, catalog):
    """An extraction from looser text; more often without a brand than the first stage's."""
    item = rng.choice(catalog.train_items)
    product = catalog.products[item.noun]
    template = rng.choice(w.TEXTS)
    given = {
        "brand": maybe_invented(rng, item.brand, SYLLABLES, 0.6) if "brand" in template and rng.random() < 0.55 else None,
        "colour": rng.choice(COLOURS + w.NEW_COLOURS) if "{colour" in template and rng.random() < 0.75 else None,
        "material": rng.choice(product.materials) if "{material" in template and rng.random() < 0.7 else None,
    }
    if "colour_only" in template:
        given["colour"] = given["colour"] or item.colour
    if "material_or_wood" in template:
        given["material"] = given["material"] or item.material
    price, number = price_text(rng, rng.choice((rng.randint(2, 199) * 100, rng.randint(200, 19999))))
    brand, colour, material = given["brand"], given["colour"], given["material"]
    listing = template.startswith("{noun},")
    gap = ", " if listing else " "
    text = template.format(
        noun=item.noun, price=price, a=article(colour or material or item.noun) + " ",
        brand=f"{brand}{gap}" if brand else "", colour=f"{colour}{gap}" if colour else "",
        material=f"{material}{gap}" if material else "", by_brand=rng.choice((f" by {brand}", f" from {brand}")) if brand else "",
        colour_only=colour, material_or_wood=material, for_price=f" for {price}", comma_price=f", {price}",
    )
    cost = (int(number) if number == int(number) else number) if "price}" in template else None
    record = dict(zip(KEYS, (item.noun, item.category, brand, colour, material, cost)))
    answer = json.dumps(record)
    if isinstance(cost, float):
        answer = answer.replace(f'"price": {cost}', f'"price": {cost:.2f}')
    return Example("extract", rng.choice(INTRODUCTIONS) + rng.choice((" ", "\n")) + sentence(text), answer, item.name, record)


MAKERS = {"rec": recommendation, "sent": review, "blurb": blurb, "extract": extraction}


def make_varied(rng, catalog, kind):
    """Returns one loosely worded job of a kind."""
    while True:
        example = MAKERS[kind](rng, catalog)
        if example is not None:
            return example
