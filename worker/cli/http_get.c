// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/http_get.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { HEAD_BYTES = 8192, PART_BYTES = 16384 };

static int open_socket(const char *address, int port, int wait_ms)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval limit = {.tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000};
    if (inet_pton(AF_INET, strcmp(address, "0.0.0.0") == 0 ? "127.0.0.1" : address, &at.sin_addr) != 1)
        return -1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) == 0)
        return fd;
    close(fd);
    return -1;
}

static void receive(int fd, struct bytes *answer)
{
    char part[PART_BYTES];
    for (ssize_t got; !answer->failed && (got = recv(fd, part, sizeof part, 0)) > 0;)
        bytes_append(answer, part, (size_t)got);
}

int http_get(const char *address, int port, const char *path, int wait_ms, struct bytes *body)
{
    static const char blank[] = "\r\n\r\n";
    char request[256];
    struct bytes answer;
    int code = 0, fd = open_socket(address, port, wait_ms);
    if (fd < 0)
        return 0;
    bytes_init(&answer, HEAD_BYTES + (body ? body->max_bytes : HEAD_BYTES));
    int bytes = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\nHost: millrace\r\n\r\n", path);
    if (send(fd, request, (size_t)bytes, MSG_NOSIGNAL) == bytes)
        receive(fd, &answer);
    close(fd);
    const char *end = answer.count_bytes > 12 ? memmem(answer.data, answer.count_bytes, blank, 4) : NULL;
    if (end)
        code = (int)strtol(answer.data + 9, NULL, 10); /* behind "HTTP/1.x " */
    if (end && body)
        bytes_append(body, end + 4, answer.count_bytes - (size_t)(end + 4 - answer.data));
    bytes_release(&answer);
    return code;
}
