#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`millrace cancel` on a real Kafka: running and waiting jobs of the batch end with batch_cancelled, the other batch is
untouched, the engine is empty at once, what is submitted later under the same name runs, and a worker that starts later
knows what was cancelled before. A tombstone ends the running job whose custom_id is its key."""
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import jobs  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from kafka_wire import TopicReader  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from worker import Worker, create_topics  # noqa: E402

MILLRACE = sys.argv[sys.argv.index("--millrace") + 1]
LONG = 480  # tokens: far more than what is done before the cancellation comes


def send(kafka, batch, count, tokens, first=0):
    records = []
    for i in range(first, first + count):
        name = "%s-%d" % (batch, i)
        body = {"prompt": "Once upon a time", "max_tokens": tokens, "temperature": 0.9, "seed": i, "ignore_eos": True}
        records.append((name.encode(), jobs.encode(jobs.line(name, **body)), [("millrace-batch-id", batch.encode())]))
    kafka.produce("millrace.jobs", 0, records)


class Answers:
    def __init__(self, kafka):
        self.reader, self.lines = TopicReader(kafka, "millrace.results"), {}

    def poll(self):
        for record in self.reader.poll(wait_ms=20):
            line = json.loads(record.value)
            assert line["custom_id"] not in self.lines, "%s was answered twice" % line["custom_id"]
            self.lines[line["custom_id"]] = (line, record.header("millrace-status"))
        return self.lines

    def wait(self, names):
        wait_until("the answers of %s…" % names[0], lambda: all(name in self.poll() for name in names), 180)

    def is_cancelled(self, name):
        line, status = self.lines[name]
        cancelled = line["response"] is None and line["error"]["code"] == "batch_cancelled"
        assert cancelled == (status == b"cancelled"), (name, status, line)
        return cancelled


def names(batch, count, first=0):
    return ["%s-%d" % (batch, i) for i in range(first, first + count)]


def cancel(broker, *words):
    done = subprocess.run([MILLRACE, "cancel", *words, "--kafka.bootstrap_servers", broker.address],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "cancelled" in done.stdout, (done.returncode, done.stderr)


def running(worker):
    lines = worker.get("/metrics")[1].splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_"))


def main():
    with Workspace("cancel") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        create_topics(kafka)
        options = {"kafka": {"delivery": "exactly-once", "bootstrap_servers": broker.address, "tombstones": "cancel"},
                   "engine": {"threads": 1, "kv_memory_mb": 64, "max_sequences": 16}}
        first = Worker(space, MILLRACE, "first", broker.address, any_model(), **options).start()
        first.wait_ready()
        answers = Answers(kafka)

        send(kafka, "doomed", 400, LONG)
        send(kafka, "kept", 4, 8)
        wait_until("the engine to be busy", lambda: running(first) > 16, 60)
        cancel(broker, "doomed")
        answers.wait(names("doomed", 400))
        assert sum(answers.is_cancelled(name) for name in names("doomed", 400)) > 200, "most were done before the cancellation"
        answers.wait(names("kept", 4))
        assert not any(answers.is_cancelled(name) for name in names("kept", 4))
        wait_until("an empty engine", lambda: running(first) == 0, 30)

        send(kafka, "doomed", 3, 4, first=400)
        answers.wait(names("doomed", 3, 400))
        assert not any(answers.is_cancelled(name) for name in names("doomed", 3, 400)), "the name stays forbidden"

        send(kafka, "one", 40, LONG)
        wait_until("the engine to be busy", lambda: running(first) > 16, 60)
        cancel(broker, "one", "--job", "one-39")
        kafka.produce("millrace.jobs", 0, [(b"one-38", None, [])])
        answers.wait(["one-39", "one-38"])
        assert answers.is_cancelled("one-39") and answers.is_cancelled("one-38")
        assert first.process.stop(timeout_s=120) == 0
        answers.wait(names("one", 40))
        assert sum(answers.is_cancelled(name) for name in names("one", 40)) == 2

        send(kafka, "asleep", 20, 4)
        cancel(broker, "asleep")
        second = Worker(space, MILLRACE, "second", broker.address, any_model(), **options).start()
        second.wait_ready()
        answers.wait(names("asleep", 20))
        assert all(answers.is_cancelled(name) for name in names("asleep", 20)), "the second worker did not know"
        assert second.process.stop(timeout_s=60) == 0
    print("%d answers, each once; %d cancelled" % (len(answers.lines), sum(map(answers.is_cancelled, answers.lines))))


main()
