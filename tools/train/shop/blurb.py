# SPDX-License-Identifier: Apache-2.0
"""One-line product blurbs written from a list of attributes."""

from .brands import COLOURS, FEATURES, SYLLABLES
from .example import Example, article, maybe_invented, sentence

INTRODUCTIONS = (
    "Write a one-line blurb.",
    "Write a short product blurb.",
    "Write a blurb for this product.",
    "Write one sentence for the shop page.",
    "Describe this product in one line.",
    "Product description, one sentence:",
    "Blurb:",
)
OPENINGS = (
    "{A} {colour} {material} {noun} from {brand} that {purpose}, with {feature}.",
    "The {colour} {material} {noun} from {brand} {purpose} and comes with {feature}.",
    "This {colour} {material} {noun} by {brand} {purpose}; it has {feature}.",
    "Meet the {brand} {noun} in {colour} {material}: it {purpose} and has {feature}.",
    "With {feature}, the {colour} {material} {noun} from {brand} {purpose}.",
    "Made of {material} in {colour}, the {brand} {noun} {purpose}, with {feature}.",
    "{brand} brings you {a} {colour} {material} {noun} with {feature} that {purpose}.",
)


def attribute_list(rng, facts):
    """Writes the attributes in one of the forms the shop's systems send."""
    pairs = [("product", facts["noun"]), ("brand", facts["brand"]), ("colour", facts["colour"]),
             ("material", facts["material"]), ("feature", facts["feature"])]
    style = rng.random()
    if style < 0.2:
        return ", ".join(value for _, value in pairs)
    if style < 0.4:
        head = f"{facts['brand']} {facts['colour']} {facts['material']} {facts['noun']}"
        return f"{head}, {facts['feature']}"
    tail = pairs[1:]
    if rng.random() < 0.4:
        rng.shuffle(tail)
    mark, gap = rng.choice(((": ", "; "), (": ", ", "), ("=", "; "), (": ", "\n")))
    return gap.join(f"{name}{mark}{value}" for name, value in pairs[:1] + tail)


def make(rng, catalog, held_out):
    """Returns one blurb job."""
    item = rng.choice(catalog.test_items if held_out else catalog.train_items)
    product = catalog.products[item.noun]
    facts = {
        "noun": item.noun,
        "brand": maybe_invented(rng, item.brand, SYLLABLES, 0.3),
        "colour": rng.choice(COLOURS) if rng.random() < 0.3 else item.colour,
        "material": rng.choice(product.materials) if rng.random() < 0.3 else item.material,
        "feature": rng.choice(rng.choice(list(FEATURES.values())) if rng.random() < 0.2 else FEATURES[item.category]),
    }
    joint = rng.choice((" ", "\n"))
    prompt = rng.choice(INTRODUCTIONS) + joint + attribute_list(rng, facts)
    a = article(facts["colour"])
    words = dict(facts, a=a, A=sentence(a), purpose=rng.choice(product.purposes))
    return Example("blurb", prompt, rng.choice(OPENINGS).format(**words), item.name, facts)
