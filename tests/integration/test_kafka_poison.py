#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A job that ends its worker whenever it runs, on a real Kafka: the worker is killed at the first sign of it. After the
third time it is on the dead-letter topic as it came, and answered job_poisoned; all jobs beside it, running and waiting at
each crash, are answered as if nothing had been; offsets end at the log's end. `submit --from-dlt` runs it again."""
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
from stream_reader import StreamReader  # noqa: E402
from worker import Worker, create_topics  # noqa: E402

MILLRACE = sys.argv[sys.argv.index("--millrace") + 1]
OTHERS, LONG = 60, 400


def produce(kafka):
    records = []
    for i in range(OTHERS):
        if i == OTHERS // 3:
            body = {"prompt": "Once upon a time", "max_tokens": LONG, "ignore_eos": True, "seed": 1}
            records.append((b"poison", jobs.encode(jobs.line("poison", **body)),
                            [("millrace-batch-id", b"b"), ("millrace-stream", b"1"), ("shop", b"north")]))
        body = {"prompt": "There was", "max_tokens": 12, "seed": i}
        records.append((None, jobs.encode(jobs.line("job-%d" % i, **body)), [("millrace-batch-id", b"b")]))
    kafka.produce("millrace.jobs", 0, records)
    return next(value for key, value, _ in records if key == b"poison")


class Answers:
    def __init__(self, kafka):
        self.reader, self.found = TopicReader(kafka, "millrace.results"), {}

    def poll(self):
        for record in self.reader.poll(wait_ms=20):
            line = json.loads(record.value)
            self.found.setdefault(line["custom_id"], []).append((line, record))
        return self.found


def kill_at_first_sign(worker, answers):
    """Kills the worker when it streams the poison; returns how often, when the poison has its answer."""
    kills = 0
    while True:
        worker.wait_ready()
        reader = StreamReader(worker.stream, b"job.b.poison")

        def sign():
            return "poison" in answers.poll() or reader.drain(0.02)
        wait_until("the poison to run or to be answered", sign, 120)
        reader.close()
        if "poison" in answers.found:
            return kills
        worker.process.kill()
        worker.process.wait(20)
        kills += 1
        worker.start()


def check_dead_letter(kafka, value):
    reader, letters = TopicReader(kafka, "millrace.jobs-dlt"), []
    wait_until("the dead letter", lambda: letters.extend(reader.poll(wait_ms=20)) or letters, 30)
    assert len(letters) == 1, len(letters)
    letter = letters[0]
    assert (letter.key, letter.value) == (b"poison", value)
    assert letter.header("shop") == b"north" and letter.header("millrace-batch-id") == b"b"
    error = "__connect.errors."
    assert letter.header(error + "topic") == b"millrace.jobs" and letter.header(error + "connector.name") == b"millrace"
    assert letter.header(error + "exception.class.name") == b"job_poisoned"
    assert b"3 workers" in letter.header(error + "exception.message")


def main():
    with Workspace("poison") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        create_topics(kafka)
        options = {"kafka": {"delivery": "exactly-once", "bootstrap_servers": broker.address},
                   "engine": {"threads": 1, "kv_memory_mb": 64, "max_sequences": 8}}
        worker = Worker(space, MILLRACE, "w", broker.address, any_model(), **options)
        poison = produce(kafka)
        worker.start()
        answers = Answers(kafka)
        kills = kill_at_first_sign(worker, answers)
        assert kills == 3, kills
        wait_until("all answers", lambda: len(answers.poll()) == OTHERS + 1, 120)
        for name, found in answers.found.items():
            assert len(found) == 1, "%s was answered %d times" % (name, len(found))
            line, record = found[0]
            if name != "poison":
                assert line["response"]["status_code"] == 200, line
                assert record.header("millrace-attempt") in (b"0", b"1", b"2", b"3"), record.headers
        line, record = answers.found["poison"][0]
        assert line["response"]["status_code"] == 500, line
        assert line["response"]["body"]["error"]["code"] == "job_poisoned", line
        assert record.header("millrace-attempt") == b"3" and record.header("millrace-status") == b"failed"
        check_dead_letter(kafka, poison)

        again = [MILLRACE, "submit", "--from-dlt", "--kafka.bootstrap_servers", broker.address]
        for count in (1, 0):  # the second time there is nothing left
            done = subprocess.run(again, capture_output=True, text=True, timeout=90)
            assert done.returncode == 0, done.stderr
            assert "%d dead letter" % count in done.stdout, done.stdout
        wait_until("the second answer", lambda: len(answers.poll()["poison"]) == 2, 120)
        line, record = answers.found["poison"][1]
        assert line["response"]["status_code"] == 200 and line["response"]["body"]["usage"]["completion_tokens"] == LONG
        assert record.header("shop") == b"north" and record.header("__connect.errors.topic") is None
        assert worker.process.stop(60) == 0
    print("poisoned after 3 workers, %d others answered once, run again from the dead letters" % OTHERS)


main()
