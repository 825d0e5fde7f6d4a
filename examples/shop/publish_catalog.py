#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Publishes a version of the shop's catalogue for workers: writes DIRECTORY/NAME@VERSION.jsonl, whole or not at all.
Workers with catalogs.directory=DIRECTORY read it when a job first names it.

usage: publish_catalog.py DIRECTORY [shop@2026-11-23]"""
import json
import os
import pathlib
import sys

from shop import catalog


def publish(directory, name):
    path = pathlib.Path(directory) / (name + ".jsonl")
    if path.exists():
        raise SystemExit("%s exists: a version never changes, publish another one" % path)
    written = path.with_suffix(".new")
    written.write_text("".join(json.dumps({"item_id": item["item_id"], "text": item["name"]}) + "\n"
                               for item in catalog().values()))
    os.rename(written, path)
    return path


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    print(publish(sys.argv[1], (sys.argv[2:] or ["shop@2026-11-23"])[0]))
