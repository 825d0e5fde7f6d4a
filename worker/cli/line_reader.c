// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/line_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BYTES = 256 * 1024 };

enum status line_reader_open(struct line_reader *out, const char *path, size_t max_line_bytes,
                             struct error *err)
{
    struct stat info;
    *out = (struct line_reader){.path = path, .max_line_bytes = max_line_bytes, .modified_ms = -1};
    out->fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (out->fd < 0)
        return error_set(err, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "cannot read %s: %s", path,
                         strerror(errno));
    if (fstat(out->fd, &info) == 0 && S_ISREG(info.st_mode)) {
        out->file_bytes = info.st_size;
        out->modified_ms = (int64_t)info.st_mtim.tv_sec * 1000 + info.st_mtim.tv_nsec / 1000000;
    }
    bytes_init(&out->buffer, max_line_bytes + 2 * (size_t)READ_BYTES);
    return STATUS_OK;
}

void line_reader_close(struct line_reader *reader)
{
    if (reader->fd > STDIN_FILENO)
        close(reader->fd);
    bytes_release(&reader->buffer);
}

/* Moves what is left to the front and reads more behind it. */
static enum line_reader_result fill(struct line_reader *reader, int timeout_ms, struct error *err)
{
    struct bytes *buffer = &reader->buffer;
    struct pollfd ready = {.fd = reader->fd, .events = POLLIN};
    if (reader->file_bytes == 0) {
        int count = poll(&ready, 1, timeout_ms);
        if (count == 0 || (count < 0 && errno == EINTR))
            return LINE_READER_WAIT;
    }
    if (reader->begin > 0) {
        buffer->count_bytes -= reader->begin;
        memmove(buffer->data, buffer->data + reader->begin, buffer->count_bytes);
        reader->scanned -= reader->begin;
        reader->begin = 0;
    }
    if (bytes_reserve(buffer, READ_BYTES) != STATUS_OK) {
        error_set(err, STATUS_NO_MEMORY, "no memory to read %s", reader->path);
        return LINE_READER_FAILED;
    }
    ssize_t got = read(reader->fd, buffer->data + buffer->count_bytes, READ_BYTES);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return LINE_READER_WAIT;
    if (got < 0) {
        error_set(err, STATUS_IO, "cannot read %s: %s", reader->path, strerror(errno));
        return LINE_READER_FAILED;
    }
    reader->end = got == 0;
    buffer->count_bytes += (size_t)got;
    return LINE_READER_LINE;
}

static bool is_blank(const char *line, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (!memchr(" \t\r", line[i], 3))
            return false;
    return true;
}

/* The line in front when there is a whole one, or the end of the input, or too much of it. */
static bool cut_line(struct line_reader *reader, const char **line, size_t *bytes)
{
    struct bytes *buffer = &reader->buffer;
    if (!buffer->data || reader->begin == buffer->count_bytes)
        return false;
    const char *from = buffer->data + reader->begin;
    size_t left = buffer->count_bytes - reader->begin;
    const char *newline = memchr(buffer->data + reader->scanned, '\n', buffer->count_bytes - reader->scanned);
    reader->scanned = buffer->count_bytes;
    size_t length = newline ? (size_t)(newline - from) : left;
    if (!newline && !reader->end && length <= reader->max_line_bytes)
        return false;
    *line = from;
    *bytes = length > reader->max_line_bytes ? reader->max_line_bytes + 1 : length;
    reader->begin += newline ? length + 1 : length;
    reader->scanned = reader->begin;
    reader->consumed_bytes += newline ? length + 1 : length;
    return true;
}

enum line_reader_result line_reader_next(struct line_reader *reader, int timeout_ms, const char **line,
                                         size_t *bytes, struct error *err)
{
    for (;;) {
        if (cut_line(reader, line, bytes)) {
            bool whole = reader->end || (reader->begin > 0 && reader->buffer.data[reader->begin - 1] == '\n');
            bool rest = reader->skipping; /* of a line that was given already */
            reader->skipping = !whole;
            if (rest)
                continue;
            reader->lines++;
            while (*bytes > 0 && (*line)[*bytes - 1] == '\r')
                --*bytes;
            if (!is_blank(*line, *bytes))
                return LINE_READER_LINE;
            continue;
        }
        if (reader->end)
            return LINE_READER_END;
        enum line_reader_result result = fill(reader, timeout_ms, err);
        if (result != LINE_READER_LINE)
            return result;
    }
}

enum status line_reader_wait(struct line_reader *reader, const char **line, size_t *bytes, struct error *err)
{
    switch (line_reader_next(reader, -1, line, bytes, err)) {
    case LINE_READER_LINE:
        return STATUS_OK;
    case LINE_READER_FAILED:
        return STATUS_IO;
    default:
        return STATUS_NOT_FOUND;
    }
}
