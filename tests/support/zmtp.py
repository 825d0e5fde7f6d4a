# SPDX-License-Identifier: Apache-2.0
"""A small ZeroMQ peer on the standard library (ZMTP 3.0, NULL mechanism), for tests: SUB to read live tokens,
DEALER to ask for a replay. Not reading from it is what a stalled subscriber looks like to the worker.
Source: ZMTP 3.0 specification (rfc.zeromq.org/spec/23)."""
import select
import socket
import struct

GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f" + b"\x03\0" + b"NULL".ljust(20, b"\0") + b"\0" + b"\0" * 31
MORE, LONG, COMMAND = 1, 2, 4


class Zmtp:
    def __init__(self, address, kind, timeout_s=10, receive_bytes=None):
        host, port = address.replace("tcp://", "").rsplit(":", 1)
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(timeout_s)
        self.socket.connect((host, int(port)))
        self.buffer = bytearray()
        self.socket.sendall(GREETING)
        self._take(64)
        name = kind.encode()
        self._send(COMMAND, b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(name)) + name)
        flags, body = self._frame()
        if not flags & COMMAND or not body.startswith(b"\x05READY"):
            raise OSError("ZeroMQ handshake refused: %r" % body)

    def close(self):
        self.socket.close()

    def _take(self, count):
        while len(self.buffer) < count:
            part = self.socket.recv(65536)
            if not part:
                raise OSError("the ZeroMQ peer closed the connection")
            self.buffer += part
        out = bytes(self.buffer[:count])
        del self.buffer[:count]
        return out

    def _send(self, flags, body):
        if len(body) > 255:
            self.socket.sendall(bytes([flags | LONG]) + struct.pack(">Q", len(body)) + body)
        else:
            self.socket.sendall(bytes([flags, len(body)]) + body)

    def _frame(self):
        flags = self._take(1)[0]
        size = struct.unpack(">Q", self._take(8))[0] if flags & LONG else self._take(1)[0]
        return flags, self._take(size)

    def subscribe(self, prefix):
        self._send(0, b"\x01" + prefix)

    def send(self, frames):
        for index, frame in enumerate(frames):
            self._send(MORE if index + 1 < len(frames) else 0, frame)

    def receive(self, timeout_s=0.0):
        """The next message as a list of frames, or None when nothing begins to arrive in time."""
        if not self.buffer and not select.select([self.socket], [], [], timeout_s)[0]:
            return None
        frames = []
        while True:
            flags, body = self._frame()
            if flags & COMMAND:  # a heartbeat
                if body.startswith(b"\x04PING"):
                    self._send(COMMAND, b"\x04PONG" + body[7:])
                if not self.buffer and not frames:
                    return None
                continue
            frames.append(body)
            if not flags & MORE:
                return frames
