// SPDX-License-Identifier: Apache-2.0
// `millrace health`: asks a worker's /readyz (or /livez) over HTTP, for container health checks without a
// shell.
#include <stdio.h>
#include <string.h>

#include "config/config.h"
#include "worker/cli/cli.h"
#include "worker/cli/http_get.h"
#include "worker/cli/options.h"

enum { WAIT_MS = 5000 };

static const char help[] = "millrace health - is the worker on this machine ready?\n\n"
                           "usage: millrace health [-c FILE] [--http.port=9464] [--live]\n\n"
                           "exit codes: 0 ready (alive with --live), 1 not, 69 nobody answers\n";

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
    int code = http_get(config->http.bind, (int)config->http.port, path, WAIT_MS, NULL);
    printf("%s %s\n", path, code == 200 ? "ok" : code ? "not now" : "nobody answers");
    config_close(config);
    return code == 200 ? EXIT_DONE : code ? EXIT_SOME_FAILED : EXIT_PEER;
}
