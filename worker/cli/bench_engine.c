// SPDX-License-Identifier: Apache-2.0
// `millrace bench engine`: prefill and decode of a model shape with random weights, each as a share of its
// roofline: the longer of the bytes it must read at this machine's bandwidth and the operations it must do at
// the peak of the format (Williams, Waterman, Patterson, "Roofline", 2009). Limits are measured before,
// between and after the steps of each cell, round after round, and medians taken: a busy machine slows both
// sides.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "worker/cli/bench.h"
#include "worker/cli/bench_limits.h"
#include "worker/cli/cli.h"

enum { MAX_CELLS = 64, MAX_SIZES = 8, MAX_SLICES = 8, CELL_TIME_MS = 250 };

static const char usage[] =
    "usage: millrace bench engine [--shape qwen3-0.6b|llama-3.2-1b|qwen2.5-1.5b|qwen3-moe-small] [--format "
    "f32,bf16,int8,int4]\n"
    "         [--kernels auto|amx|avx512|avx2|generic|openblas] [--kv-format bf16|f32|int8] [--threads N] "
    "[--rounds N]\n"
    "         [--work all|prefill|decode] [--prompts 128,512,2048,8192] [--batches 1,4,8,16,32,64]\n"
    "         [--contexts 128,2048] [--share all|private|shared] [--kv-mb N] [--quick] [--json]";

struct cell {
    bool prefill, shared;   /* shared: the sequences have one prompt in common */
    int32_t batch, context; /* prefill: 1 and the prompt's tokens */
    double seconds[BENCH_MAX_ROUNDS];
    struct bench_rates rates[BENCH_MAX_ROUNDS]; /* what the machine gave meanwhile */
};

struct run {
    const char *shape, *formats, *kernels, *kv_format, *work, *share;
    const char *prompts, *batches, *contexts; /* lists of numbers */
    int threads, rounds;
    size_t kv_bytes;
    bool json;
    struct hparams hparams;
    struct bench_limits limits;
    struct cell cells[MAX_CELLS];
    int cell_count;
};

static void add_cell(struct run *run, struct cell cell)
{
    if (run->cell_count < MAX_CELLS)
        run->cells[run->cell_count++] = cell;
}

/* Numbers from 1 to `limit`, separated by commas; -1: something else. */
static int read_sizes(const char *list, int32_t limit, int32_t sizes[MAX_SIZES])
{
    int count = 0;
    for (const char *at = list; count < MAX_SIZES;) {
        char *end;
        const long size = strtol(at, &end, 10);
        if (end == at || size < 1 || size > limit)
            return -1;
        sizes[count++] = (int32_t)size;
        if (*end == '\0')
            return count;
        if (*end != ',')
            return -1;
        at = end + 1;
    }
    return -1;
}

static enum status list_cells(struct run *run, struct error *err)
{
    int32_t prompts[MAX_SIZES], batches[MAX_SIZES], contexts[MAX_SIZES];
    const int prompt_count = read_sizes(run->prompts, BENCH_MAX_CONTEXT, prompts),
              batch_count = read_sizes(run->batches, BENCH_MAX_SEQUENCES, batches),
              context_count = read_sizes(run->contexts, BENCH_MAX_CONTEXT, contexts);
    if (prompt_count < 0 || batch_count < 0 || context_count < 0)
        return error_set(err, STATUS_USAGE,
                         "sizes are up to %d numbers with commas; tokens at most %d, batches %d", MAX_SIZES,
                         BENCH_MAX_CONTEXT, BENCH_MAX_SEQUENCES);
    run->cell_count = 0;
    for (int i = 0; i < prompt_count && strcmp(run->work, "decode") != 0; i++)
        add_cell(run, (struct cell){.prefill = true, .batch = 1, .context = prompts[i]});
    for (int c = 0; c < context_count && strcmp(run->work, "prefill") != 0; c++)
        for (int b = 0; b < batch_count; b++) {
            if (strcmp(run->share, "shared") != 0)
                add_cell(run, (struct cell){.batch = batches[b], .context = contexts[c]});
            if (strcmp(run->share, "private") != 0 && batches[b] > 1)
                add_cell(run, (struct cell){.shared = true, .batch = batches[b], .context = contexts[c]});
        }
    return STATUS_OK;
}

struct roof {
    double seconds, read, peak, attention_peak; /* the rates per second */
    double measured, share;                     /* seconds of the cell, and the roof's share of them */
    bool memory_bound;
};

/* Keys and values of 8 bits are widened: their products are those of f32. */
static enum bench_limit attention_limit_of(const char *kv_format)
{
    return strcmp(kv_format, "int8") == 0 ? BENCH_F32 : bench_limit_of(kv_format);
}

static struct roof roof_of_round(const struct run *run, const char *format, const struct bench_rates *rates,
                                 struct bench_cost cost)
{
    struct roof roof = {.read = rates->per_second[BENCH_READ],
                        .peak = rates->per_second[bench_limit_of(format)],
                        .attention_peak = rates->per_second[attention_limit_of(run->kv_format)]};
    const double memory = cost.bytes / roof.read;
    const double compute = cost.operations / roof.peak + cost.attention_operations / roof.attention_peak;
    roof.memory_bound = memory > compute;
    roof.seconds = roof.memory_bound ? memory : compute;
    return roof;
}

/* The round whose share is the median one stands for the cell. */
static struct roof roof_of(const struct run *run, const char *format, const struct cell *cell,
                           struct bench_cost cost)
{
    struct roof roofs[BENCH_MAX_ROUNDS];
    double shares[BENCH_MAX_ROUNDS];
    for (int round = 0; round < run->rounds; round++) {
        roofs[round] = roof_of_round(run, format, &cell->rates[round], cost);
        roofs[round].measured = cell->seconds[round];
        shares[round] = roofs[round].share = roofs[round].seconds / cell->seconds[round];
    }
    const double median = bench_median(shares, run->rounds);
    int round = 0;
    while (roofs[round].share != median)
        round++;
    return roofs[round];
}

static void print_json(const struct run *run, const struct bench_model *bench, const char *format,
                       const struct cell *cell, struct bench_cost cost)
{
    const struct roof roof = roof_of(run, format, cell, cost);
    const double seconds = roof.measured, tokens = cell->prefill ? cell->context : cell->batch;
    printf("{\"work\":\"%s\",\"shape\":\"%s\",\"format\":\"%s\",\"kv_format\":\"%s\",\"kernels\":\"%s\","
           "\"threads\":%d,\"batch\":%d,\"context\":%d,\"prompts\":\"%s\",\"tokens_per_second\":%.2f,"
           "\"share_of_limit\":%.4f,\"bound\":\"%s\"",
           cell->prefill ? "prefill" : "decode", run->shape, format, run->kv_format,
           bench_model_kernels_name(bench), run->threads, cell->batch, cell->context,
           cell->shared ? "shared" : "private", tokens / seconds, roof.share,
           roof.memory_bound ? "memory" : "compute");
    if (cell->prefill)
        printf(",\"first_token_seconds\":%.5f", seconds);
    printf(",\"limit\":{\"tokens_per_second\":%.2f,\"read_bytes_per_second\":%.4g,"
           "\"operations_per_second\":%.4g,\"attention_operations_per_second\":%.4g,\"bytes\":%.6g,"
           "\"operations\":%.6g}}\n",
           tokens / roof.seconds, roof.read, roof.peak, roof.attention_peak, cost.bytes,
           cost.operations + cost.attention_operations);
}

static void print_cell(const struct run *run, const struct bench_model *bench, const char *format,
                       const struct cell *cell)
{
    const struct bench_cost cost =
        cell->prefill ? bench_model_prefill_cost(bench, cell->context)
                      : bench_model_decode_cost(bench, cell->batch, cell->context, cell->shared);
    if (run->json) {
        print_json(run, bench, format, cell, cost);
        return;
    }
    const struct roof roof = roof_of(run, format, cell, cost);
    const double seconds = roof.measured, tokens = cell->prefill ? cell->context : cell->batch;
    printf("%-6s %-8s %-7s %5d %7d %10.1f %9.1f %6.1f %%  %-7s", format, cell->prefill ? "prefill" : "decode",
           cell->shared ? "shared" : "private", cell->batch, cell->context, tokens / seconds,
           tokens / roof.seconds, 100 * roof.share, roof.memory_bound ? "memory" : "compute");
    printf(cell->prefill ? " %.3f s\n" : "\n", seconds);
}

/* What the model takes, against what the system says that it took. */
static void print_memory(const struct run *run, const struct bench_model *bench, const char *format)
{
    const struct bench_memory memory = bench_model_memory(bench);
    const double planned = memory.weight_bytes + memory.buffer_bytes + memory.kv_bytes;
    if (run->json)
        printf("{\"work\":\"memory\",\"shape\":\"%s\",\"format\":\"%s\",\"kernels\":\"%s\",\"weight_bytes\":%"
               ".0f,"
               "\"buffer_bytes\":%.0f,\"kv_bytes\":%.0f,\"kv_token_bytes\":%.0f,\"resident_bytes\":%.0f}\n",
               run->shape, format, bench_model_kernels_name(bench), memory.weight_bytes, memory.buffer_bytes,
               memory.kv_bytes, memory.kv_token_bytes, memory.resident_bytes);
    else
        printf("%-6s memory   weights %.0f MB, step buffers %.0f MB, KV pool %.0f MB (%.0f bytes a token); "
               "resident %.0f MB, %.3f of that\n",
               format, memory.weight_bytes / 1e6, memory.buffer_bytes / 1e6, memory.kv_bytes / 1e6,
               memory.kv_token_bytes, memory.resident_bytes / 1e6, memory.resident_bytes / planned);
}

static double run_cell(struct bench_model *bench, const struct cell *cell)
{
    return cell->prefill ? bench_model_prefill(bench, cell->context)
                         : bench_model_decode(bench, cell->batch, cell->context, cell->shared);
}

/* Slices of steps between samples of the limits. */
static void measure_cell(struct run *run, struct bench_model *bench, const struct kernels *kernels,
                         struct cell *cell, int round)
{
    double slices[MAX_SLICES], spent = 0.0;
    int count = 0;
    struct bench_rates *rates = &cell->rates[round];
    *rates = (struct bench_rates){0};
    bench_limits_sample(&run->limits, kernels, rates);
    while (count < MAX_SLICES && spent < CELL_TIME_MS * 1e-3) {
        const int64_t begin_ns = monotime_ns();
        slices[count++] = run_cell(bench, cell);
        spent += (double)(monotime_ns() - begin_ns) * 1e-9;
        bench_limits_sample(&run->limits, kernels, rates);
    }
    cell->seconds[round] = bench_median(slices, count);
}

static void print_results(const struct run *run, const struct bench_model *bench, const char *format)
{
    bench_limits_print(&run->limits, run->shape);
    if (!run->json)
        printf("format work     prompts batch context      tok/s     limit    share  bound   first token\n");
    for (int i = 0; i < run->cell_count; i++)
        print_cell(run, bench, format, &run->cells[i]);
    print_memory(run, bench, format);
    fflush(stdout);
}

static enum status run_format(struct run *run, const char *format, struct error *err)
{
    const struct bench_model_options options = {.kernels = run->kernels,
                                                .weight_format = format,
                                                .kv_format = run->kv_format,
                                                .threads = run->threads,
                                                .max_tokens = BENCH_MAX_CONTEXT + 1,
                                                .kv_bytes = run->kv_bytes};
    struct bench_model *bench;
    enum status status = bench_model_open(&bench, &run->hparams, &options, err);
    if (status != STATUS_OK)
        return status;
    const struct kernels *kernels = kernels_find(bench_model_kernels_name(bench));
    for (int i = 0; i < run->cell_count; i++)
        if (run->cells[i].context == 128)
            run_cell(bench, &run->cells[i]); /* warm-up */
    for (int round = 0; round < run->rounds; round++)
        for (int i = 0; i < run->cell_count; i++)
            measure_cell(run, bench, kernels, &run->cells[i], round);
    print_results(run, bench, format);
    bench_model_close(bench);
    return STATUS_OK;
}

static enum status run_formats(struct run *run, struct error *err)
{
    char formats[64];
    snprintf(formats, sizeof formats, "%s", run->formats);
    enum status status = list_cells(run, err);
    if (status == STATUS_OK)
        status = bench_shape(&run->hparams, run->shape, err);
    if (status != STATUS_OK)
        return status;
    status = bench_limits_open(&run->limits, run->threads, err);
    char *rest = formats;
    for (char *format = strsep(&rest, ","); format && status == STATUS_OK; format = strsep(&rest, ","))
        status = run_format(run, format, err);
    bench_limits_close(&run->limits);
    return status;
}

int bench_engine(int argc, char **argv)
{
    static struct run run; /* tens of kilobytes */
    run = (struct run){.shape = "qwen3-0.6b",
                       .formats = "bf16,int8",
                       .kernels = "auto",
                       .kv_format = "bf16",
                       .work = "all",
                       .share = "all",
                       .prompts = "128,512,2048,8192",
                       .batches = "1,4,8,16,32,64",
                       .contexts = "128,2048",
                       .threads = 2,
                       .rounds = 5};
    bool quick = false;
    int kv_mb = 1024, exit_code;
    for (int i = 1; i < argc; i++) /* before the others, which may say more */
        if (strcmp(argv[i], "--quick") == 0)
            run.prompts = run.contexts = "128", run.batches = "1,8,32", run.share = "private", run.rounds = 3;
    const struct bench_option options[] = {{"--shape", .text = &run.shape},
                                           {"--format", .text = &run.formats},
                                           {"--kernels", .text = &run.kernels},
                                           {"--kv-format", .text = &run.kv_format},
                                           {"--work", .text = &run.work},
                                           {"--share", .text = &run.share},
                                           {"--prompts", .text = &run.prompts},
                                           {"--batches", .text = &run.batches},
                                           {"--contexts", .text = &run.contexts},
                                           {"--threads", .number = &run.threads},
                                           {"--rounds", .number = &run.rounds, .most = BENCH_MAX_ROUNDS},
                                           {"--kv-mb", .number = &kv_mb},
                                           {"--json", .flag = &run.json},
                                           {"--quick", .flag = &quick},
                                           {0}};
    if (!bench_options(options, argc, argv, "bench engine", usage, &exit_code))
        return exit_code;
    run.kv_bytes = (size_t)kv_mb << 20;
    struct error err = {0};
    return run_formats(&run, &err) == STATUS_OK ? EXIT_DONE : cli_fail(&err);
}
