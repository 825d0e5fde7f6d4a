// SPDX-License-Identifier: Apache-2.0
// Where the workers of the consumer group listen for HTTP: each worker's client.id is "millrace:PORT", and
// the broker knows from which address it came.
#ifndef WORKER_CLI_TOP_GROUP_H
#define WORKER_CLI_TOP_GROUP_H

#include "config/config.h"

enum { TOP_MOST_WORKERS = 256 };

struct top_address {
    char host[64];
    int port; /* 0: it serves no fixed port */
};

/* How many, or -1: no broker answers, or it cannot say (the embedded one). */
int top_group_find(const struct config *config, struct top_address out[TOP_MOST_WORKERS]);

#endif
