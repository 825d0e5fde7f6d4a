#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The producer: one recommendation job per item of the catalogue into Kafka.

usage: produce.py [--count 200] [--batch-id demo] [--catalog shop@2026-11-23] [options of `millrace submit`, such as --kafka.bootstrap_servers=…]"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from shop import jobs

parser = argparse.ArgumentParser(usage=__doc__)
parser.add_argument("--count", type=int, default=200)
parser.add_argument("--batch-id", default="demo")
parser.add_argument("--catalog", help="a version that publish_catalog.py wrote for the workers")
parser.add_argument("--millrace", default="millrace")
arguments, others = parser.parse_known_args()
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "jobs.jsonl"
    path.write_text("".join(json.dumps(job) + "\n" for job in jobs(arguments.count, arguments.catalog)))
    sys.exit(subprocess.run([arguments.millrace, "submit", path, "--batch-id", arguments.batch_id, *others]).returncode)
