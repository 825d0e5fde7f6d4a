# SPDX-License-Identifier: Apache-2.0
"""Workers on the embedded broker with a KV tier, and jobs with many long prefixes: the engine's own pool is far too
small for them, so every pass reads from the tier or computes."""
import json

from jobs import line
from models import any_model
from process import free_port, wait_until
from worker import Worker

THINGS = ("kettle", "mug", "lamp", "chair", "scarf", "drill", "novel", "puzzle", "spoon", "board", "knife", "rug")
SMALL_POOL = {"threads": 1, "kv_memory_mb": 3, "max_context_tokens": 512, "max_sequences": 4}


def prompt(index):
    """About 12 blocks of 16 tokens that no other index shares, salted by its number from the first token on."""
    return "No %d. Bought: %s." % (index, ", ".join("%s %d" % (THINGS[(index + i * 5) % 12], index + i)
                                                    for i in range(26)))


class TierBench:
    def __init__(self, space, binary, jobs=24, name="tier"):
        self.space, self.binary, self.jobs, self.name, self.runs = space, binary, jobs, name, 0
        self.model = any_model()
        self.address = "127.0.0.1:%d" % free_port()
        ready = space / ("%s.ready" % name)
        space.start([binary, "broker", "--port", self.address.split(":")[1], "--ready-file", ready],
                    name + "-broker")
        wait_until("the embedded broker", ready.exists, 20)
        self.expected = None

    def worker(self, name, address, **sections):
        """A ready worker; no tier without an address."""
        tier = {"enabled": address is not None, **({"address": address} if address else {}),
                **sections.pop("kvtier", {})}
        engine = {**SMALL_POOL, **sections.pop("engine", {})}
        return Worker(self.space, self.binary, name, self.address, self.model, kvtier=tier, engine=engine,
                      kafka={"session_timeout_ms": 3000, "delivery": "at-least-once"}, **sections).start().wait_ready()

    def run(self, first=0, limit_s=120, max_tokens=4, **body):
        """The answers of a pass over the same jobs, by their number: what must be the same whatever Redis does."""
        self.runs += 1
        source, out = (self.space / ("%s-%d.%s" % (self.name, self.runs, end)) for end in ("jsonl", "out"))
        source.write_text("".join(json.dumps(line("r%d-%d" % (self.runs, i), prompt=prompt(first + i), max_tokens=max_tokens,
                                                  temperature=0.8, seed=i, **body)) + "\n" for i in range(self.jobs)))
        submit = self.space.start([self.binary, "submit", source, "--kafka.bootstrap_servers", self.address, "--wait",
                                   "-o", out], "submit-%s-%d" % (self.name, self.runs))
        assert submit.wait(limit_s) == 0, submit.log_tail()
        answers = {}
        for result in map(json.loads, out.read_text().splitlines()):
            body = result["response"]["body"]
            assert result["response"]["status_code"] == 200, result
            answers[result["custom_id"].rsplit("-", 1)[1]] = json.dumps(body["choices"])
        assert len(answers) == self.jobs, "%d of %d answered" % (len(answers), self.jobs)
        return answers

    def check(self, what):
        """A pass whose every answer equals the first, undisturbed one."""
        answers = self.run()
        assert answers == self.expected, "%s changed an answer" % what


def metric(worker, name, **labels):
    """The sum over what has these labels."""
    total = 0.0
    for text in worker.get("/metrics")[1].splitlines():
        if text.startswith(name) and text[len(name)] in " {" and all('%s="%s"' % pair in text for pair in labels.items()):
            total += float(text.rsplit(" ", 1)[1])
    return total
