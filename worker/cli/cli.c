// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/cli.h"

#include <stdarg.h>
#include <stdio.h>

static int exit_code_of(enum status status)
{
    switch (status) {
    case STATUS_OK:
        return EXIT_DONE;
    case STATUS_USAGE:
        return EXIT_USAGE;
    case STATUS_UNAVAILABLE:
    case STATUS_TIMEOUT:
    case STATUS_FENCED:
        return EXIT_PEER;
    case STATUS_INTERNAL:
        return EXIT_BUG;
    case STATUS_NO_MEMORY:
    case STATUS_FULL:
    case STATUS_IO:
    case STATUS_CLOSED:
        return EXIT_RESTART;
    default: /* a wrong configuration, model directory or file */
        return EXIT_CONFIG;
    }
}

int cli_fail(const struct error *err)
{
    fprintf(stderr, "millrace: %s\n", err->text);
    return exit_code_of(err->status);
}

int cli_usage(const char *verb, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "millrace%s%s: ", *verb ? " " : "", verb);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    return EXIT_USAGE;
}
