// SPDX-License-Identifier: Apache-2.0
// Stage 9, live half: tokens on ZeroMQ. XPUB for whoever listens now, ROUTER for whoever missed something.
//   frames: [topic "job.<batch_id>.<custom_id>" NUL][seq u64 BE, per job][epoch u64 | attempt u32 | flags
//   u32, BE][chunk] replay: request [""][topic][start_seq u64 BE] -> [""][topic][seq][header][chunk]…, end
//   marker seq all ones
// With a proxy the same two ways lead through it: the publisher also connects to the proxy, and a DEALER
// waits there for replay requests, which come with the reader's identity in front, as at the ROUTER. Best
// effort by design: a slow subscriber loses chunks (and sees it in seq), it never slows the worker. Modelled
// on vLLM's KV event publisher. Owner: the emit thread.
#ifndef WORKER_EMIT_TOKEN_STREAM_H
#define WORKER_EMIT_TOKEN_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "worker/stream_socket.h"

enum { TOKEN_STREAM_FDS = 3 };

enum token_stream_flags { TOKEN_STREAM_FIRST = 1, TOKEN_STREAM_LAST = 2, TOKEN_STREAM_RETRY = 4 };

struct token_stream;

struct token_stream_options {
    const char *bind, *replay_bind;   /* "": none */
    const char *proxy, *proxy_replay; /* addresses of a proxy; "": none */
    struct stream_security security;
    int high_water_mark;
    size_t replay_bytes;
    uint64_t epoch; /* this worker's incarnation */
};

struct token_stream_stats {
    uint64_t chunks, dropped, replays, subscribers;
};

/* Statuses: as stream_socket_bind. */
MUST_CHECK enum status token_stream_open(struct token_stream **out,
                                         const struct token_stream_options *options, struct error *err);
void token_stream_close(struct token_stream *stream);
/* Reads subscriptions and answers replay requests; never waits. */
void token_stream_service(struct token_stream *stream);
/* Does anybody listen to this topic (NUL included in topic_bytes)? */
bool token_stream_wanted(const struct token_stream *stream, const char *topic, size_t topic_bytes);
/* Publishes one chunk and keeps it for replay. */
void token_stream_publish(struct token_stream *stream, const char *topic, size_t topic_bytes, uint64_t seq,
                          uint32_t attempt, uint32_t flags, const char *chunk, size_t chunk_bytes);
/* File descriptors to wait on (readable means: call service). */
void token_stream_fds(const struct token_stream *stream, int fds[TOKEN_STREAM_FDS]);
void token_stream_stats_read(const struct token_stream *stream, struct token_stream_stats *out);

#endif
