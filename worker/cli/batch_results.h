// SPDX-License-Identifier: Apache-2.0
// The results file of `batch`: appended durably, a whole line in one write, and read back at start so that a
// second run answers only what is missing. A half line that a crash left at the end is cut off.
#ifndef WORKER_CLI_BATCH_RESULTS_H
#define WORKER_CLI_BATCH_RESULTS_H

#include <sys/types.h>

#include "base/bytes.h"
#include "worker/cli/id_map.h"

struct batch_results {
    const char *path;
    int fd;
    bool regular; /* a file: locked, resumed, synced */
    dev_t device;
    ino_t inode;
    uint64_t lines; /* that were there */
    bool unsynced;
    int64_t synced_ns;
};

/* path "-": stdout. Every answered custom_id (of a line without one: its id) is added to `answered`.
 * Statuses: IO, CONFIG (no results file, or another run writes it), NO_MEMORY. */
MUST_CHECK enum status batch_results_open(struct batch_results *out, const char *path,
                                          struct id_map *answered, struct error *err);
/* Syncs. Statuses: IO. */
enum status batch_results_close(struct batch_results *results, struct error *err);
/* `line` has no newline and gets one. Statuses: IO, NO_MEMORY. */
MUST_CHECK enum status batch_results_append(struct batch_results *results, struct bytes *line,
                                            struct error *err);
/* At most one second after a line was appended. */
MUST_CHECK enum status batch_results_sync(struct batch_results *results, bool now, struct error *err);

#endif
