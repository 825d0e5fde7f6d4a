# SPDX-License-Identifier: Apache-2.0
"""The committed answers of a result topic, each custom_id once: a second answer fails the test."""
import json

from kafka_wire import TopicReader
from process import wait_until


class AnsweredOnce:
    def __init__(self, kafka, topic="millrace.results"):
        self.reader, self.lines, self.records = TopicReader(kafka, topic), {}, {}

    def poll(self):
        for record in self.reader.poll(wait_ms=10):
            line = json.loads(record.value)
            name = line["custom_id"]
            assert name not in self.lines, "%s was answered twice" % name
            self.lines[name], self.records[name] = line, record
        return self

    def count(self, prefix=""):
        return sum(name.startswith(prefix) for name in self.poll().lines)

    def wait(self, count, timeout_s, prefix=""):
        wait_until("%d answers of %s" % (count, prefix or "all"), lambda: self.count(prefix) >= count, timeout_s)
        assert self.count(prefix) == count
        return self
