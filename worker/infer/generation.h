// SPDX-License-Identifier: Apache-2.0
// One job's answer while it grows: engine events become text, logprobs, streamed chunks and finally the
// result line. Owned by the emit thread. Everything here is a pure function of the job and its events, so
// a redelivered job gives the same bytes.
#ifndef WORKER_INFER_GENERATION_H
#define WORKER_INFER_GENERATION_H

#include "base/bytes.h"
#include "engine/model/hparams.h"
#include "engine/text/tokenizer.h"
#include "worker/infer/engine_loop.h"
#include "worker/intake/job.h"
#include "worker/infer/result.h"

struct generation;

struct generation_context { /* shared, immutable */
    const struct tokenizer *tokenizer;
    const char *system_fingerprint; /* text */
    size_t max_result_bytes;
    const struct hparams *hparams; /* for its end-of-sequence tokens */
};

MUST_CHECK enum status generation_open(struct generation **out, const struct generation_context *context,
                                       struct job *job /* taken */, struct error *err);
void generation_close(struct generation *generation); /* and its job */
const struct job *generation_job(const struct generation *generation);

/* Applies one report item. When `chunks` is not NULL, appends each streamed chunk as u32le length + JSON
 * text (chat.completion.chunk or text_completion); call with NULL to skip formatting (nobody subscribes): a
 * chunk carries all text that no chunk has carried, so formatting may begin late and misses nothing. */
MUST_CHECK enum status generation_apply(struct generation *generation, const struct engine_report_item *item,
                                        struct bytes *chunks, struct error *err);
struct generation_progress { /* of a job that runs */
    uint64_t prompt_tokens, tokens, most_tokens;
    int64_t age_ns;   /* since it was accepted */
    const char *text; /* of the first choice so far, not terminated; NULL: none yet */
    size_t text_bytes;
};
void generation_progress_read(const struct generation *generation, struct generation_progress *out);
bool generation_done(const struct generation *generation); /* every choice of every prompt has FINISHED */

/* The result of a finished job: the answer; `result_too_large` when it is over the limit; batch_cancelled or
 * batch_expired; a 500 line when the engine failed. */
MUST_CHECK enum status generation_result(struct generation *generation, struct result *out,
                                         struct error *err);

/* The answer of a job whose deadline passed while it ran: `error` is batch_expired and `response` holds what
 * was generated so far; finish_reason abort where a choice had not ended. No digest: where it stopped is
 * chance. */
MUST_CHECK enum status generation_partial_result(struct generation *generation, struct result *out,
                                                 struct error *err);

#endif
