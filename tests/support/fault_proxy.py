# SPDX-License-Identifier: Apache-2.0
"""A proxy between a worker and its Redis that does to the stream what networks and hosts do to it. A fault is an
object with feed(connection, to_client, data) -> bytes; it may sleep, change the data or raise Cut."""
import random
import socket
import threading
import time


class Cut(Exception):
    """Ends the connection, after `last` was passed on."""

    def __init__(self, last=b""):
        super().__init__()
        self.last = last


class Nothing:
    def feed(self, connection, to_client, data):
        return data


class Delay:
    def __init__(self, seconds):
        self.seconds = seconds

    def feed(self, connection, to_client, data):
        if to_client:
            time.sleep(self.seconds)
        return data


class Rate:
    """A link of so many bits per second towards the worker, which all connections share."""

    def __init__(self, bits_per_s):
        self.bytes_per_s, self.free_at, self.lock = bits_per_s / 8, 0.0, threading.Lock()

    def feed(self, connection, to_client, data):
        if to_client:
            with self.lock:
                now = time.monotonic()
                self.free_at = max(self.free_at, now - 0.005) + len(data) / self.bytes_per_s
                wait = self.free_at - now
            time.sleep(max(wait, 0))
        return data


class Truncate:
    """Each connection ends within a reply, each time a little later."""

    def __init__(self, first_bytes=2000, more_bytes=7777):
        self.first_bytes, self.more_bytes, self.cuts = first_bytes, more_bytes, 0
        self.passed = {}

    def feed(self, connection, to_client, data):
        if not to_client:
            return data
        room = self.first_bytes + self.cuts * self.more_bytes - self.passed.get(connection, 0)
        self.passed[connection] = self.passed.get(connection, 0) + len(data)
        if len(data) >= room:
            self.cuts += 1
            raise Cut(data[:max(room, 0)])
        return data


class CutEvery:
    """Every `n`th connection is cut in the middle of its work; the others live for `pieces` pieces of replies, so that
    there are many of them."""

    def __init__(self, n=50, pieces=2):
        self.n, self.pieces, self.connections, self.cuts = n, pieces, 0, 0
        self.seen = {}

    def feed(self, connection, to_client, data):
        if connection not in self.seen:
            self.connections += 1
            self.seen[connection] = [self.connections, 0]
        number, _ = self.seen[connection]
        if not to_client:
            return data
        self.seen[connection][1] += 1
        if number % self.n == 0 and len(data) > 1000:
            self.cuts += 1
            raise Cut(data[:len(data) // 2])
        if self.seen[connection][1] > self.pieces and data.endswith(b"\r\n"):
            raise Cut(data)  # a server that closes idle clients
        return data


class FlipBits:
    """One flipped bit in `rate` bits, both ways, by a seeded generator."""

    def __init__(self, rate=1_000_000, seed=1):
        self.rate, self.random, self.flips = rate, random.Random(seed), 0
        self.next = [self._gap(), self._gap()]
        self.lock = threading.Lock()

    def _gap(self):
        return int(self.random.expovariate(1 / self.rate))

    def feed(self, connection, to_client, data):
        with self.lock:
            bits = len(data) * 8
            changed = None
            while self.next[to_client] < bits:
                at = self.next[to_client]
                changed = changed or bytearray(data)
                changed[at // 8] ^= 1 << at % 8
                self.flips += 1
                self.next[to_client] = at + 1 + self._gap()
            self.next[to_client] -= bits
            return bytes(changed) if changed else data


class OnceInReply:
    """Calls `what` once, when so many bytes of replies have passed: between the bytes of a value."""

    def __init__(self, after_bytes, what):
        self.left, self.what, self.fired = after_bytes, what, False

    def feed(self, connection, to_client, data):
        if to_client and not self.fired:
            self.left -= len(data)
            if self.left <= 0:
                self.fired = True
                self.what()
        return data


class FaultProxy:
    def __init__(self, path, target):
        self.path, self.target, self.fault = str(path), str(target), Nothing()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(16)
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self.target)
            except OSError:
                client.close()
                continue
            self.connections += 1
            for source, sink, to_client in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(self.connections, source, sink, to_client),
                                 daemon=True).start()

    def _pump(self, connection, source, sink, to_client):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                try:
                    sink.sendall(self.fault.feed(connection, to_client, data))
                except Cut as cut:
                    sink.sendall(cut.last)
                    break
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
