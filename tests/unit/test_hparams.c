// SPDX-License-Identifier: Apache-2.0
// config.json in every spelling in use, each detail of a family, and one sentence for what cannot be served.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/model/hparams.h"
#include "engine/model/rope.h"

#define SIZES                                                                                  \
    "\"vocab_size\":1000,\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":4," \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":2048"
#define LLAMA "{\"architectures\":[\"LlamaForCausalLM\"]," SIZES
#define MISTRAL "{\"architectures\":[\"MistralForCausalLM\"]," SIZES
#define QWEN2 "{\"architectures\":[\"Qwen2ForCausalLM\"]," SIZES
#define QWEN3 "{\"architectures\":[\"Qwen3ForCausalLM\"]," SIZES
#define MIXTRAL "{\"architectures\":[\"MixtralForCausalLM\"]," SIZES
#define QWEN2_MOE "{\"architectures\":[\"Qwen2MoeForCausalLM\"]," SIZES
#define QWEN3_MOE "{\"architectures\":[\"Qwen3MoeForCausalLM\"]," SIZES
#define EXPERTS ",\"num_experts\":8,\"num_experts_per_tok\":3,\"moe_intermediate_size\":24"

static struct hparams parse(const char *config, const char *generation)
{
    struct hparams hparams;
    struct error err;
    if (hparams_parse(&hparams, config, strlen(config), generation, generation ? strlen(generation) : 0,
                      &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return hparams;
}

static void refused(enum status status, const char *part, const char *config, const char *generation)
{
    struct hparams hparams;
    struct error err = {0};
    assert_int_equal(hparams_parse(&hparams, config, strlen(config), generation,
                                   generation ? strlen(generation) : 0, &err),
                     status);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void families_differ_in_biases_norms_and_head_size(void **state)
{
    (void)state;
    struct hparams llama = parse(LLAMA "}", NULL);
    assert_true(llama.head_dim == 16 && !llama.qkv_bias && !llama.qk_norm && !llama.tied_embeddings);
    assert_true(llama.norm_eps == 1e-6f && llama.rope_theta == 10000.0 && llama.eos_count == 0 &&
                llama.bos == -1);
    struct hparams biased = parse(LLAMA ",\"attention_bias\":true,\"mlp_bias\":true}", NULL);
    assert_true(biased.qkv_bias && biased.output_bias && biased.mlp_bias);
    struct hparams qwen2 = parse(QWEN2 ",\"tie_word_embeddings\":true}", NULL);
    assert_true(qwen2.qkv_bias && !qwen2.output_bias && !qwen2.qk_norm && qwen2.tied_embeddings);
    struct hparams qwen3 = parse(QWEN3 "}", NULL);
    assert_true(qwen3.qk_norm && !qwen3.qkv_bias && qwen3.head_dim == 128);
    assert_int_equal(parse(QWEN3 ",\"head_dim\":32}", NULL).head_dim, 32);
    assert_int_equal(parse(QWEN3 ",\"dtype\":\"bfloat16\"}", NULL).checkpoint_dtype, DTYPE_BF16);
    assert_int_equal(parse(QWEN3 ",\"torch_dtype\":\"float16\"}", NULL).checkpoint_dtype, DTYPE_F16);
}

/* Windows of the four layers as text: "0 0 8 8". */
static void windows_are(const char *expected, const char *config)
{
    struct hparams hparams = parse(config, NULL);
    char text[64];
    snprintf(text, sizeof text, "%d %d %d %d", hparams_layer_window(&hparams, 0),
             hparams_layer_window(&hparams, 1), hparams_layer_window(&hparams, 2),
             hparams_layer_window(&hparams, 3));
    assert_string_equal(text, expected);
}

static void sliding_windows_are_honoured_or_refused(void **state)
{
    (void)state;
    windows_are("8 8 8 8", MISTRAL ",\"sliding_window\":8}");
    windows_are("0 0 0 0", MISTRAL ",\"sliding_window\":null}");
    windows_are("4096 4096 4096 4096", MISTRAL "}"); /* left out: the family's default */
    windows_are("0 0 0 0", QWEN2 ",\"sliding_window\":8,\"max_window_layers\":2}");
    windows_are("0 0 8 8",
                QWEN2 ",\"use_sliding_window\":true,\"sliding_window\":8,\"max_window_layers\":2}");
    windows_are("0 0 0 0", QWEN2 ",\"use_sliding_window\":true,\"sliding_window\":8}"); /* from layer 28 on */
    windows_are("0 8 0 8",
                QWEN3 ",\"use_sliding_window\":true,\"sliding_window\":8,\"layer_types\":[\"full_attention\","
                      "\"sliding_attention\",\"full_attention\",\"sliding_attention\"]}");
    windows_are("0 0 0 0", LLAMA ",\"sliding_window\":null}");
    refused(STATUS_UNSUPPORTED, "sliding_window", LLAMA ",\"sliding_window\":8}", NULL);
    refused(STATUS_UNSUPPORTED, "layer_types", MISTRAL ",\"layer_types\":[\"full_attention\"]}", NULL);
    refused(STATUS_INVALID, "num_hidden_layers", QWEN3 ",\"layer_types\":[\"full_attention\"]}", NULL);
    refused(
        STATUS_UNSUPPORTED, "linear_attention",
        QWEN3
        ",\"layer_types\":[\"full_attention\",\"linear_attention\",\"full_attention\",\"full_attention\"]}",
        NULL);
    refused(STATUS_INVALID, "no sliding window",
            QWEN3 ",\"sliding_window\":8,\"layer_types\":[\"full_attention\",\"sliding_attention\","
                  "\"full_attention\",\"full_attention\"]}",
            NULL);
}

/* Which of the four layers have experts: "s d s d". */
static void sparse_layers_are(const char *expected, const char *config)
{
    struct hparams hparams = parse(config, NULL);
    char text[16];
    snprintf(text, sizeof text, "%c %c %c %c", hparams_layer_is_sparse(&hparams, 0) ? 's' : 'd',
             hparams_layer_is_sparse(&hparams, 1) ? 's' : 'd',
             hparams_layer_is_sparse(&hparams, 2) ? 's' : 'd',
             hparams_layer_is_sparse(&hparams, 3) ? 's' : 'd');
    assert_string_equal(text, expected);
}

static void experts_are_read_as_each_family_spells_them(void **state)
{
    (void)state;
    assert_int_equal(parse(QWEN3 "}", NULL).experts, 0);
    struct hparams qwen3 = parse(QWEN3_MOE EXPERTS ",\"norm_topk_prob\":true}", NULL);
    assert_true(qwen3.experts == 8 && qwen3.experts_per_token == 3 && qwen3.expert_width == 24);
    assert_true(qwen3.norm_topk && qwen3.qk_norm && !qwen3.qkv_bias && qwen3.head_dim == 16);
    assert_int_equal(qwen3.shared_expert_width, 0);
    assert_false(parse(QWEN3_MOE EXPERTS "}", NULL).norm_topk);
    struct hparams local = parse(QWEN3_MOE ",\"num_local_experts\":8,\"num_experts_per_tok\":3,"
                                           "\"moe_intermediate_size\":24,\"norm_topk_prob\":true}",
                                 NULL);
    assert_memory_equal(&qwen3, &local, sizeof local); /* transformers 5 */
    struct hparams qwen2 = parse(QWEN2_MOE EXPERTS ",\"shared_expert_intermediate_size\":40}", NULL);
    assert_true(qwen2.shared_expert_width == 40 && qwen2.qkv_bias && !qwen2.output_bias);
    assert_false(parse(QWEN2_MOE EXPERTS ",\"shared_expert_intermediate_size\":40,\"qkv_bias\":false}", NULL)
                     .qkv_bias);
    struct hparams mixtral =
        parse(MIXTRAL ",\"num_local_experts\":8,\"num_experts_per_tok\":2,\"sliding_window\":null}", NULL);
    assert_true(mixtral.experts == 8 && mixtral.experts_per_token == 2 && mixtral.expert_width == 96);
    assert_true(mixtral.norm_topk && mixtral.rope_theta == 1e6);
    assert_int_equal(mixtral.expert_naming, EXPERT_NAMING_MIXTRAL);
    sparse_layers_are("s s s s", MIXTRAL ",\"num_local_experts\":8,\"num_experts_per_tok\":2}");
    sparse_layers_are("s s s s", QWEN3_MOE EXPERTS "}");
    sparse_layers_are("d s d s", QWEN3_MOE EXPERTS ",\"decoder_sparse_step\":2}");
    sparse_layers_are("s d s d", QWEN3_MOE EXPERTS ",\"mlp_only_layers\":[1,3]}");
    sparse_layers_are("d d d d", QWEN3_MOE EXPERTS ",\"decoder_sparse_step\":5}");
    windows_are("8 8 8 8", QWEN3_MOE EXPERTS ",\"use_sliding_window\":true,\"sliding_window\":8}");
}

static void experts_that_make_no_sense_are_one_sentence(void **state)
{
    (void)state;
    refused(STATUS_INVALID, "num_experts", QWEN3_MOE "}", NULL);
    refused(STATUS_INVALID, "num_experts must be an integer from 1 to 512", QWEN3_MOE ",\"num_experts\":513}",
            NULL);
    refused(STATUS_INVALID, "num_local_experts", MIXTRAL ",\"num_local_experts\":0}", NULL);
    refused(STATUS_INVALID, "num_experts_per_tok must be an integer from 1 to 8",
            QWEN3_MOE ",\"num_experts\":8,\"num_experts_per_tok\":9,\"moe_intermediate_size\":24}", NULL);
    refused(STATUS_INVALID, "moe_intermediate_size",
            QWEN3_MOE ",\"num_experts\":8,\"num_experts_per_tok\":2}", NULL);
    refused(STATUS_INVALID, "norm_topk_prob", QWEN3_MOE EXPERTS ",\"norm_topk_prob\":1}", NULL);
    refused(STATUS_INVALID, "decoder_sparse_step", QWEN3_MOE EXPERTS ",\"decoder_sparse_step\":0}", NULL);
    refused(STATUS_INVALID, "mlp_only_layers must be a list", QWEN3_MOE EXPERTS ",\"mlp_only_layers\":1}",
            NULL);
    refused(STATUS_INVALID, "below num_hidden_layers (4)", QWEN3_MOE EXPERTS ",\"mlp_only_layers\":[4]}",
            NULL);
    refused(STATUS_INVALID, "shared_expert_intermediate_size", QWEN2_MOE EXPERTS "}", NULL);
    refused(STATUS_UNSUPPORTED, "needs layer_types",
            QWEN2_MOE EXPERTS ",\"shared_expert_intermediate_size\":40,\"use_sliding_window\":true}", NULL);
}

static void rope_is_read_in_both_spellings(void **state)
{
    (void)state;
    struct hparams old =
        parse(LLAMA ",\"rope_theta\":500000,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
                    "\"low_freq_factor\":1,\"high_freq_factor\":4,"
                    "\"original_max_position_embeddings\":512}}",
              NULL);
    struct hparams new = parse(LLAMA ",\"rope_parameters\":{\"rope_theta\":500000.0,\"rope_type\":\"llama3\","
                                     "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
                                     "\"original_max_position_embeddings\":512}}",
                               NULL);
    assert_int_equal(old.rope_scaling, ROPE_SCALING_LLAMA3);
    assert_memory_equal(&old, &new, sizeof old);
    struct hparams linear = parse(LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.5}}", NULL);
    assert_true(linear.rope_scaling == ROPE_SCALING_LINEAR && linear.rope_factor == 2.5);
    struct hparams none = parse(LLAMA ",\"rope_scaling\":null,\"rope_theta\":1e6}", NULL);
    assert_true(none.rope_scaling == ROPE_SCALING_NONE && none.rope_theta == 1e6);
}

#define YARN(more) \
    LLAMA ",\"rope_scaling\":{\"type\":\"yarn\",\"original_max_position_embeddings\":512" more "}}"

static void yarn_factors_are_given_or_derived(void **state)
{
    (void)state;
    struct hparams derived = parse(YARN(""), NULL); /* 2048 / 512 */
    assert_true(derived.rope_factor == 4.0 && derived.rope_beta_fast == 32.0 &&
                derived.rope_beta_slow == 1.0);
    assert_true(fabs(derived.rope_attention_factor - (0.1 * log(4.0) + 1.0)) < 1e-12);
    assert_true(derived.rope_truncate);
    struct hparams given = parse(YARN(",\"factor\":2,\"attention_factor\":0.9,\"truncate\":false"), NULL);
    assert_true(given.rope_attention_factor == 0.9 && !given.rope_truncate);
    struct hparams scaled = parse(YARN(",\"factor\":2,\"mscale\":0.5,\"mscale_all_dim\":1.5"), NULL);
    double expected = (0.05 * log(2.0) + 1.0) / (0.15 * log(2.0) + 1.0);
    assert_true(fabs(scaled.rope_attention_factor - expected) < 1e-12);
}

static void end_tokens_and_sampling_come_from_generation_config(void **state)
{
    (void)state;
    struct hparams hparams =
        parse(LLAMA ",\"bos_token_id\":5,\"eos_token_id\":7}",
              "{\"eos_token_id\":[8,9],\"temperature\":0.6,\"top_k\":20,\"top_p\":0.95,\"do_sample\":true}");
    assert_true(hparams.bos == 5 && hparams.eos_count == 2 && hparams.eos[0] == 8 && hparams.eos[1] == 9);
    assert_true(hparams.has_temperature && hparams.temperature == 0.6f && hparams.has_top_k &&
                hparams.top_k == 20);
    assert_true(hparams.has_top_p && !hparams.has_min_p && !hparams.has_repetition_penalty);
    struct hparams one = parse(LLAMA ",\"eos_token_id\":7}", "{}");
    assert_true(one.eos_count == 1 && one.eos[0] == 7 && !one.has_top_k);
    refused(STATUS_INVALID, "generation_config.json: temperature", LLAMA "}", "{\"temperature\":-0.5}");
    refused(STATUS_INVALID, "below vocab_size (1000)", LLAMA ",\"eos_token_id\":1000}", NULL);
    refused(STATUS_INVALID, "at most 8", LLAMA ",\"eos_token_id\":[1,2,3,4,5,6,7,8,9]}", NULL);
}

static void what_cannot_be_served_is_one_sentence(void **state)
{
    (void)state;
    refused(STATUS_UNSUPPORTED, "GemmaForCausalLM", "{\"architectures\":[\"GemmaForCausalLM\"]}", NULL);
    refused(STATUS_UNSUPPORTED, "gelu", LLAMA ",\"hidden_act\":\"gelu\"}", NULL);
    refused(STATUS_UNSUPPORTED, "quantis", LLAMA ",\"quantization_config\":{\"quant_method\":\"awq\"}}",
            NULL);
    refused(STATUS_UNSUPPORTED, "longrope", LLAMA ",\"rope_scaling\":{\"rope_type\":\"longrope\"}}", NULL);
    refused(STATUS_UNSUPPORTED, "partial_rotary_factor", LLAMA ",\"partial_rotary_factor\":0.5}", NULL);
    refused(STATUS_UNSUPPORTED, "differ by layer", LLAMA ",\"rope_parameters\":{\"full_attention\":{}}}",
            NULL);
    refused(STATUS_INVALID, "config.json", "{", NULL);
    refused(STATUS_INVALID, "architectures", "{}", NULL);
    refused(STATUS_INVALID, "vocab_size", "{\"architectures\":[\"LlamaForCausalLM\"]}", NULL);
    refused(STATUS_INVALID, "appears twice", LLAMA ",\"num_attention_heads\":4}", NULL);
}

#define WITH(field)                                                                           \
    "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":1000,\"intermediate_size\":96," \
    "\"num_hidden_layers\":4,\"max_position_embeddings\":2048," field "}"

static void numbers_out_of_range_are_named(void **state)
{
    (void)state;
    refused(STATUS_INVALID, "hidden_size", WITH("\"hidden_size\":0,\"num_attention_heads\":4"), NULL);
    refused(STATUS_INVALID, "hidden_size", WITH("\"hidden_size\":1099511627776,\"num_attention_heads\":4"),
            NULL);
    refused(STATUS_INVALID, "hidden_size", WITH("\"hidden_size\":64.5,\"num_attention_heads\":4"), NULL);
    refused(STATUS_INVALID, "num_attention_heads", WITH("\"hidden_size\":64,\"num_attention_heads\":0"),
            NULL);
    refused(STATUS_INVALID, "multiple",
            WITH("\"hidden_size\":64,\"num_attention_heads\":4,\"num_key_value_heads\":3"), NULL);
    refused(STATUS_INVALID, "head_dim", WITH("\"hidden_size\":64,\"num_attention_heads\":4,\"head_dim\":15"),
            NULL);
    refused(STATUS_INVALID, "head_dim", WITH("\"hidden_size\":64,\"num_attention_heads\":100"), NULL);
    refused(STATUS_INVALID, "rms_norm_eps", LLAMA ",\"rms_norm_eps\":0}", NULL);
    refused(STATUS_INVALID, "rope_theta", LLAMA ",\"rope_theta\":1}", NULL);
    refused(STATUS_INVALID, "factor", LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}}", NULL);
    refused(
        STATUS_INVALID, "high_freq_factor",
        LLAMA
        ",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4}}",
        NULL);
}

/* Own sine and cosine against libm, up to the longest context. */
static void angles_are_exact_to_the_last_bit_of_f32(void **state)
{
    (void)state;
    struct hparams hparams = parse(LLAMA ",\"head_dim\":64}", NULL);
    float frequencies[32], cosine[32], sine[32];
    rope_frequencies(frequencies, &hparams);
    for (int32_t position = 0; position < 1 << 24; position += 1 + position / 37) {
        rope_position(cosine, sine, frequencies, 32, position, 1.0f);
        for (int i = 0; i < 32; i++) {
            double angle = (double)((float)position * frequencies[i]);
            assert_true(fabs((double)cosine[i] - cos(angle)) <= 3.1e-8);
            assert_true(fabs((double)sine[i] - sin(angle)) <= 3.1e-8);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_differ_in_biases_norms_and_head_size),
        cmocka_unit_test(sliding_windows_are_honoured_or_refused),
        cmocka_unit_test(experts_are_read_as_each_family_spells_them),
        cmocka_unit_test(experts_that_make_no_sense_are_one_sentence),
        cmocka_unit_test(rope_is_read_in_both_spellings),
        cmocka_unit_test(yarn_factors_are_given_or_derived),
        cmocka_unit_test(end_tokens_and_sampling_come_from_generation_config),
        cmocka_unit_test(what_cannot_be_served_is_one_sentence),
        cmocka_unit_test(numbers_out_of_range_are_named),
        cmocka_unit_test(angles_are_exact_to_the_last_bit_of_f32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
