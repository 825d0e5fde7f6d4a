#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes suite.jsonl from the official JSON Schema Test Suite (MIT licence), for tests/unit/test_grammar_schema.c.

    pip download --no-deps --no-binary :all: jsonschema==4.0.0 && tar xzf jsonschema-4.0.0.tar.gz
    tests/golden/schemas/make_suite.py jsonschema-4.0.0/json/tests

One line per schema: {"from", "schema", "cases": [[text, valid], ...]}. What is refused or narrowed is not said here but in the
test, by hand.
"""
import json
import os
import sys

USED = ("additionalProperties allOf anyOf boolean_schema const default enum exclusiveMaximum exclusiveMinimum "
        "infinite-loop-detection items maxItems maxLength maximum minItems minLength minimum oneOf pattern prefixItems "
        "properties required type optional/ecmascript-regex optional/non-bmp-regex optional/bignum "
        "optional/format/date optional/format/date-time optional/format/time optional/format/uuid optional/format/email "
        "optional/format/hostname optional/format/ipv4 optional/format/uri "
        "not if-then-else contains minContains maxContains multipleOf uniqueItems patternProperties propertyNames "
        "minProperties maxProperties dependentRequired dependentSchemas unevaluatedItems unevaluatedProperties").split()
OLDER = "items additionalItems ref definitions".split()  # of draft 7: lists of items, definitions


def groups(base):
    for draft, names in (("draft2020-12", USED + ["ref"]), ("draft7", OLDER)):
        for name in names:
            path = os.path.join(base, draft, name + ".json")
            with open(path, encoding="utf-8") as file:
                for group in json.load(file):
                    yield draft + "/" + name, group


def main():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "suite.jsonl"), "w", encoding="utf-8") as out:
        for name, group in groups(sys.argv[1]):
            cases = [[json.dumps(test["data"], ensure_ascii=False, separators=(",", ":")), test["valid"]]
                     for test in group["tests"]]
            out.write(json.dumps({"from": "%s: %s" % (name, group["description"]), "schema": group["schema"], "cases": cases},
                                 ensure_ascii=False, separators=(",", ":")) + "\n")


main()
