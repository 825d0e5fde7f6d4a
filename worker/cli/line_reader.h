// SPDX-License-Identifier: Apache-2.0
// Lines of a file or pipe in bounded memory. A line over the limit is given cut (one byte over, so that the
// parser sees it is too long) and the rest of it is skipped. Never blocks unless asked to.
#ifndef WORKER_CLI_LINE_READER_H
#define WORKER_CLI_LINE_READER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/error.h"

struct line_reader {
    int fd;
    size_t max_line_bytes;
    struct bytes buffer;
    size_t begin, scanned;   /* of buffer: the next line; up to where it has no newline */
    bool end, skipping;      /* of the input; in a line that was given cut */
    uint64_t consumed_bytes; /* of the lines given */
    int64_t lines;           /* given or skipped as blank */
    off_t file_bytes;        /* 0: no regular file */
    int64_t modified_ms;     /* of a regular file; -1 otherwise */
    const char *path;
};

enum line_reader_result { LINE_READER_LINE, LINE_READER_WAIT, LINE_READER_END, LINE_READER_FAILED };

/* path "-": stdin. Statuses: NOT_FOUND, IO. */
MUST_CHECK enum status line_reader_open(struct line_reader *out, const char *path, size_t max_line_bytes,
                                        struct error *err);
void line_reader_close(struct line_reader *reader);
/* The next line without its end, valid until the next call; blank lines are skipped but counted. WAIT: none
 * within timeout_ms (-1: for ever). */
enum line_reader_result line_reader_next(struct line_reader *reader, int timeout_ms, const char **line,
                                         size_t *bytes, struct error *err);
/* Waits for it. Statuses: OK, NOT_FOUND (the end), IO. */
MUST_CHECK enum status line_reader_wait(struct line_reader *reader, const char **line, size_t *bytes,
                                        struct error *err);

#endif
