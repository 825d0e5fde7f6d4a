#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden files of the text room, made with Hugging Face tokenizers and transformers.

usage: make_text_golden.py [templates] [tokenizers]      (both without arguments)

templates   tests/golden/text/templates.jsonl: {"name","source"} then {"template","messages",…,"expected"|"fails"};
            rendered by transformers' own render_jinja_template after the cleaning of apply_chat_template.
tokenizers  tests/golden/text/tokenizers/<name>.json: small tokenizers trained here, one per kind of pre-tokenizer,
            model and normalizer; <name>.txt: one line "text index: ids" per text; texts.jsonl: the texts.
"""
import copy
import datetime
import json
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
ROOT = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/text"
NOW = datetime.datetime(2026, 2, 3, 4, 5, 6)


def dump(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def render(source, case):
    from transformers.utils import chat_template_utils as utils

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return NOW

    utils.datetime = Clock
    messages = [{k: v for k, v in m.items() if v is not None} for m in copy.deepcopy(case["messages"])]
    rendered, _ = utils.render_jinja_template(
        conversations=[messages], tools=case.get("tools"), documents=case.get("documents"), chat_template=source,
        continue_final_message=case.get("continue_final_message", False),
        add_generation_prompt=case.get("add_generation_prompt", False),
        bos_token="<s>", eos_token="</s>", **case.get("kwargs", {}))
    return rendered[0]


def make_templates():
    import text_templates as data
    lines, counts = [], {"expected": 0, "fails": 0}
    for name, source in data.TEMPLATES.items():
        lines.append(dump({"name": name, "source": source}))
        for number, messages in enumerate(data.CONVERSATIONS):
            for options in data.OPTIONS:
                if options.get("continue_final_message") and messages[-1]["role"] != "assistant":
                    continue
                if name not in ("llama3", "command_r") and options.get("documents") and number % 3:
                    continue
                case = dict(options, template=name, messages=messages)
                try:
                    case["expected"] = render(source, case)
                except Exception as fault:  # what the template cannot render must fail here as well
                    case["fails"] = str(fault).split("\n")[0][:200]
                counts["expected" if "expected" in case else "fails"] += 1
                lines.append(dump(case))
    (ROOT / "templates.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("templates", counts)


def main():
    ROOT.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[1:] or ["templates", "tokenizers"]
    if "templates" in wanted:
        make_templates()
    if "tokenizers" in wanted:
        import text_tokenizers
        text_tokenizers.make(ROOT, random.Random(7))


if __name__ == "__main__":
    main()
