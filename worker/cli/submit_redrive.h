// SPDX-License-Identifier: Apache-2.0
// `millrace submit --from-dlt`: dead letters back to the topics they came from, each once: the records and
// the offsets of the dead-letter topic go in one transaction, under a group of its own.
#ifndef WORKER_CLI_SUBMIT_REDRIVE_H
#define WORKER_CLI_SUBMIT_REDRIVE_H

#include <stdbool.h>

#include "config/config.h"

/* *count: sent again; with dry_run only listed on standard output, and they stay. Statuses: UNAVAILABLE (no
 * broker, or the embedded one, which has no transactions), CONFIG, NO_MEMORY. */
MUST_CHECK enum status submit_redrive(const struct config *config, bool dry_run, int *count,
                                      struct error *err);

#endif
