# SPDX-License-Identifier: Apache-2.0
"""Judges one answer of each kind against the facts its prompt was made from; returns named 0/1 marks."""

import json


def parse_object(text):
    """The JSON object in a text, or None."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def check_recommendation(answer, facts, catalog):
    """Does the answer name an item on sale that complements what was bought?"""
    text = answer
    if facts["json"]:
        record = parse_object(answer) or {}
        text = f"{record.get('item')}, because {record.get('reason')}."
    name, found, reason = text.partition(", because ")
    item = catalog.by_name.get(name)
    complements = {noun for bought in facts["bought"] for noun in catalog.products[bought].complements}
    categories = {catalog.products[noun].category for noun in complements}
    wanted = catalog.products[item.noun].purposes if item else ()
    return {
        "has_form": bool(found),
        "item_exists": item is not None,
        "category_complementary": item is not None and item.category in categories,
        "product_complementary": item is not None and item.noun in complements,
        "not_yet_bought": item is not None and item.noun not in facts["bought"],
        "reason_fits_item": any(purpose in reason for purpose in wanted),
    }


def check_blurb(answer, facts, catalog):
    """Does the blurb mention every attribute, in one line?"""
    lower = answer.lower()
    marks = {f"mentions_{name}": value.lower() in lower for name, value in facts.items()}
    marks["mentions_all"] = all(marks.values())
    marks["one_line"] = "\n" not in answer
    return marks


def check_sentiment(answer, facts, catalog):
    """Is the label right, in whichever form was asked for?"""
    label = answer
    if facts["form"] == "reason":
        label = answer.partition(":")[0].lower()
    elif facts["form"] == "json":
        label = (parse_object(answer) or {}).get("sentiment")
    return {"label": label == facts["label"]}


def check_extraction(answer, facts, catalog):
    """Is the answer valid JSON, and how many of its fields are right?"""
    record = parse_object(answer)
    marks = {"valid_json": record is not None, "exact": record == facts}
    for name, value in facts.items():
        marks[f"field_{name}"] = record is not None and name in record and record[name] == value
    return marks


CHECKS = {"rec": check_recommendation, "blurb": check_blurb, "sent": check_sentiment, "extract": check_extraction}
