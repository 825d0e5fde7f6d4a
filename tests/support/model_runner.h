// SPDX-License-Identifier: Apache-2.0
// Drives model_forward without an engine: a model, a KV cache, block tables laid out backwards.
#ifndef TESTS_SUPPORT_MODEL_RUNNER_H
#define TESTS_SUPPORT_MODEL_RUNNER_H

#include "engine/kv/kv_cache.h"
#include "engine/model/model.h"

enum { RUNNER_MAX_BLOCKS = 1024, RUNNER_MAX_ROWS = 512, RUNNER_MAX_PARTS = 64 };

struct model_runner {
    struct model *model;
    struct kv_cache *kv;
    int32_t next_block;
};

struct runner_sequence {
    const int32_t *tokens;
    int32_t context_tokens; /* in the cache already */
    int32_t block_table[RUNNER_MAX_BLOCKS];
    const uint8_t *window; /* its blocks in order, or NULL */
};

struct runner_options {
    const char *golden; /* directory below tests/golden/models, or an absolute path */
    const char *kernels, *weight_format, *kv_format;
    int threads;
    int32_t block_tokens; /* 0: 16 */
};

/* Fails the test on any error. */
void model_runner_open(struct model_runner *runner, const struct runner_options *options);
/* Of this shape, with random weights: the same in every run; options->golden is not read. */
void model_runner_open_random(struct model_runner *runner, const struct hparams *hparams,
                              const struct runner_options *options);
void model_runner_close(struct model_runner *runner);
/* A new sequence with blocks for max_tokens. */
void model_runner_sequence(struct model_runner *runner, struct runner_sequence *sequence,
                           const int32_t *tokens, int32_t max_tokens);
/* One step: rows[i] next tokens of each sequence. logits: [sum of rows][vocab], every row's. */
void model_runner_step(struct model_runner *runner, struct runner_sequence *const *sequences,
                       const int32_t *rows, int32_t count, float *logits);

/* golden.bin, see tools/make_model_golden.py. */
struct golden {
    int32_t prompt_tokens, greedy_tokens, vocab;
    int32_t *tokens; /* prompt, then greedy */
    float *logits;   /* [prompt_tokens][vocab] */
};
void golden_open(struct golden *golden, const char *golden_name);
void golden_close(struct golden *golden);

#endif
