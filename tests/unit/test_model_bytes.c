// SPDX-License-Identifier: Apache-2.0
// The reproducibility promise, in bytes: the logits of a position depend on its token prefix alone, whatever
// the chunking, the neighbours in the batch, the blocks, their size and the number of threads; for every
// kernel set and weight format of this machine, and both KV formats.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/model_runner.h"

enum { SEQUENCES = 5, LENGTH = 50, VOCAB = 288 /* of the small models */, MAX_VOCAB = 4096 };

static const char *const models[] = {"llama-llama3", "mistral",   "qwen2",    "qwen3",
                                     "mixtral",      "qwen2-moe", "qwen3-moe"};
/* int4 keeps narrow matrices in int8 (engine/model/weights.h), so that of the models above it has parts only.
 */
static const char wide_model[] = MILLRACE_SOURCE_DIR "/examples/models/shop-qwen3";
static const char *const sets[] = {"generic", "openblas", "avx2", "avx512", "amx"};
static const char *const weight_formats[] = {"f32", "bf16", "int8", "int4"};
static const char *const kv_formats[] = {"f32", "bf16", "int8"};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static int32_t prompts[SEQUENCES][LENGTH];
static int32_t vocab;
static float
    expected[SEQUENCES * LENGTH * MAX_VOCAB]; /* each prompt alone, one token at a time, one thread */
static float logits[RUNNER_MAX_ROWS * MAX_VOCAB];

static float *expected_row(int sequence, int32_t position)
{
    return expected + (size_t)(sequence * LENGTH + position) * (size_t)vocab;
}

static void open_variant(struct model_runner *runner, struct runner_sequence sequences[SEQUENCES],
                         const struct runner_options *variant)
{
    model_runner_open(runner, variant);
    vocab = model_hparams(runner->model)->vocab;
    assert_true(vocab <= MAX_VOCAB);
    for (int i = 0; i < SEQUENCES; i++)
        model_runner_sequence(runner, &sequences[i], prompts[i], LENGTH);
}

static void compute_expected(const struct runner_options *variant)
{
    struct model_runner runner;
    struct runner_sequence sequences[SEQUENCES];
    open_variant(&runner, sequences, variant);
    const int32_t one = 1;
    for (int i = 0; i < SEQUENCES; i++)
        for (int position = 0; position < LENGTH; position++) {
            struct runner_sequence *sequence = &sequences[i];
            model_runner_step(&runner, &sequence, &one, 1, expected_row(i, position));
        }
    model_runner_close(&runner);
}

static void compare_rows(const struct runner_options *variant, int sequence, int32_t position, int32_t rows,
                         const float *actual)
{
    for (int32_t row = 0; row < rows; row++)
        if (memcmp(actual + row * vocab, expected_row(sequence, position + row),
                   (size_t)vocab * sizeof *actual) != 0)
            fail_msg("%s %s weights %s kv %s: sequence %d position %d has other bytes", variant->golden,
                     variant->kernels, variant->weight_format, variant->kv_format, sequence, position + row);
}

/* Every sequence alone, in chunks. */
static void check_chunks(const struct runner_options *variant, int32_t chunk)
{
    struct model_runner runner;
    struct runner_sequence sequences[SEQUENCES];
    open_variant(&runner, sequences, variant);
    for (int i = 0; i < SEQUENCES; i++)
        for (int32_t position = 0, rows; position < LENGTH; position += rows) {
            struct runner_sequence *sequence = &sequences[i];
            rows = LENGTH - position < chunk ? LENGTH - position : chunk;
            model_runner_step(&runner, &sequence, &rows, 1, logits);
            compare_rows(variant, i, position, rows, logits);
        }
    model_runner_close(&runner);
}

/* All sequences in one batch, each with its own pace, so that prefill and decode rows stand side by side. */
static void check_batch(const struct runner_options *variant)
{
    static const int32_t paces[SEQUENCES] = {1, 50, 3, 16, 33};
    struct model_runner runner;
    struct runner_sequence sequences[SEQUENCES];
    open_variant(&runner, sequences, variant);
    for (;;) {
        struct runner_sequence *parts[SEQUENCES];
        int32_t rows[SEQUENCES], count = 0, row = 0;
        for (int i = 0; i < SEQUENCES; i++) {
            int32_t left = LENGTH - sequences[i].context_tokens;
            if (left == 0)
                continue;
            parts[count] = &sequences[i];
            rows[count++] = paces[i] < left ? paces[i] : left;
        }
        if (count == 0)
            break;
        model_runner_step(&runner, parts, rows, count, logits);
        for (int32_t i = 0; i < count; row += rows[i++])
            compare_rows(variant, (int)(parts[i] - sequences), parts[i]->context_tokens - rows[i], rows[i],
                         logits + (size_t)row * (size_t)vocab);
    }
    model_runner_close(&runner);
}

static void check_variant(const struct runner_options *variant)
{
    struct runner_options other = *variant;
    compute_expected(variant);
    check_chunks(variant, 16);
    other.threads = 2;
    check_chunks(&other, 333);
    check_batch(&other);
    other.threads = 3, other.block_tokens = 48;
    check_batch(&other);
}

static void logits_are_a_function_of_the_prefix(void **state)
{
    (void)state;
    for (size_t set = 0; set < COUNT(sets); set++)
        for (size_t format = 0; format < COUNT(weight_formats); format++) {
            const struct kernels *kernels = kernels_find(sets[set]);
            if (!kernels || !kernels->has_format((enum weight_format)format)) {
                print_message("kernel set %s, weights %s: not on this machine\n", sets[set],
                              weight_formats[format]);
                continue;
            }
            const size_t kinds = kernels->has_kv_int8 ? 3 : 2;
            for (size_t model = 0; model < COUNT(models); model++) /* the KV formats in turn */
                check_variant(&(struct runner_options){models[model], sets[set], weight_formats[format],
                                                       kv_formats[(model + format) % kinds], 1, 16});
            if (format == WEIGHT_INT4)
                check_variant(&(struct runner_options){wide_model, sets[set], "int4", "bf16", 1, 16});
        }
}

/* Asking for fewer logits changes none of them, and asking for none still fills the cache. */
static void asking_for_fewer_logits_changes_none(void **state)
{
    (void)state;
    const struct runner_options variant = {"qwen3", "generic", "f32", "f32", 2, 16};
    struct model_runner runner;
    struct runner_sequence sequences[SEQUENCES];
    compute_expected(&variant);
    open_variant(&runner, sequences, &variant);
    int32_t positions[LENGTH], wanted[] = {3, 30, 47}, last = 0;
    for (int32_t i = 0; i < LENGTH; i++)
        positions[i] = i;
    struct batch_sequence part = {.rows = LENGTH, .block_table = sequences[0].block_table};
    struct batch batch = {.row_count = LENGTH,
                          .tokens = prompts[0],
                          .positions = positions,
                          .sequence_count = 1,
                          .sequences = &part,
                          .logit_count = 3,
                          .logit_rows = wanted};
    model_forward(runner.model, runner.kv, &batch, logits);
    for (int i = 0; i < 3; i++)
        assert_memory_equal(logits + i * vocab, expected_row(0, wanted[i]), (size_t)vocab * sizeof *logits);
    part = (struct batch_sequence){.rows = LENGTH - 1, .block_table = sequences[1].block_table};
    batch.tokens = prompts[1], batch.row_count = LENGTH - 1, batch.logit_count = 0;
    model_forward(runner.model, runner.kv, &batch, NULL);
    part.context_tokens = LENGTH - 1, part.rows = 1;
    batch.tokens = &prompts[1][LENGTH - 1], batch.positions = &positions[LENGTH - 1], batch.row_count = 1;
    batch.logit_count = 1, batch.logit_rows = &last;
    model_forward(runner.model, runner.kv, &batch, logits);
    assert_memory_equal(logits, expected_row(1, LENGTH - 1), (size_t)vocab * sizeof *logits);
    model_runner_close(&runner);
}

int main(void)
{
    for (int i = 0; i < SEQUENCES * LENGTH; i++)
        prompts[i / LENGTH][i % LENGTH] = (i * 7919 + i / LENGTH * 31 + 5) % VOCAB;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_a_function_of_the_prefix),
        cmocka_unit_test(asking_for_fewer_logits_changes_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
