#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""config/worker.jsonc and docs/CONFIGURATION.md say what config/config_schema.h says.

usage: check_config.py SOURCE_DIR [BUILD_DIR]     compare; exit 1 when one is out of date
       check_config.py SOURCE_DIR --write         write both from the table
"""
import pathlib
import re
import sys

ROW = re.compile(r"X\(\s*(\w+),\s*(\w+),\s*([A-Z]+),\s*(\"[^\"]*\"|[\w.-]+),\s*(\"[^\"]*\"|[\w.-]+),\s*"
                 r"([\w.-]+),\s*\"([^\"]*)\"\s*\)")
TYPE_NAMES = {"STRING": "text", "SECRET": "secret", "ENUM": "word", "INT": "integer", "NUMBER": "number",
              "BOOL": "true or false", "STRINGS": "list of texts", "TOPICS": "list of {name, weight}",
              "MAP": "object of texts"}
INTRODUCTIONS = {
    "model": "What is served",
    "engine": "How it is computed; the answers do not depend on these (docs/ARCHITECTURE.md, reproducibility)",
    "kafka": "Where jobs come from and results go",
    "results": "The result records",
    "limits": "Bounds of one job and of what is in flight",
    "stream": "Live tokens over ZeroMQ",
    "proxy": "The stream proxy's side of the workers; readers use the addresses of the stream section",
    "kvtier": "KV blocks shared between workers through Redis",
    "kv_events": "What is in the KV cache, told to routers on ZeroMQ as vLLM does (docs/formats/kv_events.md)",
    "catalogs": "Catalogues that jobs may be constrained to (docs/formats/catalog.md)",
    "http": "Metrics and health",
    "status_page": "The page for people on the HTTP port, read-only",
    "worker": "This process",
}


def rows(schema):
    text = schema.split("#define CONFIG_MODEL", 1)[1].split("#define CONFIG_SECTIONS", 1)[0]
    found = [tuple(part.strip('"') for part in match) for match in ROW.findall(text.replace("\\\n", "\n"))]
    if len(found) != len(re.findall(r"\bX\(\s*\w+,", text)):
        raise SystemExit("check_config: a row of config_schema.h has a shape that this script cannot read")
    return found


def json_default(kind, default):
    if kind in ("INT", "NUMBER", "BOOL"):
        return default
    if kind == "TOPICS":
        return "[%s]" % ", ".join('{"name": "%s", "weight": 1}' % name for name in default.split(","))
    if kind == "STRINGS":
        return "[%s]" % ", ".join('"%s"' % word for word in default.split(",") if word)
    return "{}" if kind == "MAP" else '"%s"' % default


def rule(kind, least, most):
    if kind == "ENUM":
        return least.replace("|", ", ")
    return "%s … %s" % (least, most) if kind in ("INT", "NUMBER") else ""


def sections(table):
    for name in dict.fromkeys(row[0] for row in table):
        yield name, [row for row in table if row[0] == name]


def worker_jsonc(table):
    out = ["// SPDX-License-Identifier: Apache-2.0",
           "// Every key of Millrace's configuration with its default. Written from config/config_schema.h by",
           "// tools/check_config.py --write. Copy what you change; unknown keys are errors.",
           "// The environment overrides the file (MILLRACE_<SECTION>_<KEY>), flags override both",
           "// (--section.key=value). `millrace worker -c FILE --print-config` shows what is in effect.",
           "{"]
    parts = list(sections(table))
    for index, (name, keys) in enumerate(parts):
        out += ["    // %s." % INTRODUCTIONS[name], '    "%s": {' % name]
        for at, (_, key, kind, default, least, most, text) in enumerate(keys):
            allowed = rule(kind, least, most)
            out.append("        // %s%s" % (text, " [%s]" % allowed if allowed else ""))
            out.append('        "%s": %s%s' % (key, json_default(kind, default), "," * (at + 1 < len(keys))))
        out.append("    }" + "," * (index + 1 < len(parts)))
    return "\n".join(out + ["}", ""])


def configuration_md(table):
    out = ["# Configuration", "",
           "One file of JSON with `//` and `/* */` comments (`config/worker.jsonc` is the commented reference),",
           "then the environment, then flags; the later wins. An unknown key, a wrong type or a value out of range",
           "stops the program with one sentence and exit code 78. `--print-config` prints every value in effect and",
           "its origin; secrets print as `***`.", "",
           "- Environment: `MILLRACE_<SECTION>_<KEY>`, e.g. `MILLRACE_KAFKA_GROUP_ID`. A secret may lie in a file:",
           "  `MILLRACE_KVTIER_PASSWORD_FILE=/run/secrets/redis`.",
           "- Flags: `--section.key=value`, e.g. `--engine.threads=2`.",
           "- Lists in the environment and in flags: `a,b`; topics `name:weight,name:weight`; objects",
           "  `name=value,name=value`; or the JSON form of the file.",
           "- `kafka.properties` takes any librdkafka property except those that Millrace sets itself, which are",
           "  refused by name.", "",
           "This page is written from `config/config_schema.h` by `tools/check_config.py --write`; a test keeps it",
           "current.", ""]
    for name, keys in sections(table):
        out += ["## %s" % name, "", INTRODUCTIONS[name] + ".", "",
                "| key | type | default | allowed | meaning |", "|---|---|---|---|---|"]
        for _, key, kind, default, least, most, text in keys:
            out.append("| `%s` | %s | `%s` | %s | %s |" % (
                key, TYPE_NAMES[kind], json_default(kind, default), rule(kind, least, most), text))
        out.append("")
    return "\n".join(out)


def main():
    source = pathlib.Path(sys.argv[1])
    table = rows((source / "config/config_schema.h").read_text())
    stale = 0
    for path, text in (("config/worker.jsonc", worker_jsonc(table)), ("docs/CONFIGURATION.md", configuration_md(table))):
        if "--write" in sys.argv:
            (source / path).write_text(text)
        elif not (source / path).is_file() or (source / path).read_text() != text:
            print("%s is out of date: run tools/check_config.py %s --write" % (path, source))
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
