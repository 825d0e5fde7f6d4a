// SPDX-License-Identifier: Apache-2.0
// The HTTP side of a worker: /metrics, /livez, /readyz, /version, and for people / and /debug/*, which only
// loopback sees unless the page is public. The only user of libmicrohttpd; its one thread only reads.
// Bounded: connections, bytes of a request, time without a byte; bodies are refused. Redis loss never makes a
// worker unready, Kafka loss never makes it dead.
#ifndef WORKER_HEALTH_H
#define WORKER_HEALTH_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/error.h"

struct health;

struct health_source { /* called on the HTTP thread */
    void (*metrics)(void *context, struct bytes *out);
    bool (*live)(void *context);
    bool (*ready)(void *context);
    void (*state)(void *context, struct bytes *out); /* /debug/state; NULL: no page, nothing under /debug */
    void (*jobs)(void *context, struct bytes *out);  /* /debug/jobs */
    bool page_is_public;
    void *context;
};

/* Statuses: UNAVAILABLE (address in use). */
MUST_CHECK enum status health_open(struct health **out, const char *address, int port,
                                   const struct health_source *source, struct error *err);
void health_close(struct health *health);
int health_port(const struct health *health); /* the bound one, when 0 was asked for */

#endif
