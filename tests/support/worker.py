# SPDX-License-Identifier: Apache-2.0
"""Starts `millrace worker` processes with a written configuration and waits until they are ready."""
import json
import urllib.error
import urllib.request

from process import free_port, wait_until

TOPICS = {"millrace.jobs": 6, "millrace.results": 3, "millrace.jobs-dlt": 1, "millrace.status": 1,
          "millrace.control": 1}


def create_topics(kafka, **partitions):
    for name, count in TOPICS.items():
        configs = {"cleanup.policy": "compact"} if name == "millrace.status" else {}
        kafka.create_topic(name, partitions.get(name, count), **configs)


class Worker:
    def __init__(self, space, millrace, name, address, model, /, **sections):
        self.space, self.millrace, self.name = space, millrace, name
        self.http, live, self.replay_port = free_port(), free_port(), free_port()
        self.stream = "tcp://127.0.0.1:%d" % live
        self.replay = "tcp://127.0.0.1:%d" % self.replay_port
        content = {
            "model": {"path": str(model)},
            "engine": {"threads": 1, "kv_memory_mb": 64},
            "kafka": {"bootstrap_servers": address, "session_timeout_ms": 6000},
            "stream": {"bind": self.stream, "replay_bind": self.replay},
            "http": {"port": self.http},
            "worker": {"id": name},
        }
        for section, keys in sections.items():
            content[section] = {**content.get(section, {}), **keys}
        self.config = space / ("%s.jsonc" % name)
        self.config.write_text(json.dumps(content))
        self.process = None

    def start(self):
        self.process = self.space.start([self.millrace, "worker", "-c", self.config], self.name)
        return self

    def get(self, path):
        """(status, body) of its HTTP port, (0, "") while it does not answer."""
        try:
            with urllib.request.urlopen("http://127.0.0.1:%d%s" % (self.http, path), timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self, timeout_s=60):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError("%s exited with %d:\n%s" % (self.name, self.process.poll(), self.process.log_tail()))
            return self.get("/readyz")[0] == 200
        wait_until("%s to be ready" % self.name, ready, timeout_s)
        return self


def metric(worker, name, label=""):
    """The value of the first sample of this name (that has this label) on the worker's metrics page."""
    for text in worker.get("/metrics")[1].splitlines():
        if text.startswith((name + " ", name + "{")) and label in text:
            return float(text.rsplit(" ", 1)[1])
    return None
