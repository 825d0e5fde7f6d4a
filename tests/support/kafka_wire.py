# SPDX-License-Identifier: Apache-2.0
"""A small Kafka client on the standard library, for tests: it shares no code with what it tests.

One connection to a one-broker cluster; blocking; the older, non-flexible request versions that Kafka 3.9
still answers. Source: Kafka protocol guide (message schemas, record batch v2).
"""
import socket
import struct
import time
from typing import NamedTuple, Optional

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_FETCH = 0, 1, 2, 3, 9
FIND_COORDINATOR, DESCRIBE_GROUPS, CREATE_TOPICS = 10, 15, 19
EARLIEST, LATEST = -2, -1


NOT_YET = {3, 5, 6, 14, 15, 16}  # the cluster is still settling: unknown topic, no leader, no coordinator


class KafkaError(Exception):
    def __init__(self, text, code=0):
        super().__init__(text)
        self.code = code


def retried(call):
    """Calls again for ten seconds while the cluster settles."""
    def again(*args, **named):
        deadline = time.monotonic() + 10
        while True:
            try:
                return call(*args, **named)
            except KafkaError as error:
                if error.code not in NOT_YET or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
    return again


class Record(NamedTuple):
    partition: int
    offset: int
    timestamp: int
    key: Optional[bytes]
    value: Optional[bytes]
    headers: list  # of (name, bytes or None)

    def header(self, name):
        found = [value for key, value in self.headers if key == name]
        return found[-1] if found else None


def _crc32c_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ 0x82F63B78 if n & 1 else n >> 1
        table.append(n)
    return table


_TABLE = _crc32c_table()


def crc32c(data):
    crc, table = 0xFFFFFFFF, _TABLE
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _varint(value):
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _string(text):
    raw = None if text is None else text.encode()
    return struct.pack(">h", -1) if raw is None else struct.pack(">h", len(raw)) + raw


def _array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


def _blob(data):
    return _varint(-1) if data is None else _varint(len(data)) + data


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise KafkaError("short response")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, code):
        return struct.unpack(">" + code, self.take(struct.calcsize(code)))[0]

    def string(self):
        length = self.number("h")
        return None if length < 0 else self.take(length).decode()

    def blob(self):
        length = self.number("i")
        return b"" if length < 0 else self.take(length)

    def array(self, read):
        return [read() for _ in range(max(self.number("i"), 0))]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)

    def var_blob(self):
        length = self.varint()
        return None if length < 0 else self.take(length)


def encode_batch(records):
    """records: (key, value, headers) with bytes or None -> one uncompressed record batch v2."""
    now = int(time.time() * 1000)
    body = bytearray()
    for index, (key, value, headers) in enumerate(records):
        one = b"\0" + _varint(0) + _varint(index) + _blob(key) + _blob(value) + _varint(len(headers))
        for name, content in headers:
            one += _blob(name.encode()) + _blob(content)
        body += _varint(len(one)) + one
    tail = struct.pack(">hiqqqhii", 0, len(records) - 1, now, now, -1, -1, -1, len(records)) + bytes(body)
    return struct.pack(">qiibI", 0, len(tail) + 9, -1, 2, crc32c(tail)) + tail


def _decode_batch(batch, partition, base_offset, count, first_timestamp):
    for _ in range(count):
        one = Reader(batch.take(batch.varint()))
        one.take(1)
        timestamp = first_timestamp + one.varint()
        offset = base_offset + one.varint()
        key, value = one.var_blob(), one.var_blob()
        headers = [(one.var_blob().decode(), one.var_blob()) for _ in range(one.varint())]
        yield Record(partition, offset, timestamp, key, value, headers)


def decode_batches(data, partition, aborted=()):
    """(committed records, next offset) of a fetched record set; `aborted`: (producer id, first offset)."""
    reader, records, next_offset, open_aborts = Reader(data), [], None, set()
    pending = sorted(aborted, key=lambda pair: pair[1])
    while len(data) - reader.at >= 61:
        base_offset, length = reader.number("q"), reader.number("i")
        if len(data) - reader.at < length:
            break  # the broker cuts the last batch at max_bytes
        batch = Reader(reader.take(length))
        batch.take(9)  # leader epoch, magic, checksum
        attributes, last_delta = batch.number("h"), batch.number("i")
        first_timestamp, _, producer = batch.number("q"), batch.number("q"), batch.number("q")
        batch.take(6)  # producer epoch, base sequence
        count = batch.number("i")
        next_offset = base_offset + last_delta + 1
        while pending and pending[0][1] < next_offset:
            open_aborts.add(pending.pop(0)[0])
        if attributes & 0x07:
            raise KafkaError("compressed batch: the test broker stores batches uncompressed")
        if attributes & 0x20:  # control batch: the end of a transaction
            open_aborts.discard(producer)
        elif not (attributes & 0x10 and producer in open_aborts):
            records.extend(_decode_batch(batch, partition, base_offset, count, first_timestamp))
    return records, next_offset


class Kafka:
    def __init__(self, address, timeout_s=60):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout_s)
        self.correlation = 0

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _receive(self, count):
        out = bytearray()
        while len(out) < count:
            part = self.socket.recv(count - len(out))
            if not part:
                raise KafkaError("the broker closed the connection")
            out += part
        return bytes(out)

    def request(self, api, version, body):
        self.correlation += 1
        head = struct.pack(">hhi", api, version, self.correlation) + _string("millrace-test")
        self.socket.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        reader = Reader(self._receive(struct.unpack(">i", self._receive(4))[0]))
        if reader.number("i") != self.correlation:
            raise KafkaError("answers out of order")
        return reader

    def topics(self):
        """{topic: partition count}"""
        reader = self.request(METADATA, 1, struct.pack(">i", -1))
        reader.array(lambda: (reader.number("i"), reader.string(), reader.number("i"), reader.string()))
        reader.number("i")

        def partition():
            reader.take(10)
            reader.array(lambda: reader.number("i"))
            reader.array(lambda: reader.number("i"))

        found = {}
        for _ in range(reader.number("i")):
            error, name = reader.number("h"), reader.string()
            reader.take(1)
            count = len(reader.array(partition))
            if error == 0:
                found[name] = count
        return found

    def create_topic(self, name, partitions=1, **configs):
        pairs = [_string(key.replace("_", ".")) + _string(str(value)) for key, value in configs.items()]
        topic = _string(name) + struct.pack(">ih", partitions, 1) + _array([]) + _array(pairs)
        reader = self.request(CREATE_TOPICS, 2, _array([topic]) + struct.pack(">ib", 10000, 0))
        reader.take(8)
        reader.string()
        error = reader.number("h")
        if error not in (0, 36):  # 36: it exists already
            raise KafkaError("cannot create %s: error %d, %s" % (name, error, reader.string()))
        deadline = time.monotonic() + 10
        while self.topics().get(name) != partitions and time.monotonic() < deadline:
            time.sleep(0.05)

    @retried
    def produce(self, topic, partition, records):
        """records: (key, value, headers); returns the first offset."""
        data = encode_batch(records)
        body = _string(None) + struct.pack(">hi", -1, 10000) + _array([
            _string(topic) + _array([struct.pack(">ii", partition, len(data)) + data])])
        reader = self.request(PRODUCE, 3, body)
        reader.take(4)
        reader.string()
        reader.take(8)
        error, offset = reader.number("h"), reader.number("q")
        if error:
            raise KafkaError("produce to %s/%d: error %d" % (topic, partition, error), error)
        return offset

    @retried
    def offset(self, topic, partition, when=LATEST):
        body = struct.pack(">i", -1) + _array([_string(topic) + _array([struct.pack(">iq", partition, when)])])
        reader = self.request(LIST_OFFSETS, 1, body)
        reader.take(4)
        reader.string()
        reader.take(8)
        error = reader.number("h")
        reader.take(8)
        if error:
            raise KafkaError("offsets of %s/%d: error %d" % (topic, partition, error), error)
        return reader.number("q")

    @retried
    def fetch(self, topic, partition, offset, wait_ms=100, committed=True):
        """(records, next offset): one fetch."""
        body = struct.pack(">iiiib", -1, wait_ms, 1, 32 << 20, 1 if committed else 0) + _array([
            _string(topic) + _array([struct.pack(">iqi", partition, offset, 16 << 20)])])
        reader = self.request(FETCH, 4, body)
        reader.take(8)
        reader.string()
        reader.take(8)
        error = reader.number("h")
        reader.take(16)
        aborted = reader.array(lambda: (reader.number("q"), reader.number("q")))
        if error:
            raise KafkaError("fetch from %s/%d: error %d" % (topic, partition, error), error)
        records, next_offset = decode_batches(reader.blob(), partition, aborted if committed else ())
        return [record for record in records if record.offset >= offset], next_offset or offset

    @retried
    def transaction_open(self, topic):
        """Whether any partition has records of a transaction that has not ended."""
        for partition in range(self.topics()[topic]):
            end = self.offset(topic, partition)
            body = struct.pack(">iiiib", -1, 0, 1, 1 << 20, 1) + _array([
                _string(topic) + _array([struct.pack(">iqi", partition, max(end - 1, 0), 1 << 20)])])
            reader = self.request(FETCH, 4, body)
            reader.take(8)
            reader.string()
            reader.take(8)
            error, high, stable = reader.number("h"), reader.number("q"), reader.number("q")
            if error:
                raise KafkaError("fetch from %s/%d: error %d" % (topic, partition, error), error)
            if stable < high:
                return True
        return False

    def _find_coordinator(self, group):
        """The first question creates the broker's offsets topic."""
        reader = self.request(FIND_COORDINATOR, 1, _string(group) + b"\0")
        reader.take(4)
        error = reader.number("h")
        if error:
            raise KafkaError("coordinator of %s: error %d" % (group, error), error)

    @retried
    def committed_offset(self, group, topic, partition):
        self._find_coordinator(group)
        body = _string(group) + _array([_string(topic) + _array([struct.pack(">i", partition)])])
        reader = self.request(OFFSET_FETCH, 1, body)
        reader.take(4)
        reader.string()
        reader.take(8)
        offset, _, error = reader.number("q"), reader.string(), reader.number("h")
        if error:
            raise KafkaError("committed offset of %s in %s: error %d" % (topic, group, error), error)
        return offset

    @retried
    def group(self, name):
        """(state, member count), e.g. ("Stable", 2)."""
        self._find_coordinator(name)
        reader = self.request(DESCRIBE_GROUPS, 0, _array([_string(name)]))
        reader.take(4)
        error = reader.number("h")
        if error:
            raise KafkaError("group %s: error %d" % (name, error), error)
        reader.string()
        state = reader.string()
        reader.string()
        reader.string()
        return state, reader.number("i")


class TopicReader:
    """Every record of a topic from its beginning, a poll at a time."""

    def __init__(self, kafka, topic, committed=True):
        self.kafka, self.topic, self.committed = kafka, topic, committed
        self.next = {partition: 0 for partition in range(kafka.topics()[topic])}

    def poll(self, wait_ms=50):
        """All or nothing: where one partition fails, nothing of another is taken and then forgotten."""
        out, after = [], {}
        for partition, offset in self.next.items():
            records, after[partition] = self.kafka.fetch(self.topic, partition, offset, wait_ms, self.committed)
            out.extend(records)
        self.next = after
        return out
