#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`millrace proxy`: two workers publish to it and bind nothing themselves; a reader of one address sees the tokens of
both, put together they are the texts of the results, and a replay finds them whichever worker has them. Then the same
with CURVE keys: `millrace watch` with the server key reads, one without it and a plain peer see nothing."""
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import jobs  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from kafka_wire import TopicReader  # noqa: E402
from models import any_model  # noqa: E402
from process import Workspace, free_port, wait_until  # noqa: E402
from stream_reader import StreamReader, replay  # noqa: E402
from worker import Worker, create_topics  # noqa: E402

MILLRACE = sys.argv[sys.argv.index("--millrace") + 1]
COUNT, PARTITIONS = 48, 6


def address(port):
    return "tcp://127.0.0.1:%d" % port


class Proxy:
    def __init__(self, space, name, **stream):
        self.live, self.replay, up, up_replay = (address(free_port()) for _ in range(4))
        self.http = free_port()
        self.of_workers = {"bind": "", "replay_bind": "", "proxy": up, "proxy_replay": up_replay}
        path = space / (name + ".jsonc")
        path.write_text(json.dumps({"stream": {"bind": self.live, "replay_bind": self.replay, **stream},
                                    "proxy": {"workers_bind": up, "workers_replay_bind": up_replay},
                                    "http": {"port": self.http}}))
        self.process = space.start([MILLRACE, "proxy", "-c", path], name)
        ask = [MILLRACE, "health", "--http.port", str(self.http)]
        wait_until("the proxy", lambda: subprocess.run(ask, capture_output=True).returncode == 0, 30)


def send(kafka, batch):
    for partition in range(PARTITIONS):
        records = []
        for i in range(partition, COUNT, PARTITIONS):
            body = {"prompt": "Bought: kettle, mug %d" % i, "max_tokens": 30, "temperature": 0.9, "seed": i,
                    "ignore_eos": True}
            records.append((None, jobs.encode(jobs.line("%s-%d" % (batch, i), **body)),
                            [("millrace-batch-id", batch.encode()), ("millrace-stream", b"1")]))
        kafka.produce("millrace.jobs", partition, records)


class Results:
    def __init__(self, kafka):
        self.reader, self.texts, self.workers = TopicReader(kafka, "millrace.results"), {}, set()

    def poll(self):
        for record in self.reader.poll(wait_ms=10):
            answer = json.loads(record.value)
            self.texts[answer["custom_id"]] = answer["response"]["body"]["choices"][0]["text"]
            self.workers.add(record.header("millrace-worker"))
        return self.texts


def metric(worker, name):
    lines = worker.get("/metrics")[1].splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name + " "))


def start_workers(space, broker, prefix, stream):
    workers = [Worker(space, MILLRACE, "%s%d" % (prefix, i), broker.address, any_model(), stream=stream).start()
               for i in range(2)]
    for worker in workers:
        worker.wait_ready()
    # Both are in the group and have partitions, so both will publish.
    wait_until("both to have partitions", lambda: all(metric(worker, "millrace_rebalances_total") >= PARTITIONS / 2
                                                      for worker in workers), 60)
    return workers


def stop(workers, proxy):
    for process in [worker.process for worker in workers] + [proxy.process]:
        assert process.stop(timeout_s=60) == 0


def plain(space, broker, kafka, results):
    proxy = Proxy(space, "proxy")
    workers = start_workers(space, broker, "plain", proxy.of_workers)
    reader = StreamReader(proxy.live)
    # A subscription travels through the proxy to both workers; both tell by their metrics.
    wait_until("the subscription", lambda: all(metric(worker, "millrace_stream_subscriptions") == 1 for worker in workers), 30)
    send(kafka, "plain")
    wait_until("the answers", lambda: reader.drain() * 0 + len(results.poll()) == COUNT, 120)
    wait_until("the ends", lambda: reader.drain() * 0 + sum(job.done() for job in reader.jobs.values()) == COUNT, 30)
    assert len(results.workers) == 2, "one worker did it all: %s" % results.workers
    for topic, job in reader.jobs.items():
        name = topic.decode().rstrip("\0")[len("job.plain."):]
        assert job.complete() and job.texts() == {0: results.texts[name]}, name
        again = replay(proxy.replay, topic, 0)
        assert [seq for seq, _, _ in again] == sorted(job.chunks), (name, len(again))
        assert [chunk for _, _, chunk in again] == [job.chunks[seq] for seq in sorted(job.chunks)], name
    assert replay(proxy.replay, b"job.plain.nobody\0", 0) == []
    stop(workers, proxy)


def watch(space, proxy, name, *words, **env):
    command = [MILLRACE, "watch", "--json", "--stream.bind", proxy.live, "--stream.replay_bind", proxy.replay, *words]
    return space.start(command, name, output=space / name, env=env)


def encrypted(space, broker, kafka, results):
    keys = space / "keys"
    keys.mkdir()
    for code in (0, 78):  # keys that are there are never overwritten
        done = subprocess.run([MILLRACE, "proxy", "--new-keys", keys], capture_output=True, text=True)
        assert done.returncode == code, done
    secret, server = ((keys / name).read_text() for name in ("stream-secret-key", "stream-server-key"))
    proxy = Proxy(space, "curve", curve_secret_key=secret)
    workers = start_workers(space, broker, "curve", {**proxy.of_workers, "curve_server_key": server})
    known = watch(space, proxy, "known", "--jobs", str(COUNT), MILLRACE_STREAM_CURVE_SERVER_KEY=server)
    stranger = watch(space, proxy, "stranger")
    wait_until("the subscription", lambda: all(metric(worker, "millrace_stream_subscriptions") == 1 for worker in workers), 30)
    before = len(results.poll())
    send(kafka, "curve")
    wait_until("the answers", lambda: len(results.poll()) == before + COUNT, 120)
    assert known.wait(60) == 0
    texts, epochs = {}, set()
    for line in (space / "known").read_text().splitlines():
        message = json.loads(line)
        assert message["missed"] == 0, line
        epochs.add(message["epoch"])
        if message["chunk"] != "[DONE]":
            name = message["topic"][len("job.curve."):]
            texts[name] = texts.get(name, "") + message["chunk"]["choices"][0]["text"]
    assert texts == {name: text for name, text in results.texts.items() if name.startswith("curve")}
    assert len(epochs) == 2, epochs
    stranger.kill()
    assert (space / "stranger").read_text() == "", "a reader without the key saw tokens"
    try:
        StreamReader(proxy.live)
    except OSError:
        pass
    else:
        raise AssertionError("a plain peer was let in")
    stop(workers, proxy)


def main():
    refused = subprocess.run([MILLRACE, "proxy", "--stream.bind", "tcp://0.0.0.0:%d" % free_port()], capture_output=True,
                             text=True, timeout=30)
    assert refused.returncode == 78 and "CURVE" in refused.stderr, refused
    with Workspace("proxy") as space, KafkaBroker(space / "kafka") as broker, broker.connect() as kafka:
        create_topics(kafka)
        results = Results(kafka)
        plain(space, broker, kafka, results)
        encrypted(space, broker, kafka, results)
    print("%d jobs of two workers through one address, plain and encrypted; replayed from whoever had them" % COUNT)


main()
