#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docker/compose.yml for real: up, jobs through, scaled under load, workers stopped and killed, Redis gone and back, the
whole stack down and up again; under read_committed every job has exactly one result. Images are built here from
Debian and Maven Central (no image registry needed). Not part of ./test: it takes minutes.

usage: tests/docker/test_compose.py [--jobs 2000] [--keep]
Needs root and the Debian packages docker.io, docker-compose, debootstrap, and what tools/bootstrap.sh test installs.
Starts a dockerd of its own when there is none, and leaves nothing behind but its image cache in build/docker."""
import argparse
import collections
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
from kafka_broker import HERE as KAFKA_FILES, fetch_jars  # noqa: E402
from kafka_wire import Kafka, TopicReader  # noqa: E402
from stream_reader import StreamReader  # noqa: E402

WORK = ROOT / "build/docker"
ADDRESS = "127.0.0.1:19092"
IMAGES = {"MILLRACE_IMAGE": "millrace:test", "MILLRACE_DEMO_IMAGE": "millrace-demo:test", "PROMETHEUS_IMAGE": "millrace-prometheus:test",
          "KAFKA_IMAGE": "millrace-kafka:test", "REDIS_IMAGE": "millrace-redis:test"}
began = time.monotonic()


def say(text):
    print("%6.1f s  %s" % (time.monotonic() - began, text), flush=True)


def run(*command, check=True, quiet=True, timeout=900, **more):
    done = subprocess.run([str(word) for word in command], text=True, timeout=timeout,
                          stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT if quiet else None, **more)
    if check and done.returncode != 0:
        raise RuntimeError("%s: exit code %d\n%s" % (" ".join(map(str, command)), done.returncode, (done.stdout or "")[-3000:]))
    return done.stdout


def wait_for(what, ready, limit_s=180):
    deadline = time.monotonic() + limit_s
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError("waited %d s for %s\n%s" % (limit_s, what, compose("ps", check=False)))
        time.sleep(0.5)


# ---- a container engine ----

class Engine:
    """The machine's dockerd, or one of our own that goes away with us, with what it changed in the kernel."""

    def __enter__(self):
        self.process = None
        if subprocess.run(["docker", "info"], capture_output=True).returncode == 0:
            return self
        WORK.mkdir(parents=True, exist_ok=True)
        self.forward = pathlib.Path("/proc/sys/net/ipv4/ip_forward").read_text()
        socket = "unix://%s/docker.sock" % WORK
        log = open(WORK / "dockerd.log", "w")
        self.process = subprocess.Popen(
            ["dockerd", "--host", socket, "--data-root", WORK / "data", "--exec-root", WORK / "exec", "--pidfile",
             WORK / "docker.pid"], stdout=log, stderr=log, start_new_session=True)
        os.environ["DOCKER_HOST"] = socket
        wait_for("dockerd", lambda: subprocess.run(["docker", "info"], capture_output=True).returncode == 0, 60)
        return self

    def __exit__(self, *_):
        if not self.process:
            return
        self.process.terminate()
        self.process.wait(60)
        pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text(self.forward)
        for table in ("nat", "filter"):
            for chain in re.findall(r"^:(DOCKER\S*)", run("iptables-save", "-t", table, check=False) or "", re.M):
                for rule in re.findall(r"^-A (.*-j %s.*)$" % chain, run("iptables-save", "-t", table), re.M):
                    run("iptables", "-t", table, "-D", *rule.split(), check=False)
            for chain in re.findall(r"^:(DOCKER\S*)", run("iptables-save", "-t", table, check=False) or "", re.M):
                run("iptables", "-t", table, "-F", chain, check=False)
            for chain in re.findall(r"^:(DOCKER\S*)", run("iptables-save", "-t", table, check=False) or "", re.M):
                run("iptables", "-t", table, "-X", chain, check=False)
        run("ip", "link", "delete", "docker0", check=False)


# ---- images ----

def base_image():
    """debian:bookworm-slim by debootstrap, where no registry can be asked. It names this machine's mirror: never push it."""
    if run("docker", "images", "-q", "debian:bookworm-slim").strip():
        return
    tree = WORK / "root"
    shutil.rmtree(tree, ignore_errors=True)
    sources = pathlib.Path("/etc/apt/sources.list.d/debian.sources")
    mirror = re.search(r"^URIs:\s*(\S+)", sources.read_text(), re.M).group(1)
    run("debootstrap", "--variant=minbase", "bookworm", tree, mirror)
    shutil.copy(sources, tree / "etc/apt/sources.list.d/")
    for file in pathlib.Path("/etc/apt/apt.conf.d").iterdir():
        shutil.copy(file, tree / "etc/apt/apt.conf.d/")
    (tree / "etc/apt/sources.list").write_text("")
    for folder in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/log", "var/cache/apt/archives",
                   "var/lib/apt/lists"):
        shutil.rmtree(tree / folder, ignore_errors=True)
        (tree / folder).mkdir(parents=True)
    with subprocess.Popen(["tar", "-C", tree, "--numeric-owner", "-c", "."], stdout=subprocess.PIPE) as tar:
        run("docker", "import", "-c", 'CMD ["bash"]', "-", "debian:bookworm-slim", stdin=tar.stdout)
    shutil.rmtree(tree)


def build_images():
    # a third of a core each: the work must last while things are broken
    os.environ.update(IMAGES, MILLRACE_CPUS="0.33", DOCKER_BUILDKIT="0", COMPOSE_DOCKER_CLI_BUILD="0", COMPOSE_PROJECT_NAME="millracetest")
    base_image()
    context = WORK / "kafka"
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(ROOT / "tests/docker/kafka", context)
    shutil.copytree(fetch_jars(), context / "libs")
    shutil.copy(KAFKA_FILES / "log4j.properties", context)
    run("docker", "build", "-t", IMAGES["KAFKA_IMAGE"], context)
    run("docker", "build", "-t", IMAGES["REDIS_IMAGE"], ROOT / "tests/docker/redis")
    run("docker", "build", "-f", ROOT / "docker/Dockerfile", "-t", IMAGES["MILLRACE_IMAGE"], ROOT)
    run("docker", "build", "-f", ROOT / "docker/demo.Dockerfile", "--build-arg", "MILLRACE_IMAGE=" + IMAGES["MILLRACE_IMAGE"],
        "-t", IMAGES["MILLRACE_DEMO_IMAGE"], ROOT)
    run("docker", "build", "-t", IMAGES["PROMETHEUS_IMAGE"], ROOT / "tests/docker/prometheus")


def check_hygiene():
    """What the image is and how it runs."""
    info = json.loads(run("docker", "image", "inspect", IMAGES["MILLRACE_IMAGE"]))[0]
    model = sum(file.stat().st_size for file in (ROOT / "examples/models/shop-qwen3").iterdir())
    size_mb = (info["Size"] - model) / 1e6
    assert size_mb <= 130, "the image without its model has %.0f MB" % size_mb
    assert info["Config"]["User"] == "10001:10001" and info["Config"]["Healthcheck"]["Test"][1].endswith("millrace")
    box = run("docker", "create", IMAGES["MILLRACE_IMAGE"]).strip()
    listing = subprocess.run("docker export %s | tar -tv" % box, shell=True, capture_output=True, text=True, check=True).stdout
    run("docker", "rm", box)
    setuid = [line for line in listing.splitlines() if line[0] == "-" and "s" in line.split()[0].lower()]
    assert not setuid, setuid
    secrets = [line for line in listing.splitlines() if "secret" in line or "password" in line.lower() and "pam" not in line
               and "/etc/" not in line]
    assert not any("redis-password" in line or "docker/secrets" in line for line in secrets), secrets
    out = run("docker", "run", "--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
              IMAGES["MILLRACE_IMAGE"], "inspect", "/models/shop-qwen3")
    assert "Qwen3ForCausalLM" in out, out
    return size_mb


# ---- the stack ----

def compose(*words, **more):
    return run("docker-compose", "-f", ROOT / "docker/compose.yml", "-f", ROOT / "tests/docker/override.yml", *words, **more)


def workers():
    return compose("ps", "-q", "worker").split()


def state(box):
    return json.loads(run("docker", "inspect", box))[0]["State"]


def healthy(count):
    return lambda: sum(state(box).get("Health", {}).get("Status") == "healthy" for box in workers()) >= count


def millrace(*words, check=True):
    return run("docker", "run", "--rm", "--network", "host", "-v", "%s:/work" % WORK, "-w", "/work", "-u", "0",
               IMAGES["MILLRACE_IMAGE"], *words, "--kafka.bootstrap_servers", ADDRESS, check=check)


class Batch:
    def __init__(self, name, jobs):
        self.name, self.jobs = name, jobs
        lines = (ROOT / "examples/jobs/shop.jsonl").read_text().splitlines()
        with open(WORK / (name + ".jsonl"), "w") as out:
            for i in range(jobs):
                job = json.loads(lines[i % len(lines)])
                job["custom_id"] = "%s-%05d" % (name, i)
                if name != "plain":  # work enough that something is always running when things break
                    job["body"].update(max_tokens=160, ignore_eos=True)
                out.write(json.dumps(job) + "\n")
        (WORK / (name + ".jsonl.submit")).unlink(missing_ok=True)

    def submit(self):
        millrace("submit", self.name + ".jsonl", "--batch-id", self.name, "--allow-unknown")

    def answers(self):
        with Kafka(ADDRESS) as kafka:
            reader, counts = TopicReader(kafka, "millrace.results"), collections.Counter()
            while True:
                more = reader.poll()
                if not more:
                    return counts
                counts.update(record.key.decode() for record in more if record.header("millrace-batch-id") == self.name.encode())

    def share(self, part):
        wait_for("%d %% of %s" % (part * 100, self.name), lambda: len(self.answers()) >= part * self.jobs, 600)

    def check(self):
        self.share(1)
        time.sleep(2)  # a second answer would come now
        counts = self.answers()
        assert len(counts) == self.jobs and max(counts.values()) == 1, \
            "%s: %d of %d answered, most often %d times" % (self.name, len(counts), self.jobs, max(counts.values()))
        say("%s: %d jobs, exactly one result each" % (self.name, self.jobs))


def demo():
    """The demo profile as the README says it: what the pipeline prints."""
    compose("--profile", "demo", "up", "-d", "--no-build", "producer", "recommend")
    box = run("docker", "ps", "-aq", "--filter", "label=com.docker.compose.service=recommend",
              "--filter", "label=com.docker.compose.project=millracetest").strip()
    wait_for("the pipeline's end", lambda: state(box)["Status"] == "exited", 300)
    out = run("docker", "logs", box)
    assert state(box)["ExitCode"] == 0 and "200 results: 200 recommended" in out, out
    say("demo: " + out.strip().splitlines()[0])
    say("demo: " + out.strip().splitlines()[-1])


def observe():
    """The observe profile's Prometheus finds the workers by itself; a worker's page is on a port of this machine."""
    compose("--profile", "observe", "up", "-d", "--no-build", "--no-deps", "prometheus")
    url = "http://127.0.0.1:9090/api/v1/query?query=" + urllib.parse.quote('count(up{job=~"millrace.*"} == 1)')

    def targets():
        try:
            found = json.load(urllib.request.urlopen(url, timeout=5))["data"]["result"]
        except OSError:
            return 0
        return int(found[0]["value"][1]) if found else 0
    wait_for("Prometheus to see a worker and the proxy", lambda: targets() >= 2)
    page = compose("port", "worker", "9464").strip().splitlines()[-1]
    text = urllib.request.urlopen("http://%s/" % page, timeout=5).read().decode()
    assert "<title>Millrace</title>" in text
    say("observe: Prometheus scrapes the workers and the proxy; the page is at http://%s/" % page)


def stream(name):
    """Tokens of running jobs at the proxy's one address."""
    reader = StreamReader("tcp://127.0.0.1:5557", b"job.%s." % name.encode())
    wait_for("tokens at the proxy", lambda: reader.drain(0.2) > 0, 120)
    reader.close()
    say("tokens of %s seen at the proxy" % name)


def scenario(jobs):
    compose("up", "-d", "--no-build", "--scale", "worker=1")
    wait_for("a ready worker", healthy(1))
    say("up: Kafka, Redis, topics, proxy, one ready worker")
    demo()
    observe()
    plain = Batch("plain", jobs)
    plain.submit()
    plain.check()

    scaled = Batch("scaled", jobs)
    scaled.submit()
    scaled.share(0.05)
    compose("up", "-d", "--no-build", "--scale", "worker=3")
    wait_for("three ready workers", healthy(3))
    compose("up", "-d", "--no-build", "--scale", "worker=2")
    say("scaled 1, 3, 2 with %d of %d answered" % (len(scaled.answers()), jobs))
    scaled.check()

    hurt = Batch("hurt", jobs)
    hurt.submit()
    stream("hurt")
    hurt.share(0.05)
    stopped, killed = workers()[:2]
    run("docker", "stop", "-t", "75", stopped)
    code = state(stopped)["ExitCode"]
    assert code == 0, "docker stop: exit code %d" % code
    run("docker", "start", stopped)
    wait_for("the stopped worker", healthy(2))
    hurt.share(0.2)
    restarts = json.loads(run("docker", "inspect", killed))[0]["RestartCount"]
    os.kill(state(killed)["Pid"], signal.SIGKILL)
    wait_for("a restart", lambda: json.loads(run("docker", "inspect", killed))[0]["RestartCount"] > restarts)
    say("one worker stopped and started, one killed and restarted, %d of %d answered" % (len(hurt.answers()), jobs))
    compose("stop", "redis")
    hurt.share(min(1, len(hurt.answers()) / jobs + 0.2))
    compose("start", "redis")
    say("Redis gone and back, %d of %d answered" % (len(hurt.answers()), jobs))
    hurt.check()

    night = Batch("night", jobs)
    night.submit()
    night.share(0.05)
    done = len(night.answers())
    compose("down")
    say("the whole stack down with %d of %d answered" % (done, jobs))
    compose("up", "-d", "--no-build", "--scale", "worker=2")
    wait_for("two ready workers", healthy(2))
    night.check()
    for batch in (plain, scaled, hurt):
        assert len(batch.answers()) == jobs, "%s lost results" % batch.name


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--keep", action="store_true", help="leave the stack up")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    run(ROOT / "docker/secrets.sh")
    with Engine():
        build_images()
        say("images built; millrace without its model has %.0f MB" % check_hygiene())
        try:
            scenario(arguments.jobs)
        except BaseException:
            print(compose("logs", "--tail", "15", check=False), file=sys.stderr)
            raise
        finally:
            if not arguments.keep:
                compose("--profile", "demo", "--profile", "observe", "down", "-v", check=False)
    say("done")


if __name__ == "__main__":
    main()
