#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The arrows between folders: worker -> {engine, kvtier, config} -> base, in includes and in symbols; and the
home of every third-party header.

usage: check_layers.py SOURCE_DIR BUILD_DIR
"""
import fnmatch
import pathlib
import re
import subprocess
import sys

ARROWS = {
    "base": {"base"},
    "config": {"config", "base"},
    "engine": {"engine", "base"},
    "kvtier": {"kvtier", "base"},
    "worker": {"worker", "engine", "kvtier", "config", "base"},
}
# Third-party header: the files that may include it. A library has as few doors as it can.
HOMES = {
    "cjson/*": ["base/json.c"],
    "openssl/*": ["base/sha256.c"],
    "cblas.h": ["engine/kernels/gemm.c"],
    "*intrin.h": ["engine/kernels/*avx*", "engine/kernels/*_amx.c"],
    "pcre2.h": ["engine/text/regex.c"],
    "utf8proc.h": ["engine/text/unicode.c"],
    "hiredis/*": ["kvtier/redis_connection.c"],
    "librdkafka/*": ["worker/kafka_client.h", "worker/intake/job_source.c", "worker/emit/result_sink.c",
                     "worker/cli/*.c"],
    "zmq.h": ["worker/stream_socket.c", "worker/emit/token_stream.c", "worker/emit/kv_events.c",
              "worker/stream_proxy.c",
              "worker/cli/stream_client.c"],
    "microhttpd.h": ["worker/health.c"],
}
STANDARD = re.compile(r"(sys|arpa|netinet|linux)/\w+\.h|(assert|ctype|dirent|errno|fcntl|fenv|float|getopt|inttypes"
                      r"|libgen|limits|locale|malloc|math|netdb|poll|pthread|sched|signal|std\w+|string|strings|termios"
                      r"|time|unistd|glob|dlfcn|fnmatch|cpuid|spawn|semaphore|ucontext|execinfo)\.h")
FOREIGN_SYMBOLS = {  # static library: symbols that it may not need
    "base": "rd_kafka|redis[A-Z]|zmq_|MHD_|cblas_",
    "config": "rd_kafka|redis[A-Z]|zmq_|MHD_|cblas_",
    "engine": "rd_kafka|redis[A-Z]|zmq_|MHD_|socket$|connect$|poll$",
    "kvtier": "rd_kafka|zmq_|MHD_|cblas_",
}
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.M)


def check_include(path, folder, quote, header):
    if quote == '"':
        target = header.split("/")[0]
        if "/" not in header:
            return "%s: include \"%s\" without its folder" % (path, header)
        return None if target in ARROWS[folder] else "%s: %s may not include %s" % (path, folder, header)
    if STANDARD.fullmatch(header):
        return None
    for pattern, homes in HOMES.items():
        if fnmatch.fnmatch(header, pattern):
            if any(fnmatch.fnmatch(path, home) for home in homes):
                return None
            return "%s: <%s> belongs in %s" % (path, header, ", ".join(homes))
    return "%s: <%s> has no home in tools/check_layers.py" % (path, header)


def check_symbols(build, library, pattern):
    archive = build / ("lib%s.a" % library)
    if not archive.is_file():
        return ["%s is missing: build first" % archive]
    listing = subprocess.run(["nm", "-u", str(archive)], capture_output=True, text=True, check=True).stdout
    bad = re.findall(r"\bU ((?:%s)\w*)" % pattern, listing)
    return ["lib%s.a needs %s" % (library, name) for name in sorted(set(bad))]


def main():
    source, build = map(pathlib.Path, sys.argv[1:3])
    faults, files = [], 0
    for folder in ARROWS:
        for file in sorted((source / folder).rglob("*.[ch]")):
            files += 1
            path = str(file.relative_to(source))
            found = (check_include(path, folder, *match) for match in INCLUDE.findall(file.read_text()))
            faults += [fault for fault in found if fault]
    for library, pattern in FOREIGN_SYMBOLS.items():
        faults += check_symbols(build, library, pattern)
    print("\n".join(faults) or "%d files keep the arrows" % files)
    return 1 if faults or not files else 0


if __name__ == "__main__":
    sys.exit(main())
