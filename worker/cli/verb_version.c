// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>

#include "worker/cli/cli.h"

int cli_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("millrace %s\n", MILLRACE_VERSION);
    return EXIT_DONE;
}
