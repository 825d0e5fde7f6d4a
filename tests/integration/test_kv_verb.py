#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`millrace kv` against a real redis-server: what it counts, finds corrupt, refuses and removes."""
import argparse
import json
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
    command = [binary, "kv", *arguments, *(["--address", f"unix://{path}"] if path else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def kv_json(binary, path, *arguments):
    code, out, _ = kv(binary, path, *arguments, "--json")
    return code, json.loads(out)


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
    code, report = kv_json(binary, path, "stats")
    (server,) = report["servers"]
    check(code == 0 and report["object"] == "kv.stats" and server["up"] and server["address"] == f"unix://{path}",
          "stats names the server")
    check(server["used_bytes"] > 0 and server["max_bytes"] == 0 and server["policy"] == "noeviction"
          and server["evicted_keys"] == 0, "stats says numbers as numbers")
    check(report["models"] == [{"fingerprint": FINGERPRINT[:16], "blocks": 7}], "stats lists the models")
    code, report = kv_json(binary, path, "verify")
    check(code == 1 and report == {"object": "kv.verify", "read_blocks": 7, "good_blocks": 0, "vanished_blocks": 0,
                                   "bad_blocks": {"length": 7}}, "verify counts by check")
    code, report = kv_json(binary, path, "clear", "--fingerprint", "f" * 16, "--yes")
    check(code == 0 and report == {"object": "kv.clear", "removed_blocks": 0}, "clear counts")
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


class Server:
    """A redis-server of its own on a unix socket, and on a port when it is a node of a cluster."""

    def __init__(self, folder, name, *extra):
        self.path = os.path.join(folder, name)
        place = os.path.join(folder, name + ".d")
        os.mkdir(place)
        self.process = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", self.path, "--save", "", "--dir",
                                         place, *extra], stdout=subprocess.DEVNULL)
        for _ in range(500):
            if os.path.exists(self.path):
                return
            time.sleep(0.02)

    def stop(self):
        self.process.kill()
        self.process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_several(binary, one, two):
    """Both are looked at; one that is away does not hide the other."""
    for i in range(5):
        for server in (one, two):
            redis_call(server.path, "SET", f"kvt1:{FINGERPRINT[:16]}:{i:063x}{'ab'[server is two]}", b"not a block")
    both = ("--address", f"unix://{one.path},unix://{two.path}")
    code, out, _ = kv(binary, None, "stats", *both)
    check(code == 0 and "10 blocks" in out and one.path in out and two.path in out, "stats adds up several servers")
    code, out, _ = kv(binary, None, "verify", *both)
    check(code == 1 and "10 blocks read, 0 good" in out, "verify reads from several servers")
    for server in (one, two):
        redis_call(server.path, "CONFIG", "SET", "maxmemory", "200mb")
        redis_call(server.path, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    done = subprocess.run([binary, "bench", "tier", "--rounds", "1", "--max-kib", "64", "--json", *both],
                          capture_output=True, text=True, timeout=60)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    check([line["value_bytes"] >> 10 for line in lines] == [15, 63], "the benchmark ran the sizes that were asked for")
    check(all(line["servers"] == 2 and line["share_of_limit"] > 0 for line in lines), "it read from both servers")
    check(b":5" in redis_call(two.path, "DBSIZE"), "it leaves nothing behind")
    two.stop()
    code, out, err = kv(binary, None, "stats", *both)
    check(code == 69 and "5 blocks" in out and "away" in out and two.path in err, "a server that is away is named")
    code, report = kv_json(binary, None, "stats", *both)
    away = report["servers"][1]
    check(code == 69 and not away["up"] and away["used_bytes"] is None, "a server that is away has no numbers")
    code, out, _ = kv(binary, None, "clear", "--all", "--yes", *both)
    check(code == 69 and "5 blocks removed" in out, "clear says what it did and fails when a server is away")


def run_cluster(binary, folder):
    port = str(free_port())
    node = Server(folder, "node", "--port", port, "--cluster-port", str(free_port()), "--cluster-enabled", "yes")
    try:
        redis_call(node.path, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        for _ in range(200):
            if b"cluster_state:ok" in redis_call(node.path, "CLUSTER", "INFO"):
                break
            time.sleep(0.05)
        for i in range(4):
            redis_call(node.path, "SET", f"kvt1:{FINGERPRINT[:16]}:{i:064x}", b"not a block")
        address = ("--address", f"redis://127.0.0.1:{port}", "--cluster")
        code, out, _ = kv(binary, None, "stats", *address)
        check(code == 0 and "4 blocks" in out and f"redis://127.0.0.1:{port}" in out, "stats of a cluster")
        code, out, _ = kv(binary, None, "clear", "--all", "--yes", *address)
        check(code == 0 and "4 blocks removed" in out, "clear of a cluster")
    finally:
        node.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    binary = parser.parse_args().millrace
    if not shutil.which("redis-server"):
        print("SKIP: no redis-server")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        one, two = Server(folder, "one"), Server(folder, "two")
        try:
            run(binary, one.path)
            run_several(binary, one, two)
            run_cluster(binary, folder)
        finally:
            one.stop()
            two.stop()
    print("kv verb: ok")


if __name__ == "__main__":
    main()
