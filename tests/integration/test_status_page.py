#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The HTTP port of a busy worker: the page's state follows 100 running jobs and shows their text only when told to, the
trace is Chrome's, what people see is for this machine only, and bad clients (bodies, huge headers, silence) are
turned away while good ones are served. Where Chromium is installed, the page itself: it renders and updates, says
nothing on the console, and fits 400 pixels.

usage: test_status_page.py --millrace PATH [--pictures DIR]"""
import http.client
import json
import pathlib
import re
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import chromium  # noqa: E402
import jobs  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace, wait_until  # noqa: E402
from worker import Worker, create_topics  # noqa: E402

MILLRACE = sys.argv[sys.argv.index("--millrace") + 1]
PICTURES = sys.argv[sys.argv.index("--pictures") + 1] if "--pictures" in sys.argv else None
RUNNING, LONG = 100, 450


def send(kafka, prefix, count, tokens):
    kafka.produce("millrace.jobs", 0, [
        (None, jobs.encode(jobs.line("%s-%03d" % (prefix, i), prompt="Bought: kettle, mug %d" % (i % 7), max_tokens=tokens,
                                     temperature=0.9, seed=i, ignore_eos=True)), [("millrace-batch-id", b"evening")])
        for i in range(count)])


def state(worker):
    status, body = worker.get("/debug/state")
    assert status == 200, (status, body)
    return json.loads(body)


def check_state(worker, text):
    wait_until("%d running jobs on the page" % RUNNING, lambda: len(state(worker)["jobs"]) >= RUNNING, 60)
    first = state(worker)
    wait_until("tokens", lambda: state(worker)["batch"]["generated_tokens"] > first["batch"]["generated_tokens"], 60)
    one = max(state(worker)["jobs"], key=lambda job: job["tokens"])
    assert one["custom_id"].startswith("page-") and one["batch_id"] == "evening" and 0 < one["tokens"] <= LONG, one
    assert one["most_tokens"] == LONG and one["prompt_tokens"] > 2
    assert ("text" in one) == text, one
    wait_until("blocks in use on the map", lambda: "u" in state(worker)["blocks"]["map"], 30)
    assert set(first["blocks"]["map"]) <= set("ucf") and len(first["blocks"]["map"]) > 50, first["blocks"]
    assert first["ready"] and not first["draining"] and first["queue"]["partitions"] == 6 and first["tier"] is None
    assert json.loads(worker.get("/debug/jobs")[1])["jobs"], "no jobs"


def check_trace(worker):
    events = json.loads(worker.get("/debug/trace?seconds=60")[1])["traceEvents"]
    names = {event["name"] for event in events if event["ph"] == "X"}
    assert {"step", "parse", "report", "transaction"} <= names, names
    steps = [event for event in events if event["name"] == "step"]
    assert all(event["dur"] >= 0 and event["ts"] > 0 for event in steps)
    ends = [event["ts"] + event["dur"] for event in steps]
    assert ends == sorted(ends), "one engine thread: its steps follow each other"
    assert worker.get("/debug/trace?seconds=x")[0] == 400 and worker.get("/debug/trace?seconds=-1")[0] == 400


def own_address():
    """An address of this machine that is not loopback, or None. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = probe.getsockname()[0]
    return None if address.startswith("127.") else address


def ask(address, port, method, path, headers=None, body=None):
    connection = http.client.HTTPConnection(address, port, timeout=30)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        return connection.getresponse().status
    except (http.client.HTTPException, OSError):
        return 0
    finally:
        connection.close()


def check_limits(worker):
    address = own_address()
    if address:
        for path, status in {"/": 403, "/debug/state": 403, "/debug/trace": 403, "/debug/jobs": 403, "/metrics": 200,
                             "/readyz": 200}.items():
            assert ask(address, worker.http, "GET", path) == status, path
    assert ask("127.0.0.1", worker.http, "GET", "/nothing") == 404
    assert ask("127.0.0.1", worker.http, "HEAD", "/") == 200
    assert ask("127.0.0.1", worker.http, "POST", "/metrics", body=b"x" * 10) == 405
    assert ask("127.0.0.1", worker.http, "POST", "/", body=b"x" * (8 << 20)) in (405, 0)
    assert ask("127.0.0.1", worker.http, "GET", "/metrics", {"X-Big": "x" * 100000}) in (413, 431, 0)
    assert ask("127.0.0.1", worker.http, "GET", "/" + "x" * 100000) in (404, 413, 414, 431, 0)
    slow = [socket.create_connection(("127.0.0.1", worker.http)) for _ in range(20)]
    for one in slow:
        one.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")  # and never the rest
    began = time.monotonic()
    assert worker.get("/metrics")[0] == 200, "silent clients keep others out"
    for one in slow:
        one.settimeout(60)
        while one.recv(4096):  # an answer (408) or nothing, then the end
            pass
        one.close()
    assert time.monotonic() - began < 55, "silent clients are not turned away"
    assert worker.get("/metrics")[0] == 200


def check_page(worker, pictures):
    url = "http://127.0.0.1:%d/" % worker.http
    with chromium.Chromium() as browser:
        for name, width, height, dark in (("light", 1280, 900, False), ("dark", 1280, 900, True), ("narrow", 400, 1500, False)):
            browser.look(url, width, height, dark)
            wait_until("the page to show jobs", lambda: browser.evaluate(
                "document.querySelectorAll('#jobs tbody tr').length >= %d" % RUNNING), 60)
            shown = "document.getElementById('rate').textContent + document.querySelector('#jobs tbody').textContent"
            before = browser.evaluate(shown)
            wait_until("the page to change", lambda: browser.evaluate(shown) != before, 30)
            assert browser.evaluate("document.getElementById('state').textContent") == "ready"
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "%s scrolls sideways" % name
            assert browser.evaluate("document.querySelectorAll('#map i').length") > 50
            paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, re.findall(r"\d+", paper)[:3])) < 200) == dark, paper
            if pictures:
                time.sleep(12)  # the curve grows
                browser.picture(pathlib.Path(pictures) / ("page-%s.png" % name))
        assert not browser.complaints, browser.complaints


def main():
    with Workspace("page") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        create_topics(kafka)
        options = {"engine": {"threads": 1, "kv_memory_mb": 64, "max_sequences": 128}, "http": {"bind": "0.0.0.0"}}
        worker = Worker(space, MILLRACE, "worker", broker.address, any_model(), **options).start()
        worker.wait_ready()
        send(kafka, "page", 3000, LONG)
        check_state(worker, text=False)
        check_trace(worker)
        check_limits(worker)
        seen = bool(chromium.find())
        if seen:
            check_page(worker, PICTURES)
        worker.process.kill()
        # in a group of its own: in the first one, what ran when its worker died is tried again a few at a time
        worker = Worker(space, MILLRACE, "worker", broker.address, any_model(), status_page={"show_text": True},
                        kafka={"group_id": "another"}, **options).start()
        worker.wait_ready()
        check_state(worker, text=True)
        worker.process.kill()
        hidden = Worker(space, MILLRACE, "hidden", broker.address, any_model(), status_page={"enabled": False}).start()
        hidden.wait_ready()
        assert [hidden.get(path)[0] for path in ("/", "/debug/state", "/metrics")] == [404, 404, 200]
        hidden.process.kill()
    print("state, trace and limits hold%s" % ("; the page renders in Chromium" if seen else "; no Chromium here: page not looked at"))


main()
