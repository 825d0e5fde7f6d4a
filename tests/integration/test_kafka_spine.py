#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Real Kafka, 6 partitions, 2 workers, 5,000 jobs of which one in ten is bad in every way that is documented:
every job is answered, no worker stops, and a rolling restart of both workers in the middle loses nothing."""
import pathlib
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
COUNT, PARTITIONS, MAX_JOB_BYTES = 5000, 6, 65536


def restart(worker, kafka):
    code = worker.process.stop(timeout_s=90)
    assert code == 0, "%s drained with exit code %d:\n%s" % (worker.name, code, worker.process.log_tail())
    worker.start().wait_ready()
    wait_until("a group of two again", lambda: kafka.group("millrace") == ("Stable", 2), 60)


def main():
    made = [jobs.bad(i // 10, MAX_JOB_BYTES) if i % 10 == 9 else jobs.good(i) for i in range(COUNT)]
    with Workspace("spine") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        create_topics(kafka)
        workers = [Worker(space, MILLRACE, name, broker.address, any_model(), limits={"max_job_bytes": MAX_JOB_BYTES})
                   for name in ("worker-a", "worker-b")]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.wait_ready()
        wait_until("a group of two", lambda: kafka.group("millrace") == ("Stable", 2), 30)
        began = time.monotonic()
        placed = produce(kafka, made, PARTITIONS)
        answers = Answers(kafka)
        answers.wait_for(COUNT * 3 // 10, 300, workers)
        for worker in workers:
            restart(worker, kafka)
        assert len(answers.poll()) < COUNT, "everything was answered before the restart: the test shows nothing"
        answers.wait_for(COUNT, 400, workers)
        seconds = time.monotonic() - began
        wait_committed(kafka, PARTITIONS)
        for worker in workers:
            assert worker.process.stop(timeout_s=90) == 0
        answers.poll()
        faults = answers.faults(placed)
        print("%d jobs (%d kinds of bad ones) in %.0f s, %.0f jobs/s; %d answers, %d of them repeated with equal bytes" % (
            COUNT, len({job.kind for job in made}) - 1, seconds, COUNT / seconds, answers.records,
            answers.records - COUNT))
        print("\n".join(faults[:20]))
        return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
