# SPDX-License-Identifier: Apache-2.0
"""A real redis-server on a unix socket, for tests that may kill, stop and empty it."""
import shutil
import socket

from process import SKIP, wait_until


class Redis:
    def __init__(self, space, memory="200mb"):
        if not shutil.which("redis-server"):
            SKIP("no redis-server")
        self.space, self.memory = space, memory
        self.path = space / "redis.sock"
        self.process = None

    def start(self):
        self.path.unlink(missing_ok=True)
        self.process = self.space.start(
            ["redis-server", "--port", "0", "--unixsocket", self.path, "--save", "", "--maxmemory", self.memory,
             "--maxmemory-policy", "allkeys-lru"], "redis")
        wait_until("redis-server to listen", self.path.exists, 20)
        return self

    def call(self, *words):
        """The first bytes of the answer to one command."""
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(10)
            door.connect(str(self.path))
            parts = [str(word).encode() for word in words]
            door.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
            return door.recv(4096)
