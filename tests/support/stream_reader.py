# SPDX-License-Identifier: Apache-2.0
"""Token streams put together by the published rules (docs/ARCHITECTURE.md, stream): sequence numbers per job,
replay for what was missed. A gap that the numbers do not show would end in a text that differs from the result."""
import json
import struct

from zmtp import Zmtp

END = (1 << 64) - 1


class JobStream:
    """The chunks of one job by attempt; `missing` lists the holes that a reader can see."""

    def __init__(self):
        self.chunks, self.key, self.duplicates = {}, None, 0

    def add(self, seq, header, chunk):
        epoch, attempt, _ = struct.unpack(">QII", header)
        if self.key != (epoch, attempt):
            self.key, self.chunks = (epoch, attempt), {}  # another attempt starts again at 0
        self.duplicates += seq in self.chunks
        self.chunks[seq] = chunk

    def missing(self):
        return [seq for seq in range(max(self.chunks, default=-1) + 1) if seq not in self.chunks]

    def done(self):
        return bool(self.chunks) and self.chunks[max(self.chunks)] == b"[DONE]"

    def complete(self):
        return self.done() and not self.missing()

    def texts(self):
        """{choice index: concatenated deltas}"""
        out = {}
        for seq in sorted(self.chunks):
            if self.chunks[seq] == b"[DONE]":
                continue
            for choice in json.loads(self.chunks[seq])["choices"]:
                piece = choice["delta"].get("content") if "delta" in choice else choice["text"]
                out[choice["index"]] = out.get(choice["index"], "") + (piece or "")
        return out


class StreamReader:
    def __init__(self, address, prefix=b"job.", **options):
        self.address, self.prefix, self.options = address, prefix, options
        self.jobs, self.reconnects = {}, 0  # topic: JobStream
        self._connect()

    def _connect(self):
        self.peer = Zmtp(self.address, "SUB", **self.options)
        self.peer.subscribe(self.prefix)

    def drain(self, timeout_s=0.0):
        """Takes what has arrived; waits up to timeout_s for the first message. A worker may drop a peer that does
        not answer its heartbeats: a reader connects again, as libzmq does."""
        count = 0
        while True:
            try:
                message = self.peer.receive(timeout_s if count == 0 else 0.0)
            except OSError:
                self.peer.close()
                self.reconnects += 1
                self._connect()
                continue
            if message is None:
                return count
            topic, seq, header, chunk = message
            self.jobs.setdefault(topic, JobStream()).add(struct.unpack(">Q", seq)[0], header, chunk)
            count += 1

    def close(self):
        self.peer.close()


def replay(address, topic, start_seq=0):
    """[(seq, header, chunk)] that the worker still holds from start_seq on."""
    peer = Zmtp(address, "DEALER")
    try:
        peer.send([b"", topic, struct.pack(">Q", start_seq)])
        out = []
        while True:
            message = peer.receive(timeout_s=10)
            if message is None:
                raise AssertionError("no end of the replay of %r" % topic)
            _, got_topic, seq, header, chunk = message
            assert got_topic == topic, "a replay of %r in answer to %r" % (got_topic, topic)
            number = struct.unpack(">Q", seq)[0]
            if number == END:
                return out
            out.append((number, header, chunk))
    finally:
        peer.close()
