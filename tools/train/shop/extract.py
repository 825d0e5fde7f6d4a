# SPDX-License-Identifier: Apache-2.0
"""Attribute extraction: free text about a product in, one JSON object out."""

import json

from .brands import COLOURS, SYLLABLES
from .example import Example, maybe_invented, sentence

INTRODUCTIONS = (
    "Extract the attributes as JSON.",
    "Extract the product attributes as JSON.",
    "Extract to JSON.",
    "Turn this text into JSON.",
    "Return the attributes as a JSON object.",
    "Which product is this? Answer in JSON.",
    "JSON attributes, please.",
)
TEXTS = (
    "Selling my {colour}{material}{noun}{by_brand}{for_price}.",
    "For sale: {brand}{colour}{material}{noun}{comma_price}.",
    "Looking for a good {noun}? Ours{by_brand} is {made}{comma_price}.",
    "We just got a new {noun}{by_brand}. It is {made}{and_costs}.",
    "New in stock: the {brand}{noun}, {made}{comma_price}.",
    "Our {brand}{noun} is {made}{and_costs}.",
    "Nearly new {brand}{colour}{material}{noun}, used twice{comma_price}.",
    "I would like to return the {brand}{colour}{material}{noun} that I bought{for_price}.",
    "My sister gave me a {colour}{material}{noun}{by_brand}. She paid {price}.",
    "The {noun} arrived today: {made}{by_brand}{comma_price}.",
    "Only this week{for_price}: the {brand}{colour}{material}{noun}.",
    "Please reserve one {noun}{by_brand}, {made}{for_price}.",
    "Hello, do you still have the {brand}{colour}{material}{noun}{for_price}? I saw it last week.",
)
KEYS = ("product", "category", "brand", "colour", "material", "price")


def price_text(rng, cents):
    """A price as people write it, and the number it stands for."""
    number = f"{cents / 100:.2f}" if cents % 100 else str(cents // 100)
    return rng.choice(("{} euros", "EUR {}", "€{}", "{} EUR", "£{}", "${}", "{} pounds")).format(number), float(number)


def made_of(colour, material):
    """The predicate that names colour and material, whichever are given."""
    if colour and material:
        return f"{colour} and made of {material}"
    if material:
        return f"made of {material}"
    return f"{colour}" if colour else "as good as new"


def make(rng, catalog, held_out):
    """Returns one extraction job; attributes that the text leaves out are null."""
    item = rng.choice(catalog.test_items if held_out else catalog.train_items)
    product = catalog.products[item.noun]
    brand = maybe_invented(rng, item.brand, SYLLABLES, 0.35) if rng.random() < 0.85 else None
    colour = (rng.choice(COLOURS) if rng.random() < 0.4 else item.colour) if rng.random() < 0.8 else None
    material = (rng.choice(product.materials) if rng.random() < 0.4 else item.material) if rng.random() < 0.75 else None
    cents = rng.choice((rng.randint(2, 180) * 100, rng.randint(200, 19999), rng.randint(2, 200) * 100 - 10))
    price, number = price_text(rng, cents)
    template = rng.choice(TEXTS)
    if rng.random() < 0.25 and "{price}" not in template:
        price = number = None
    text = template.format(
        noun=item.noun,
        brand=f"{brand} " if brand else "",
        by_brand=rng.choice((f" by {brand}", f" from {brand}")) if brand else "",
        colour=f"{colour} " if colour else "",
        material=f"{material} " if material else "",
        made=made_of(colour, material),
        price=price,
        for_price=f" for {price}" if price else "",
        comma_price=f", {price}" if price else "",
        and_costs=f" and costs {price}" if price else "",
    )
    values = (item.noun, item.category, brand, colour, material, number)
    if number is not None and number == int(number):
        values = values[:-1] + (int(number),)
    record = dict(zip(KEYS, values))
    answer = json.dumps(record)
    if number is not None and number != int(number):
        answer = answer.replace(f'"price": {number}', f'"price": {number:.2f}')
    text = sentence(text)
    prompt = rng.choice(INTRODUCTIONS) + rng.choice((" ", "\n")) + text
    if rng.random() < 0.1:
        prompt = text + "\n" + rng.choice(INTRODUCTIONS)
    return Example("extract", prompt, answer, item.name, record)
