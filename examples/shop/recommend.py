#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A recommendation pipeline: consumes the results of a batch, joins each with the catalogue on its custom_id, looks the
recommended item up by its name, and prints what to show to whom. Results are read committed, so each comes once.

usage: recommend.py [--count 200] [--batch-id demo] [--show 20] [options of `millrace results`]
       recommend.py --results FILE ('-': standard input)"""
import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile

from shop import catalog, jobs


def answer(line):
    """The first choice of a result line, None for an error."""
    response = line["response"]
    if not response or response["status_code"] != 200:
        return None
    return response["body"]["choices"][0]


def recommended(choice, items, names):
    """(item, reason): a catalogue's answer names its item by id and has a score; a free one begins with the name of
    an item. None when there is no such item."""
    if choice.get("item_ids"):
        return items[choice["item_ids"][0]], "score %.3f" % choice["score"]
    name, _, reason = choice["message"]["content"].partition(",")
    item = names.get(name.strip().lower())
    return (item, reason.strip()) if item else None


class Pipeline:
    def __init__(self, show):
        self.items, self.show, self.counts = catalog(), show, collections.Counter()
        self.names = {item["name"].lower(): item for item in self.items.values()}

    def take(self, line):
        owned = self.items[line["custom_id"][len("rec-"):]]
        choice = answer(line)
        found = recommended(choice, self.items, self.names) if choice else None
        kind = "failed" if choice is None else "recommended" if found else "not in the catalogue"
        self.counts[kind] += 1
        if found and self.counts[kind] <= self.show:
            item, reason = found
            print("%s  %-38s → %s  %-38s %s" % (owned["item_id"], owned["name"], item["item_id"], item["name"], reason))

    def end(self):
        total = sum(self.counts.values())
        print("%d results: %s" % (total, ", ".join("%d %s" % (count, kind) for kind, count in self.counts.most_common())))
        return 0 if self.counts["recommended"] else 1


def follow(arguments, others, pipeline):
    with tempfile.TemporaryDirectory() as folder:
        expected = pathlib.Path(folder) / "jobs.jsonl"
        expected.write_text("".join(json.dumps(job) + "\n" for job in jobs(arguments.count)))
        command = [arguments.millrace, "results", "--batch-id", arguments.batch_id, "--expect", expected, "--wait",
                   str(arguments.wait), *others]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as results:
            for line in results.stdout:
                pipeline.take(json.loads(line))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--batch-id", default="demo")
    parser.add_argument("--show", type=int, default=20)
    parser.add_argument("--wait", type=int, default=300)
    parser.add_argument("--results")
    parser.add_argument("--millrace", default="millrace")
    arguments, others = parser.parse_known_args()
    pipeline = Pipeline(arguments.show)
    if arguments.results:
        lines = sys.stdin if arguments.results == "-" else open(arguments.results)
        for line in lines:
            pipeline.take(json.loads(line))
    else:
        follow(arguments, others, pipeline)
    return pipeline.end()


if __name__ == "__main__":
    sys.exit(main())
