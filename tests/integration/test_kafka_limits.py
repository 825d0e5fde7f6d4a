#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a job may ask for and a tenant may have, on a real Kafka: text so far at a deadline, so many jobs of one tenant at
once, and a worker that is restarted as a static member without moving anybody's partitions; `millrace top` sees both."""
import json
import pathlib
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import jobs  # noqa: E402
from once import AnsweredOnce  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from worker import Worker, create_topics  # noqa: E402

MILLRACE = sys.argv[sys.argv.index("--millrace") + 1]
CAP, TENANT_JOBS, MANY = 2, 12, 100
LONG = {"temperature": 0.9, "ignore_eos": True, "max_tokens": 1500}


def record(name, headers=(), **body):
    return (None, jobs.encode(jobs.line(name, prompt="Bought: mug", **body)), list(headers))


def check_deadlines(kafka, answers):
    """It runs far longer than its deadline allows: what there is by then, or nothing."""
    deadline = ("millrace-deadline-ms", b"%d" % (time.time() * 1000 + 6000))
    kafka.produce("millrace.jobs", 0, [
        record("partial", [deadline, ("millrace-partial", b"1")], n=MANY, seed=1, **LONG),
        record("nothing", [deadline], n=MANY, seed=2, **LONG)])
    answers.wait(2, 120)
    partial, nothing = answers.lines["partial"], answers.lines["nothing"]
    assert nothing["response"] is None and nothing["error"]["code"] == "batch_expired", nothing
    assert partial["error"]["code"] == "batch_expired" and partial["response"]["status_code"] == 200
    body = partial["response"]["body"]
    assert len(body["choices"]) == MANY and all(choice["finish_reason"] == "abort" for choice in body["choices"])
    assert sum(len(choice["text"]) for choice in body["choices"]) > 0 and body["usage"]["completion_tokens"] > 0
    assert answers.records["partial"].header("millrace-status") == b"expired"


def running(worker, tenant):
    """Its jobs that run now."""
    content = json.loads(worker.get("/debug/jobs")[1])
    return [job["custom_id"] for job in content["jobs"] if job["custom_id"].startswith(tenant)]


def check_tenants(kafka, worker, answers):
    kafka.produce("millrace.jobs", 1, [record("a-%02d" % i, [("millrace-tenant", b"a")], n=4, seed=i, **{**LONG, "max_tokens": 500})
                                       for i in range(TENANT_JOBS)]
                  + [record("b-%d" % i, [("millrace-tenant", b"b")], seed=i, max_tokens=20) for i in range(3)])
    most = 0
    before = answers.count("a-")

    def behind_answered():
        nonlocal most
        most = max(most, len(running(worker, "a-")))
        return answers.count("b-") == 3
    wait_until("those behind the busy tenant", behind_answered, 120, 0.01)
    ahead = answers.count("a-") - before
    wait_until("two jobs of the tenant at once", lambda: len(running(worker, "a-")) == CAP or answers.count("a-") == TENANT_JOBS, 60)
    while answers.count("a-") < TENANT_JOBS:
        most = max(most, len(running(worker, "a-")))
    assert most == CAP, "%d jobs of one tenant ran at once" % most
    assert ahead < TENANT_JOBS, "the tenant's jobs all went first"


def rebalances(worker):
    return float(re.search(r"^millrace_rebalances_total (\S+)", worker.get("/metrics")[1], re.M).group(1))


def top(*words):
    return subprocess.run([MILLRACE, "top", *map(str, words)], capture_output=True, text=True, timeout=60)


def check_top(broker, pair):
    """Both workers, found through their group; one that is named and absent is said to be."""
    ports = {"127.0.0.1:%d" % worker.http for worker in pair}
    done = top("--json", "--kafka.group_id=static", "--kafka.bootstrap_servers", broker.address)
    rows = json.loads(done.stdout)["workers"]
    assert done.returncode == 0 and {row["address"] for row in rows if row["answers"]} == ports, done.stdout
    done = top("--once", *ports, "127.0.0.1:1")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 5 and lines[-1].startswith("all "), done.stdout
    assert "127.0.0.1:1              does not answer" in lines, done.stdout
    assert top("--once", "127.0.0.1:1").returncode == 69


def check_static(kafka, space, broker, answers):
    options = {"kafka": {"static_membership": True, "group_id": "static", "session_timeout_ms": 30000,
                         "topics": [{"name": "static.jobs", "weight": 1}]}}
    pair = [Worker(space, MILLRACE, "static-%d" % i, broker.address, any_model(), **options).start() for i in range(2)]
    for worker in pair:
        worker.wait_ready()
    wait_until("both to have partitions", lambda: min(map(rebalances, pair)) > 0 and kafka.group("static") == ("Stable", 2), 60)
    check_top(broker, pair)
    before = rebalances(pair[1])
    assert pair[0].process.stop(60) == 0
    kafka.produce("static.jobs", 0, [record("s-0-%d" % i, seed=i, max_tokens=5) for i in range(10)])
    kafka.produce("static.jobs", 1, [record("s-1-%d" % i, seed=i, max_tokens=5) for i in range(10)])
    pair[0].start().wait_ready()
    answers.wait(20, 120, "s-")
    assert rebalances(pair[1]) == before, "partitions moved for a restart"
    for worker in pair:
        assert worker.process.stop(60) == 0


def main():
    with Workspace("limits") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        create_topics(kafka)
        kafka.create_topic("static.jobs", 2)
        worker = Worker(space, MILLRACE, "worker", broker.address, any_model(), worker={"id": "worker", "trust_headers": True},
                        limits={"max_inflight_per_tenant": CAP}).start().wait_ready()
        answers = AnsweredOnce(kafka)
        check_deadlines(kafka, answers)
        check_tenants(kafka, worker, answers)
        assert worker.process.stop(60) == 0
        check_static(kafka, space, broker, answers)
    print("partial text at a deadline, %d of a tenant at once, no partition moved for a static member's restart" % CAP)


main()
