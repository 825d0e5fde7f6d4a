#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The real Kafka that the other tests rest on: it starts, keeps what it acknowledged through kill -9, and the
tests' own client reads back the bytes it wrote."""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from kafka_broker import KafkaBroker  # noqa: E402
from kafka_wire import EARLIEST, TopicReader, crc32c  # noqa: E402
from process import Workspace  # noqa: E402


def main():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    began = time.monotonic()
    with Workspace("kafka") as space, KafkaBroker(space / "kafka") as broker:
        print("started in %.1f s, %d MB resident" % (time.monotonic() - began,
                                                    broker.process.resident_bytes() >> 20))
        records = [(b"k%d" % i, None if i == 3 else b"value \xff %d" % i, [("h", b"1"), ("h", None)]) for i in range(9)]
        with broker.connect() as kafka:
            kafka.create_topic("t", partitions=3, retention_ms=-1)
            for partition in range(3):
                assert kafka.produce("t", partition, records[partition * 3:partition * 3 + 3]) == 0
        broker.kill()
        began = time.monotonic()
        broker.start()
        print("restarted after kill -9 in %.1f s" % (time.monotonic() - began))
        with broker.connect() as kafka:
            assert kafka.topics()["t"] == 3
            read = sorted(TopicReader(kafka, "t").poll(), key=lambda record: (record.partition, record.offset))
            assert [(r.key, r.value, r.headers) for r in read] == records
            assert kafka.offset("t", 1) == 3 and kafka.offset("t", 1, EARLIEST) == 0
            assert kafka.group("nobody") == ("Dead", 0)
        broker.stop()


if __name__ == "__main__":
    main()
