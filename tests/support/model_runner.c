// SPDX-License-Identifier: Apache-2.0
#include "tests/support/model_runner.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEFAULT_BLOCK_TOKENS = 16, RANDOM_SEED = 5 };

static void golden_path(char *path, size_t bytes, const char *name, const char *file)
{
    const char *root = name[0] == '/' ? "" : MILLRACE_SOURCE_DIR "/tests/golden/models/";
    int length = snprintf(path, bytes, "%s%s%s", root, name, file);
    assert_true(length > 0 && (size_t)length < bytes);
}

static struct model_options model_options_of(const struct runner_options *options, const char *dir)
{
    return (struct model_options){.model_dir = dir,
                                  .kernels = options->kernels,
                                  .weight_format = options->weight_format,
                                  .kv_format = options->kv_format,
                                  .threads = options->threads,
                                  .max_batch_tokens = RUNNER_MAX_ROWS,
                                  .max_logit_rows = RUNNER_MAX_ROWS};
}

static void open_kv(struct model_runner *runner, const struct runner_options *options)
{
    struct error err;
    const int32_t layers = model_hparams(runner->model)->layers;
    const int32_t block_tokens = options->block_tokens > 0 ? options->block_tokens : DEFAULT_BLOCK_TOKENS;
    size_t layer_bytes = model_block_bytes(runner->model, block_tokens) / (size_t)layers;
    if (kv_cache_open(&runner->kv, RUNNER_MAX_BLOCKS, layers, block_tokens, layer_bytes, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    runner->next_block = RUNNER_MAX_BLOCKS;
}

void model_runner_open(struct model_runner *runner, const struct runner_options *options)
{
    char path[1024];
    struct error err;
    golden_path(path, sizeof path, options->golden, "");
    const struct model_options model_options = model_options_of(options, path);
    *runner = (struct model_runner){0};
    if (model_open(&runner->model, &model_options, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    open_kv(runner, options);
}

void model_runner_open_random(struct model_runner *runner, const struct hparams *hparams,
                              const struct runner_options *options)
{
    struct error err;
    const struct model_options model_options = model_options_of(options, NULL);
    *runner = (struct model_runner){0};
    if (model_open_synthetic(&runner->model, hparams, &model_options, RANDOM_SEED, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    open_kv(runner, options);
}

void model_runner_close(struct model_runner *runner)
{
    kv_cache_close(runner->kv);
    model_close(runner->model);
}

void model_runner_sequence(struct model_runner *runner, struct runner_sequence *sequence,
                           const int32_t *tokens, int32_t max_tokens)
{
    *sequence = (struct runner_sequence){.tokens = tokens};
    for (int32_t i = 0; i * runner->kv->block_tokens < max_tokens; i++) {
        assert_true(runner->next_block > 0);
        sequence->block_table[i] = --runner->next_block;
    }
}

void model_runner_step(struct model_runner *runner, struct runner_sequence *const *sequences,
                       const int32_t *rows, int32_t count, float *logits)
{
    int32_t tokens[RUNNER_MAX_ROWS], positions[RUNNER_MAX_ROWS], logit_rows[RUNNER_MAX_ROWS], total = 0;
    struct batch_sequence parts[RUNNER_MAX_PARTS];
    assert_true(count <= RUNNER_MAX_PARTS);
    for (int32_t i = 0; i < count; i++) {
        parts[i] = (struct batch_sequence){.first_row = total,
                                           .rows = rows[i],
                                           .context_tokens = sequences[i]->context_tokens,
                                           .block_table = sequences[i]->block_table,
                                           .window = sequences[i]->window};
        for (int32_t r = 0; r < rows[i]; r++, total++) {
            assert_true(total < RUNNER_MAX_ROWS);
            positions[total] = sequences[i]->context_tokens + r;
            tokens[total] = sequences[i]->tokens[positions[total]];
            logit_rows[total] = total;
        }
        sequences[i]->context_tokens += rows[i];
    }
    const struct batch batch = {.row_count = total,
                                .tokens = tokens,
                                .positions = positions,
                                .sequence_count = count,
                                .sequences = parts,
                                .logit_count = total,
                                .logit_rows = logit_rows};
    model_forward(runner->model, runner->kv, &batch, logits);
}

void golden_open(struct golden *golden, const char *golden_name)
{
    char path[1024];
    golden_path(path, sizeof path, golden_name, "/golden.bin");
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(&golden->prompt_tokens, sizeof(int32_t), 3, file), 3);
    size_t tokens = (size_t)golden->prompt_tokens + (size_t)golden->greedy_tokens;
    size_t logits = (size_t)golden->prompt_tokens * (size_t)golden->vocab;
    golden->tokens = malloc(tokens * sizeof(int32_t));
    golden->logits = malloc(logits * sizeof(float));
    assert_true(golden->tokens && golden->logits);
    assert_int_equal(fread(golden->tokens, sizeof(int32_t), tokens, file), tokens);
    assert_int_equal(fread(golden->logits, sizeof(float), logits, file), logits);
    fclose(file);
}

void golden_close(struct golden *golden)
{
    free(golden->tokens);
    free(golden->logits);
}
