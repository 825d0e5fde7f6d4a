// SPDX-License-Identifier: Apache-2.0
// Is a line a job that a worker would run? With a model, the worker's own parser says; without one,
// everything is checked that does not need a vocabulary. Unknown fields are refused with the nearest known
// name.
#ifndef WORKER_CLI_SUBMIT_CHECK_H
#define WORKER_CLI_SUBMIT_CHECK_H

#include "worker/cli/setup.h"

struct submit_verdict {
    bool good;
    char custom_id[513];
    char reason[600];
    uint64_t prompt_tokens, most_tokens; /* with a model: prompt, and what may be generated */
};

/* `setup` may be NULL (no model). */
void submit_check(struct submit_verdict *out, const struct setup *setup, const char *line, size_t bytes,
                  bool allow_unknown);

#endif
