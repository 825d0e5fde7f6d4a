# SPDX-License-Identifier: Apache-2.0
"""200 jobs give the same bytes whatever runs beside them: the reproducibility promise, through `millrace batch`."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import batch  # noqa: E402
from models import BUNDLED, any_model  # noqa: E402
from process import Workspace  # noqa: E402

COUNT = 200
WORDS = ("kettle", "mug", "lamp", "chair", "scarf", "drill", "novel", "puzzle", "teapot", "blanket", "spoon")
# The first is the measure: one sequence at a time, whole prompts, no cache, one thread.
RUNS = {
    "alone": ("--max-batch", 1, "--chunk", 333, "--threads", 1, "--engine.prefix_cache=false"),
    "batch 2": ("--max-batch", 2, "--threads", 1),
    "batch 7, chunk 16, two threads": ("--max-batch", 7, "--chunk", 16, "--threads", 2),
    "batch 64, chunk 333, two threads": ("--max-batch", 64, "--chunk", 333, "--threads", 2),
    "batch 64, chunk 1": ("--max-batch", 64, "--chunk", 1, "--threads", 1),
    "preempted": ("--max-batch", 7, "--chunk", 16, "--threads", 1, "--preempt-every", 3),
    "preempted, no cache": ("--max-batch", 64, "--threads", 2, "--preempt-every", 2, "--engine.prefix_cache=false"),
    "small pool": ("--max-batch", 16, "--threads", 1, "--engine.kv_memory_mb=4"),
}


def job(index):
    words = [WORDS[(index * 7 + i * i) % len(WORDS)] for i in range(1 + index * index % 60)]
    prompt = "Bought: %s. Recommend a product." % ", ".join(words)
    if index % 5 == 0:  # long prompts that share a prefix of several blocks
        prompt = "A list of what the shop has: " + ", ".join(WORDS * 14) + ". " + prompt
    body = {"prompt": prompt, "max_tokens": 4 + index % 29, "ignore_eos": index % 2 == 0}
    if index % 3 == 0:
        body["temperature"] = 0
    else:
        body.update(temperature=0.5 + index % 4 * 0.3, top_p=0.95, n=1 + index % 4)
        if index % 4 == 1:
            body.update(seed=index, top_k=40, min_p=0.02)
    if index % 7 == 0:
        body.update(logprobs=3, repetition_penalty=1.2)
    if index % 11 == 0:
        body.update(stop=["e", " a"], presence_penalty=0.5, frequency_penalty=0.2)
    if index % 13 == 0:
        body.update(echo=True, logprobs=1)
    if index % 17 == 0:
        body.update(prompt=[prompt, "Tell me about the %s" % words[0]], logit_bias={"70": 3}, bad_words=["mug"])
    return {"custom_id": "job-%03d" % index, "method": "POST", "url": "/v1/completions", "body": body}


def first_difference(one, two):
    at = next(i for i, (a, b) in enumerate(zip(one[one.index('"choices"'):], two[two.index('"choices"'):])) if a != b)
    begin, other = one.index('"choices"') + at, two.index('"choices"') + at
    return "%s\nalone  …%s\nbeside …%s" % (one[:120], one[max(0, begin - 150):begin + 80], two[max(0, other - 150):other + 80])


def digests(millrace, model, space, name, flags):
    results = space / ("%s.jsonl" % name.replace(" ", "_"))
    batch.run(millrace, model, space / "jobs.jsonl", results, *flags)
    answers = batch.read_results(results)
    assert len(answers) == COUNT, "%d answers" % len(answers)
    failed = [line for answer, line in answers.values() if answer["response"]["status_code"] != 200]
    assert not failed, failed[0]
    return {name: batch.digest(line) for name, (_, line) in answers.items()}, answers


def main():
    millrace, model = batch.millrace_argument(), any_model()
    with Workspace("bytes") as space:
        batch.write_jobs(space / "jobs.jsonl", [job(i) for i in range(COUNT)])
        wanted, answers = None, None
        for name, flags in RUNS.items():
            found, lines = digests(millrace, model, space, name, flags)
            if wanted is None:
                wanted, answers = found, lines
                assert len(set(wanted.values())) > COUNT * 3 // 4, "the jobs hardly differ: the test proves nothing"
            different = sorted(job for job in wanted if wanted[job] != found[job])
            assert not different, "%s: %d jobs differ from alone, e.g. %s" % (
                name, len(different), first_difference(answers[different[0]][1], lines[different[0]][1]))
            print("%-34s %d digests equal" % (name, len(found)))
    print("model %s" % ("bundled" if model == BUNDLED else model.name))


main()
