// SPDX-License-Identifier: Apache-2.0
#include "kvtier/resp.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/monotime.h"

#define MAX_BULK_BYTES ((int64_t)512 << 20) /* Redis' own limit on a value */

void resp_init(struct resp *resp, int fd)
{
    resp->fd = fd;
    resp->deadline_ns = INT64_MAX;
    resp->begin = resp->end = 0;
}

/* Waits until the socket is ready for `events`: to the deadline, and never long for a peer that moves
 * nothing. */
static enum status wait_ready(const struct resp *resp, short events)
{
    int64_t silent_ns = monotime_ns() + (int64_t)RESP_SILENT_MS * 1000000;
    int64_t end_ns = silent_ns < resp->deadline_ns ? silent_ns : resp->deadline_ns;
    for (;;) {
        int64_t left_ns = end_ns - monotime_ns();
        if (left_ns <= 0)
            return STATUS_TIMEOUT;
        int64_t left_ms = left_ns / 1000000 + 1;
        struct pollfd poller = {.fd = resp->fd, .events = events};
        int ready = poll(&poller, 1, (int)left_ms);
        if (ready > 0)
            return STATUS_OK;
        if (ready < 0 && errno != EINTR)
            return STATUS_UNAVAILABLE;
    }
}

enum status resp_send(struct resp *resp, struct iovec *parts, int count)
{
    while (count > 0) {
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        ssize_t sent = sendmsg(resp->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN && errno != EINTR)
                return STATUS_UNAVAILABLE;
            enum status status = wait_ready(resp, POLLOUT);
            if (status != STATUS_OK)
                return status;
            continue;
        }
        size_t left = (size_t)sent;
        while (count > 0 && left >= parts->iov_len) {
            left -= parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + left;
            parts->iov_len -= left;
        }
    }
    return STATUS_OK;
}

/* At least one byte into out[0..most). */
static enum status receive(struct resp *resp, void *out, size_t most, size_t *got)
{
    for (;;) {
        ssize_t count = recv(resp->fd, out, most, MSG_DONTWAIT);
        if (count > 0) {
            *got = (size_t)count;
            return STATUS_OK;
        }
        if (count == 0 || (errno != EAGAIN && errno != EINTR))
            return STATUS_UNAVAILABLE;
        enum status status = wait_ready(resp, POLLIN);
        if (status != STATUS_OK)
            return status;
    }
}

static enum status fill(struct resp *resp)
{
    size_t got = 0;
    resp->begin = 0;
    enum status status = receive(resp, resp->buffer, sizeof resp->buffer, &got);
    resp->end = got;
    return status;
}

/* One line without its CRLF. */
static enum status read_line(struct resp *resp, char *line, size_t capacity)
{
    size_t count = 0;
    for (;;) {
        if (resp->begin == resp->end) {
            enum status status = fill(resp);
            if (status != STATUS_OK)
                return status;
        }
        char c = resp->buffer[resp->begin++];
        if (c == '\n') {
            if (count == 0 || line[count - 1] != '\r')
                return STATUS_CORRUPT;
            line[count - 1] = '\0';
            return STATUS_OK;
        }
        if (count + 1 >= capacity)
            return STATUS_CORRUPT;
        line[count++] = c;
    }
}

static bool parse_integer(const char *text, int64_t *out)
{
    bool negative = *text == '-';
    int64_t value = 0;
    text += negative;
    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(value, (int64_t)10, &value) ||
            __builtin_add_overflow(value, (int64_t)(*text - '0'), &value))
            return false;
    }
    *out = negative ? -value : value;
    return true;
}

enum status resp_read_reply(struct resp *resp, struct resp_reply *reply)
{
    char line[RESP_LINE_BYTES + 1];
    enum status status = read_line(resp, line, sizeof line);
    if (status != STATUS_OK)
        return status;
    memcpy(reply->line, line + (line[0] != '\0'), sizeof reply->line);
    reply->line[sizeof reply->line - 1] = '\0';
    switch (line[0]) {
    case '+':
        reply->type = RESP_SIMPLE;
        return STATUS_OK;
    case '-':
        reply->type = RESP_ERROR;
        return STATUS_OK;
    case ':':
        reply->type = RESP_INTEGER;
        return parse_integer(line + 1, &reply->number) ? STATUS_OK : STATUS_CORRUPT;
    case '$':
        reply->type = RESP_BULK;
        if (!parse_integer(line + 1, &reply->number) || reply->number < -1 || reply->number > MAX_BULK_BYTES)
            return STATUS_CORRUPT;
        if (reply->number == -1)
            reply->type = RESP_NIL;
        return STATUS_OK;
    default:
        return STATUS_CORRUPT;
    }
}

enum status resp_read_some(struct resp *resp, void *out, size_t most, size_t *got)
{
    if (resp->begin == resp->end) {
        /* Small rests go through the buffer, so that the next reply's line comes along in the same call. */
        if (most >= sizeof resp->buffer / 2)
            return receive(resp, out, most, got);
        enum status status = fill(resp);
        if (status != STATUS_OK)
            return status;
    }
    size_t ready = resp->end - resp->begin;
    *got = ready < most ? ready : most;
    memcpy(out, resp->buffer + resp->begin, *got);
    resp->begin += *got;
    return STATUS_OK;
}

enum status resp_read_bytes(struct resp *resp, void *out, size_t bytes)
{
    for (char *at = out, *end = at + bytes; at < end;) {
        size_t got = 0;
        enum status status = resp_read_some(resp, at, (size_t)(end - at), &got);
        if (status != STATUS_OK)
            return status;
        at += got;
    }
    return STATUS_OK;
}

enum status resp_skip_bytes(struct resp *resp, size_t bytes)
{
    while (bytes > 0) {
        if (resp->begin == resp->end) {
            enum status status = fill(resp);
            if (status != STATUS_OK)
                return status;
        }
        size_t ready = resp->end - resp->begin;
        size_t take = ready < bytes ? ready : bytes;
        resp->begin += take;
        bytes -= take;
    }
    return STATUS_OK;
}

enum status resp_read_crlf(struct resp *resp)
{
    char end[2];
    enum status status = resp_read_bytes(resp, end, sizeof end);
    if (status != STATUS_OK)
        return status;
    return end[0] == '\r' && end[1] == '\n' ? STATUS_OK : STATUS_CORRUPT;
}
