# SPDX-License-Identifier: Apache-2.0
"""Builds the catalogue: every product of every brand that serves its category, in the brand's colours.

Which items exist follows from a few rules (brand -> categories, palette and
material choice), so a small model can learn them and name items that are sold.
"""

from dataclasses import dataclass
import json
import zlib

from .brands import COLOURS, NAMES
from .products import CATEGORIES

BRANDS_PER_CATEGORY = 6
PALETTE_SIZE = 4


@dataclass(frozen=True)
class Product:
    """A kind of thing sold, before brand, colour and material are chosen."""

    noun: str
    category: str
    materials: tuple
    purposes: tuple
    complements: tuple


@dataclass(frozen=True)
class Item:
    """One catalogue entry; its name spells out all of its attributes."""

    item_id: str
    brand: str
    colour: str
    material: str
    noun: str
    category: str

    @property
    def name(self):
        """The item's name as customers and the model write it."""
        return f"{self.brand} {self.colour} {self.material} {self.noun}"


def is_held_out(key, one_in=12):
    """Says whether a key belongs to the evaluation split; stable across runs and machines."""
    return zlib.crc32(key.encode()) % one_in == 0


def load_products():
    """Returns {noun: Product} for every row of the product tables."""
    products = {}
    for category, rows in CATEGORIES.items():
        for noun, materials, purposes, complements in rows:
            products[noun] = Product(
                noun, category, tuple(materials.split()), tuple(purposes.split("/")), tuple(complements.split(","))
            )
    return products


def brands_of(category):
    """Brands serving a category: a fixed stride over the names, so each brand has about three."""
    first = 2 * list(CATEGORIES).index(category)
    return [NAMES[(first + 5 * step) % len(NAMES)] for step in range(BRANDS_PER_CATEGORY)]


def palette_of(brand):
    """The colours a brand sells."""
    first = 3 * NAMES.index(brand)
    return [COLOURS[(first + 7 * step) % len(COLOURS)] for step in range(PALETTE_SIZE)]


class Catalog:
    """All items, with the look-ups that generating and checking answers need."""

    def __init__(self):
        self.products = load_products()
        self.items = []
        for product in self.products.values():
            for brand in brands_of(product.category):
                material = product.materials[NAMES.index(brand) % len(product.materials)]
                for colour in palette_of(brand):
                    item_id = f"item-{len(self.items) + 1:04d}"
                    self.items.append(Item(item_id, brand, colour, material, product.noun, product.category))
        self.by_name = {item.name: item for item in self.items}
        self.by_noun = {}
        for item in self.items:
            self.by_noun.setdefault(item.noun, []).append(item)
        self.train_items = [item for item in self.items if not is_held_out(item.name)]
        self.test_items = [item for item in self.items if is_held_out(item.name)]

    def write(self, path):
        """Writes the catalogue as JSON lines."""
        with open(path, "w", encoding="utf-8") as out:
            for item in self.items:
                row = {"item_id": item.item_id, "name": item.name, "category": item.category}
                out.write(json.dumps(row) + "\n")
