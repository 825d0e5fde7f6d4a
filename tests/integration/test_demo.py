#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""./demo without a terminal: it ends well and soon, every job is answered, and nothing of it is left: no process,
no file. Interrupted in the middle, it leaves nothing either."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MARK = "MILLRACE_DEMO_TEST_%d" % os.getpid()


def start(temporary):
    return subprocess.Popen([ROOT / "demo"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, env={**os.environ, MARK: "1", "TMPDIR": temporary}, start_new_session=True)


def left_behind():
    """Command lines of processes that inherited the mark of this test."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if MARK.encode() in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def main():
    with tempfile.TemporaryDirectory() as temporary:
        began = time.monotonic()
        demo = start(temporary)
        screen = demo.communicate(timeout=280)[0]
        seconds = time.monotonic() - began
        print(screen)
        assert demo.returncode == 0, "exit code %d" % demo.returncode
        sent, answered, lost = map(int, re.search(r"([\d,]+) sent · ([\d,]+) answered · (\d+) lost",
                                                  screen).group().replace(",", "").replace(" · ", " ").split()[::2])
        assert sent == answered > 100 and lost == 0
        assert re.search(r"[1-9][\d,]* tok/s", screen)
        assert "\x1b" not in screen, "escape codes without a terminal"
        assert not left_behind(), left_behind()
        assert not os.listdir(temporary), os.listdir(temporary)
        interrupted = start(temporary)
        time.sleep(min(3.0, seconds / 2))
        os.killpg(interrupted.pid, signal.SIGINT)
        interrupted.communicate(timeout=30)
        assert interrupted.returncode != 0
        assert not left_behind() and not os.listdir(temporary), (left_behind(), os.listdir(temporary))
        print("%.1f s" % seconds)


if __name__ == "__main__":
    main()
