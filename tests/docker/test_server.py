#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docker/compose.server.yml for real: a Kafka on this machine that speaks TLS and SCRAM-SHA-512 and lets the worker's user do
no more than docs/OPERATIONS.md lists, Redis with its ACL file, encrypted streams. Jobs go through exactly once, prefixes
into Redis, tokens only to readers that have the key; everything else is refused. Not part of ./test.

usage: tests/docker/test_server.py --millrace PATH [--jobs 300]      needs what test_compose.py needs, and openssl"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
sys.path.insert(0, str(ROOT / "tests/docker"))
import test_compose as base  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from process import Workspace, free_port  # noqa: E402
from stream_reader import StreamReader  # noqa: E402
from worker import create_topics  # noqa: E402

SECRETS = ROOT / "docker/secrets"
PASSWORD = "a-password-of-the-test"


def make_certificates(folder):
    """A CA and the broker's key with its certificate, PEM."""
    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, cwd=folder)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 30, "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=kafka.test", "-keyout", "broker.key", "-out", "broker.csr")
    (folder / "san").write_text("subjectAltName=DNS:kafka.test\n")
    openssl("x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", 30, "-extfile", "san",
            "-out", "broker.crt")
    (folder / "broker.pem").write_text((folder / "broker.key").read_text() + (folder / "broker.crt").read_text())


class SecureBroker(KafkaBroker):
    """Plain on loopback for the test itself, which may do all; SASL_SSL for others, who may do what an ACL says."""

    def __init__(self, directory):
        self.secure = free_port()
        super().__init__(directory)

    def properties(self):
        text = super().properties()
        text = re.sub(r"(listeners=PLAINTEXT://127.0.0.1:\d+),", r"\1,SECURE://0.0.0.0:%d," % self.secure, text, count=1)
        text = re.sub(r"(advertised.listeners=\S+)", r"\1,SECURE://kafka.test:%d" % self.secure, text)
        text = text.replace("PLAINTEXT:PLAINTEXT\n", "PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL\n")
        return text + """sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location=%s
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
""" % (self.directory / "broker.pem")

    def _format(self):
        make_certificates(self.directory)
        subprocess.run(self._java() + ["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(self.config),
                                       "--add-scram", "SCRAM-SHA-512=[name=millrace,password=%s]" % PASSWORD],
                       check=True, capture_output=True, timeout=120)

    def allow(self, *words):
        subprocess.run(self._java() + ["kafka.admin.AclCommand", "--bootstrap-server", self.address, "--add", "--allow-principal",
                                       "User:millrace", *words], check=True, capture_output=True, timeout=120)


def acls():
    """The list in docs/OPERATIONS.md, worker rows: [(words for kafka-acls)]."""
    table = re.search(r"<!-- worker ACLs -->\n```\n(.*?)```", (ROOT / "docs/OPERATIONS.md").read_text(), re.S).group(1)
    return [line.split() for line in table.strip().splitlines()]


def make_secrets(broker):
    base.run(ROOT / "docker/secrets.sh")
    kept = {}
    for name, text in {"kafka-password": PASSWORD, "kafka-ca.pem": (broker.directory / "ca.pem").read_text()}.items():
        path = SECRETS / name
        kept[path] = path.read_bytes() if path.exists() else None
        path.write_text(text)
    return kept


def compose(*words, **more):
    return base.run("docker-compose", "-f", ROOT / "docker/compose.server.yml", "-f", ROOT / "tests/docker/override.server.yml", *words,
                    **more)


def redis(*words):
    box = compose("ps", "-q", "redis").strip()
    return base.run("docker", "exec", box, "redis-cli", *words, check=False)


def check_redis():
    password = (SECRETS / "redis-password").read_text().strip()
    user = ["--user", "millrace", "--pass", password, "--no-auth-warning"]
    assert "NOAUTH" in redis("PING"), "anybody may use this Redis"
    found = redis(*user, "SCAN", "0", "MATCH", "kvt1:*", "COUNT", "1000")
    assert "kvt1:" in found, found
    for words in (["CONFIG", "GET", "*"], ["FLUSHALL"], ["GET", "other"], ["KEYS", "*"]):
        assert "NOPERM" in redis(*user, *words), words
    base.say("Redis: prefixes are there; nobody without a name, and the worker's user only what it needs")


def scenario(arguments, broker, space):
    compose("up", "-d", "--no-build", "--scale", "worker=2")
    base.compose = compose
    base.ADDRESS = broker.address
    base.wait_for("two ready workers", base.healthy(2))
    base.say("two workers joined over SASL_SSL, with %d ACLs" % len(acls()))
    batch = base.Batch("secure", arguments.jobs)
    server_key = (SECRETS / "stream-server-key").read_text()
    watch = space.start([arguments.millrace, "watch", "--json", "--jobs", "3", "--stream.bind=tcp://127.0.0.1:5557",
                         "--stream.replay_bind=tcp://127.0.0.1:5558"], "watch", output=space / "watch.jsonl",
                        env={"MILLRACE_STREAM_CURVE_SERVER_KEY": server_key})
    base.millrace("submit", batch.name + ".jsonl", "--batch-id", batch.name, "--allow-unknown", "--stream")
    batch.check()
    assert watch.wait(60) == 0 and "[DONE]" in (space / "watch.jsonl").read_text()
    try:
        StreamReader("tcp://127.0.0.1:5557")
    except OSError:
        base.say("tokens: read with the server key, a plain reader is refused")
    else:
        raise AssertionError("a plain reader was let in")
    check_redis()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    parser.add_argument("--jobs", type=int, default=300)
    arguments = parser.parse_args()
    base.WORK.mkdir(parents=True, exist_ok=True)
    kept = {}
    with base.Engine(), Workspace("server") as space:
        base.build_images()
        os.environ["MILLRACE_CPUS"] = "1"
        try:
            with SecureBroker(space / "kafka") as broker, broker.connect() as kafka:
                create_topics(kafka)
                for words in acls():
                    broker.allow(*words)
                kept = make_secrets(broker)
                if not (SECRETS / "stream-secret-key").exists():
                    base.run(arguments.millrace, "proxy", "--new-keys", SECRETS)
                    for name in ("stream-secret-key", "stream-server-key"):
                        shutil.chown(SECRETS / name, 10001)
                os.environ["KAFKA_BOOTSTRAP"] = "kafka.test:%d" % broker.secure
                scenario(arguments, broker, space)
        except BaseException:
            print(compose("logs", "--tail", "25", check=False), file=sys.stderr)
            raise
        finally:
            compose("down", "-v", check=False)
            for path, content in kept.items():
                if content is None:
                    path.unlink()
                else:
                    path.write_bytes(content)
    base.say("done")


if __name__ == "__main__":
    main()
