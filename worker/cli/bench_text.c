// SPDX-License-Identifier: Apache-2.0
// `millrace bench text`: how fast a model's tokenizer loads, encodes a text file and decodes it again, on one
// core. The text is encoded line by line, as prompts are, and as a whole; the best of the rounds counts.
#include <stdio.h>
#include <string.h>

#include "base/monotime.h"
#include "engine/text/text_file.h"
#include "engine/text/tokenizer.h"
#include "worker/cli/bench.h"
#include "worker/cli/cli.h"

#define MAX_TEXT_BYTES ((size_t)1 << 30)
enum { ROUNDS = 5 };

static const char usage[] = "usage: millrace bench text MODEL_DIR TEXT_FILE [--json]\n"
                            "example: millrace bench text models/qwen2 book.txt\n";

struct bench_text {
    struct tokenizer *tokenizer;
    struct bytes text;
    struct token_list ids;
    double load_ms;
    double lines_mb_s, whole_mb_s, decode_mb_s; /* best of the rounds */
};

static double megabytes_per_second(size_t bytes, int64_t begin_ns)
{
    const int64_t spent_ns = monotime_ns() - begin_ns;
    return (double)bytes * 1000.0 / (double)(spent_ns > 0 ? spent_ns : 1);
}

static void keep_best(double *best, double speed)
{
    if (speed > *best)
        *best = speed;
}

static enum status encode_lines(struct bench_text *bench, struct error *err)
{
    const struct encode_options options = {0};
    enum status status = STATUS_OK;
    for (const char *at = bench->text.data, *end = at + bench->text.count_bytes;
         at < end && status == STATUS_OK;) {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        const size_t bytes = line ? (size_t)(line - at) + 1 : (size_t)(end - at);
        bench->ids.count = 0;
        status = tokenizer_encode(bench->tokenizer, at, bytes, &options, &bench->ids, err);
        at += bytes;
    }
    return status;
}

static enum status run_round(struct bench_text *bench, struct error *err)
{
    const struct encode_options options = {0};
    struct bytes decoded;
    int64_t begin_ns = monotime_ns();
    enum status status = encode_lines(bench, err);
    if (status != STATUS_OK)
        return status;
    keep_best(&bench->lines_mb_s, megabytes_per_second(bench->text.count_bytes, begin_ns));
    begin_ns = monotime_ns();
    bench->ids.count = 0;
    status = tokenizer_encode(bench->tokenizer, bench->text.data, bench->text.count_bytes, &options,
                              &bench->ids, err);
    if (status != STATUS_OK)
        return status;
    keep_best(&bench->whole_mb_s, megabytes_per_second(bench->text.count_bytes, begin_ns));
    bytes_init(&decoded, MAX_TEXT_BYTES);
    begin_ns = monotime_ns();
    status = tokenizer_decode(bench->tokenizer, bench->ids.ids, bench->ids.count, false, &decoded, err);
    keep_best(&bench->decode_mb_s, megabytes_per_second(decoded.count_bytes, begin_ns));
    bytes_release(&decoded);
    return status;
}

static enum status open_bench(struct bench_text *bench, const char *model_dir, const char *path,
                              struct error *err)
{
    enum status status = STATUS_OK;
    bytes_init(&bench->text, MAX_TEXT_BYTES);
    for (int round = 0; round < ROUNDS && status == STATUS_OK; round++) {
        tokenizer_close(bench->tokenizer);
        const int64_t begin_ns = monotime_ns();
        status = tokenizer_open(&bench->tokenizer, model_dir, err);
        const double spent_ms = (double)(monotime_ns() - begin_ns) / 1e6;
        if (round == 0 || spent_ms < bench->load_ms)
            bench->load_ms = spent_ms;
    }
    if (status == STATUS_OK)
        status = text_file_read(&bench->text, path[0] == '/' ? "" : ".", path, err);
    if (status == STATUS_OK && bench->text.count_bytes == 0)
        return error_set(err, STATUS_USAGE, "%s is empty: there is nothing to measure", path);
    return status;
}

static void print_results(const struct bench_text *bench, bool as_json)
{
    const size_t bytes = bench->text.count_bytes, tokens = bench->ids.count;
    if (as_json)
        printf("{\"text_bytes\":%zu,\"tokens\":%zu,\"load_ms\":%.1f,\"encode_lines_mb_s\":%.2f,"
               "\"encode_whole_mb_s\":%.2f,\"decode_mb_s\":%.2f}\n",
               bytes, tokens, bench->load_ms, bench->lines_mb_s, bench->whole_mb_s, bench->decode_mb_s);
    else
        printf("text           %zu bytes, %zu tokens\nload           %.1f ms\nencode, lines  %.2f MB/s\n"
               "encode, whole  %.2f MB/s\ndecode         %.2f MB/s\n",
               bytes, tokens, bench->load_ms, bench->lines_mb_s, bench->whole_mb_s, bench->decode_mb_s);
}

int bench_text(int argc, char **argv)
{
    struct bench_text bench = {0};
    struct error err = {0};
    const char *paths[2] = {NULL};
    bool as_json = false;
    int count = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0)
            return printf("%s", usage) < 0 ? EXIT_BUG : EXIT_DONE;
        if (strcmp(argv[i], "--json") == 0)
            as_json = true;
        else if (argv[i][0] == '-' || count == 2)
            return cli_usage("bench text", "unexpected argument %s", argv[i]);
        else
            paths[count++] = argv[i];
    }
    if (count < 2)
        return cli_usage("bench text", "give a model directory and a text file");
    enum status status = open_bench(&bench, paths[0], paths[1], &err);
    for (int round = 0; round < ROUNDS && status == STATUS_OK; round++)
        status = run_round(&bench, &err);
    if (status == STATUS_OK)
        print_results(&bench, as_json);
    token_list_release(&bench.ids);
    bytes_release(&bench.text);
    tokenizer_close(bench.tokenizer);
    return status == STATUS_OK ? EXIT_DONE : cli_fail(&err);
}
