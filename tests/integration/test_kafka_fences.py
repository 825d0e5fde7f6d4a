#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a broker does to a worker that it no longer trusts, on a real Kafka, exactly once: a second worker of the same name, a
worker that slept through its session, one that slept in the middle of a transaction, a result that the broker does not take, one of
two megabytes that it takes, a job that runs longer than max.poll.interval.ms. Each time every job has one answer.
  --long-job-s S and --max-poll-s P set the length of that job and the interval (default 15 and 10)."""
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import jobs  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from models import any_model  # noqa: E402
from once import AnsweredOnce  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from worker import Worker, create_topics  # noqa: E402


def option(name, default):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


MILLRACE = option("--millrace", None)
LONG_JOB_S, MAX_POLL_S = float(option("--long-job-s", 15)), int(option("--max-poll-s", 10))
PARTITIONS = 6
EX_UNAVAILABLE = 69


def send(kafka, prefix, count, tokens=8, **body):
    for partition in range(PARTITIONS):
        mine = range(partition, count, PARTITIONS)
        if mine:
            kafka.produce("millrace.jobs", partition, [
                (None, jobs.encode(jobs.line("%s-%d" % (prefix, i), prompt="Bought: mug %d" % i, seed=i, temperature=0.9,
                                             ignore_eos=True, max_tokens=tokens, **body)), []) for i in mine])


def check_same_name(start, kafka, answers):
    """The second of a name fences the first, which says so and ends; nothing is answered twice."""
    first = start("first", worker={"id": "twin"})
    send(kafka, "twin", 400, 40)
    wait_until("the first answers", lambda: answers.count("twin") > 20, 120)
    second = start("second", worker={"id": "twin"})
    send(kafka, "twins", 100)
    wait_until("the first to end", lambda: first.process.poll() is not None, 120)
    assert first.process.poll() == EX_UNAVAILABLE, first.process.log_tail()
    assert "fenced" in first.process.log.read_text().lower(), first.process.log_tail()
    answers.wait(400, 240, "twin-").wait(100, 240, "twins-")
    assert second.process.stop(60) == 0


def check_sleeper(start, kafka, answers):
    """A worker stopped for longer than its session comes back with results that are no longer its own."""
    sleeper, other = start("sleeper"), start("other")
    wait_until("a group of two", lambda: kafka.group("millrace") == ("Stable", 2), 60)
    send(kafka, "sleep", 600, 40)
    wait_until("work under way", lambda: answers.count("sleep") > 30, 120)
    sleeper.process.signal(signal.SIGSTOP)
    wait_until("the other alone", lambda: kafka.group("millrace") == ("Stable", 1), 60)
    sleeper.process.signal(signal.SIGCONT)
    answers.wait(600, 240, "sleep")
    wait_until("both again", lambda: kafka.group("millrace") == ("Stable", 2), 60)
    for worker in (sleeper, other):
        assert worker.process.stop(60) == 0, worker.process.log_tail()


def check_timed_out(start, kafka, answers):
    """Stopped in the middle of a transaction for longer than its ten seconds, but not for its session. Where it must end it
    says so, and is started again, as its supervisor would."""
    worker = start("slow", kafka={"session_timeout_ms": 30000})
    send(kafka, "late", 2400, 20)
    wait_until("work under way", lambda: answers.count("late") > 30, 120)

    def stopped_inside():
        worker.process.signal(signal.SIGSTOP)
        if kafka.transaction_open("millrace.results"):
            return True
        worker.process.signal(signal.SIGCONT)
        return False
    wait_until("a transaction to be open", stopped_inside, 60, 0.013)
    assert answers.count("late") < 2400, "everything was answered: the test shows nothing"
    wait_until("the broker to abort it", lambda: not kafka.transaction_open("millrace.results"), 60)
    worker.process.signal(signal.SIGCONT)

    def all_answered():
        if worker.process.poll() is not None:
            assert worker.process.poll() in (EX_UNAVAILABLE, 75), worker.process.log_tail()
            worker.start()
        return answers.count("late") == 2400
    wait_until("all answers", all_answered, 240)
    worker.process.stop(60)
    assert "ransaction" in worker.process.log.read_text(), "no transaction was in trouble: the test shows nothing"


def check_large(start, kafka, answers):
    """The result topic takes 1 MB: more becomes an error line, and what runs beside it is answered."""
    worker = start("large")
    many = dict(n=8, logprobs=5, return_token_ids=True)
    send(kafka, "large", 2, 1500, **many)
    send(kafka, "beside", 60)
    answers.wait(2, 240, "large").wait(60, 240, "beside")
    for i in range(2):
        line = answers.lines["large-%d" % i]
        assert line["response"] is None and line["error"]["code"] == "result_too_large", str(line)[:500]
    assert all(answers.lines["beside-%d" % i]["response"]["status_code"] == 200 for i in range(60))
    assert worker.process.stop(60) == 0


def check_whole(start, kafka, answers):
    """The same on a topic that takes more: results of over 2 MB come whole, in one transaction with small ones."""
    worker, choices, tokens = start("whole"), 12, 1500
    send(kafka, "whole", 2, tokens, n=choices, logprobs=5, return_token_ids=True)
    send(kafka, "by", 60)
    answers.wait(2, 240, "whole").wait(60, 240, "by")
    for i in range(2):
        assert len(answers.records["whole-%d" % i].value) > 2000000, len(answers.records["whole-%d" % i].value)
        body = answers.lines["whole-%d" % i]["response"]["body"]
        assert body["usage"]["completion_tokens"] == choices * tokens
        for choice in body["choices"]:
            assert len(choice["token_ids"]) == len(choice["logprobs"]["tokens"]) == tokens
    assert worker.process.stop(60) == 0


def seconds_of(answers, name):
    return int(answers.records[name].header("millrace-e2e-ms")) / 1000


def check_long_job(start, kafka, answers):
    """A job of more than max.poll.interval.ms: its worker keeps its partitions, and it runs once."""
    worker = start("long", kafka={"session_timeout_ms": 6000, "max_poll_interval_ms": MAX_POLL_S * 1000},
                   engine={"threads": 1, "kv_memory_mb": 128, "max_sequences": 1, "max_waiting": 4096},
                   limits={"max_choices": 4096})  # one choice after the other
    send(kafka, "measure", 1, 1000, n=2)
    answers.wait(1, 120, "measure")
    choices = max(1, round(2 * LONG_JOB_S / seconds_of(answers, "measure-0")))
    send(kafka, "long", 1, 1000, n=choices)
    answers.wait(1, 60 + 4 * LONG_JOB_S, "long")
    longest = seconds_of(answers, "long-0")
    assert longest > MAX_POLL_S, "the long job took %.1f s only" % longest
    assert answers.records["long-0"].header("millrace-attempt") == answers.records["measure-0"].header("millrace-attempt")
    assert kafka.group("millrace") == ("Stable", 1) and worker.process.stop(60) == 0
    return longest


def main():
    with Workspace("fences") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        create_topics(kafka)
        answers = AnsweredOnce(kafka)

        def start(name, **sections):
            sections.setdefault("kafka", {"session_timeout_ms": 3000})
            return Worker(space, MILLRACE, name, broker.address, any_model(), **sections).start().wait_ready()

        check_same_name(start, kafka, answers)
        check_sleeper(start, kafka, answers)
        check_timed_out(start, kafka, answers)
        longest = check_long_job(start, kafka, answers)
    with Workspace("fences") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        create_topics(kafka)
        for check, topic, most in ((check_large, "small.results", 1000000), (check_whole, "wide.results", 8000000)):
            kafka.create_topic(topic, 1, **{"max.message.bytes": str(most)})
            check(lambda name: Worker(space, MILLRACE, name, broker.address, any_model(),
                                      kafka={"results_topic": topic}).start().wait_ready(), kafka, AnsweredOnce(kafka, topic))
    print("fenced, expelled, timed out, too large, 2 MB, a job of %.0f s with max.poll.interval %d s: one answer each"
          % (longest, MAX_POLL_S))


main()
