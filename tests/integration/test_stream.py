#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ZeroMQ subscribers: one that is there from the start, one that joins late, one that stalls and one that is
killed. None slows the worker, none sees a silent gap: what the sequence numbers show as missing comes back by
replay, and the deltas put together are the text of the Kafka result, for every job."""
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import jobs  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from kafka_wire import TopicReader  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from stream_reader import StreamReader, replay  # noqa: E402
from worker import Worker, create_topics  # noqa: E402

MILLRACE = sys.argv[sys.argv.index("--millrace") + 1]
# Tokens enough that what a stalled reader misses fits no socket buffer (the kernel lets one grow to 4 MB).
COUNT, TOKENS, BATCH = 150, 200, "b1"


def send(kafka, prefix):
    records = []
    for i in range(COUNT):
        body = {"prompt": "Bought: kettle, mug %d" % i, "max_tokens": TOKENS, "temperature": 0.9, "seed": i,
                "ignore_eos": True, "n": 2 if i % 5 == 0 else 1}
        value = jobs.encode(jobs.line("%s-%d" % (prefix, i), **body))
        records.append((None, value, [("millrace-batch-id", BATCH.encode()), ("millrace-stream", b"1")]))
    kafka.produce("millrace.jobs", 0, records)


class Results:
    def __init__(self, kafka):
        self.reader, self.texts = TopicReader(kafka, "millrace.results"), {}

    def poll(self):
        for record in self.reader.poll(wait_ms=10):
            answer = json.loads(record.value)
            assert answer["response"]["status_code"] == 200, record.value
            self.texts[answer["custom_id"]] = {c["index"]: c["text"] for c in answer["response"]["body"]["choices"]}
        return self.texts


def run_phase(kafka, results, prefix, on_progress):
    """Seconds until every job of the phase is answered; on_progress(share answered) as they come in."""
    began, before = time.monotonic(), len(results.texts)
    send(kafka, prefix)

    def finished():
        share = (len(results.poll()) - before) / COUNT
        on_progress(share)
        return share >= 1
    wait_until("the answers of phase %s" % prefix, finished, 240, interval_s=0.01)
    return time.monotonic() - began


def repair(reader, worker):
    """Fills by replay what the sequence numbers show as missing, and jobs whose end was not seen."""
    repaired = 0
    for topic, stream in reader.jobs.items():
        if not stream.complete():
            repaired += 1
            for seq, header, chunk in replay(worker.replay, topic, 0):
                stream.add(seq, header, chunk)
    return repaired


def check_texts(name, reader, results, faults):
    for topic, stream in reader.jobs.items():
        custom_id = topic.decode().rstrip("\0")[len("job.%s." % BATCH):]
        if not stream.complete():
            faults.append("%s: %s has holes %s after replay" % (name, custom_id, stream.missing()[:5]))
        elif stream.texts() != results.texts[custom_id]:
            faults.append("%s: %s streamed %r, result %r" % (name, custom_id, stream.texts(), results.texts[custom_id]))


def main():
    faults, late, killed = [], [], []
    with Workspace("stream") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        create_topics(kafka)
        worker = Worker(space, MILLRACE, "worker", broker.address, any_model(), stream={"high_water_mark": 1000})
        worker.start().wait_ready()
        results = Results(kafka)
        first = StreamReader(worker.stream)
        time.sleep(0.3)  # a subscription travels
        alone = run_phase(kafka, results, "alone", lambda share: first.drain())

        stalled = StreamReader(worker.stream, receive_bytes=4096)
        victim = StreamReader(worker.stream, receive_bytes=4096)
        time.sleep(0.3)

        def progress(share):
            first.drain()
            if share > 0.2 and not killed:
                victim.drain()
                victim.close()
                killed.append(True)
            if share > 0.4 and not late:
                late.append(StreamReader(worker.stream))
            for reader in late[:1]:
                reader.drain()
            if share > 0.6 and len(late) == 1:  # it wakes up for a moment, so that holes open in the middle
                stalled.drain()
                late.append(stalled)

        crowded = run_phase(kafka, results, "crowded", progress)
        assert late and killed
        for reader in (first, late[0], stalled):
            wait_until("quiet", lambda: reader.drain(0.2) == 0, 30)
        names = {"first": first, "late": late[0], "stalled": stalled}
        holes = {name: sum(len(stream.missing()) for stream in reader.jobs.values()) for name, reader in names.items()}
        if any(not stream.complete() for stream in first.jobs.values()) or len(first.jobs) != 2 * COUNT:
            faults.append("a reader that kept up and was there from the start missed something")
        repaired = {name: repair(reader, worker) for name, reader in names.items()}
        for name, reader in names.items():
            check_texts(name, reader, results, faults)
        if holes["stalled"] == 0 and repaired["stalled"] == 0:
            faults.append("the stalled reader lost nothing: the test shows nothing")
        if crowded > 2 * alone + 20:
            faults.append("the worker was slowed: %.1f s alone, %.1f s with bad readers" % (alone, crowded))
        assert worker.process.stop(timeout_s=60) == 0
        print("%d jobs alone %.1f s, beside bad readers %.1f s; holes seen %s; jobs repaired by replay %s" % (
            COUNT, alone, crowded, holes, repaired))
    print("\n".join(faults[:10]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
