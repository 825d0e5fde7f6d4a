// SPDX-License-Identifier: Apache-2.0
// How the benchmarks of `millrace bench` read their arguments: each has a table of options that point into
// its own settings. Keeps nothing; texts stay the caller's argv.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/cli/bench.h"
#include "worker/cli/cli.h"

enum { MOST_BY_DEFAULT = 1 << 20 };

static bool read_number(const struct bench_option *option, const char *value)
{
    char *end;
    const long number = strtol(value, &end, 10), most = option->most > 0 ? option->most : MOST_BY_DEFAULT;
    if (*end || number < 1 || number > most)
        return false;
    *option->number = (int)number;
    return true;
}

/* How many arguments it took; 0: it is none of the options, or its value is no good. */
static int read_option(const struct bench_option *options, const char *name, const char *value)
{
    for (const struct bench_option *option = options; option->name; option++) {
        if (strcmp(name, option->name) != 0)
            continue;
        if (option->flag) {
            *option->flag = true;
            return 1;
        }
        if (value && option->text)
            *option->text = value;
        return value && (option->text || read_number(option, value)) ? 2 : 0;
    }
    return 0;
}

bool bench_options(const struct bench_option *options, int argc, char **argv, const char *verb,
                   const char *usage, int *exit_code)
{
    for (int i = 1, taken; i < argc; i += taken) {
        if (strcmp(argv[i], "--help") == 0) {
            printf("%s\n", usage);
            *exit_code = EXIT_DONE;
            return false;
        }
        taken = read_option(options, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
        if (taken == 0) {
            *exit_code = cli_usage(verb, "%s", usage);
            return false;
        }
    }
    return true;
}
