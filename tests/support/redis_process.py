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

    def _ask(self, words, enough):
        """What one command is answered with, once `enough` says so."""
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(10)
            door.connect(str(self.path))
            parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
            door.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
            answer = b""
            while not enough(answer):
                answer += door.recv(1 << 20)
            return answer

    def call(self, *words):
        """The answer of a command that is a line or one short string."""
        answer = self._ask(words, lambda text: text.endswith(b"\r\n"))
        assert not answer.startswith(b"-"), answer
        return answer

    def call_all(self, *words):
        """The strings of a list."""
        def lines(text):
            return text.split(b"\r\n")
        answer = self._ask(words, lambda text: text and len(lines(text)) >= 2 + 2 * int(lines(text)[0][1:] or 0))
        return lines(answer)[2::2]
