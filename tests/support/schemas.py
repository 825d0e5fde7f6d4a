# SPDX-License-Identifier: Apache-2.0
"""Fifty schemas as people write them, and patterns, choices and grammars, for tests/integration/test_structured.py."""
import re


def record(required=None, **properties):
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required,
            "additionalProperties": False}


def text(**more):
    return {"type": "string", **more}


def whole(**more):
    return {"type": "integer", **more}


def number(**more):
    return {"type": "number", **more}


def several(items, **more):
    return {"type": "array", "items": items, **more}


def one_of(*values):
    return {"enum": list(values)}


SHORT = text(maxLength=12)
YES_NO = {"type": "boolean"}
ADDRESS = record(street=SHORT, zip=text(pattern="^[0-9]{5}$"), country=one_of("DE", "FR", "PL"))

SCHEMAS = [
    record(name=SHORT, age=whole(minimum=0, maximum=130)),
    record(sku=text(pattern="^[A-Z]{3}-[0-9]{4}$"), price=number(minimum=0, maximum=10000), in_stock=YES_NO),
    record(title=SHORT, tags=several(one_of("new", "sale", "eco"), minItems=1, maxItems=3)),
    record(customer=record(name=SHORT, address=ADDRESS), total=number(minimum=0, maximum=1000000)),
    several(record(item=SHORT, count=whole(minimum=1, maximum=9)), minItems=1, maxItems=4),
    one_of("red", "green", "blue"),
    one_of("größer", "小さい", "naïve", "😀", "tab\there", "quote\"d", "back\\slash"),
    {"const": {"fixed": [1, 2.5, None, True, "x"]}},
    whole(minimum=-273, maximum=5000),
    whole(exclusiveMinimum=10, exclusiveMaximum=20),
    number(minimum=-1, maximum=1),
    number(exclusiveMinimum=0, exclusiveMaximum=1000),
    text(minLength=5, maxLength=20),
    text(pattern="^(Mr|Mrs|Dr)\\. [A-Z][a-z]{2,9}$"),
    text(pattern="^\\d{4}/\\d{2}$"),
    text(pattern="^[äöüß]{3,6}$"),
    text(pattern="^\\S+@\\S{2,5}$", ),
    text(pattern="^[^\\w]{2,4}$"),
    text(format="date"),
    text(format="time"),
    text(format="date-time"),
    text(format="uuid"),
    text(format="email"),
    text(format="ipv4"),
    YES_NO,
    {"type": "null"},
    {"type": ["integer", "null"], "minimum": 3, "maximum": 77},
    {"type": ["string", "boolean"], "maxLength": 8},
    {"anyOf": [whole(minimum=0, maximum=9), text(pattern="^none$")]},
    {"anyOf": [record(circle=number(minimum=0, maximum=9)), record(square=number(minimum=0, maximum=9))]},
    {"oneOf": [record(kind={"const": "card"}, digits=text(pattern="^[0-9]{16}$")),
               record(kind={"const": "iban"}, iban=text(pattern="^DE[0-9]{20}$"))]},
    {"allOf": [record(a=whole(minimum=1, maximum=3))]},
    {"$defs": {"point": record(x=whole(minimum=0, maximum=99), y=whole(minimum=0, maximum=99))},
     **several({"$ref": "#/$defs/point"}, minItems=2, maxItems=4)},
    {"$defs": {"tree": record(required=["value"], value=whole(minimum=0, maximum=9),
                              children=several({"$ref": "#/$defs/tree"}, maxItems=2))}, "$ref": "#/$defs/tree"},
    {"definitions": {"size": one_of("S", "M", "L")}, **record(size={"$ref": "#/definitions/size"}, count=whole(minimum=1, maximum=5))},
    {"type": "array", "prefixItems": [one_of("lat", "lon"), number(minimum=-90, maximum=90)], "items": False, "minItems": 2},
    {"type": "array", "prefixItems": [YES_NO], "items": whole(minimum=0, maximum=3), "minItems": 1, "maxItems": 5},
    several(several(whole(minimum=0, maximum=1), minItems=3, maxItems=3), minItems=3, maxItems=3),
    several(text(maxLength=4), maxItems=6),
    record(required=["id"], id=whole(minimum=1, maximum=999), note=SHORT, flag=YES_NO, score=number(minimum=0, maximum=1)),
    record(required=[], a=YES_NO, b=YES_NO, c=YES_NO),
    {"type": "object", "additionalProperties": whole(minimum=0, maximum=9), "properties": {"total": whole(minimum=0, maximum=9)},
     "required": ["total"]},
    {"type": "object", "properties": {"données": SHORT, "値": whole(minimum=0, maximum=99), "a b\"c": YES_NO},
     "required": ["données", "値", "a b\"c"]},
    record(nested=record(deep=record(deeper=record(deepest=one_of(1, 2, 3))))),
    record(steps=several(record(explanation=SHORT, output=SHORT), minItems=1, maxItems=3), final_answer=SHORT),
    record(sentiment=one_of("positive", "negative", "neutral"), confidence=number(minimum=0, maximum=1)),
    record(function=one_of("get_weather"), arguments=record(city=SHORT, unit=one_of("C", "F"))),
    {"title": "Order", "description": "as Pydantic writes it", "type": "object", "$defs": {
        "Line": {"title": "Line", "type": "object", "properties": {
            "sku": {"title": "Sku", "type": "string", "maxLength": 8},
            "amount": {"title": "Amount", "type": "integer", "default": 1, "minimum": 1, "maximum": 20}}, "required": ["sku"]}},
     "properties": {"lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}, "maxItems": 3, "title": "Lines"},
                    "comment": {"anyOf": [{"type": "string", "maxLength": 10}, {"type": "null"}], "default": None}},
     "required": ["lines"]},
    record(matrix=several(several(number(minimum=-5, maximum=5), minItems=2, maxItems=2), minItems=2, maxItems=2), unit=one_of(None, "m")),
    record(when=text(format="date"), who=several(text(pattern="^[A-Z][a-z]{1,7}$"), minItems=1, maxItems=3),
           where={"anyOf": [ADDRESS, {"type": "null"}]}),
]
assert len(SCHEMAS) == 50

PATTERNS = [
    r"[a-z]{3,8}", r"\d{1,3}(\.\d{1,3}){3}", r"(yes|no|maybe)( again)?", r"[A-Z]\w{2,5}\W", r"#[0-9a-fA-F]{6}",
    r"\S{1,10}\s\S{1,10}", r"[^aeiou\n]{4,9}", r"(?:ab|cd)*e", r"-?(0|[1-9]\d{0,5})(\.\d{1,2})?", r"é+ü?[α-ω]{2}", r".{5,15}",
    r"(?P<key>[a-z]{1,4})=(\"[^\"\\\n]{0,9}\"|\d{1,5})", r"\$\d{1,4}\.\d\d", r"[\d\-]{7}", r"a{3}|b{2,}c",
]

CHOICES = [["positive", "negative", "neutral"], ["a", "ab", "abc"], ["größer", "größe", "😀😀"], ["only"],
           ["item %d" % i for i in range(500)]]


def check_sum(answer):
    assert re.fullmatch(r"\d{1,3}( [+*-] \d{1,3})*", answer), answer


def check_brackets(answer):
    depth = 0
    for letter in answer:
        depth += {"(": 1, ")": -1}[letter]
        assert depth >= 0, answer
    assert depth == 0 and answer, answer


def check_query(answer):
    assert re.fullmatch(r"SELECT (\*|[a-z]{1,8}(, [a-z]{1,8})*) FROM (orders|items)( WHERE [a-z]{1,8} = \d{1,4})?;", answer), answer


GRAMMARS = [
    ('root ::= number (" " op " " number)*  # a sum\nop ::= "+" | "-" | "*"\nnumber ::= [0-9]{1,3}\n', check_sum),
    ('root ::= pair+\npair ::= "(" pair? ")"', check_brackets),
    ('root ::= "SELECT " columns " FROM " ("orders" | "items") where? ";"\ncolumns ::= "*" | name (", " name)*\n'
     'where ::= " WHERE " name " = " [0-9]{1,4}\nname ::= [a-z]{1,8}', check_query),
]
