#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two job topics: a backlog far larger than what may be in flight on one, a few jobs on the other, which say that they are
urgent. The few are answered while most of the backlog still waits: it can neither fill the worker nor go first."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import jobs  # noqa: E402
from once import AnsweredOnce  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from worker import Worker, create_topics  # noqa: E402

MILLRACE = sys.argv[sys.argv.index("--millrace") + 1]
BACKLOG, LIVE = 3000, 20


def records(prefix, count, tokens, headers):
    return [(None, jobs.encode(jobs.line("%s-%d" % (prefix, i), prompt="Bought: mug %d" % i, max_tokens=tokens, seed=i,
                                         temperature=0.9, ignore_eos=True)), headers) for i in range(count)]


def main():
    with Workspace("lanes") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        create_topics(kafka)
        kafka.create_topic("millrace.live", 1)
        worker = Worker(space, MILLRACE, "worker", broker.address, any_model(),
                        kafka={"topics": [{"name": "millrace.jobs", "weight": 3}, {"name": "millrace.live", "weight": 1}]},
                        engine={"threads": 1, "kv_memory_mb": 64, "max_sequences": 16, "max_waiting": 2048},
                        limits={"max_inflight_jobs": 1600}).start()
        worker.wait_ready()
        answers = AnsweredOnce(kafka)
        for first in range(0, BACKLOG, 500):
            kafka.produce("millrace.jobs", 0, records("back%d" % first, 500, 100, []))
        wait_until("the backlog to be under way", lambda: answers.count("back") > 30, 120)
        kafka.produce("millrace.live", 0, records("live", LIVE, 10, [("millrace-priority", b"-10")]))
        wait_until("the urgent answers", lambda: answers.count("live") == LIVE, 240)
        share = answers.count("back") / BACKLOG
        assert share < 0.3, "%d %% of the backlog was answered first" % (100 * share)
        wait_until("the backlog", lambda: answers.count("back") == BACKLOG, 400)
        assert worker.process.stop(60) == 0
    print("%d urgent jobs answered when %.0f %% of %d others were" % (LIVE, 100 * share, BACKLOG))


main()
