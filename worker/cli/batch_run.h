// SPDX-License-Identifier: Apache-2.0
// Jobs of a file through the engine: the main thread reads, parses and writes, the engine thread generates.
// At most limits.max_inflight_jobs are open at once, so memory does not grow with the file.
#ifndef WORKER_CLI_BATCH_RUN_H
#define WORKER_CLI_BATCH_RUN_H

#include <signal.h>

#include "worker/cli/batch_progress.h"
#include "worker/cli/batch_results.h"
#include "worker/cli/line_reader.h"
#include "worker/cli/setup.h"

struct batch_run {
    struct setup *setup;
    struct line_reader *input;
    struct batch_results *results;
    const struct id_map *answered; /* by earlier runs */
    struct batch_progress *progress;
    const volatile sig_atomic_t *interrupted; /* not 0: stop; what is running is given up and not written */
    struct batch_counts counts;               /* out */
};

/* Statuses: OK (also when interrupted), IO, NO_MEMORY. */
MUST_CHECK enum status batch_run(struct batch_run *run, struct error *err);

#endif
