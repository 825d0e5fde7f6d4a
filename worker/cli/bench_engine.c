// SPDX-License-Identifier: Apache-2.0
// `millrace bench engine`: prefill and decode of a model shape with random weights, each as a share of its
// roofline: the longer of the bytes it must read at this machine's bandwidth and the operations it must do at
// the peak of the format (Williams, Waterman, Patterson, "Roofline", 2009). Limits and cells are measured in
// turn, round after round, and the medians taken: a busy machine slows both sides.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "engine/kernels/huge_memory.h"
#include "engine/kernels/machine_limits.h"
#include "worker/cli/bench.h"
#include "worker/cli/cli.h"

#define READ_BYTES ((size_t)1 << 30) /* more than any cache */
enum { MAX_ROUNDS = 15, MAX_CELLS = 32, MAX_FORMATS = 4 };

static const char usage[] =
    "usage: millrace bench engine [--shape qwen3-0.6b|llama-3.2-1b|qwen2.5-1.5b|qwen3-moe-small] "
    "[--format f32,bf16,int8,int4]\n"
    "         [--kernels auto|avx512|avx2|generic|openblas] [--kv-format bf16|f32] "
    "[--threads N] [--rounds N]\n"
    "         [--work all|prefill|decode] [--kv-mb N] [--quick] [--json]";

enum limit { LIMIT_READ, LIMIT_F32, LIMIT_BF16, LIMIT_INT8, LIMITS };

struct cell {
    bool prefill;
    int32_t batch, context; /* prefill: 1 and the prompt's tokens */
    double seconds[MAX_ROUNDS];
};

struct run {
    const char *shape, *formats, *kernels, *kv_format, *work;
    int threads, rounds;
    size_t kv_bytes;
    bool quick, json;
    struct hparams hparams;
    struct thread_team *team; /* for the limits */
    void *memory;             /* [READ_BYTES] */
    double limits[LIMITS][MAX_ROUNDS];
    struct cell cells[MAX_CELLS];
    int cell_count;
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, int count)
{
    double sorted[MAX_ROUNDS];
    memcpy(sorted, values, (size_t)count * sizeof *values);
    qsort(sorted, (size_t)count, sizeof *sorted, compare);
    return sorted[count / 2];
}

static void add_cell(struct run *run, bool prefill, int32_t batch, int32_t context)
{
    if (strcmp(run->work, prefill ? "decode" : "prefill") == 0)
        return;
    run->cells[run->cell_count++] = (struct cell){.prefill = prefill, .batch = batch, .context = context};
}

static void list_cells(struct run *run)
{
    static const int32_t prompts[] = {128, 512, 2048}, contexts[] = {128, 2048},
                         batches[] = {1, 4, 8, 16, 32, 64};
    run->cell_count = 0;
    for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++)
        if (!run->quick || prompts[i] == 128)
            add_cell(run, true, 1, prompts[i]);
    for (size_t c = 0; c < sizeof contexts / sizeof contexts[0]; c++)
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++)
            if (!run->quick ||
                (contexts[c] == 128 && (batches[b] == 1 || batches[b] == 8 || batches[b] == 32)))
                add_cell(run, false, batches[b], contexts[c]);
}

static void measure_limits(struct run *run, const struct kernels *kernels, int round)
{
    run->limits[LIMIT_READ][round] = machine_read_bandwidth(run->team, run->memory, READ_BYTES);
    run->limits[LIMIT_F32][round] = machine_peak(run->team, kernels, WEIGHT_F32);
    run->limits[LIMIT_BF16][round] = machine_peak(run->team, kernels, WEIGHT_BF16);
    run->limits[LIMIT_INT8][round] = machine_peak(run->team, kernels, WEIGHT_INT8);
}

static enum limit limit_of(const char *format)
{
    return strcmp(format, "f32") == 0 ? LIMIT_F32 : strcmp(format, "bf16") == 0 ? LIMIT_BF16 : LIMIT_INT8;
}

struct roof {
    double read, peak, attention_peak; /* per second */
    double seconds;
    bool memory_bound;
};

static struct roof roof_of(const struct run *run, const char *format, struct bench_cost cost)
{
    struct roof roof = {.read = median(run->limits[LIMIT_READ], run->rounds),
                        .peak = median(run->limits[limit_of(format)], run->rounds),
                        .attention_peak = median(run->limits[limit_of(run->kv_format)], run->rounds)};
    const double memory = cost.bytes / roof.read;
    const double compute = cost.operations / roof.peak + cost.attention_operations / roof.attention_peak;
    roof.memory_bound = memory > compute;
    roof.seconds = roof.memory_bound ? memory : compute;
    return roof;
}

static void print_cell(const struct run *run, const struct bench_model *bench, const char *format,
                       const struct cell *cell)
{
    const struct bench_cost cost = cell->prefill ? bench_model_prefill_cost(bench, cell->context)
                                                 : bench_model_decode_cost(bench, cell->batch, cell->context);
    const struct roof roof = roof_of(run, format, cost);
    const double seconds = median(cell->seconds, run->rounds),
                 tokens = cell->prefill ? cell->context : cell->batch;
    const char *work = cell->prefill ? "prefill" : "decode",
               *bound = roof.memory_bound ? "memory" : "compute";
    if (!run->json) {
        printf("%-8s %-7s %5d %7d %10.1f %9.1f %6.1f %%  %s\n", format, work, cell->batch, cell->context,
               tokens / seconds, tokens / roof.seconds, 100 * roof.seconds / seconds, bound);
        return;
    }
    printf("{\"work\":\"%s\",\"shape\":\"%s\",\"format\":\"%s\",\"kv_format\":\"%s\",\"kernels\":\"%s\","
           "\"threads\":%d,\"batch\":%d,\"context\":%d,\"tokens_per_second\":%.2f,\"share_of_limit\":%.4f,"
           "\"bound\":\"%s\",\"limit\":{\"tokens_per_second\":%.2f,\"read_bytes_per_second\":%.4g,"
           "\"operations_per_second\":%.4g,\"bytes\":%.4g,\"operations\":%.4g}}\n",
           work, run->shape, format, run->kv_format, bench_model_kernels_name(bench), run->threads,
           cell->batch, cell->context, tokens / seconds, roof.seconds / seconds, bound, tokens / roof.seconds,
           roof.read, roof.peak, cost.bytes, cost.operations + cost.attention_operations);
}

static void print_limits(const struct run *run)
{
    const double giga = 1e-9;
    fprintf(
        stderr,
        "%s, %d threads; this machine: reads %.1f GB/s, peak f32 %.0f, bf16 %.0f GFLOP/s, int8 %.0f Gop/s\n",
        run->shape, run->threads, median(run->limits[LIMIT_READ], run->rounds) * giga,
        median(run->limits[LIMIT_F32], run->rounds) * giga,
        median(run->limits[LIMIT_BF16], run->rounds) * giga,
        median(run->limits[LIMIT_INT8], run->rounds) * giga);
    if (!run->json)
        printf("format   work    batch context      tok/s     limit    share  bound\n");
}

static void measure_cell(struct bench_model *bench, struct cell *cell, int round)
{
    cell->seconds[round] = cell->prefill ? bench_model_prefill(bench, cell->context)
                                         : bench_model_decode(bench, cell->batch, cell->context);
}

static enum status run_format(struct run *run, const char *format, struct error *err)
{
    const struct bench_model_options options = {.kernels = run->kernels,
                                                .weight_format = format,
                                                .kv_format = run->kv_format,
                                                .threads = run->threads,
                                                .max_tokens = 2048 + 1,
                                                .kv_bytes = run->kv_bytes};
    struct bench_model *bench;
    enum status status = bench_model_open(&bench, &run->hparams, &options, err);
    if (status != STATUS_OK)
        return status;
    const struct kernels *kernels = kernels_find(bench_model_kernels_name(bench));
    list_cells(run);
    for (int i = 0; i < run->cell_count && run->cells[i].context == 128; i++)
        measure_cell(bench, &run->cells[i], 0); /* warm-up */
    for (int round = 0; round < run->rounds; round++) {
        measure_limits(run, kernels, round);
        for (int i = 0; i < run->cell_count; i++)
            measure_cell(bench, &run->cells[i], round);
    }
    print_limits(run);
    for (int i = 0; i < run->cell_count; i++)
        print_cell(run, bench, format, &run->cells[i]);
    fflush(stdout);
    bench_model_close(bench);
    return STATUS_OK;
}

static enum status run_formats(struct run *run, struct error *err)
{
    char formats[64];
    snprintf(formats, sizeof formats, "%s", run->formats);
    enum status status = bench_shape(&run->hparams, run->shape, err);
    if (status == STATUS_OK)
        status = thread_team_open(&run->team, run->threads, err);
    run->memory = huge_memory_map(READ_BYTES);
    if (status == STATUS_OK && !run->memory)
        status = error_set(err, STATUS_NO_MEMORY, "no memory for measuring the bandwidth");
    if (status == STATUS_OK)
        memset(run->memory, 1, READ_BYTES);
    char *rest = formats;
    for (char *format = strsep(&rest, ","); format && status == STATUS_OK; format = strsep(&rest, ","))
        status = run_format(run, format, err);
    huge_memory_unmap(run->memory, READ_BYTES);
    thread_team_close(run->team);
    return status;
}

static bool read_option(struct run *run, const char *name, const char *value)
{
    const struct {
        const char *name, **text;
    } texts[] = {{"--shape", &run->shape},
                 {"--format", &run->formats},
                 {"--kernels", &run->kernels},
                 {"--kv-format", &run->kv_format},
                 {"--work", &run->work}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (strcmp(name, texts[i].name) == 0) {
            *texts[i].text = value;
            return true;
        }
    char *end;
    const long number = strtol(value, &end, 10);
    if (*end || number < 1 || number > 1 << 20)
        return false;
    if (strcmp(name, "--threads") == 0)
        run->threads = (int)number;
    else if (strcmp(name, "--rounds") == 0 && number <= MAX_ROUNDS)
        run->rounds = (int)number;
    else if (strcmp(name, "--kv-mb") == 0)
        run->kv_bytes = (size_t)number << 20;
    else
        return false;
    return true;
}

int bench_engine(int argc, char **argv)
{
    static struct run run; /* tens of kilobytes */
    run = (struct run){.shape = "qwen3-0.6b",
                       .formats = "bf16,int8",
                       .kernels = "auto",
                       .kv_format = "bf16",
                       .work = "all",
                       .threads = 2,
                       .rounds = 5,
                       .kv_bytes = (size_t)1 << 30};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            printf("%s\n", usage);
            return EXIT_DONE;
        }
        if (strcmp(argv[i], "--json") == 0)
            run.json = true;
        else if (strcmp(argv[i], "--quick") == 0)
            run.quick = true, run.rounds = 3;
        else if (i + 1 < argc && read_option(&run, argv[i], argv[i + 1]))
            i++;
        else
            return cli_usage("bench engine", "%s", usage);
    }
    struct error err = {0};
    return run_formats(&run, &err) == STATUS_OK ? EXIT_DONE : cli_fail(&err);
}
