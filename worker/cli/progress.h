// SPDX-License-Identifier: Apache-2.0
// Progress of long work: one line that is redrawn on a terminal (bar, rate, time left), a plain line every
// few seconds elsewhere. NO_COLOR is honoured. Writes to stderr.
#ifndef WORKER_CLI_PROGRESS_H
#define WORKER_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* "submit" */
    const char *unit; /* "jobs" */
    uint64_t total;   /* 0: unknown */
    int64_t begin_ms, shown_ms;
    bool terminal, color;
};

void progress_begin(struct progress *progress, const char *what, const char *unit, uint64_t total);
/* `note` is put behind the numbers, or NULL. Cheap when called often. */
void progress_show(struct progress *progress, uint64_t done, const char *note);
void progress_end(struct progress *progress, uint64_t done, const char *note);

#endif
