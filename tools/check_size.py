#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Functions of at most 70 lines, files of at most 800; exceptions are listed here. Prints the distribution.

usage: check_size.py SOURCE_DIR [BUILD_DIR]
"""
import json
import pathlib
import shutil
import statistics
import subprocess
import sys

MAX_FUNCTION_LINES, MAX_FILE_LINES, MAX_PARAMETERS = 70, 800, 5
FOLDERS = ("base", "config", "engine", "kvtier", "worker", "tests/support", "tests/unit", "tests/fuzz")
# "file:function". Only dispatch switches and kernels belong here.
LONG_FUNCTIONS = set()


def functions(source):
    command = ["ctags", "--languages=C", "--kinds-C=f", "--fields=+neS", "--output-format=json", "-R", "-f", "-"]
    listing = subprocess.run(command + [f for f in FOLDERS if (source / f).is_dir()], cwd=source, text=True,
                             capture_output=True, check=True).stdout
    for line in listing.splitlines():
        tag = json.loads(line)
        if tag["path"].endswith(".c") and "end" in tag:
            yield tag["path"], tag["name"], tag["end"] - tag["line"] + 1, tag.get("signature", "()")


def parameter_count(signature):
    depth, count = 0, 1
    for c in signature[1:-1]:
        depth += (c in "([") - (c in ")]")
        count += c == "," and depth == 0
    return count


def main():
    if not shutil.which("ctags"):
        print("SKIP: ctags is not installed (Debian package universal-ctags)")
        return 77
    source = pathlib.Path(sys.argv[1])
    faults, lengths, wide = [], [], 0
    for path, name, lines, signature in functions(source):
        where = "%s:%s" % (path, name)
        if not path.startswith("tests/"):
            lengths.append(lines)
            wide += parameter_count(signature) > MAX_PARAMETERS
        if lines > MAX_FUNCTION_LINES and where not in LONG_FUNCTIONS:
            faults.append("%s has %d lines, %d at most" % (where, lines, MAX_FUNCTION_LINES))
    for folder in FOLDERS:
        for file in sorted((source / folder).rglob("*.[ch]")):
            lines = file.read_text().count("\n")
            if lines > MAX_FILE_LINES:
                faults.append("%s has %d lines, %d at most" % (file.relative_to(source), lines, MAX_FILE_LINES))
    if not lengths:
        faults.append("no function was found: is this the universal ctags?")
    else:
        print("%d functions, median %d lines, 95th percentile %d, longest %d; %d take more than %d parameters" % (
            len(lengths), statistics.median(lengths), sorted(lengths)[len(lengths) * 95 // 100], max(lengths), wide,
            MAX_PARAMETERS))
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
