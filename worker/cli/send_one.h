// SPDX-License-Identifier: Apache-2.0
// One record to a topic, stored before the call returns: for the verbs that say something once.
#ifndef WORKER_CLI_SEND_ONE_H
#define WORKER_CLI_SEND_ONE_H

#include "base/bytes.h"
#include "config/config.h"

/* Statuses: UNAVAILABLE (no broker, or it did not store the record), CONFIG. */
MUST_CHECK enum status send_one(const struct config *config, const char *topic, const struct bytes *key,
                                const struct bytes *value, struct error *err);

#endif
