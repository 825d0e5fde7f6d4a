# SPDX-License-Identifier: Apache-2.0
"""Tests of the generator; standard library only: python -m unittest discover tools/train."""

import json
from pathlib import Path
import random
import sys
import unittest

sys.path.insert(0, str(Path(__file__).parent))

from checks import CHECKS  # noqa: E402
from make_jobs import make_job  # noqa: E402
from shop.catalog import Catalog, is_held_out  # noqa: E402
from shop.jobs import JOB_KINDS, make_example, training_conversation  # noqa: E402
from shop.varied import make_varied  # noqa: E402


class GeneratorTest(unittest.TestCase):
    """The generator's promises, on which training and evaluation rest."""

    @classmethod
    def setUpClass(cls):
        cls.catalog = Catalog()

    def test_names_are_unique_and_complements_are_sold(self):
        self.assertEqual(len(self.catalog.by_name), len(self.catalog.items))
        for product in self.catalog.products.values():
            for noun in product.complements:
                self.assertIn(noun, self.catalog.by_noun)

    def test_same_seed_same_examples(self):
        draws = [[training_conversation(rng, self.catalog) for _ in range(50)] for rng in (random.Random(3), random.Random(3))]
        self.assertEqual(*draws)

    def test_reference_answers_pass_their_checks(self):
        rng = random.Random(4)
        for kind in JOB_KINDS:
            for _ in range(200):
                drawn = make_example(rng, self.catalog, kind, held_out=rng.random() < 0.5)
                for example in (drawn, make_varied(rng, self.catalog, kind)):
                    marks = CHECKS[kind](example.answer, example.facts, self.catalog)
                    self.assertTrue(all(marks.values()), (example, marks))

    def test_training_never_names_a_held_out_item(self):
        rng = random.Random(5)
        held_out = [item.name for item in self.catalog.test_items]
        for _ in range(200):
            for example in (make_example(rng, self.catalog, "rec", held_out=False), make_varied(rng, self.catalog, "rec")):
                self.assertFalse([name for name in held_out if name in example.prompt + example.answer])
                self.assertFalse("|" in example.key and is_held_out(example.key))

    def test_held_out_keys(self):
        rng = random.Random(6)
        for kind in ("blurb", "extract", "sent"):
            self.assertTrue(is_held_out(make_example(rng, self.catalog, kind, held_out=True).key))

    def test_jobs_are_one_line_each(self):
        job = make_job(random.Random(7), self.catalog, 17, "shop-qwen3")
        self.assertNotIn("\n", json.dumps(job))
        self.assertTrue(job["custom_id"].endswith("-00017"))


if __name__ == "__main__":
    unittest.main()
