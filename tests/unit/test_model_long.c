// SPDX-License-Identifier: Apache-2.0
// Contexts of several attention segments: whoever attends to a segment, the logits have the bytes that one
// thread computes in chunks. Small models of 1 and 2 kv heads, teams of 1 to 8, rows around every multiple of
// a segment and where a window leaves one, decoding and in chunks, alone, beside others, sharing blocks or
// not, through block tables and contiguous.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model/forward.h"
#include "tests/support/model_runner.h"

enum {
    SEGMENT = ATTENTION_SEGMENT_TOKENS,
    LENGTH = 3 * SEGMENT + 32,
    CHUNK = 512,
    VOCAB = 64,
    BLOCK_TOKENS = 32,
    BLOCKS = LENGTH / BLOCK_TOKENS,
    PROMPT_ROWS = 150
};

static const char one_kv_head[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":64,\"hidden_size\":32,"
    "\"intermediate_size\":48,\"num_hidden_layers\":2,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
    "\"head_dim\":16,\"max_position_embeddings\":16384,\"rms_norm_eps\":1e-5,\"rope_theta\":10000,"
    "\"hidden_act\":\"silu\",\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\"}";
static const char two_kv_heads[] =
    "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\",\"vocab_size\":64,\"hidden_size\":32,"
    "\"intermediate_size\":48,\"num_hidden_layers\":2,\"num_attention_heads\":6,\"num_key_value_heads\":2,"
    "\"head_dim\":24,\"max_position_embeddings\":16384,\"rms_norm_eps\":1e-6,\"rope_theta\":1000000,"
    "\"hidden_act\":\"silu\",\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\"}";
static const char sliding_window[] =
    "{\"architectures\":[\"MistralForCausalLM\"],\"model_type\":\"mistral\",\"vocab_size\":64,"
    "\"hidden_size\":32,\"intermediate_size\":48,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":2,\"head_dim\":16,\"max_position_embeddings\":16384,\"rms_norm_eps\":1e-5,"
    "\"sliding_window\":2500,\"rope_theta\":10000,\"hidden_act\":\"silu\",\"tie_word_embeddings\":true,"
    "\"torch_dtype\":\"bfloat16\"}";

static struct hparams hparams;
static int32_t tokens[LENGTH];
static float expected[LENGTH][VOCAB], logits[RUNNER_MAX_ROWS][VOCAB];
static struct runner_sequence whole; /* [0, LENGTH) in the first runner, whose KV memory is kept */
static uint8_t *memory;
static bool split_seen;

static void compute_expected(const struct runner_options *variant)
{
    struct model_runner runner;
    struct runner_sequence *sequence = &whole;
    model_runner_open_random(&runner, &hparams, variant);
    model_runner_sequence(&runner, &whole, tokens, LENGTH);
    while (whole.context_tokens < LENGTH) {
        const int32_t done = whole.context_tokens;
        const int32_t rows = LENGTH - done < CHUNK ? LENGTH - done : CHUNK;
        model_runner_step(&runner, &sequence, &rows, 1, expected[done]);
    }
    memory = malloc(runner.kv->block_bytes * RUNNER_MAX_BLOCKS);
    assert_non_null(memory);
    memcpy(memory, runner.kv->memory, runner.kv->block_bytes * RUNNER_MAX_BLOCKS);
    model_runner_close(&runner);
}

/* [0, context) is there, in blocks of its own from `block` on, the first `shared` of them another's. */
static struct runner_sequence place(struct model_runner *runner, int32_t context, int32_t block,
                                    const struct runner_sequence *other, int32_t shared)
{
    struct runner_sequence sequence = {.tokens = tokens, .context_tokens = context};
    for (int32_t i = 0; i < BLOCKS; i++) {
        const int32_t to = sequence.block_table[i] = i < shared ? other->block_table[i] : block + i;
        memcpy(kv_cache_block(runner->kv, to),
               memory + (size_t)whole.block_table[i] * runner->kv->block_bytes, runner->kv->block_bytes);
    }
    return sequence;
}

static void step(struct model_runner *runner, const struct runner_options *variant, const char *what,
                 struct runner_sequence *const *sequences, const int32_t *rows, int32_t count)
{
    model_runner_step(runner, sequences, rows, count, logits[0]);
    split_seen |= runner->model->buffers.attention.plan.state_rows > 0;
    for (int32_t i = 0, row = 0; i < count; row += rows[i++]) {
        const int32_t first = sequences[i]->context_tokens - rows[i];
        if (memcmp(logits[row], expected[first], (size_t)rows[i] * sizeof logits[0]) != 0)
            fail_msg("%s, kv %s, %d threads, %s: %d rows from position %d have other bytes", variant->kernels,
                     variant->kv_format, variant->threads, what, rows[i], first);
    }
}

/* Rows around `middle`. */
static void check_around(struct model_runner *runner, const struct runner_options *variant, int32_t middle)
{
    static const int32_t one = 1, chunk = 13, two_rows[] = {1, PROMPT_ROWS}, three_rows[] = {1, 3, 30};
    struct runner_sequence a = place(runner, middle - 3, 0, NULL, 0), b, c;
    struct runner_sequence *parts[] = {&a, &b, &c};
    for (int i = 0; i < 6; i++)
        step(runner, variant, "decoding", parts, &one, 1);
    a = place(runner, middle - 7, 0, NULL, 0);
    step(runner, variant, "a chunk", parts, &chunk, 1);
    a = place(runner, middle - 7, 0, NULL, 0);
    a.window = runner->kv->memory;
    step(runner, variant, "contiguous", parts, &chunk, 1);
    a = place(runner, middle - 1, 0, NULL, 0), b = place(runner, 0, BLOCKS, NULL, 0);
    step(runner, variant, "beside a prompt", parts, two_rows, 2);
    a = place(runner, middle - 2, 0, NULL, 0);
    b = place(runner, middle - 2, BLOCKS, &a, (middle - 300) / BLOCK_TOKENS);
    c = place(runner, middle - 20, 2 * BLOCKS, &a, SEGMENT / 2 / BLOCK_TOKENS);
    step(runner, variant, "sharing blocks", parts, three_rows, 3);
}

static void check_variant(struct runner_options variant)
{
    static const int teams[] = {1, 2, 3, 8};
    int32_t consecutive[BLOCKS];
    for (int32_t i = 0; i < BLOCKS; i++)
        consecutive[i] = i;
    variant.threads = 1;
    compute_expected(&variant);
    for (size_t i = 0; i < sizeof teams / sizeof teams[0]; i++) {
        struct model_runner runner;
        variant.threads = teams[i];
        model_runner_open_random(&runner, &hparams, &variant);
        runner.kv->consecutive = consecutive;
        split_seen = false;
        for (int32_t middle = SEGMENT; middle < LENGTH; middle += SEGMENT)
            check_around(&runner, &variant, middle);
        for (int32_t middle = hparams.sliding_window; middle > 0 && middle < LENGTH; middle += SEGMENT)
            check_around(&runner, &variant, middle); /* the window leaves a segment behind */
        assert_int_equal(split_seen, variant.threads > 1);
        model_runner_close(&runner);
    }
    free(memory);
}

static void who_attends_to_a_segment_changes_no_byte(void **state)
{
    (void)state;
    static const char *const sets[] = {"generic", "openblas", "avx2", "avx512", "amx"};
    static const char *const configs[] = {one_kv_head, two_kv_heads, sliding_window};
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        const struct kernels *set = kernels_find(sets[i]);
        if (!set)
            continue;
        for (size_t c = 0; c < sizeof configs / sizeof configs[0]; c++) {
            struct error err;
            if (hparams_parse(&hparams, configs[c], strlen(configs[c]), NULL, 0, &err) != STATUS_OK)
                fail_msg("%s", err.text);
            const char *const kv_formats[] = {"bf16", set->has_kv_int8 ? "int8" : "f32", "f32"};
            check_variant((struct runner_options){.kernels = sets[i],
                                                  .weight_format = "f32",
                                                  .kv_format = kv_formats[c],
                                                  .block_tokens = BLOCK_TOKENS});
            if (set->attention_tile_tokens == 0)
                break; /* its attention is the generic one, which is slow */
        }
    }
}

int main(void)
{
    for (int32_t i = 0; i < LENGTH; i++)
        tokens[i] = (int32_t)((uint32_t)i * 2654435761u >> 20) % VOCAB;
    const struct CMUnitTest tests[] = {cmocka_unit_test(who_attends_to_a_segment_changes_no_byte)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
