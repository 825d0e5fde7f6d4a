# SPDX-License-Identifier: Apache-2.0
"""Processes of a test: each dies with the test, whatever happens, and its output is in a file."""
import ctypes
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def SKIP(reason):
    """Says why and ends the test with ctest's skip code: a skip is never a pass."""
    print("SKIP: %s" % reason)
    sys.exit(77)


def free_port():
    """A port that nobody has; not one of those from which Linux gives connections theirs, where another test's client
    could take it before it is bound."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", random.randrange(10000, 32000)))
            except OSError:
                continue
            return probe.getsockname()[1]


def wait_until(what, condition, timeout_s, interval_s=0.05):
    """The condition's first true value; fails the test naming `what`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("waited %g s for %s" % (timeout_s, what))
        time.sleep(interval_s)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child in its own process group; stdout and stderr go to `log` (or stdout to `output`)."""

    def __init__(self, command, log, name=None, output=None, env=None, stdin=subprocess.DEVNULL):
        self.name, self.log = name or pathlib.Path(command[0]).name, pathlib.Path(log)
        out = open(output, "ab") if output else None
        with open(log, "ab") as err:
            self.child = subprocess.Popen([str(part) for part in command], stdin=stdin, stdout=out or err, stderr=err,
                                          env={**os.environ, **(env or {})}, preexec_fn=_die_with_parent,
                                          start_new_session=True)
        if out:
            out.close()
        self.pid = self.child.pid

    def poll(self):
        return self.child.poll()

    def signal(self, number):
        if self.child.poll() is None:
            os.killpg(self.pid, number)

    def wait(self, timeout_s):
        try:
            return self.child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError("%s still runs after %g s:\n%s" % (self.name, timeout_s, self.log_tail())) from None

    def stop(self, timeout_s=30):
        """SIGTERM, then its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.child.wait()

    def log_tail(self, count=3000):
        return self.log.read_text(errors="replace")[-count:]

    def resident_bytes(self):
        with open("/proc/%d/statm" % self.pid) as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Workspace:
    """A temporary folder and the processes of one test; kills what is left and removes the folder."""

    def __init__(self, name):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="millrace-%s-" % name))
        self.processes = []

    def start(self, command, name, **options):
        process = Process(command, self.path / ("%s.log" % name), name=name, **options)
        self.processes.append(process)
        return process

    def __truediv__(self, name):
        return self.path / name

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for process in self.processes:
            if kind is not None:
                print("--- end of %s.log (exit %s)\n%s" % (process.name, process.poll(), process.log_tail()))
            process.kill()
        subprocess.run(["rm", "-rf", str(self.path)], check=False)
