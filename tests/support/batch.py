# SPDX-License-Identifier: Apache-2.0
"""Runs `millrace batch` and reads its results. The digest is computed here, from the bytes of the line."""
import argparse
import hashlib
import json
import re
import subprocess


def millrace_argument():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    return parser.parse_args().millrace


def write_jobs(path, jobs):
    path.write_text("".join(json.dumps(job, ensure_ascii=False) + "\n" for job in jobs))
    return path


def command(millrace, model, jobs, results, *flags):
    return [str(part) for part in (millrace, "batch", "-m", model, "-i", jobs, "-o", results, *flags)]


def run(millrace, model, jobs, results, *flags, codes=(0,), timeout_s=300):
    done = subprocess.run(command(millrace, model, jobs, results, *flags), capture_output=True, text=True,
                          timeout=timeout_s)
    assert done.returncode in codes, "exit code %d:\n%s" % (done.returncode, done.stderr[-3000:])
    return done


def read_results(path):
    """custom_id -> (answer, raw line); every line whole, every custom_id once."""
    answers = {}
    content = path.read_bytes()
    assert content == b"" or content.endswith(b"\n"), "half line at the end"
    for line in content.decode().splitlines():
        answer = json.loads(line)
        assert answer["custom_id"] not in answers, "%s is answered twice" % answer["custom_id"]
        answers[answer["custom_id"]] = (answer, line)
    return answers


def digest(line):
    """docs/formats/result.md: SHA-256 of the bytes of `choices` (or `scores`), then of `usage` without
    prompt_tokens_details."""
    decoder = json.JSONDecoder()
    name = '"scores":' if '"object":"scoring"' in line else '"choices":'
    begin = line.index(name) + len(name)
    _, end = decoder.raw_decode(line, begin)
    usage_begin = line.index('"usage":', end) + len('"usage":')
    _, usage_end = decoder.raw_decode(line, usage_begin)
    usage = re.sub(r',"prompt_tokens_details":\{[^}]*\}', "", line[usage_begin:usage_end])
    return hashlib.sha256((line[begin:end] + usage).encode()).hexdigest()


def check_status(job, answer):
    """None, or what is wrong with the answer to a job of tests/support/jobs.py."""
    status = (answer["response"] or {}).get("status_code")
    return None if status in job.statuses else "%s (%s): %s" % (job.custom_id, job.kind, answer)
