#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""KV events as a router reads them, with libzmq and msgpack: a mirror kept from the events alone foretells how many
tokens of each prompt the worker finds in its cache, exactly, while the small pool evicts all the time; batches that
were missed are repaired by replay, and a late reader catches up."""
import argparse
import json
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from jobs import line  # noqa: E402
from models import any_model  # noqa: E402
from process import SKIP, Workspace, free_port, wait_until  # noqa: E402
from worker import Worker  # noqa: E402

try:
    import msgpack
    import zmq
except ImportError:
    SKIP("no python3-zmq or python3-msgpack")

BLOCK = 16
END = 2 ** 64 - 1


class Mirror:
    """The blocks of one worker: {hash: (parent, tokens)}, by the events."""

    def __init__(self, live, replay):
        self.context = zmq.Context.instance()
        self.live, self.replay = self.context.socket(zmq.SUB), self.context.socket(zmq.DEALER)
        self.live.setsockopt(zmq.SUBSCRIBE, b"kv@")
        self.live.connect(live)
        self.replay.connect(replay)
        self.blocks, self.next, self.repaired, self.removed, self.lose = {}, 0, 0, 0, lambda seq: False

    def apply(self, seq, payload):
        assert seq == self.next, "batch %d where %d was due" % (seq, self.next)
        self.next += 1
        time_s, events, rank = msgpack.unpackb(payload)
        assert isinstance(time_s, float) and rank == 0 and events
        for kind, *fields in events:
            if kind == "AllBlocksCleared":
                self.blocks.clear()
            elif kind == "BlockRemoved":
                (hash_,), medium = fields
                assert medium == "CPU"
                del self.blocks[hash_]  # it was there
                self.removed += 1
            else:
                (hash_,), parent, tokens, size, lora, medium, lora_name = fields
                assert (kind, size, lora, medium, lora_name) == ("BlockStored", BLOCK, None, "CPU", None)
                assert len(tokens) == BLOCK and hash_ not in self.blocks
                self.blocks[hash_] = (parent, tuple(tokens))

    def repair(self):
        """Everything from the first missing batch on."""
        self.replay.send_multipart([b"", self.next.to_bytes(8, "big")])
        while True:
            assert self.replay.poll(10000), "no answer to a replay request"
            empty, seq, payload = self.replay.recv_multipart()
            seq = int.from_bytes(seq, "big")
            assert empty == b""
            if seq == END:
                return
            self.apply(seq, payload)
            self.repaired += 1

    def follow(self, quiet_ms=300):
        """Reads until nothing comes any more."""
        while self.live.poll(quiet_ms):
            topic, seq, payload = self.live.recv_multipart()
            seq = int.from_bytes(seq, "big")
            assert topic == b"kv@worker@shop"
            if self.lose(seq) or seq < self.next:
                continue
            if seq > self.next:
                self.repair()
            if seq == self.next:
                self.apply(seq, payload)
        self.repair()  # the last batches may be among the lost ones

    def cached_tokens(self, prompt):
        """What the worker will find: full blocks of the prompt, but one token is always computed."""
        children = {(parent, tokens): hash_ for hash_, (parent, tokens) in self.blocks.items()}
        parent, count = None, 0
        while count + BLOCK <= len(prompt):
            parent = children.get((parent, tuple(prompt[count:count + BLOCK])))
            if parent is None:
                break
            count += BLOCK
        return min(count, len(prompt) - 1)


class Bench:
    def __init__(self, space, binary):
        self.space, self.binary, self.count = space, binary, 0
        self.address = "127.0.0.1:%d" % free_port()
        ready = space / "broker.ready"
        space.start([binary, "broker", "--port", self.address.split(":")[1], "--ready-file", ready], "broker")
        wait_until("the embedded broker", ready.exists, 20)
        self.live, self.replay = ("tcp://127.0.0.1:%d" % free_port() for _ in range(2))
        self.worker = Worker(space, binary, "worker", self.address, any_model(),
                             kafka={"delivery": "at-least-once"}, engine={"kv_memory_mb": 6, "max_sequences": 4,
                                                                          "max_context_tokens": 512},
                             kv_events={"bind": self.live, "replay_bind": self.replay, "topic": "kv@worker@shop"})
        self.worker.start().wait_ready()

    def run(self, prompts):
        """cached_tokens of each answer."""
        self.count += 1
        source, out = self.space / ("%d.jsonl" % self.count), self.space / ("%d.out" % self.count)
        source.write_text("".join(json.dumps(line("%d-%d" % (self.count, i), prompt=prompt, max_tokens=3,
                                                  temperature=0)) + "\n" for i, prompt in enumerate(prompts)))
        submit = self.space.start([self.binary, "submit", source, "--kafka.bootstrap_servers", self.address, "--wait",
                                   "-o", out], "submit-%d" % self.count)
        assert submit.wait(120) == 0, submit.log_tail()
        usages = {result["custom_id"]: result["response"]["body"]["usage"]
                  for result in map(json.loads, out.read_text().splitlines())}
        return [usages["%d-%d" % (self.count, i)]["prompt_tokens_details"]["cached_tokens"]
                for i in range(len(prompts))]


def prompts_of(chance, count):
    families = [[chance.randrange(10, 250) for _ in range(300)] for _ in range(8)]
    return [chance.choice(families)[:chance.randrange(20, 300)] + [chance.randrange(10, 250) for _ in range(20)]
            for _ in range(count)]


def foretell(bench, mirror, prompts):
    """One job at a time, so that the cache before each is known."""
    exact = 0
    for prompt in prompts:
        mirror.follow()
        expected = mirror.cached_tokens(prompt)
        found, = bench.run([prompt])
        assert found == expected, "the mirror foretold %d cached tokens, the worker found %d" % (expected, found)
        exact += expected > 0
    assert exact > len(prompts) // 4, "hardly any prompt had a cached prefix"
    return exact


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--millrace", required=True)
    binary = parser.parse_args().millrace
    chance = random.Random(11)
    with Workspace("kv-events") as space:
        bench = Bench(space, binary)
        mirror = Mirror(bench.live, bench.replay)
        prompts = prompts_of(chance, 80)
        bench.run(prompts[:64])  # all at once: more than the pool holds
        mirror.lose = lambda seq: seq % 3 == 1
        exact = foretell(bench, mirror, prompts[64:])
        mirror.lose = lambda seq: False
        mirror.follow()
        size = json.loads(bench.worker.get("/debug/state")[1])["blocks"]["cached"]
        assert len(mirror.blocks) == size, "the mirror has %d blocks, the worker %d" % (len(mirror.blocks), size)
        assert mirror.removed > 50 and mirror.repaired > 10
        late = Mirror(bench.live, bench.replay)
        late.repair()
        assert late.blocks == mirror.blocks, "a late reader has another picture"
        print("%d batches: %d blocks mirrored exactly, %d removals, %d batches repaired by replay, %d of 16 prompts with a "
              "prefix foretold" % (mirror.next, size, mirror.removed, mirror.repaired, exact))
        assert bench.worker.process.stop() == 0


if __name__ == "__main__":
    main()
