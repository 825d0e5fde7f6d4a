# SPDX-License-Identifier: Apache-2.0
"""The shop of the example: its catalogue, and the jobs that ask for one recommendation per item. Producer and
consumer share nothing but this and the custom_id."""
import json
import pathlib

CATALOG = pathlib.Path(__file__).resolve().parent / "catalog.jsonl"


def catalog():
    """{item_id: item}"""
    return {item["item_id"]: item for item in map(json.loads, CATALOG.read_text().splitlines())}


def jobs(count, version=None):
    """OpenAI Batch lines; the custom_id names the item that the customer owns. With a version of the published
    catalogue, the answer is another item of it and nothing else."""
    items = list(catalog().values())
    for item in items[::max(1, len(items) // count)][:count]:
        constraint = {"structured_outputs": {"catalog": version, "exclude": [item["item_id"]]}} if version else {}
        yield {"custom_id": "rec-" + item["item_id"], "method": "POST", "url": "/v1/chat/completions", "body": {
            "model": "shop-qwen3", "max_tokens": 64, "temperature": 0, **constraint, "messages": [
                {"role": "user", "content": "Recommend a product to someone who owns %s." % item["name"]}]}}
