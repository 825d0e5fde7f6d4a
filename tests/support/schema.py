# SPDX-License-Identifier: Apache-2.0
"""The part of JSON Schema that docs/formats uses; an unknown keyword is an error, so nothing is skipped unseen."""
import re

TYPES = {"string": str, "object": dict, "array": list, "boolean": bool, "null": type(None)}
IGNORED = {"$schema", "title"}


def _is_type(value, name):
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def _object(value, schema, where):
    properties, extra = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name in schema.get("required", ()):
        if name not in value:
            return "%s lacks %s" % (where, name)
    for name, member in value.items():
        part = properties.get(name, extra)
        if part is False:
            return "%s has %s, which is not described" % (where, name)
        found = check(member, part, "%s.%s" % (where, name)) if isinstance(part, dict) else None
        if found:
            return found
    return None


def _keyword(key, wanted, value, schema, where):
    tests = {
        "type": lambda: _is_type(value, wanted),
        "const": lambda: value == wanted,
        "enum": lambda: value in wanted,
        "pattern": lambda: re.search(wanted, value) is not None,
        "minimum": lambda: value >= wanted,
        "maximum": lambda: value <= wanted,
        "exclusiveMinimum": lambda: value > wanted,
        "minLength": lambda: len(value) >= wanted,
        "maxLength": lambda: len(value) <= wanted,
        "minItems": lambda: len(value) >= wanted,
    }
    if key in tests:
        return None if tests[key]() else "%s: %s %r does not hold for %.200r" % (where, key, wanted, value)
    if key == "anyOf":
        faults = [check(value, part, where) for part in wanted]
        return None if None in faults else "%s: no alternative holds: %s" % (where, faults)
    if key == "items":
        return next(filter(None, (check(v, wanted, "%s[%d]" % (where, i)) for i, v in enumerate(value))), None)
    if key in ("properties", "required", "additionalProperties"):
        return _object(value, schema, where)
    raise ValueError("schema keyword %s is not known here" % key)


def check(value, schema, where="$"):
    """None, or the first thing that is wrong."""
    for key, wanted in schema.items():
        if key not in IGNORED:
            found = _keyword(key, wanted, value, schema, where)
            if found:
                return found
    return None
