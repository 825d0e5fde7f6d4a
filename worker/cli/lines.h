// SPDX-License-Identifier: Apache-2.0
// Lines of a JSONL file or standard input ("-"), one at a time and bounded.
#ifndef WORKER_CLI_LINES_H
#define WORKER_CLI_LINES_H

#include <stdio.h>

#include "base/error.h"

struct lines {
    FILE *file;
    char *text; /* current line without its end; valid until the next call */
    size_t bytes, capacity;
    size_t number; /* from 1 */
    const char *path;
};

MUST_CHECK enum status lines_open(struct lines *lines, const char *path, struct error *err);
void lines_close(struct lines *lines);
/* OK; NOT_FOUND at the end; IO. Empty lines are passed over. */
MUST_CHECK enum status lines_next(struct lines *lines, struct error *err);

#endif
