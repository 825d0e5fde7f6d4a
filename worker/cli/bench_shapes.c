// SPDX-License-Identifier: Apache-2.0
// Shapes of published models as their config.json gives them, so that anybody can measure without weights.
#include <string.h>

#include "worker/cli/bench.h"

static const struct {
    const char *name, *config;
} shapes[] = {
    {"qwen3-0.6b", "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\",\"vocab_size\":151936,"
                   "\"hidden_size\":1024,\"intermediate_size\":3072,\"num_hidden_layers\":28,"
                   "\"num_attention_heads\":16,\"num_key_value_heads\":8,\"head_dim\":128,"
                   "\"max_position_embeddings\":40960,\"rms_norm_eps\":1e-6,\"rope_theta\":1000000,"
                   "\"hidden_act\":\"silu\",\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\"}"},
    {"llama-3.2-1b",
     "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":128256,"
     "\"hidden_size\":2048,\"intermediate_size\":8192,\"num_hidden_layers\":16,\"num_attention_heads\":32,"
     "\"num_key_value_heads\":8,\"head_dim\":64,\"max_position_embeddings\":131072,\"rms_norm_eps\":1e-5,"
     "\"rope_theta\":500000,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":32.0,\"low_freq_factor\":1."
     "0,"
     "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192},\"hidden_act\":\"silu\","
     "\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\"}"},
    {"qwen2.5-1.5b",
     "{\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\",\"vocab_size\":151936,"
     "\"hidden_size\":1536,\"intermediate_size\":8960,\"num_hidden_layers\":28,"
     "\"num_attention_heads\":12,\"num_key_value_heads\":2,"
     "\"max_position_embeddings\":131072,\"rms_norm_eps\":1e-6,\"rope_theta\":1000000,"
     "\"hidden_act\":\"silu\",\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\"}"},
    {"qwen3-moe-small", /* Qwen3-MoE's make-up at a size that fits a small machine: no published model */
     "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"model_type\":\"qwen3_moe\",\"vocab_size\":151936,"
     "\"hidden_size\":1024,\"intermediate_size\":3072,\"num_hidden_layers\":12,"
     "\"num_attention_heads\":16,\"num_key_value_heads\":8,\"head_dim\":128,"
     "\"num_experts\":32,\"num_experts_per_tok\":4,\"moe_intermediate_size\":512,\"norm_topk_prob\":true,"
     "\"max_position_embeddings\":40960,\"rms_norm_eps\":1e-6,\"rope_theta\":1000000,"
     "\"hidden_act\":\"silu\",\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\"}"},
};

enum status bench_shape(struct hparams *out, const char *name, struct error *err)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (strcmp(name, shapes[i].name) == 0)
            return hparams_parse(out, shapes[i].config, strlen(shapes[i].config), NULL, 0, err);
    return error_set(err, STATUS_USAGE,
                     "shape %.32s is unknown; use qwen3-0.6b, llama-3.2-1b, qwen2.5-1.5b or qwen3-moe-small",
                     name);
}
