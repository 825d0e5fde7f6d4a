#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`millrace kv` against a real redis-server: what it counts, finds corrupt, refuses and removes."""
import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

FINGERPRINT = "00112233445566778899aabbccddeeff" * 2


def redis_call(path, *words):
    """One command over RESP; returns the raw reply line."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        data = b"*%d\r\n" % len(words)
        for word in words:
            raw = word if isinstance(word, bytes) else word.encode()
            data += b"$%d\r\n%s\r\n" % (len(raw), raw)
        peer.sendall(data)
        return peer.recv(65536)


def kv(binary, path, *arguments):
    command = [binary, "kv", *arguments, "--address", f"unix://{path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def check(condition, what):
    if not condition:
        print("FAILED:", what)
        sys.exit(1)


def run(binary, path):
    code, out, _ = kv(binary, path, "stats")
    check(code == 0 and "no block is stored" in out, "an empty store says so")
    for i in range(7):
        redis_call(path, "SET", f"kvt1:{FINGERPRINT[:16]}:{i:064x}", b"not a block")
    redis_call(path, "SET", "other:key", "x")
    code, out, _ = kv(binary, path, "stats")
    check(code == 0 and f"{FINGERPRINT[:16]}   7 blocks" in out, "stats counts the blocks of a model")
    code, out, _ = kv(binary, path, "verify")
    check(code == 1 and "7 blocks read, 0 good" in out and "length" in out, "verify finds values that are no blocks")
    code, _, err = kv(binary, path, "clear", "--all")
    check(code == 64 and "--yes" in err, "clear without --yes refuses")
    code, _, err = kv(binary, path, "clear", "--yes")
    check(code == 64 and "scope" in err, "clear without a scope refuses")
    code, out, _ = kv(binary, path, "clear", "--fingerprint", "f" * 16, "--yes")
    check(code == 0 and "0 blocks removed" in out, "another model's blocks stay")
    code, out, _ = kv(binary, path, "clear", "--fingerprint", FINGERPRINT[:16], "--yes")
    check(code == 0 and "7 blocks removed" in out, "clear removes the model's blocks")
    check(b":1" in redis_call(path, "EXISTS", "other:key"), "keys of others stay")
    code, _, err = kv(binary, "/nonexistent/socket", "stats")
    check(code == 69 and err.count("\n") == 1, "an unreachable Redis is one sentence and exit 69")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    binary = parser.parse_args().millrace
    if not shutil.which("redis-server"):
        print("SKIP: no redis-server")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder],
                                  stdout=subprocess.DEVNULL)
        try:
            for _ in range(200):
                if os.path.exists(path):
                    break
                time.sleep(0.02)
            run(binary, path)
        finally:
            server.kill()
            server.wait()
    print("kv verb: ok")


if __name__ == "__main__":
    main()
