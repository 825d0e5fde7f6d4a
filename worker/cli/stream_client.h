// SPDX-License-Identifier: Apache-2.0
// The reading side of the token stream (docs/formats/stream.md): subscribes, keeps the next sequence number
// of every job, asks the replay socket when one is missing, and hands chunks out in order. One owner thread.
#ifndef WORKER_CLI_STREAM_CLIENT_H
#define WORKER_CLI_STREAM_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "worker/stream_socket.h"

struct stream_client;

struct stream_chunk {
    const char *topic; /* "job.<batch_id>.<custom_id>" */
    uint64_t seq, epoch;
    uint32_t attempt, flags;
    uint64_t missed; /* chunks before this one that could not be had any more */
    const char *data;
    size_t bytes;
};

/* Connects to stream.bind and stream.replay_bind: a worker's, or a proxy's. Statuses: CONFIG, NO_MEMORY. */
MUST_CHECK enum status stream_client_open(struct stream_client **out, const struct config *config,
                                          const char *prefix, size_t prefix_bytes, struct error *err);
void stream_client_close(struct stream_client *client);
/* Waits up to timeout_ms, then hands out everything that has come. */
void stream_client_receive(struct stream_client *client, int timeout_ms,
                           void (*take)(void *context, const struct stream_chunk *chunk), void *context);

#endif
