#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every C file is as clang-format-14 writes it, begins with its licence line, and calls no banned function.

usage: check_format.py SOURCE_DIR [BUILD_DIR]
"""
import pathlib
import re
import shutil
import subprocess
import sys

FOLDERS = ("base", "config", "engine", "kvtier", "worker", "tests")
UNFORMATTED = {"config/config_schema.h"}  # one row per line reads as the table it is
LICENCE = "SPDX-License-Identifier: Apache-2.0"
# Unbounded, locale-bound or not thread-safe; each has a better neighbour (snprintf, strtok_r, gmtime_r, strtoll).
BANNED = re.compile(r"(?<![\w.>])(strcpy|strcat|sprintf|vsprintf|strtok|gets|atoi|atol|atof|rand|srand|gmtime|localtime"
                    r"|asctime|ctime|alloca)\s*\(")
MUTEX = re.compile(r"\bpthread_(mutex|rwlock|cond|spin)_\w+|\bmtx_\w+\s*\(")
COMMENT_OR_TEXT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)


def check_text(path, text):
    faults = []
    if LICENCE not in text.split("\n", 1)[0]:
        faults.append("%s: the first line is not // %s" % (path, LICENCE))
    code = COMMENT_OR_TEXT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    for number, line in enumerate(code.split("\n"), 1):
        for match in BANNED.finditer(line):
            faults.append("%s:%d: %s() is banned" % (path, number, match.group(1)))
        if MUTEX.search(line) and not path.startswith("tests/") and path != "base/channel.c":
            faults.append("%s:%d: locks live in base/channel.c only" % (path, number))
    return faults


def main():
    source = pathlib.Path(sys.argv[1])
    files = [str(file.relative_to(source)) for folder in FOLDERS for file in sorted((source / folder).rglob("*.[ch]"))]
    faults = [fault for path in files for fault in check_text(path, (source / path).read_text())]
    skipped = not shutil.which("clang-format-14")
    if not skipped:
        formatted = [path for path in files if path not in UNFORMATTED]
        done = subprocess.run(["clang-format-14", "--dry-run", "-Werror"] + formatted, cwd=source,
                              capture_output=True, text=True)
        bad = sorted(set(re.findall(r"^(\S+?):\d+:\d+: error: code should be", done.stderr, re.M)))
        faults += ["%s: run clang-format-14 -i" % path for path in bad]
        if done.returncode != 0 and not bad:
            faults.append(done.stderr)
    print("\n".join(faults) or "%d files checked" % len(files))
    if faults:
        return 1
    if skipped:
        print("SKIP: clang-format-14 is not installed; everything else holds")
    return 77 if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
