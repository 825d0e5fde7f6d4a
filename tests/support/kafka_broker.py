# SPDX-License-Identifier: Apache-2.0
"""A real Kafka broker (Apache Kafka 3.9.1, KRaft, one process) on loopback, for tests that may kill it."""
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from kafka_wire import Kafka, KafkaError  # noqa: E402
from process import SKIP, Process, free_port  # noqa: E402

HERE = pathlib.Path(__file__).parent / "kafka"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "millrace/kafka-3.9.1"
JAVA = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
num.partitions=1
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
compression.type=uncompressed
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
message.max.bytes=10485760
replica.fetch.max.bytes=10485760
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
num.network.threads=2
num.io.threads=2
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=2097152
"""


def fetch_jars():
    """The broker's jars in the cache, fetched from Maven Central the first time. Returns their folder."""
    libs = CACHE / "libs"
    if libs.is_dir():
        return libs
    if not shutil.which("java") or not shutil.which("mvn"):
        SKIP("no real Kafka: java and maven are not installed (tools/bootstrap.sh installs them)")
    part = CACHE.with_name(CACHE.name + ".part-%d" % os.getpid())
    shutil.rmtree(part, ignore_errors=True)
    (part / "libs").mkdir(parents=True)
    # Maven writes nothing but the jars here: its own repository is its own cache.
    done = subprocess.run(["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies",
                           "-DincludeScope=runtime", "-DoutputDirectory=%s" % (part / "libs")],
                          capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError("cannot fetch the Kafka broker: " + (done.stdout + done.stderr)[-2000:])
    sums = subprocess.run(["sha256sum", "--quiet", "-c", str(HERE / "jars.sha256")], cwd=part / "libs",
                          capture_output=True, text=True)
    if sums.returncode != 0:
        raise RuntimeError("the Kafka broker's jars are not the expected ones: " + sums.stdout[-2000:])
    shutil.rmtree(CACHE, ignore_errors=True)
    part.rename(CACHE)
    return libs


class KafkaBroker:
    """start(), stop() (SIGTERM), kill() (SIGKILL), start() again on the same data and port."""

    def properties(self):
        return PROPERTIES.format(port=self.port, controller=self.controller, data=self.directory / "data")

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.libs = fetch_jars()
        self.port, self.controller = free_port(), free_port()
        self.address = "127.0.0.1:%d" % self.port
        self.process = None
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config = self.directory / "server.properties"
        self.config.write_text(self.properties())
        self._format()

    def _java(self, *options):
        return ["java", *options, "-Dlog4j.configuration=file:%s" % (HERE / "log4j.properties"), "-cp",
                "%s/*" % self.libs]

    def _format(self):
        """A formatted, empty data folder is the same for every broker: made once, then copied."""
        template = CACHE / "formatted"
        if not template.is_dir():
            made = self.directory / "data"
            subprocess.run(self._java() + ["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg",
                                           "-c", str(self.config)], check=True, capture_output=True, timeout=120)
            part = template.with_name("formatted.part-%d" % os.getpid())
            shutil.copytree(made, part)
            try:
                part.rename(template)
            except OSError:  # another test was first
                shutil.rmtree(part)
            return
        shutil.copytree(template, self.directory / "data")

    def start(self, timeout_s=90):
        self.process = Process(self._java(*JAVA) + ["kafka.Kafka", str(self.config)],
                               self.directory / "broker.log", name="kafka")
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                with Kafka(self.address, timeout_s=5) as kafka:
                    kafka.topics()
                    return self
            except (OSError, KafkaError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the Kafka broker did not start:\n" + self.process.log_tail())
                time.sleep(0.1)

    def connect(self):
        return Kafka(self.address)

    def stop(self):
        self.process.stop(timeout_s=60)

    def kill(self):
        self.process.kill()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process:
            self.kill()
