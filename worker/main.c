// SPDX-License-Identifier: Apache-2.0
// The command line: `millrace VERB …`. Verbs are listed in worker/cli/cli.h, one file each in worker/cli/.
#include <stdio.h>
#include <string.h>

#include "worker/cli/cli.h"

static const struct cli_verb verbs[] = {
#define CLI_ROW(name, summary) {#name, summary, cli_##name},
    CLI_VERBS(CLI_ROW)
#undef CLI_ROW
};

static void print_help(FILE *out)
{
    fprintf(out,
            "millrace carries prompts from a message queue to a language-model engine and tokens back.\n\n"
            "usage: millrace VERB [options]      millrace VERB --help for one verb\n\n");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        fprintf(out, "  %-9s %s\n", verbs[i].name, verbs[i].summary);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("millrace %s\n", MILLRACE_VERSION);
        return EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    return cli_usage("", "there is no verb \"%s\"; `millrace --help` lists them", argv[1]);
}
