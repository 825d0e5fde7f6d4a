// SPDX-License-Identifier: Apache-2.0
// One GET over HTTP/1.0 to a worker's own port, for verbs that ask one. Blocking, with a limit on time and
// size.
#ifndef WORKER_CLI_HTTP_GET_H
#define WORKER_CLI_HTTP_GET_H

#include "base/bytes.h"

/* The status code; 0: nobody answers within wait_ms. `address` is numeric, 0.0.0.0 means this machine. `body`
 * (bounded by its own limit) may be NULL. */
int http_get(const char *address, int port, const char *path, int wait_ms, struct bytes *body);

#endif
