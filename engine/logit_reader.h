// SPDX-License-Identifier: Apache-2.0
// What the rows of logits of a step say, read by the kernel team: rows do not depend on each other, and over
// 150,000 tokens drawing one takes a third of a millisecond, a log-probability more. Which member reads a row
// changes nothing. Owner: the engine thread. Works in memory allocated at open.
#ifndef ENGINE_LOGIT_READER_H
#define ENGINE_LOGIT_READER_H

#include "base/error.h"
#include "engine/kernels/thread_team.h"
#include "engine/sampler.h"

struct logit_reader;

struct logit_row {
    struct sampler_row row;
    int32_t token; /* a known one; LOGIT_ROW_PICK: picked */
    int32_t top;   /* most likely tokens to name; SAMPLING_NO_LOGPROBS: no log-probabilities at all */
};
enum { LOGIT_ROW_PICK = -1 };

struct logit_reading {
    int32_t token; /* as sampler_pick() says it, or the known one */
    struct engine_logprob of_token;
    const struct engine_logprob *top; /* [top_count], as sampler_logprobs() writes them */
    size_t top_count;
};

/* `team` is borrowed, and must be idle when a row is read. max_logprobs: of one row, wanted tokens included.
 * Statuses: NO_MEMORY. */
MUST_CHECK enum status logit_reader_open(struct logit_reader **out, struct thread_team *team, int32_t vocab,
                                         int32_t max_rows, size_t max_logprobs, struct error *err);
void logit_reader_close(struct logit_reader *reader);

/* Row `index` shall be read by the next run. None whose token a constraint has a say in: it has one thread.
 */
void logit_reader_note(struct logit_reader *reader, int32_t index, const struct logit_row *row);
void logit_reader_run(struct logit_reader *reader);
/* Row `index` alone, here and now. */
void logit_reader_read(struct logit_reader *reader, int32_t index, const struct logit_row *row);
/* What the last run or read found in the row; until it is read again. */
const struct logit_reading *logit_reader_reading(const struct logit_reader *reader, int32_t index);
/* The sampler of the engine thread. */
struct sampler *logit_reader_sampler(struct logit_reader *reader);

#endif
