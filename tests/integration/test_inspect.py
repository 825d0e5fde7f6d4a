# SPDX-License-Identifier: Apache-2.0
"""`millrace inspect` on a directory that has the shape of Qwen3-0.6B and no weights: the plan is worked out here."""
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import batch  # noqa: E402
from models import BUNDLED  # noqa: E402
from process import Workspace  # noqa: E402

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, MLP, VOCAB, CONTEXT = 28, 1024, 16, 8, 128, 3072, 151936, 40960
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN,
    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "intermediate_size": MLP,
    "vocab_size": VOCAB, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-6, "rope_theta": 1000000,
    "tie_word_embeddings": True, "attention_bias": False, "hidden_act": "silu", "torch_dtype": "bfloat16",
    "use_sliding_window": False, "eos_token_id": 151645, "bos_token_id": 151643,
}
MOE = {**CONFIG, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 32,
       "num_experts_per_tok": 4, "moe_intermediate_size": 512, "mlp_only_layers": [0]}
GENERATION = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": [151645, 151643]}


def inspect(millrace, *arguments, code=0):
    done = subprocess.run([millrace, "inspect", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, "exit code %d: %s" % (done.returncode, done.stderr)
    return done.stdout if code == 0 else done.stderr


def check_plan(plan):
    matrices = LAYERS * (HIDDEN * HEAD_DIM * (HEADS * 2 + KV_HEADS * 2) + 3 * HIDDEN * MLP) + VOCAB * HIDDEN
    assert 2 * matrices <= plan["weight_bytes"] <= 2 * matrices * 1.02, (plan["weight_bytes"], 2 * matrices)
    assert plan["kv_token_bytes"] == LAYERS * 2 * KV_HEADS * HEAD_DIM * 2, plan["kv_token_bytes"]
    assert plan["kv_blocks"] == (256 << 20) // (16 * plan["kv_token_bytes"]), plan["kv_blocks"]
    assert plan["kv_pool_bytes"] == plan["kv_blocks"] * 16 * plan["kv_token_bytes"]
    assert plan["sequence_tokens"] == plan["kv_blocks"] * 16 < CONTEXT
    assert plan["sampling"] == {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0, "repetition_penalty": 1}
    assert plan["eos"] == [151645, 151643] and plan["impossible"] is None


def check_experts(millrace, space):
    """All experts count in memory; a layer without them counts its dense MLP."""
    (space / "config.json").write_text(json.dumps(MOE))
    plan = json.loads(inspect(millrace, space.path, "--json", "--engine.kv_memory_mb=256"))
    attention, experts = HIDDEN * HEAD_DIM * (HEADS * 2 + KV_HEADS * 2), 32 * 3 * HIDDEN * 512
    matrices = LAYERS * attention + 3 * HIDDEN * MLP + (LAYERS - 1) * experts + VOCAB * HIDDEN
    assert 2 * matrices <= plan["weight_bytes"] <= 2 * matrices * 1.02, (plan["weight_bytes"], 2 * matrices)
    assert (plan["experts"], plan["experts_per_token"], plan["sparse_layers"]) == (32, 4, LAYERS - 1), plan
    assert "narrow" not in inspect(millrace, space.path), "no matrix of bf16 weights is left out"
    assert "32 of width 512 in 27 of 28 layers, 4 for each token" in inspect(millrace, space.path)
    (space / "config.json").write_text(json.dumps({**MOE, "num_experts_per_tok": 33}))
    refusal = inspect(millrace, space.path, code=78)
    assert refusal.count("\n") == 1 and "num_experts_per_tok must be an integer from 1 to 32" in refusal, refusal


def check_narrow(millrace, space):
    """int4 keeps matrices with rows of less than 128 in int8: here the experts' last ones."""
    for width, narrow in ((128, None), (64, "int8")):
        (space / "config.json").write_text(json.dumps({**MOE, "moe_intermediate_size": width}))
        plan = json.loads(inspect(millrace, space.path, "--json", "--engine.kv_memory_mb=256", "--model.weight_format=int4"))
        assert plan.get("narrow_weight_format") == narrow, plan
        matrices = LAYERS * HIDDEN * HEAD_DIM * (HEADS * 2 + KV_HEADS * 2) + 3 * HIDDEN * MLP + VOCAB * HIDDEN
        down = (LAYERS - 1) * 32 * HIDDEN * width
        expected = (matrices + 2 * down) * 0.53125 + down * (1 if narrow else 0.53125)
        assert expected <= plan["weight_bytes"] <= expected * 1.04, (plan["weight_bytes"], expected)


def check_render(millrace, space):
    """A list of messages or a chat body; parts are joined for a template that takes strings, left to one that reads parts."""
    source = "{% for m in messages %}{% if m.content is string %}<{{ m.content }}>{% else %}{% for p in m.content %}" \
             "[{{ p.text }}]{% endfor %}{% endif %}{% endfor %}{{ extra }}{% if add_generation_prompt %}!{% endif %}"
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    (space / "messages.json").write_text(json.dumps(parts))
    assert inspect(millrace, BUNDLED, "--render", space / "messages.json").startswith("<|im_start|>user\na\nb<|im_end|>")
    (space / "chat_template.jinja").write_text(source)
    body = {"messages": parts, "chat_template_kwargs": {"extra": "x"}, "add_generation_prompt": False}
    (space / "body.json").write_text(json.dumps(body))
    assert inspect(millrace, space.path, "--render", space / "messages.json") == "[a][b]!"
    assert inspect(millrace, space.path, "--render", space / "body.json") == "[a][b]x"


def main():
    millrace = batch.millrace_argument()
    with Workspace("inspect") as space:
        (space / "config.json").write_text(json.dumps(CONFIG))
        (space / "generation_config.json").write_text(json.dumps(GENERATION))
        check_plan(json.loads(inspect(millrace, space.path, "--json", "--engine.kv_memory_mb=256")))
        text = inspect(millrace, space.path, "--engine.kv_memory_mb=256")
        assert "114688 bytes per token" in text and "Qwen3ForCausalLM: 28 layers" in text, text
        text = inspect(millrace, space.path, "--engine.kv_memory_mb=16000000")
        assert "impossible here" in text, text
        check_experts(millrace, space)
        check_narrow(millrace, space)
        (space / "config.json").write_text("{}")
        assert inspect(millrace, space.path, code=78).count("\n") == 1
    pieces = json.loads(inspect(millrace, BUNDLED, "--tokenize", "Hello kettle", "--json"))
    assert "".join(piece["text"] for piece in pieces) == "Hello kettle" and len(pieces) < 8, pieces
    with Workspace("inspect") as space:
        check_render(millrace, space)
    print("the plan of a Qwen3-0.6B is right")


main()
