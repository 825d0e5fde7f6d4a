// SPDX-License-Identifier: Apache-2.0
// From the results topic to a JSONL file: filters by batch, drops duplicates (same custom_id, same id),
// splits errors off, and knows what is still expected. Shared by `results` and `submit --wait`.
#ifndef WORKER_CLI_RESULT_FOLLOW_H
#define WORKER_CLI_RESULT_FOLLOW_H

#include <stdio.h>

#include "worker/cli/id_map.h"
#include "worker/topic_reader.h"

struct result_follow {
    FILE *out, *errors;     /* errors NULL: all lines go to out */
    const char *batch_id;   /* NULL: every batch */
    struct id_map expected; /* value: 1 once answered; empty: everything is welcome */
    struct id_map seen;
    uint64_t written, failed, duplicates, answered_expected;
    uint64_t prompt_tokens, completion_tokens;
};

void result_follow_init(struct result_follow *follow);
void result_follow_release(struct result_follow *follow);
/* Statuses: IO, NO_MEMORY. A record of another batch is passed over. */
MUST_CHECK enum status result_follow_take(struct result_follow *follow, const struct job_record *record,
                                          struct error *err);
static inline bool result_follow_complete(const struct result_follow *follow)
{
    return follow->expected.count > 0 && follow->answered_expected == follow->expected.count;
}
/* The custom_id member of a line, or false when the line is no such JSON. */
bool result_follow_custom_id(const char *line, size_t bytes, char *out, size_t capacity, size_t *out_bytes);

#endif
