#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of a worker in the middle, then kill -9 of the broker: every job is answered, what is answered twice is
answered with the same bytes, and a run without faults gives the same bytes again."""
import json
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import jobs  # noqa: E402
from answers import Answers, produce, wait_committed  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from worker import Worker, create_topics  # noqa: E402

MILLRACE = sys.argv[sys.argv.index("--millrace") + 1]
COUNT, PARTITIONS = 2400, 4


def choices_of(answers, placed):
    """{custom_id: choices} of every answered job."""
    out = {}
    for records in answers.found.values():
        answer = json.loads(records[0].value)
        out[answer["custom_id"]] = answer["response"]["body"]["choices"]
    return out


def main():
    made = [jobs.good(i) for i in range(COUNT)]
    with Workspace("faults") as space, KafkaBroker(space / "kafka") as broker:
        with broker.connect() as kafka:
            create_topics(kafka, **{"millrace.jobs": PARTITIONS})
            a, b = (Worker(space, MILLRACE, name, broker.address, any_model(), kafka={"delivery": "at-least-once"}).start()
                    for name in ("a", "b"))
            a.wait_ready()
            b.wait_ready()
            wait_until("a group of two", lambda: kafka.group("millrace") == ("Stable", 2), 30)
            placed = produce(kafka, made[:COUNT // 2], PARTITIONS)
            answers = Answers(kafka)
            answers.wait_for(COUNT // 10, 120, [a, b])
            b.process.signal(signal.SIGKILL)
            killed = time.monotonic()
            wait_until("one member left", lambda: kafka.group("millrace") == ("Stable", 1), 60)
            takeover = time.monotonic() - killed
            answers.wait_for(COUNT // 2, 120, [a])
            placed.update(produce(kafka, made[COUNT // 2:], PARTITIONS))
            answers.wait_for(COUNT * 6 // 10, 120, [a])
        broker.kill()
        assert len(answers.found) < COUNT, "everything was answered before the broker died: the test shows nothing"
        began = time.monotonic()
        broker.start()
        with broker.connect() as kafka:
            answers.reader.kafka = kafka
            answers.wait_for(COUNT, 240, [a])
            recovered = time.monotonic() - began
            wait_committed(kafka, PARTITIONS, timeout_s=60)
            first, faults, records = choices_of(answers, placed), answers.faults(placed), answers.records
            again = produce(kafka, made, PARTITIONS)  # the same jobs, nobody disturbed
            answers.wait_for(2 * COUNT, 240, [a])
            undisturbed = Answers(kafka)
            undisturbed.found = {place: answers.found[place] for place in again}
        assert a.process.stop(timeout_s=60) == 0
        second = choices_of(undisturbed, again)
        different = [name for name in first if first[name] != second.get(name)]
        if different:
            faults.append("%d jobs differ from the undisturbed run, e.g. %s" % (len(different), different[0]))
        print("kill -9 of a worker: its partitions moved after %.1f s; kill -9 of the broker: all answered %.1f s after "
              "its restart began" % (takeover, recovered))
        print("%d jobs, %d answers, %d repeated with equal bytes; %d of %d equal to the undisturbed run" % (
            COUNT, records, records - COUNT, len(first) - len(different), len(first)))
        print("\n".join(faults[:10]))
        return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
