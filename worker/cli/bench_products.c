// SPDX-License-Identifier: Apache-2.0
// `millrace bench products`: one matrix product of a kernel set by number of rows, as a share of its
// roofline, and the same product by plain cblas_sgemm. Weights are many copies, more than a cache holds,
// taken in turn as the layers of a model are. Products and peer alternate, round after round; medians.
#include <stdio.h>
#include <string.h>

#include "base/monotime.h"
#include "engine/kernels/huge_memory.h"
#include "worker/cli/bench.h"
#include "worker/cli/bench_limits.h"
#include "worker/cli/cli.h"

static const char usage[] = "usage: millrace bench products [--format f32,bf16,int8,int4] [--kernels NAME] "
                            "[--n 3072] [--k 1024] [--threads N] [--rounds N] [--json]";

static const int32_t row_counts[] = {1, 2, 4, 8, 13, 16, 32, 64, 128, 512};
enum { ROW_COUNTS = sizeof row_counts / sizeof row_counts[0], MAX_ROWS = 512, CHUNKS_PER_MEMBER = 8 };
#define COPIES_BYTES ((size_t)256 << 20)
enum { CELL_TIME_MS = 80 }; /* of one measurement */

struct run {
    const char *formats, *kernels_name;
    int threads, rounds;
    int32_t n, k;
    bool json;
    const struct kernels *kernels;
    struct bench_limits limits;
    struct weight weight; /* data: the copy at hand */
    struct activation x;
    uint8_t *copies;
    float *peer_copies, *rows, *y;
    size_t copy_bytes, copy_count, operand_bytes;
    struct bench_rates rates[ROW_COUNTS]; /* the best beside a cell */
    double seconds[ROW_COUNTS][BENCH_MAX_ROUNDS], peer_seconds[ROW_COUNTS][BENCH_MAX_ROUNDS];
};

static void prepare_task(void *context, int member, int members)
{
    struct run *run = context;
    const int32_t rows = run->x.rows;
    run->kernels->activation_prepare(&run->x, rows * member / members, rows * (member + 1) / members);
}

/* Ranges of outputs, taken by whoever is free. */
static void multiply_task(void *context, int member, int members)
{
    (void)member;
    struct run *run = context;
    const int32_t granule = run->kernels->n_granule, granules = (run->n + granule - 1) / granule;
    const int32_t parts = members == 1 ? 1 : members * CHUNKS_PER_MEMBER;
    const int32_t chunk = (granules + parts - 1) / parts * granule;
    for (int32_t begin; (begin = thread_team_next(run->limits.team) * chunk) < run->n;) {
        const int32_t end = begin + chunk < run->n ? begin + chunk : run->n;
        run->kernels->matmul(run->y, (size_t)run->n, &run->weight, &run->x, NULL, begin, end);
    }
}

static void peer_task(void *context, int member, int members)
{
    struct run *run = context;
    const int32_t begin = run->n * member / members, end = run->n * (member + 1) / members;
    kernels_openblas_product(run->y + begin, run->n, (const float *)run->weight.data + (size_t)begin * run->k,
                             run->rows, run->x.rows, end - begin, run->k);
}

/* Seconds of one product of a task, which finds the copy at hand in run->weight. */
static double measure(struct run *run, void (*task)(void *, int, int), void *copies, size_t copy_bytes)
{
    const size_t copy_count = COPIES_BYTES / copy_bytes;
    const int64_t begin_ns = monotime_ns();
    int64_t spent_ns = 0;
    size_t count = 0;
    for (; spent_ns < (int64_t)CELL_TIME_MS * 1000000; spent_ns = monotime_ns() - begin_ns, count++) {
        run->weight.data = (uint8_t *)copies + count % copy_count * copy_bytes;
        thread_team_run(run->limits.team, task, run);
    }
    return (double)spent_ns * 1e-9 / (double)count;
}

static void print_row(const struct run *run, const char *format, int index)
{
    const int32_t rows = row_counts[index];
    const double operations = 2.0 * rows * run->n * run->k;
    const double seconds = bench_median(run->seconds[index], run->rounds);
    const double peer = bench_median(run->peer_seconds[index], run->rounds);
    const double *rates = run->rates[index].per_second;
    const double memory = (double)run->copy_bytes / rates[BENCH_READ];
    const double compute = operations / rates[bench_limit_of(format)];
    const double roof = memory > compute ? memory : compute;
    const char *bound = memory > compute ? "memory" : "compute";
    if (run->json)
        printf(
            "{\"work\":\"product\",\"format\":\"%s\",\"kernels\":\"%s\",\"threads\":%d,\"rows\":%d,\"n\":%d,"
            "\"k\":%d,\"operations_per_second\":%.4g,\"read_bytes_per_second\":%.4g,\"share_of_limit\":%.4f,"
            "\"bound\":\"%s\",\"openblas_seconds\":%.4g,\"seconds\":%.4g}\n",
            format, run->kernels->name, run->threads, rows, run->n, run->k, operations / seconds,
            (double)run->copy_bytes / seconds, roof / seconds, bound, peer, seconds);
    else
        printf("%-6s %5d %10.1f %10.1f %8.1f %% %-8s %8.2f\n", format, rows, operations / seconds * 1e-9,
               (double)run->copy_bytes / seconds * 1e-9, 100 * roof / seconds, bound, peer / seconds);
}

static void fill(float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(i * 41 % 103) * 0.01f - 0.5f;
}

static enum status open_operands(struct run *run, enum weight_format format, struct error *err)
{
    run->copy_bytes = (run->kernels->weight_bytes(format, run->n, run->k) + 4095) / 4096 * 4096;
    run->operand_bytes = run->kernels->activation_bytes(format, MAX_ROWS, run->k) + 64;
    run->x = (struct activation){.format = format, .k = run->k, .source = run->rows};
    run->x.data = huge_memory_map(run->operand_bytes);
    run->weight = (struct weight){.format = format, .n = run->n, .k = run->k, .data = run->copies};
    if (!run->x.data)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the operands");
    run->kernels->weight_pack(&run->weight, run->peer_copies, DTYPE_F32, 0, run->n);
    for (size_t i = 1; i < COPIES_BYTES / run->copy_bytes; i++)
        memcpy(run->copies + i * run->copy_bytes, run->copies, run->copy_bytes);
    return STATUS_OK;
}

static void measure_rows(struct run *run, int index, int round)
{
    run->x.rows = row_counts[index];
    thread_team_run(run->limits.team, prepare_task, run);
    bench_limits_sample(&run->limits, run->kernels, &run->rates[index]);
    run->seconds[index][round] = measure(run, multiply_task, run->copies, run->copy_bytes);
    bench_limits_sample(&run->limits, run->kernels, &run->rates[index]);
    const size_t peer_bytes = (size_t)run->n * (size_t)run->k * sizeof(float);
    run->peer_seconds[index][round] = measure(run, peer_task, run->peer_copies, peer_bytes);
}

static enum status run_format(struct run *run, const char *name, struct error *err)
{
    static const char *const names[] = {"f32", "bf16", "int8", "int4"};
    size_t format = 0;
    while (format < sizeof names / sizeof names[0] && strcmp(name, names[format]) != 0)
        format++;
    if (format == sizeof names / sizeof names[0] || !run->kernels->has_format((enum weight_format)format))
        return error_set(err, STATUS_USAGE, "kernel set %s has no format %.16s", run->kernels->name, name);
    enum status status = open_operands(run, (enum weight_format)format, err);
    memset(run->rates, 0, sizeof run->rates);
    for (int round = 0; round < run->rounds && status == STATUS_OK; round++)
        for (int i = 0; i < ROW_COUNTS; i++)
            measure_rows(run, i, round);
    huge_memory_unmap(run->x.data, run->operand_bytes);
    if (status != STATUS_OK)
        return status;
    bench_limits_print(&run->limits, name);
    if (!run->json)
        printf("format  rows     Gop/s       GB/s    share   bound    openblas takes, times\n");
    for (int i = 0; i < ROW_COUNTS; i++)
        print_row(run, name, i);
    return STATUS_OK;
}

static enum status open_run(struct run *run, struct error *err)
{
    run->kernels = kernels_find(run->kernels_name);
    if (!run->kernels)
        return error_set(err, STATUS_USAGE, "this machine has no kernel set %.16s", run->kernels_name);
    const size_t weights = (size_t)run->n * (size_t)run->k;
    if (weights * sizeof(float) > COPIES_BYTES / 2)
        return error_set(err, STATUS_USAGE, "--n times --k is at most %zu", COPIES_BYTES / 8);
    run->copies = huge_memory_map(COPIES_BYTES);
    run->peer_copies = huge_memory_map(COPIES_BYTES);
    run->rows = huge_memory_map((size_t)MAX_ROWS * (size_t)run->k * sizeof *run->rows);
    run->y = huge_memory_map((size_t)MAX_ROWS * (size_t)run->n * sizeof *run->y);
    if (!run->copies || !run->peer_copies || !run->rows || !run->y)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the operands");
    fill(run->peer_copies, COPIES_BYTES / sizeof *run->peer_copies);
    fill(run->rows, (size_t)MAX_ROWS * (size_t)run->k);
    return bench_limits_open(&run->limits, run->threads, err);
}

static void close_run(struct run *run)
{
    bench_limits_close(&run->limits);
    huge_memory_unmap(run->copies, COPIES_BYTES);
    huge_memory_unmap(run->peer_copies, COPIES_BYTES);
    huge_memory_unmap(run->rows, (size_t)MAX_ROWS * (size_t)run->k * sizeof *run->rows);
    huge_memory_unmap(run->y, (size_t)MAX_ROWS * (size_t)run->n * sizeof *run->y);
}

static enum status run_formats(struct run *run, struct error *err)
{
    char formats[64];
    snprintf(formats, sizeof formats, "%s", run->formats);
    enum status status = open_run(run, err);
    char *rest = formats;
    for (char *format = strsep(&rest, ","); format && status == STATUS_OK; format = strsep(&rest, ","))
        status = run_format(run, format, err);
    close_run(run);
    return status;
}

int bench_products(int argc, char **argv)
{
    static struct run run;
    run = (struct run){
        .formats = "bf16,int8", .kernels_name = "auto", .threads = 2, .rounds = 5, .n = 3072, .k = 1024};
    const struct bench_option options[] = {{"--format", .text = &run.formats},
                                           {"--kernels", .text = &run.kernels_name},
                                           {"--n", .number = &run.n},
                                           {"--k", .number = &run.k},
                                           {"--threads", .number = &run.threads},
                                           {"--rounds", .number = &run.rounds, .most = BENCH_MAX_ROUNDS},
                                           {"--json", .flag = &run.json},
                                           {0}};
    int exit_code;
    if (!bench_options(options, argc, argv, "bench products", usage, &exit_code))
        return exit_code;
    struct error err = {0};
    return run_formats(&run, &err) == STATUS_OK ? EXIT_DONE : cli_fail(&err);
}
