// SPDX-License-Identifier: Apache-2.0
// `millrace bench kv`: what the KV back ends cost when attention is most of a step: a shape cut down to a few
// layers, long contexts, blocks scattered over the pool. Three ways to read the same blocks, timed in turn:
// block tables on huge pages (the default back end), block tables in a memory file, windows onto that file.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/monotime.h"
#include "config/config_limits.h"
#include "engine/kv/kv_windows.h"
#include "engine/model/model.h"
#include "worker/cli/bench.h"
#include "worker/cli/cli.h"

enum { BLOCK_TOKENS = 16, MOST_SEQUENCES = 32, CHUNK_ROWS = 128, MOST_ROUNDS = 99, MAP_WAIT_MS = 10000 };
enum way { WAY_TABLE, WAY_FILE_TABLE, WAY_WINDOW, WAYS };
static const char *const way_names[WAYS] = {"block_table", "table, memory file", "contiguous"};

static const char usage[] =
    "usage: millrace bench kv [--shape qwen3-0.6b|...] [--layers 4] [--kv-heads N] "
    "[--sequences 16] [--context 2048] [--work decode|both] [--threads N] [--rounds N]";

struct kv_bench {
    const char *shape, *work;
    int layers, kv_heads, count, context, threads, rounds; /* kv_heads 0: the shape's */
    struct hparams hparams;
    struct model *model;
    struct kv_cache *pools[2]; /* on huge pages; in a file */
    struct kv_windows *windows;
    struct kv_window *window[MOST_SEQUENCES];
    const uint8_t *base[MOST_SEQUENCES];
    int32_t blocks; /* of one sequence */
    int32_t *tables, *tokens, *positions;
    float *logits;
    double seconds[2][WAYS][MOST_ROUNDS]; /* decode, prefill */
};

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Untouched pages would all be one zero page. */
static void fill(struct kv_cache *kv)
{
    uint16_t *halves = (uint16_t *)kv->memory;
    for (size_t i = 0; i < kv->block_bytes * (size_t)kv->blocks / sizeof *halves; i++)
        halves[i] = (uint16_t)(0x3c00u | (i * 2654435761u >> 16 & 0x81ffu));
}

static enum status open_pools(struct kv_bench *b, struct error *err)
{
    const int32_t blocks = b->blocks * (int32_t)b->count, layers = b->hparams.layers;
    const size_t layer_bytes = model_block_bytes(b->model, BLOCK_TOKENS) / (size_t)layers;
    enum status status = kv_cache_open(&b->pools[0], blocks, layers, BLOCK_TOKENS, layer_bytes, err);
    if (status == STATUS_OK)
        status = kv_cache_open_file(&b->pools[1], blocks, layers, BLOCK_TOKENS, layer_bytes, err);
    if (status != STATUS_OK)
        return status;
    fill(b->pools[0]);
    fill(b->pools[1]);
    b->tables = malloc((size_t)blocks * sizeof *b->tables);
    if (!b->tables)
        return error_set(err, STATUS_NO_MEMORY, "no memory for block tables");
    for (int32_t i = 0; i < blocks; i++) /* neighbours of a sequence lie far apart */
        b->tables[i] = (int32_t)((int64_t)(i % b->blocks) * b->count + i / b->blocks);
    const struct kv_windows_options options = {.kv = b->pools[1],
                                               .windows = (int32_t)b->count,
                                               .max_blocks = b->blocks,
                                               .max_mappings = config_map_limit() / 2};
    return kv_windows_open(&b->windows, &options, err);
}

static enum status map_windows(struct kv_bench *b, struct error *err)
{
    const int64_t begin_ns = monotime_ns();
    for (long i = 0; i < b->count; i++) {
        b->window[i] = kv_windows_take(b->windows);
        while (!(b->base[i] = kv_windows_follow(b->windows, b->window[i], b->tables + i * b->blocks,
                                                b->blocks, b->blocks))) {
            if (monotime_ns() - begin_ns > (int64_t)MAP_WAIT_MS * 1000000)
                return error_set(err, STATUS_NO_MEMORY, "windows are not mapped after %d ms", MAP_WAIT_MS);
            usleep(100);
        }
    }
    printf("%d windows of %d scattered blocks mapped in %.1f ms\n", b->count, b->blocks,
           (double)(monotime_ns() - begin_ns) * 1e-6);
    return STATUS_OK;
}

/* One token of each sequence, or one chunk of the first, behind the context. */
static double step(struct kv_bench *b, bool prefill, enum way way)
{
    struct batch_sequence sequences[MOST_SEQUENCES];
    const int32_t rows = prefill ? CHUNK_ROWS : 1, count = prefill ? 1 : (int32_t)b->count;
    int32_t logit_rows[MOST_SEQUENCES];
    for (int32_t i = 0; i < count; i++) {
        sequences[i] = (struct batch_sequence){.first_row = i * rows,
                                               .rows = rows,
                                               .context_tokens = (int32_t)b->context,
                                               .block_table = b->tables + (size_t)i * (size_t)b->blocks,
                                               .window = way == WAY_WINDOW ? b->base[i] : NULL};
        logit_rows[i] = (i + 1) * rows - 1;
        for (int32_t row = 0; row < rows; row++)
            b->positions[i * rows + row] = (int32_t)b->context + row;
    }
    const struct batch batch = {.row_count = count * rows,
                                .tokens = b->tokens,
                                .positions = b->positions,
                                .sequence_count = count,
                                .sequences = sequences,
                                .logit_count = 1,
                                .logit_rows = logit_rows};
    const int64_t begin_ns = monotime_ns();
    model_forward(b->model, b->pools[way == WAY_TABLE ? 0 : 1], &batch, b->logits);
    return (double)(monotime_ns() - begin_ns) * 1e-9;
}

static void measure(struct kv_bench *b)
{
    const int works = strcmp(b->work, "decode") == 0 ? 1 : 2;
    for (long round = -1; round < b->rounds; round++)
        for (int prefill = 0; prefill < works; prefill++)
            for (int way = 0; way < WAYS; way++) {
                const double seconds = step(b, prefill, (enum way)way);
                if (round >= 0)
                    b->seconds[prefill][way][round] = seconds;
            }
    for (int prefill = 0; prefill < works; prefill++)
        for (int way = 0; way < WAYS; way++) {
            double *seconds = b->seconds[prefill][way];
            qsort(seconds, (size_t)b->rounds, sizeof *seconds, compare);
            printf("%-8s %-20s median %8.2f ms   least %8.2f ms\n", prefill ? "prefill" : "decode",
                   way_names[way], seconds[b->rounds / 2] * 1e3, seconds[0] * 1e3);
        }
}

static enum status run(struct kv_bench *b, struct error *err)
{
    const struct model_options options = {.kernels = "auto",
                                          .weight_format = "bf16",
                                          .kv_format = "bf16",
                                          .threads = (int)b->threads,
                                          .max_batch_tokens = CHUNK_ROWS,
                                          .max_logit_rows = MOST_SEQUENCES};
    enum status status = bench_shape(&b->hparams, b->shape, err);
    if (status != STATUS_OK)
        return status;
    b->hparams.layers = b->layers < b->hparams.layers ? (int32_t)b->layers : b->hparams.layers;
    if (strcmp(b->work, "decode") != 0 && strcmp(b->work, "both") != 0)
        return error_set(err, STATUS_USAGE, "work %.32s is unknown; use decode or both", b->work);
    if (b->kv_heads > 0 && b->hparams.heads % b->kv_heads != 0)
        return error_set(err, STATUS_USAGE, "%d heads cannot share %d kv heads evenly", b->hparams.heads,
                         b->kv_heads);
    b->hparams.kv_heads = b->kv_heads > 0 ? b->kv_heads : b->hparams.kv_heads;
    b->blocks = (int32_t)(b->context + CHUNK_ROWS + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    status = model_open_synthetic(&b->model, &b->hparams, &options, 1, err);
    b->tokens = calloc(CHUNK_ROWS, sizeof *b->tokens);
    b->positions = calloc(CHUNK_ROWS, sizeof *b->positions);
    b->logits = malloc(MOST_SEQUENCES * (size_t)b->hparams.vocab * sizeof *b->logits);
    if (status == STATUS_OK && (!b->tokens || !b->positions || !b->logits))
        status = error_set(err, STATUS_NO_MEMORY, "no memory for a batch");
    if (status == STATUS_OK)
        status = open_pools(b, err);
    if (status == STATUS_OK)
        status = map_windows(b, err);
    if (status == STATUS_OK)
        measure(b);
    kv_windows_close(b->windows);
    kv_cache_close(b->pools[0]);
    kv_cache_close(b->pools[1]);
    free(b->tables), free(b->tokens), free(b->positions), free(b->logits);
    model_close(b->model);
    return status;
}

int bench_kv(int argc, char **argv)
{
    static struct kv_bench bench;
    bench = (struct kv_bench){.shape = "qwen3-0.6b",
                              .work = "both",
                              .layers = 4,
                              .count = 16,
                              .context = 2048,
                              .threads = 2,
                              .rounds = 21};
    const struct bench_option options[] = {{"--shape", .text = &bench.shape},
                                           {"--layers", .number = &bench.layers, .most = 64},
                                           {"--kv-heads", .number = &bench.kv_heads, .most = 64},
                                           {"--sequences", .number = &bench.count, .most = MOST_SEQUENCES},
                                           {"--work", .text = &bench.work},
                                           {"--context", .number = &bench.context, .most = 32768},
                                           {"--threads", .number = &bench.threads, .most = 1024},
                                           {"--rounds", .number = &bench.rounds, .most = MOST_ROUNDS},
                                           {0}};
    int exit_code;
    if (!bench_options(options, argc, argv, "bench kv", usage, &exit_code))
        return exit_code;
    struct error err = {0};
    return run(&bench, &err) == STATUS_OK ? EXIT_DONE : cli_fail(&err);
}
