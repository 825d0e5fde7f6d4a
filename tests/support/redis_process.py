# SPDX-License-Identifier: Apache-2.0
"""A real redis-server on a unix socket, for tests that may kill, stop, fill and empty it."""
import shutil
import socket

from process import SKIP, wait_until


def _read_reply(stream):
    """One RESP2 reply: bytes, int, None, list; an error raises."""
    line = stream.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise RuntimeError(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2]
    if kind == b"*":
        return [_read_reply(stream) for _ in range(int(rest))]
    assert kind == b"+", "not RESP: %r" % line
    return rest


class Redis:
    def __init__(self, space, memory="200mb", extra=(), name="redis"):
        if not shutil.which("redis-server"):
            SKIP("no redis-server")
        self.space, self.memory, self.extra, self.name = space, memory, extra, name
        self.path = space / ("%s.sock" % name)
        self.process = None

    def start(self, *more):
        self.path.unlink(missing_ok=True)
        self.process = self.space.start(
            ["redis-server", "--port", "0", "--unixsocket", self.path, "--save", "", "--dir", self.space.path,
             "--maxmemory", self.memory, "--maxmemory-policy", "allkeys-lru", *self.extra, *more], self.name)
        wait_until("redis-server to listen", self.path.exists, 20)
        return self

    def call(self, *words):
        """One command on a connection of its own."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(10)
            peer.connect(str(self.path))
            command = b"*%d\r\n" % len(words)
            for word in words:
                raw = word if isinstance(word, bytes) else str(word).encode()
                command += b"$%d\r\n%s\r\n" % (len(raw), raw)
            peer.sendall(command)
            return _read_reply(peer.makefile("rb"))

    def blocks(self):
        """Keys of stored blocks."""
        return sorted(key for key in self.call("KEYS", "kvt1:*") if key.count(b":") == 2)

    def info(self, name):
        for text in self.call("INFO", "all").decode().splitlines():
            if text.startswith(name + ":"):
                return text.split(":", 1)[1]
        raise KeyError(name)
