#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A malformed configuration or model directory is one sentence on stderr and exit code 78; wrong usage is 64."""
import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from models import any_model  # noqa: E402
from process import Workspace  # noqa: E402

MILLRACE = sys.argv[sys.argv.index("--millrace") + 1]
EXIT_USAGE, EXIT_CONFIG = 64, 78
faults = []


def run(*command, stdin=""):
    return subprocess.run([MILLRACE, *map(str, command)], input=stdin, capture_output=True, text=True, timeout=60)


def expect(what, code, done, words=""):
    """One line, "millrace…: sentence", that names what is wrong; never a crash or a second line."""
    lines = done.stderr.strip().split("\n")
    good = done.returncode == code and len(lines) == 1 and lines[0].startswith("millrace") and len(lines[0]) > 25
    if not good or words.lower() not in lines[0].lower():
        faults.append("%s: exit %d (want %d), stderr: %s" % (what, done.returncode, code, done.stderr[-600:]))
    else:
        print("%-34s %s" % (what, lines[0][:150]))


def safetensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size]), data[8 + size:]


def write_safetensors(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def edit_tensor(**change):
    """Changes the largest tensor's entry; a value is a function of the old one."""
    def edit(model):
        header, data = safetensors(model / "model.safetensors")
        name = max((key for key in header if key != "__metadata__"), key=lambda key: header[key]["data_offsets"][1])
        for key, function in change.items():
            header[name][key] = function(header[name][key])
        write_safetensors(model / "model.safetensors", header, data)
    return edit


def drop_tensor(model):
    header, data = safetensors(model / "model.safetensors")
    del header[sorted(key for key in header if "norm" in key)[0]]
    write_safetensors(model / "model.safetensors", header, data)


def put(name, content):
    return lambda model: (model / name).write_bytes(content)


def cut(name, part):
    def edit(model):
        data = (model / name).read_bytes()
        (model / name).write_bytes(data[:int(len(data) * part)])
    return edit


def edit_json(name, **change):
    def edit(model):
        content = json.loads((model / name).read_text())
        for path, value in change.items():
            at, keys = content, path.split("__")
            for key in keys[:-1]:
                at = at[key]
            at[keys[-1]] = value
        (model / name).write_text(json.dumps(content))
    return edit


BROKEN_MODELS = {
    "safetensors: empty": put("model.safetensors", b""),
    "safetensors: 7 bytes": put("model.safetensors", b"\1\0\0\0\0\0\0"),
    "safetensors: header length 2^63": put("model.safetensors", struct.pack("<Q", 1 << 63) + b"{}" * 50),
    "safetensors: header longer than file": put("model.safetensors", struct.pack("<Q", 5000) + b"{}"),
    "safetensors: header is no JSON": put("model.safetensors", struct.pack("<Q", 8) + b"not json"),
    "safetensors: header is a list": put("model.safetensors", struct.pack("<Q", 2) + b"[]"),
    "safetensors: cut in the middle": cut("model.safetensors", 0.5),
    "safetensors: cut in the header": cut("model.safetensors", 0.001),
    "safetensors: offsets beyond the file": edit_tensor(data_offsets=lambda o: [o[0] + (1 << 40), o[1] + (1 << 40)]),
    "safetensors: offsets reversed": edit_tensor(data_offsets=lambda o: [o[1], o[0]]),
    "safetensors: negative offset": edit_tensor(data_offsets=lambda o: [-2, o[1]]),
    "safetensors: shape overflows": edit_tensor(shape=lambda s: [1 << 62, 1 << 62]),
    "safetensors: wrong shape": edit_tensor(shape=lambda s: [s[0] + 1] + s[1:]),
    "safetensors: unknown dtype": edit_tensor(dtype=lambda _: "Q7_Z"),
    "safetensors: a tensor is missing": drop_tensor,
    "safetensors: file missing": lambda model: (model / "model.safetensors").unlink(),
    "config.json: missing": lambda model: (model / "config.json").unlink(),
    "config.json: cut": cut("config.json", 0.5),
    "config.json: no JSON object": put("config.json", b"[1, 2]"),
    "config.json: unknown architecture": edit_json("config.json", architectures=["NoSuchForCausalLM"],
                                                   model_type="no_such"),
    "config.json: zero layers": edit_json("config.json", num_hidden_layers=0),
    "config.json: heads do not divide": edit_json("config.json", num_attention_heads=7, num_key_value_heads=3),
    "config.json: absurd hidden size": edit_json("config.json", hidden_size=1 << 40),
    "config.json: text for a number": edit_json("config.json", num_hidden_layers="five"),
    "tokenizer.json: missing": lambda model: (model / "tokenizer.json").unlink(),
    "tokenizer.json: empty": put("tokenizer.json", b""),
    "tokenizer.json: cut": cut("tokenizer.json", 0.7),
    "tokenizer.json: no model": put("tokenizer.json", b"{}"),
    "tokenizer.json: unknown model": edit_json("tokenizer.json", model__type="Quantum"),
    "tokenizer.json: vocab is a list": edit_json("tokenizer.json", model__vocab=[1, 2, 3]),
    "tokenizer.json: negative id": edit_json("tokenizer.json", model__vocab={"a": -1}),
    "tokenizer.json: huge id": edit_json("tokenizer.json", model__vocab={"a": 1 << 40}),
    "tokenizer.json: merges are numbers": edit_json("tokenizer.json", model__merges=[1, 2]),
}

BROKEN_CONFIGS = {
    "config: empty": ("", "not valid JSON"),
    "config: cut": ('{"model": {"path": "x"', "not valid JSON"),
    "config: unknown section": ('{"modle": {}}', "did you mean"),
    "config: unknown key": ('{"kafka": {"group": "x"}}', "kafka.group"),
    "config: wrong type": ('{"http": {"port": "x"}}', "http.port"),
    "config: out of range": ('{"http": {"port": 70000}}', "65535"),
    "config: duplicate key": ('{"http": {"port": 1, "port": 2}}', "twice"),
    "config: owned property": ('{"kafka": {"properties": {"enable.auto.commit": "true"}}}', "enable.auto.commit"),
    "config: stream open to the world": (
        '{"model": {"path": "%s"}, "stream": {"bind": "tcp://0.0.0.0:1"}}' % any_model(), "insecure"),
    "config: no model": ("{}", "model"),
    "config: model directory missing": ('{"model": {"path": "/nonexistent/m"}}', "/nonexistent/m"),
}


def check_models(space, jobs):
    original = any_model()
    for what, edit in BROKEN_MODELS.items():
        model = space / "model"
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(original, model)
        for file in model.iterdir():
            file.chmod(0o644)
        edit(model)
        expect(what, EXIT_CONFIG, run("batch", "-m", model, "-i", jobs, "-o", space / "out.jsonl"))
    expect("model: no directory", EXIT_CONFIG, run("batch", "-m", "/nonexistent/m", "-i", jobs, "-o", "-"),
           "/nonexistent/m")


def check_worker_configs(space):
    for what, (text, words) in BROKEN_CONFIGS.items():
        (space / "worker.jsonc").write_text(text)
        expect(what, EXIT_CONFIG, run("worker", "-c", space / "worker.jsonc"), words)
    expect("config: file missing", EXIT_CONFIG, run("worker", "-c", "/nonexistent/worker.jsonc"), "/nonexistent")


def check_usage():
    for what, command in {"no such verb": ["wroker"], "no such option": ["batch", "--no-such-option"],
                          "batch without -m": ["batch"], "inspect without a directory": ["inspect"]}.items():
        expect("usage: " + what, EXIT_USAGE, run(*command))
    verbs = re.findall(r"^  ([a-z]+) ", run("--help").stdout, re.M)
    if not {"worker", "batch", "submit", "results", "watch", "broker", "inspect", "health"} <= set(verbs):
        faults.append("--help lists only %s" % verbs)
    for verb in sorted(set(verbs) - {"version"}):
        done = run(verb, "--help")
        if done.returncode != 0 or verb not in done.stdout:
            faults.append("%s --help: exit %d: %s" % (verb, done.returncode, done.stdout + done.stderr))


def main():
    with Workspace("exit") as space:
        jobs = space / "jobs.jsonl"
        jobs.write_text(json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/completions",
                                    "body": {"prompt": "Once", "max_tokens": 1}}) + "\n")
        check_models(space, jobs)
        check_worker_configs(space)
        check_usage()
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
