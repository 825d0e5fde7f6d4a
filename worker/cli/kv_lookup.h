// SPDX-License-Identifier: Apache-2.0
// `millrace kv lookup`: how much of each prompt of a file of jobs lies in the tier, and why it ends there.
// Reads and verifies the blocks as a worker of the same configuration would.
#ifndef WORKER_CLI_KV_LOOKUP_H
#define WORKER_CLI_KV_LOOKUP_H

#include "config/config.h"
#include "kvtier/redis_store.h"

/* Prints one line per prompt (kv_report.h). Statuses: those of setup_open and redis_store_open; IO,
 * NO_MEMORY, UNAVAILABLE.
 */
MUST_CHECK enum status kv_lookup(const struct config *config, const struct redis_store_options *redis,
                                 const char *input, bool json, struct error *err);

#endif
