#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`millrace submit` killed at random moments and run again with the same words: the job topic of a real Kafka holds
every line of the file exactly once. A file with a bad line sends nothing. --lines and --kills: more of both."""
import argparse
import collections
import json
import pathlib
import random
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from jobs import line  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from kafka_wire import TopicReader  # noqa: E402
from process import Workspace  # noqa: E402


def stored(broker):
    with broker.connect() as kafka:
        reader, records = TopicReader(kafka, "millrace.jobs"), []
        while True:
            more = reader.poll()
            if not more:
                return records
            records += more


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--lines", type=int, default=30000)
    parser.add_argument("--kills", type=int, default=8)
    arguments = parser.parse_args()
    binary, lines, kills = arguments.millrace, arguments.lines, arguments.kills
    rng = random.Random(7)
    with Workspace("submit") as space, KafkaBroker(space / "kafka") as broker:
        topics = [binary, "topics", "--kafka.bootstrap_servers", broker.address]
        assert subprocess.run(topics, capture_output=True, timeout=60).returncode == 1, "nothing is there yet"
        subprocess.run(topics + ["--create", "--partitions", "6"], check=True, capture_output=True, timeout=60)
        assert subprocess.run(topics, capture_output=True, timeout=60).returncode == 0
        source = space / "night.jsonl"
        source.write_text("".join(json.dumps(line("n-%d" % i, prompt="x" * 40, max_tokens=2)) + "\n"
                                  for i in range(lines)))
        command = [binary, "submit", source, "--kafka.bootstrap_servers", broker.address]
        killed = 0
        for kill in range(kills):
            process = space.start(command, "submit-%d" % kill)
            time.sleep(rng.uniform(0.3, 2.0 * max(1, lines / 300000)))
            killed += process.poll() is None
            process.kill()
        space.start(command, "submit-last").wait(600)
        records = stored(broker)
        counts = collections.Counter(json.loads(record.value)["custom_id"] for record in records)
        assert len(counts) == lines, "%d of %d jobs arrived" % (len(counts), lines)
        assert max(counts.values()) == 1, "%d jobs were doubled" % sum(count > 1 for count in counts.values())
        batches = {record.header("millrace-batch-id") for record in records}
        assert batches == {b"night"}, batches
        bad = space / "bad.jsonl"
        bad.write_text(json.dumps(line("b-1", prompt="x")) + "\n" + json.dumps(line("b-2", promt="x")) + "\n")
        done = subprocess.run([binary, "submit", bad, "--kafka.bootstrap_servers", broker.address],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 78 and 'did you mean "prompt"' in done.stderr, (done.returncode, done.stderr)
        assert len(stored(broker)) == lines, "a file with a bad line was sent in part"
    print("%d kills, %d of them in the middle: each of %d lines is in the topic once" % (kills, killed, lines))


if __name__ == "__main__":
    main()
