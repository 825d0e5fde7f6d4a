// SPDX-License-Identifier: Apache-2.0
// `millrace health`: asks a worker's /readyz (or /livez) over HTTP, for container health checks without a
// shell.
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "config/config.h"
#include "worker/cli/cli.h"
#include "worker/cli/options.h"

enum { WAIT_S = 5, ANSWER_BYTES = 512 };

static const char help[] = "millrace health - is the worker on this machine ready?\n\n"
                           "usage: millrace health [-c FILE] [--http.port=9464] [--live]\n\n"
                           "exit codes: 0 ready (alive with --live), 1 not, 69 nobody answers\n";

/* The status code of GET path, 0 when nobody answers. */
static int ask(const char *address, int port, const char *path)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval limit = {.tv_sec = WAIT_S};
    char answer[ANSWER_BYTES] = "", request[128];
    int code = 0;
    if (strcmp(address, "0.0.0.0") == 0)
        address = "127.0.0.1";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    int bytes = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\nHost: millrace\r\n\r\n", path);
    if (inet_pton(AF_INET, address, &at.sin_addr) == 1 &&
        connect(fd, (struct sockaddr *)&at, sizeof at) == 0 &&
        send(fd, request, (size_t)bytes, MSG_NOSIGNAL) == bytes &&
        recv(fd, answer, sizeof answer - 1, MSG_WAITALL) > 12)
        code = (int)strtol(answer + 9, NULL, 10); /* behind "HTTP/1.x " */
    close(fd);
    return code;
}

int cli_health(int argc, char **argv)
{
    static struct options options;
    const struct config *config;
    struct error err = {0};
    const char *path = "/readyz";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return EXIT_DONE;
        }
        if (strcmp(argv[i], "--live") == 0)
            path = "/livez";
        else if (options_take(&options, argc, argv, &i, &err) != STATUS_OK)
            return cli_usage("health", "option \"%s\" is unknown or lacks its value",
                             argv[i < argc ? i : argc - 1]);
    }
    if (options_config(&options, &config, &err) != STATUS_OK)
        return cli_fail(&err);
    int code = ask(config->http.bind, (int)config->http.port, path);
    printf("%s %s\n", path, code == 200 ? "ok" : code ? "not now" : "nobody answers");
    config_close(config);
    return code == 200 ? EXIT_DONE : code ? EXIT_SOME_FAILED : EXIT_PEER;
}
