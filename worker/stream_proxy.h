// SPDX-License-Identifier: Apache-2.0
// One address for all readers: workers publish to the proxy, readers subscribe at it. Chunks go down and
// subscriptions go up (XSUB/XPUB); a replay request goes to every worker that has been heard of lately, and
// what they still hold comes back under one end marker. It keeps nothing: what a worker's ring has lost is
// lost.
#ifndef WORKER_STREAM_PROXY_H
#define WORKER_STREAM_PROXY_H

#include <stdatomic.h>

#include "config/config.h"

enum { STREAM_PROXY_WORKERS = 256, STREAM_PROXY_REQUESTS = 1024 };

struct stream_proxy;

struct stream_proxy_stats { /* readable from any thread */
    _Atomic uint64_t chunks, replays, workers;
};

/* Binds stream.bind and stream.replay_bind for readers, proxy.workers_bind and proxy.workers_replay_bind for
 * workers. Statuses: as stream_socket_bind. */
MUST_CHECK enum status stream_proxy_open(struct stream_proxy **out, const struct config *config,
                                         struct error *err);
void stream_proxy_close(struct stream_proxy *proxy);
/* Carries what comes within timeout_ms. False: a signal came, or it cannot go on. */
bool stream_proxy_turn(struct stream_proxy *proxy, int timeout_ms);
const struct stream_proxy_stats *stream_proxy_stats(const struct stream_proxy *proxy);

#endif
