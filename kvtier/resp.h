// SPDX-License-Identifier: Apache-2.0
// Redis' wire protocol (RESP2) over one socket, with a deadline on every wait, and a limit on silence. Reads
// bulk payloads directly into the caller's memory. Any parse error or time-out is final for the connection:
// replies may be owed, so the owner closes it.
#ifndef KVTIER_RESP_H
#define KVTIER_RESP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"

enum {
    RESP_BUFFER_BYTES = 16384,
    RESP_LINE_BYTES = 512,
    /* A wait without a byte: time for a packet that TCP sends again (200 ms at least), and with two more
     * tries of REDIS_CONNECT_MS a breaker is open within a second. */
    RESP_SILENT_MS = 300
};

enum resp_type { RESP_SIMPLE, RESP_ERROR, RESP_INTEGER, RESP_BULK, RESP_NIL };

struct resp {
    int fd; /* borrowed */
    int64_t deadline_ns;
    size_t begin, end; /* unread bytes of buffer */
    char buffer[RESP_BUFFER_BYTES];
};

struct resp_reply {
    enum resp_type type;
    int64_t number;             /* INTEGER: value; BULK: bytes that follow */
    char line[RESP_LINE_BYTES]; /* SIMPLE, ERROR: text */
};

void resp_init(struct resp *resp, int fd);
/* Statuses of all: OK, TIMEOUT, UNAVAILABLE (closed by the peer), CORRUPT (not RESP). */
MUST_CHECK enum status resp_send(struct resp *resp, struct iovec *parts, int count); /* parts are consumed */
MUST_CHECK enum status resp_read_reply(struct resp *resp,
                                       struct resp_reply *reply); /* BULK: payload still to read */
/* What is there, at least one byte and at most `most`: whoever works on a long payload does it while the
 * bytes are in the cache. */
MUST_CHECK enum status resp_read_some(struct resp *resp, void *out, size_t most, size_t *got);
MUST_CHECK enum status resp_read_bytes(struct resp *resp, void *out, size_t bytes);
MUST_CHECK enum status resp_skip_bytes(struct resp *resp, size_t bytes);
MUST_CHECK enum status resp_read_crlf(struct resp *resp); /* after a bulk payload */

#endif
