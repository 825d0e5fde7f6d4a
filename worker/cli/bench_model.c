// SPDX-License-Identifier: Apache-2.0
// The engine's forward pass with batches made by hand: block tables run through the KV pool in order and wrap
// around at its end, so that long contexts of many sequences read as much as they would with a larger pool.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "engine/kernels/dtype.h"
#include "engine/kv/kv_cache.h"
#include "engine/model/model.h"
#include "worker/cli/bench.h"

enum { BLOCK_TOKENS = 16, MAX_STEPS = 200, SLICE_TIME_MS = 60 };

struct bench_model {
    const struct hparams *hparams;
    struct model *model;
    struct kv_cache *kv;
    int32_t max_blocks; /* of one sequence */
    int32_t *tables;    /* [BENCH_MAX_SEQUENCES][max_blocks] */
    int32_t *tokens;    /* [BENCH_CHUNK_TOKENS] */
    int32_t *positions; /* [BENCH_CHUNK_TOKENS] */
    float *logits;      /* [BENCH_MAX_SEQUENCES][vocab] */
    double parameter_bytes, head_bytes, kv_token_bytes, resident_before;
    double experts_touched[BENCH_CHUNK_TOKENS + 1]; /* per layer, in the last step of so many rows */
};

static enum status open_model(struct bench_model *bench, const struct bench_model_options *options,
                              struct error *err)
{
    const struct model_options model_options = {.kernels = options->kernels,
                                                .weight_format = options->weight_format,
                                                .kv_format = options->kv_format,
                                                .threads = options->threads,
                                                .max_batch_tokens = BENCH_CHUNK_TOKENS,
                                                .max_logit_rows = BENCH_MAX_SEQUENCES};
    return model_open_synthetic(&bench->model, bench->hparams, &model_options, 1, err);
}

/* Untouched pages would all be the one zero page, which no cache ever misses. */
static void fill_pool(struct kv_cache *kv)
{
    uint16_t *halves = (uint16_t *)kv->memory;
    uint32_t seed = 1;
    for (size_t i = 0; i < kv->block_bytes * (size_t)kv->blocks / sizeof *halves; i++) {
        seed = seed * 1664525u + 1013904223u;
        halves[i] = (uint16_t)(0x3c00u | (seed >> 16 & 0x81ffu)); /* +-2^-7 to 2^-4 or so */
    }
}

static enum status open_pool(struct bench_model *bench, const struct bench_model_options *options,
                             struct error *err)
{
    const size_t block_bytes = model_block_bytes(bench->model, BLOCK_TOKENS);
    bench->max_blocks = options->max_tokens / BLOCK_TOKENS + 1;
    int32_t blocks = (int32_t)(options->kv_bytes / block_bytes);
    blocks = blocks > bench->max_blocks ? blocks : bench->max_blocks;
    enum status status = kv_cache_open(&bench->kv, blocks, bench->hparams->layers, BLOCK_TOKENS,
                                       block_bytes / (size_t)bench->hparams->layers, err);
    if (status != STATUS_OK)
        return status;
    fill_pool(bench->kv);
    bench->kv_token_bytes = (double)block_bytes / BLOCK_TOKENS;
    return STATUS_OK;
}

static enum status open_arrays(struct bench_model *bench, struct error *err)
{
    bench->tables = calloc((size_t)BENCH_MAX_SEQUENCES * (size_t)bench->max_blocks, sizeof *bench->tables);
    bench->tokens = calloc(BENCH_CHUNK_TOKENS, sizeof *bench->tokens);
    bench->positions = calloc(BENCH_CHUNK_TOKENS, sizeof *bench->positions);
    bench->logits =
        calloc((size_t)BENCH_MAX_SEQUENCES * (size_t)bench->hparams->vocab, sizeof *bench->logits);
    if (!bench->tables || !bench->tokens || !bench->positions || !bench->logits)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the benchmark's batches");
    for (int32_t i = 0; i < BENCH_CHUNK_TOKENS; i++)
        bench->tokens[i] = (int32_t)((int64_t)i * 7919 % bench->hparams->vocab);
    return STATUS_OK;
}

/* Matrix parameters of all layers, of which the sparse ones use `experts` experts. */
static double layers_parameters(const struct hparams *h, double experts)
{
    const double q = (double)h->heads * h->head_dim, kv = (double)h->kv_heads * h->head_dim;
    double width = 0.0; /* of the MLPs, all layers */
    for (int32_t layer = 0; layer < h->layers; layer++)
        width += hparams_layer_is_sparse(h, layer)
                     ? experts * h->expert_width + h->shared_expert_width + h->experts / 3.0 /* router */
                     : h->intermediate;
    return h->hidden * ((2 * q + 2 * kv) * h->layers + 3 * width);
}

/* Anonymous pages only: the random checkpoint is a small file mapped many times. */
static double resident_bytes(void)
{
    char line[256];
    double kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "RssAnon:", 8) == 0)
            kilobytes = strtod(line + 8, NULL);
    if (file)
        fclose(file);
    return kilobytes * 1024;
}

enum status bench_model_open(struct bench_model **out, const struct hparams *hparams,
                             const struct bench_model_options *options, struct error *err)
{
    *out = NULL;
    struct bench_model *bench = calloc(1, sizeof *bench);
    if (!bench)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the benchmark");
    bench->hparams = hparams;
    bench->resident_before = resident_bytes();
    enum status status;
    if ((status = open_model(bench, options, err)) != STATUS_OK ||
        (status = open_pool(bench, options, err)) != STATUS_OK ||
        (status = open_arrays(bench, err)) != STATUS_OK) {
        bench_model_close(bench);
        return status;
    }
    const double head = (double)hparams->vocab * hparams->hidden;
    bench->parameter_bytes =
        (double)model_weight_bytes(bench->model) / (head + layers_parameters(hparams, hparams->experts));
    bench->head_bytes = bench->parameter_bytes * head;
    *out = bench;
    return STATUS_OK;
}

void bench_model_close(struct bench_model *bench)
{
    if (!bench)
        return;
    kv_cache_close(bench->kv);
    model_close(bench->model);
    free(bench->tables), free(bench->tokens), free(bench->positions), free(bench->logits);
    free(bench);
}

const char *bench_model_kernels_name(const struct bench_model *bench)
{
    return model_kernels_name(bench->model);
}

/* The first `shared` blocks are the same for every sequence. */
static int32_t *table_of(struct bench_model *bench, int32_t sequence, int32_t tokens, int32_t shared)
{
    int32_t *table = bench->tables + (size_t)sequence * (size_t)bench->max_blocks;
    const int32_t blocks = (tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS, own = blocks - shared;
    for (int32_t i = 0; i < blocks; i++)
        table[i] = i < shared ? i : (int32_t)(((int64_t)sequence * own + i) % bench->kv->blocks);
    return table;
}

static void run_step(struct bench_model *bench, const struct batch *batch)
{
    const struct expert_load before = model_expert_load(bench->model);
    model_forward(bench->model, bench->kv, batch, bench->logits);
    const struct expert_load after = model_expert_load(bench->model);
    if (after.layer_steps > before.layer_steps)
        bench->experts_touched[batch->row_count] =
            (double)(after.touched - before.touched) / (double)(after.layer_steps - before.layer_steps);
}

double bench_model_prefill(struct bench_model *bench, int32_t tokens)
{
    const int32_t *table = table_of(bench, 0, tokens, 0);
    const int64_t begin_ns = monotime_ns();
    for (int32_t done = 0; done < tokens;) {
        const int32_t rows = tokens - done < BENCH_CHUNK_TOKENS ? tokens - done : BENCH_CHUNK_TOKENS;
        const int32_t last = rows - 1;
        for (int32_t i = 0; i < rows; i++)
            bench->positions[i] = done + i;
        const struct batch_sequence sequence = {.rows = rows, .context_tokens = done, .block_table = table};
        const struct batch batch = {.row_count = rows,
                                    .tokens = bench->tokens,
                                    .positions = bench->positions,
                                    .sequence_count = 1,
                                    .sequences = &sequence,
                                    .logit_count = done + rows == tokens,
                                    .logit_rows = &last};
        run_step(bench, &batch);
        done += rows;
    }
    return (double)(monotime_ns() - begin_ns) * 1e-9;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_model_decode(struct bench_model *bench, int32_t batch, int32_t context, bool shared)
{
    struct batch_sequence sequences[BENCH_MAX_SEQUENCES];
    int32_t rows[BENCH_MAX_SEQUENCES];
    double seconds[MAX_STEPS];
    const int32_t shared_blocks = shared ? context / BLOCK_TOKENS : 0;
    for (int32_t i = 0; i < batch; i++) {
        rows[i] = i, bench->positions[i] = context;
        sequences[i] = (struct batch_sequence){.first_row = i,
                                               .rows = 1,
                                               .context_tokens = context,
                                               .block_table = table_of(bench, i, context + 1, shared_blocks)};
    }
    const struct batch step = {.row_count = batch,
                               .tokens = bench->tokens,
                               .positions = bench->positions,
                               .sequence_count = batch,
                               .sequences = sequences,
                               .logit_count = batch,
                               .logit_rows = rows};
    size_t steps = 0;
    const int64_t end_ns = monotime_ns() + (int64_t)SLICE_TIME_MS * 1000000;
    do {
        const int64_t begin_ns = monotime_ns();
        run_step(bench, &step);
        seconds[steps++] = (double)(monotime_ns() - begin_ns) * 1e-9;
    } while (steps < MAX_STEPS && monotime_ns() < end_ns);
    qsort(seconds, steps, sizeof *seconds, compare);
    return seconds[steps / 2];
}

/* `rows` rows through all layers, `logits` of them through the output projection, `pairs` of a row and a
 * position that it attends to. */
static struct bench_cost cost_of(const struct bench_model *bench, double rows, double logits, double pairs)
{
    const struct hparams *h = bench->hparams;
    const double q = (double)h->heads * h->head_dim, layers = layers_parameters(h, h->experts_per_token);
    return (struct bench_cost){
        .operations = 2 * (layers * rows + (double)h->vocab * h->hidden * logits),
        .attention_operations = 4 * q * h->layers * pairs,
    };
}

/* Weights of the layers that a step of so many rows reads: of experts only those that had rows. */
static double layers_bytes(const struct bench_model *bench, int32_t rows)
{
    return bench->parameter_bytes * layers_parameters(bench->hparams, bench->experts_touched[rows]);
}

struct bench_cost bench_model_prefill_cost(const struct bench_model *bench, int32_t tokens)
{
    struct bench_cost cost = cost_of(bench, tokens, 1, (double)tokens * (tokens + 1) / 2);
    for (int32_t done = 0; done < tokens; done += BENCH_CHUNK_TOKENS) {
        const int32_t rows = tokens - done < BENCH_CHUNK_TOKENS ? tokens - done : BENCH_CHUNK_TOKENS;
        cost.bytes += layers_bytes(bench, rows) + bench->kv_token_bytes * done;
    }
    cost.bytes += bench->head_bytes + bench->kv_token_bytes * tokens;
    return cost;
}

struct bench_cost bench_model_decode_cost(const struct bench_model *bench, int32_t batch, int32_t context,
                                          bool shared)
{
    struct bench_cost cost = cost_of(bench, batch, batch, (double)batch * (context + 1));
    const double common = shared ? context / BLOCK_TOKENS * BLOCK_TOKENS : 0;
    const double positions = common + (context + 1 - common) * batch;
    cost.bytes = layers_bytes(bench, batch) + bench->head_bytes + bench->kv_token_bytes * positions;
    return cost;
}

struct bench_memory bench_model_memory(const struct bench_model *bench)
{
    return (struct bench_memory){
        .weight_bytes = (double)model_weight_bytes(bench->model),
        .buffer_bytes = (double)model_buffer_bytes(bench->model),
        .kv_bytes = (double)bench->kv->block_bytes * bench->kv->blocks,
        .kv_token_bytes = bench->kv_token_bytes,
        .resident_bytes = resident_bytes() - bench->resident_before,
    };
}
