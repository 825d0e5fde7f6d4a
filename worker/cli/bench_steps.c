// SPDX-License-Identifier: Apache-2.0
// `millrace bench steps`: what people who wait for tokens notice of the scheduler, on a model of random
// weights, through the worker's engine thread. Two kinds of work: `long`, a prompt of thousands of tokens
// that arrives while eight sequences generate; `clients`, 32 clients that ask twice each. For each step
// target: the time between tokens of one sequence, all tokens per second, and the share of time between two
// steps.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/monotime.h"
#include "engine/model/model.h"
#include "engine/philox.h"
#include "worker/cli/bench.h"
#include "worker/cli/cli.h"
#include "worker/infer/engine_loop.h"

enum {
    BLOCK_TOKENS = 16,
    MAX_JOBS = 64,
    MAX_TARGETS = 8,
    MAX_GAPS = 1 << 17,
    LONG_DECODES = 8,
    CLIENTS = 32
};

static const char usage[] =
    "usage: millrace bench steps [--shape qwen3-0.6b|...] [--layers N] [--format F] [--kernels K] [--threads "
    "N] [--kv-mb "
    "N]\n"
    "         [--targets 0,150] [--work all|long|clients] [--prompt 8192] [--generate 192] [--chunk 512] "
    "[--clock wall|cpu]";

struct asked {
    struct job job;
    struct job_prompt prompt;
    int64_t last_ns; /* of its last token; 0: none yet */
    uint32_t said;
};

struct steps {
    const char *shape, *format, *kernels, *targets, *work, *clock;
    int layers, threads, kv_mb, prompt_tokens, generate, chunk;
    struct hparams hparams;
    struct model *model;
    struct engine *engine;
    struct engine_loop *loop;
    struct channel *in, *out;
    struct asked asked[MAX_JOBS];
    int count, sent, ended;
    int32_t *tokens; /* [MAX_JOBS][prompt_tokens], other for each job */
    double gaps[MAX_GAPS];
    size_t gap_count;
    uint64_t said;
};

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(const struct steps *b, double share)
{
    return b->gap_count ? b->gaps[(size_t)(share * (double)(b->gap_count - 1))] * 1e3 : 0;
}

/* ---- jobs ---- */

static void add_job(struct steps *b, uint32_t prompt_tokens, uint32_t generate)
{
    struct asked *asked = &b->asked[b->count];
    *asked = (struct asked){.prompt = {.tokens = b->tokens + (size_t)b->count * (size_t)b->prompt_tokens,
                                       .count = prompt_tokens}};
    asked->job.prompts = &asked->prompt;
    asked->job.prompt_count = 1;
    asked->job.sampling = sampling_defaults();
    asked->job.sampling.max_tokens = generate;
    asked->job.sampling.ignore_eos = true;
    b->count++;
}

static void list_jobs(struct steps *b, bool long_prompt)
{
    b->count = b->sent = b->ended = 0;
    b->gap_count = b->said = 0;
    for (int i = 0; i < LONG_DECODES && long_prompt; i++)
        add_job(b, 64, (uint32_t)b->generate);
    if (long_prompt)
        add_job(b, (uint32_t)b->prompt_tokens, 16);
    for (uint32_t i = 0; i < 2 * CLIENTS && !long_prompt; i++)
        add_job(b, 32 + (uint32_t)(philox_uniform(3, 0, i) * 225),
                16 + (uint32_t)(philox_uniform(3, 1, i) * 81));
}

static enum status send_next(struct steps *b)
{
    struct engine_command *command = calloc(1, sizeof *command);
    if (!command)
        return STATUS_NO_MEMORY;
    command->job = &b->asked[b->sent].job;
    command->job_handle = (uint64_t)b->sent++;
    channel_send(b->in, command, -1); /* the loop takes it or nobody does */
    return STATUS_OK;
}

static void take_token(struct steps *b, struct asked *asked, int64_t now_ns)
{
    if (asked->last_ns > 0 && b->gap_count < MAX_GAPS)
        b->gaps[b->gap_count++] = (double)(now_ns - asked->last_ns) * 1e-9;
    asked->last_ns = now_ns;
    asked->said++;
    b->said++;
}

static void take_report(struct steps *b, const struct engine_report *report)
{
    for (size_t i = 0; i < report->count; i++) {
        const struct engine_report_item *item = &report->items[i];
        if (item->type == REPORT_TOKEN)
            take_token(b, &b->asked[item->job_handle], report->step_end_ns);
        b->ended += item->type == REPORT_FINISHED || item->type == REPORT_REFUSED;
    }
}

/* The long prompt comes when all others have said ten tokens; a client asks again when it is answered. */
static bool is_due(const struct steps *b, bool long_prompt)
{
    if (!long_prompt)
        return b->sent - b->ended < CLIENTS;
    return b->sent < LONG_DECODES || b->said >= 10 * LONG_DECODES;
}

static enum status run_jobs(struct steps *b, bool long_prompt)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && b->ended < b->count) {
        while (status == STATUS_OK && b->sent < b->count && is_due(b, long_prompt))
            status = send_next(b);
        struct engine_report *report = status == STATUS_OK ? channel_receive(b->out, -1) : NULL;
        if (!report)
            break;
        take_report(b, report);
        engine_report_free(report);
    }
    return status;
}

/* ---- one target ---- */

static enum status open_loop(struct steps *b, int64_t target_ms, struct error *err)
{
    const size_t block_bytes = model_block_bytes(b->model, BLOCK_TOKENS);
    const struct engine_options engine = {.model = b->model,
                                          .block_tokens = BLOCK_TOKENS,
                                          .kv_blocks = (int32_t)(((size_t)b->kv_mb << 20) / block_bytes),
                                          .max_sequences = CLIENTS,
                                          .max_batch_tokens = BENCH_CHUNK_TOKENS,
                                          .max_chunk_tokens = (int32_t)b->chunk,
                                          .max_waiting = MAX_JOBS,
                                          .prefix_cache = true,
                                          .step_target_ns = target_ms * 1000000};
    enum status status = engine_open(&b->engine, &engine, err);
    if (status == STATUS_OK)
        status = channel_open(&b->in, MAX_JOBS, err);
    if (status == STATUS_OK)
        status = channel_open(&b->out, MAX_JOBS, err);
    const struct engine_loop_options loop = {
        .engine = b->engine, .in = b->in, .out = b->out, .max_choices = MAX_JOBS};
    return status == STATUS_OK ? engine_loop_start(&b->loop, &loop, err) : status;
}

static void close_loop(struct steps *b)
{
    struct engine_report *report;
    if (b->loop)
        channel_shut(b->in);
    while (b->loop && (report = channel_receive(b->out, -1)))
        engine_report_free(report);
    engine_loop_join(b->loop);
    engine_close(b->engine);
    channel_close(b->in);
    channel_close(b->out);
    b->loop = NULL, b->engine = NULL, b->in = b->out = NULL;
}

static void print_result(struct steps *b, const char *work, int64_t target_ms, double seconds)
{
    struct engine_stats stats;
    engine_loop_stats(b->loop, &stats);
    qsort(b->gaps, b->gap_count, sizeof *b->gaps, compare);
    printf("%-8s %6lld %8llu %9.1f %9.1f %8.0f %8.0f %8.0f %9.3f %%\n", work, (long long)target_ms,
           (unsigned long long)stats.steps, (double)b->said / seconds,
           (double)(b->said + stats.prompt_tokens) / seconds, percentile(b, 0.5), percentile(b, 0.99),
           percentile(b, 1), 100.0 * (double)stats.gap_ns / (double)(stats.step_ns + stats.gap_ns));
    fflush(stdout);
}

static enum status run_work(struct steps *b, bool long_prompt, int64_t target_ms, struct error *err)
{
    const char *work = long_prompt ? "long" : "clients";
    if (strcmp(b->work, "all") != 0 && strcmp(b->work, work) != 0)
        return STATUS_OK;
    enum status status = open_loop(b, target_ms, err);
    list_jobs(b, long_prompt);
    const int64_t begin_ns = monotime_ns();
    if (status == STATUS_OK && (status = run_jobs(b, long_prompt)) != STATUS_OK)
        error_set(err, status, "no memory for a job");
    if (status == STATUS_OK)
        print_result(b, work, target_ms, (double)(monotime_ns() - begin_ns) * 1e-9);
    close_loop(b);
    return status;
}

static enum status run_targets(struct steps *b, struct error *err)
{
    char targets[64];
    enum status status = STATUS_OK;
    snprintf(targets, sizeof targets, "%s", b->targets);
    printf("%s, %s, %s kernels, %d threads; gaps between tokens of one sequence in ms\n"
           "work     target    steps  output/s  tokens/s      p50      p99      max  between steps\n",
           b->shape, model_weight_format_name(b->model), model_kernels_name(b->model), b->threads);
    fflush(stdout);
    char *rest = targets;
    for (char *target = strsep(&rest, ","); target && status == STATUS_OK; target = strsep(&rest, ",")) {
        status = run_work(b, true, strtol(target, NULL, 10), err);
        if (status == STATUS_OK)
            status = run_work(b, false, strtol(target, NULL, 10), err);
    }
    return status;
}

static enum status run_model(struct steps *b, struct error *err)
{
    const struct model_options options = {.kernels = b->kernels,
                                          .weight_format = b->format,
                                          .kv_format = "bf16",
                                          .threads = (int)b->threads,
                                          .max_batch_tokens = BENCH_CHUNK_TOKENS,
                                          .max_logit_rows = engine_max_logit_rows(CLIENTS)};
    enum status status = bench_shape(&b->hparams, b->shape, err);
    if (status == STATUS_OK && b->layers < b->hparams.layers)
        b->hparams.layers = (int32_t)b->layers;
    if (status == STATUS_OK)
        status = model_open_synthetic(&b->model, &b->hparams, &options, 1, err);
    const size_t tokens = (size_t)MAX_JOBS * (size_t)b->prompt_tokens;
    b->tokens = malloc(tokens * sizeof *b->tokens);
    if (status == STATUS_OK && !b->tokens)
        status = error_set(err, STATUS_NO_MEMORY, "no memory for the prompts");
    for (size_t i = 0; status == STATUS_OK && i < tokens; i++)
        b->tokens[i] =
            (int32_t)(philox_uniform(9, (uint32_t)(i >> 20), (uint32_t)(i & 0xfffff)) * b->hparams.vocab);
    if (status == STATUS_OK)
        status = run_targets(b, err);
    free(b->tokens);
    model_close(b->model);
    return status;
}

/* Processor time instead of the wall's: on a busy machine, with one thread, what steps would take on an idle
 * one. */
static int64_t processor_ns(void *context)
{
    (void)context;
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
}

static bool set_clock(const char *name)
{
    static const struct monotime_source processor = {.monotonic_ns = processor_ns};
    if (strcmp(name, "cpu") == 0)
        monotime_replace(&processor);
    return strcmp(name, "cpu") == 0 || strcmp(name, "wall") == 0;
}

int bench_steps(int argc, char **argv)
{
    static struct steps steps; /* a megabyte */
    steps = (struct steps){.shape = "qwen3-0.6b",
                           .format = "bf16",
                           .kernels = "auto",
                           .targets = "0,150",
                           .work = "all",
                           .clock = "wall",
                           .layers = 1 << 20,
                           .threads = 2,
                           .kv_mb = 2048,
                           .prompt_tokens = 8192,
                           .generate = 192,
                           .chunk = BENCH_CHUNK_TOKENS};
    const struct bench_option options[] = {{"--shape", .text = &steps.shape},
                                           {"--format", .text = &steps.format},
                                           {"--kernels", .text = &steps.kernels},
                                           {"--targets", .text = &steps.targets},
                                           {"--work", .text = &steps.work},
                                           {"--clock", .text = &steps.clock},
                                           {"--layers", .number = &steps.layers},
                                           {"--threads", .number = &steps.threads},
                                           {"--kv-mb", .number = &steps.kv_mb},
                                           {"--prompt", .number = &steps.prompt_tokens},
                                           {"--chunk", .number = &steps.chunk},
                                           {"--generate", .number = &steps.generate},
                                           {0}};
    int exit_code;
    if (!bench_options(options, argc, argv, "bench steps", usage, &exit_code))
        return exit_code;
    if (!set_clock(steps.clock))
        return cli_usage("bench steps", "--clock is wall or cpu");
    if (steps.prompt_tokens < 256)
        return cli_usage("bench steps", "--prompt must be at least 256");
    struct error err = {0};
    return run_model(&steps, &err) == STATUS_OK ? EXIT_DONE : cli_fail(&err);
}
