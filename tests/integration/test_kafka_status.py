#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`millrace status` on a real Kafka: before, during and after, over two owners of the partitions; the sums that workers write
equal those of the result lines."""
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import jobs  # noqa: E402
import schema  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from kafka_wire import TopicReader  # noqa: E402
from models import ROOT, any_model  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from worker import Worker  # noqa: E402

MILLRACE = sys.argv[sys.argv.index("--millrace") + 1]
COUNT = 60


def verb(broker, *words, code=0):
    done = subprocess.run([MILLRACE, *map(str, words), "--kafka.bootstrap_servers", broker.address], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout


def request_counts(broker):
    return json.loads(verb(broker, "status", "night", "--json", code=1))["request_counts"]


def main():
    with Workspace("status") as space, KafkaBroker(space / "kafka") as broker:
        made = verb(broker, "topics", "--create", "--retention-hours", 24, "--kafka.dlt_topic=")
        assert "millrace.jobs " in made and "missing" not in made and "dlt" not in made, made
        source, out = space / "night.jsonl", space / "out.jsonl"
        prompt = "Once upon a time there was a little girl named Lily, and she lived in a house with a garden."
        lines = [jobs.line("n-%d" % i, prompt=prompt, max_tokens=2 + i % 9, temperature=0.9, seed=i) for i in range(COUNT)]
        lines[7]["body"]["model"] = "nobody"  # what only a worker can refuse
        source.write_text("".join(json.dumps(line) + "\n" for line in lines))
        verb(broker, "submit", source)
        before = json.loads(verb(broker, "status", "night", "--json", code=1))
        assert before["status"] == "validating" and before["request_counts"]["total"] == COUNT, before
        first = Worker(space, MILLRACE, "first", broker.address, any_model(), limits={"max_inflight_jobs": 8}).start()
        wait_until("the first answers", lambda: request_counts(broker)["completed"] > 5, 120)
        first.process.kill()
        middle = request_counts(broker)
        assert 5 < middle["completed"] <= COUNT, middle
        worker = Worker(space, MILLRACE, "worker", broker.address, any_model()).start()
        verb(broker, "results", "--batch-id", "night", "--expect", source, "--wait", "120", "-o", out)
        assert worker.process.stop(timeout_s=60) == 0
        after = json.loads(verb(broker, "status", "night", "--json", code=1))
        found = [json.loads(line)["response"] for line in out.read_text().splitlines()]
        usage = [response["body"]["usage"] for response in found if response["status_code"] == 200]
        assert after["object"] == "batch" and after["status"] == "completed" and after["completed_at"] >= after["created_at"]
        counts = {"total": COUNT, "completed": COUNT - 1, "failed": 1, "cancelled": 0, "expired": 0}
        assert after["request_counts"] == counts, after
        cached = sum((one["prompt_tokens_details"] or {}).get("cached_tokens", 0) for one in usage)
        assert cached > 0, "nothing was cached: the sum shows nothing"
        assert after["usage"] == {
            "input_tokens": sum(one["prompt_tokens"] for one in usage), "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": sum(one["completion_tokens"] for one in usage),
            "total_tokens": sum(one["total_tokens"] for one in usage)}, after
        again = json.loads(verb(broker, "status", "night", "--json", "--recount", code=1))
        assert after["core_seconds"] > 0 and again["core_seconds"] == 0, (after, again)
        shape = json.loads((ROOT / "docs/formats/status.schema.json").read_text())
        with broker.connect() as kafka:
            records = TopicReader(kafka, "millrace.status").poll()
        keys = {record.key.decode() for record in records}
        assert "night" in keys and any(key.startswith("night/millrace.jobs/") for key in keys), keys
        for value in [json.loads(record.value) for record in records] + [after]:
            assert schema.check(value, shape) is None, (schema.check(value, shape), value)
        for name in ("status", "request_counts", "usage", "created_at"):
            assert after[name] == again[name], (after, again)
        text = verb(broker, "status", "night", code=1)
        assert "60 of 60 answered: 59 completed, 1 failed" in text, text
        assert json.loads(verb(broker, "status", "other", "--json", code=1))["request_counts"]["total"] == 0
    print("status agrees with the results")


main()
