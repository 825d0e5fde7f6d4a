#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the documentation names exists: files and folders of the tree, relative links, verbs, configuration keys.

usage: check_docs.py SOURCE_DIR [BUILD_DIR]
"""
import pathlib
import re
import subprocess
import sys

PAGES = ("README.md", "docs", "examples")
ROOMS = ("base", "config", "engine", "kvtier", "worker", "tests", "tools", "docs", "docker", "examples")
QUOTED = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
PATH = re.compile(r"(?:%s)/[\w./-]*" % "|".join(ROOMS))
MADE_LATER = ("docs/adr/NNNN-title.md",)


def pages(source):
    for name in PAGES:
        path = source / name
        yield from [path] if path.is_file() else sorted(path.rglob("*.md"))


def check_page(source, page, verbs, keys):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S).replace("\n", " ")  # a quotation may span two lines
    where = page.relative_to(source)
    for quoted in QUOTED.findall(text):
        for path in PATH.findall(quoted):
            if "*" in quoted or "<" in quoted or path in MADE_LATER:
                continue
            if not (source / path.rstrip("/.")).exists():
                yield "%s names %s, which does not exist" % (where, path)
        verb = re.match(r"(?:\./|build/release/)?millrace ([a-z]+)", quoted)
        if verb and verbs and verb.group(1) not in verbs:
            yield "%s names the verb %s, which millrace does not have" % (where, verb.group(1))
        key = re.fullmatch(r"(?:--)?([a-z]+\.[a-z_]+)(?:=\S*)?", quoted)
        if key and key.group(1).split(".")[0] in {known.split(".")[0] for known in keys} and key.group(1) not in keys:
            if not key.group(1).endswith((".safetensors", ".jsonc")):
                yield "%s names the key %s, which config_schema.h does not have" % (where, key.group(1))
    for link in LINK.findall(text):
        if "://" not in link and not (page.parent / link).exists():
            yield "%s links to %s, which does not exist" % (where, link)


def main():
    source = pathlib.Path(sys.argv[1]).resolve()
    schema = (source / "config/config_schema.h").read_text()
    keys = {"%s.%s" % pair for pair in re.findall(r"X\(\s*(\w+),\s*(\w+),", schema)}
    binary = pathlib.Path(sys.argv[2]) / "millrace" if len(sys.argv) > 2 else None
    verbs = set()
    if binary and binary.exists():
        listing = subprocess.run([str(binary), "--help"], capture_output=True, text=True).stdout
        verbs = set(re.findall(r"^  ([a-z]+) ", listing, re.M))
    found = list(pages(source))
    faults = [fault for page in found for fault in check_page(source, page, verbs, keys)]
    print("\n".join(faults) or "%d pages name only what exists" % len(found))
    return 1 if faults or not found else 0


if __name__ == "__main__":
    sys.exit(main())
