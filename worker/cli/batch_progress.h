// SPDX-License-Identifier: Apache-2.0
// What a person sees of a long `batch` on stderr: one moving line on a terminal, else a line now and then; a
// summary at the end.
#ifndef WORKER_CLI_BATCH_PROGRESS_H
#define WORKER_CLI_BATCH_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct batch_counts {
    uint64_t completed, failed, resumed, duplicates;
    uint64_t prompt_tokens, generated_tokens, cached_tokens;
    uint64_t read_bytes, file_bytes; /* of the input; file_bytes 0: unknown */
};

struct batch_progress {
    bool terminal, escapes, quiet;
    int64_t begin_ns, shown_ns;
    uint64_t first_bytes; /* read when the first new job was taken: resumed ones cost nothing */
    bool has_first;
};

void batch_progress_init(struct batch_progress *progress, bool quiet);
/* Call often; shows at most five times a second on a terminal, else every ten seconds. */
void batch_progress_show(struct batch_progress *progress, const struct batch_counts *counts);
/* Removes the moving line, for a message or the end. */
void batch_progress_clear(struct batch_progress *progress);
void batch_progress_summary(const struct batch_progress *progress, const struct batch_counts *counts,
                            FILE *out, bool json);

#endif
