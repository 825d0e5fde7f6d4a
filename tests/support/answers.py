# SPDX-License-Identifier: Apache-2.0
"""Jobs into Kafka, answers out of it, matched by the place (partition, offset) that each answer names."""
import jobs
from kafka_wire import TopicReader
from process import wait_until


def produce(kafka, made, partitions, topic="millrace.jobs", batch=200):
    """Spreads the jobs over the partitions; returns {(partition, offset): job}."""
    placed = {}
    for partition in range(partitions):
        mine = made[partition::partitions]
        for at in range(0, len(mine), batch):
            part = mine[at:at + batch]
            first = kafka.produce(topic, partition, [(None, job.value, []) for job in part])
            placed.update({(partition, first + i): job for i, job in enumerate(part)})
    return placed


class Answers:
    def __init__(self, kafka, topic="millrace.results"):
        self.reader, self.found, self.records = TopicReader(kafka, topic), {}, 0

    def poll(self):
        for record in self.reader.poll():
            place = (int(record.header("millrace-source-partition")), int(record.header("millrace-source-offset")))
            self.found.setdefault(place, []).append(record)
            self.records += 1
        return self.found

    def wait_for(self, count, timeout_s, workers):
        """Until `count` jobs are answered; fails at once when one of the workers stops."""
        def enough():
            for worker in workers:
                if worker.process.poll() is not None:
                    raise AssertionError("%s stopped with %d" % (worker.name, worker.process.poll()))
            return len(self.poll()) >= count
        try:
            wait_until("answers", enough, timeout_s)
        except AssertionError as error:
            raise AssertionError("%s (%d of %d answered)" % (error, len(self.found), count)) from None

    def faults(self, placed):
        """What is wrong: jobs without an answer, wrong answers, answers that differ, answers to nothing."""
        faults = []
        for place, job in placed.items():
            records = self.found.get(place)
            if not records:
                faults.append("%s at %s was never answered" % (job.kind, place))
                continue
            jobs.check_answer(job, records[0], faults)
            if any(record.value != records[0].value for record in records):
                faults.append("two answers to %s at %s differ" % (job.kind, place))
        if set(self.found) - set(placed):
            faults.append("answers to jobs that nobody sent")
        return faults


def wait_committed(kafka, partitions, topic="millrace.jobs", group="millrace", timeout_s=30):
    def pairs():
        return [(kafka.committed_offset(group, topic, p), kafka.offset(topic, p)) for p in range(partitions)]
    try:
        wait_until("every offset to be committed", lambda: all(done == end for done, end in pairs()), timeout_s)
    except AssertionError as error:
        raise AssertionError("%s: (committed, end) %s" % (error, pairs())) from None
