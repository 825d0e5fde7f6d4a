// SPDX-License-Identifier: Apache-2.0
// The configuration flags that every verb shares: -c FILE, -m MODEL_DIR, --section.key=value (or a space
// between),
// --print-config. A verb reads its own options first and leaves the rest to this.
#ifndef WORKER_CLI_OPTIONS_H
#define WORKER_CLI_OPTIONS_H

#include "config/config.h"

enum { OPTIONS_MAX_FLAGS = 64, OPTIONS_FLAG_BYTES = 1024 };

struct options {
    const char *config_path;
    char storage[OPTIONS_MAX_FLAGS][OPTIONS_FLAG_BYTES];
    const char *flags[OPTIONS_MAX_FLAGS];
    size_t flag_count;
    bool print_config;
};

/* Takes argv[*at] (and its value) when it is a configuration flag. Statuses: OK (taken, *at is on its last
 * word), NOT_FOUND (not one of these), USAGE. */
MUST_CHECK enum status options_take(struct options *options, int argc, char **argv, int *at,
                                    struct error *err);
/* Adds section.key=value behind what the command line gave. */
MUST_CHECK enum status options_set(struct options *options, const char *key, const char *value,
                                   struct error *err);
MUST_CHECK enum status options_config(const struct options *options, const struct config **out,
                                      struct error *err);

#endif
