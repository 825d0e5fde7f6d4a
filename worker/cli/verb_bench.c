// SPDX-License-Identifier: Apache-2.0
// `millrace bench WHAT`: how near a part comes to what this machine gives at best, measured in the same run.
#include <stdio.h>
#include <string.h>

#include "worker/cli/bench.h"
#include "worker/cli/cli.h"

static const struct cli_verb benches[] = {
    {"engine", "prefill and decode against memory bandwidth and arithmetic peak", bench_engine},
    {"products", "one matrix product by number of rows, beside OpenBLAS", bench_products},
    {"steps", "time between tokens, beside a long prompt and with many clients", bench_steps},
    {"speculate", "tokens per second with guessed tokens and without", bench_speculate},
    {"kv", "block tables against contiguous KV, where attention is most of a step", bench_kv},
    {"tier", "reads of the KV tier against a raw reader on the same Redis", bench_tier},
    {"prefix", "a long prefix computed, and loaded from Redis", bench_prefix},
    {"text", "load, encode and decode of a model's tokenizer", bench_text},
};

static int print_help(FILE *out, int exit_code)
{
    fprintf(out, "usage: millrace bench WHAT [options]\n\n");
    for (size_t i = 0; i < sizeof benches / sizeof benches[0]; i++)
        fprintf(out, "  %-9s %s\n", benches[i].name, benches[i].summary);
    return exit_code;
}

int cli_bench(int argc, char **argv)
{
    if (argc < 2)
        return print_help(stderr, EXIT_USAGE);
    if (strcmp(argv[1], "--help") == 0)
        return print_help(stdout, EXIT_DONE);
    for (size_t i = 0; i < sizeof benches / sizeof benches[0]; i++)
        if (strcmp(argv[1], benches[i].name) == 0)
            return benches[i].run(argc - 1, argv + 1);
    return cli_usage("bench", "there is no benchmark \"%s\"; `millrace bench --help` lists them", argv[1]);
}
