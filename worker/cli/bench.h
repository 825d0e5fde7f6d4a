// SPDX-License-Identifier: Apache-2.0
// The benchmarks behind `millrace bench`, and what those of the engine share.
#ifndef WORKER_CLI_BENCH_H
#define WORKER_CLI_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/model/hparams.h"

int bench_engine(int argc, char **argv);
int bench_products(int argc, char **argv);
int bench_tier(int argc, char **argv);
int bench_prefix(int argc, char **argv);
int bench_text(int argc, char **argv);
int bench_kv(int argc, char **argv);
int bench_steps(int argc, char **argv);
int bench_speculate(int argc, char **argv);

struct bench_option { /* one of text, number, flag; a table ends with a name of NULL */
    const char *name, **text;
    int *number, most; /* from 1 to most; 0: 2^20 */
    bool *flag;
};
/* Reads the arguments behind a benchmark's name. False: it has answered, with this exit code. */
MUST_CHECK bool bench_options(const struct bench_option *options, int argc, char **argv, const char *verb,
                              const char *usage, int *exit_code);

/* Hyperparameters of a well-known shape by name ("qwen3-0.6b"). Statuses: USAGE (the text lists the names),
 * and those of hparams_parse. */
MUST_CHECK enum status bench_shape(struct hparams *out, const char *name, struct error *err);

/* A model of random weights with a KV pool of its own, driven without scheduler or sampler. */
struct bench_model;
struct bench_model_options {
    const char *kernels, *weight_format, *kv_format;
    int threads;
    int32_t max_tokens; /* longest sequence */
    size_t kv_bytes;    /* pool; sequences that need more share blocks */
};
enum { BENCH_MAX_SEQUENCES = 64, BENCH_CHUNK_TOKENS = 512, BENCH_MAX_CONTEXT = 8192 };

MUST_CHECK enum status bench_model_open(struct bench_model **out, const struct hparams *hparams,
                                        const struct bench_model_options *options, struct error *err);
void bench_model_close(struct bench_model *bench);
const char *bench_model_kernels_name(const struct bench_model *bench);
/* Computes a prompt in chunks, and the logits of its last token; returns seconds. */
double bench_model_prefill(struct bench_model *bench, int32_t tokens);
/* One token for each of `batch` sequences with `context` tokens before it; seconds of one step, the median of
 * those that fit in a slice of 60 ms, of one at least. shared: whole blocks of the context belong to all of
 * them.
 */
double bench_model_decode(struct bench_model *bench, int32_t batch, int32_t context, bool shared);

/* What the work above must do at least, counted from the shapes. */
struct bench_cost {
    double bytes;      /* weights read once per step, keys and values of every sequence; shared ones once */
    double operations; /* of products with weights */
    double attention_operations;
};
struct bench_cost bench_model_prefill_cost(const struct bench_model *bench, int32_t tokens);
struct bench_cost bench_model_decode_cost(const struct bench_model *bench, int32_t batch, int32_t context,
                                          bool shared);

struct bench_memory {
    double weight_bytes, buffer_bytes, kv_bytes, kv_token_bytes;
    double resident_bytes; /* of the process now, over what it had before the model was opened */
};
struct bench_memory bench_model_memory(const struct bench_model *bench);

#endif
