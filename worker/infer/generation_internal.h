// SPDX-License-Identifier: Apache-2.0
// What the files generation*.c share. Private to them. Fragments are JSON text without the outer brackets,
// written token by token, so that the result line is a concatenation.
#ifndef WORKER_INFER_GENERATION_INTERNAL_H
#define WORKER_INFER_GENERATION_INTERNAL_H

#include "engine/text/detokenizer.h"
#include "worker/infer/generation.h"

enum { LOGPROB_LISTS = 4 };

/* Log-probabilities of consecutive tokens. Chat: lists[0] = entries of `content`. Completions: tokens,
 * token_logprobs, top_logprobs, text_offset. */
struct logprob_text {
    struct bytes lists[LOGPROB_LISTS];
    size_t text_offset; /* code points of the tokens so far (completions) */
};

struct choice {
    struct detokenizer *detokenizer; /* from the first token to the last */
    struct bytes text;
    struct bytes token_ids; /* fragment; only with return_token_ids */
    struct logprob_text logprobs;
    uint32_t generated;
    enum engine_finish finish;
    int32_t stop_token, stop_string;
    bool begun, finished, role_streamed;
    bool absent;                             /* a search found fewer */
    size_t streamed_bytes;                   /* of text */
    size_t streamed_logprobs[LOGPROB_LISTS]; /* bytes of each list */
    uint32_t catalog_state;                  /* of the job's catalogue, after its tokens */
    double cumulative_logprob;               /* of its tokens; only of ranked choices */
};

struct prompt_answer {
    struct logprob_text echoed;   /* log-probabilities of the prompt's tokens (completions with echo) */
    struct bytes prompt_logprobs; /* fragment */
    uint32_t cached_tokens, tier_tokens;
    struct bytes labels; /* scoring with labels: the fragment with their probabilities */
    double logprob_sum;  /* scoring without: of the item's tokens */
    uint32_t logprob_count;
    struct choice *choices; /* [n] */
};

struct generation {
    const struct generation_context *context;
    struct job *job;
    struct prompt_answer *prompts; /* [job->prompt_count] */
    size_t open_choices;
    size_t held_bytes;    /* of all text and fragments */
    bool streaming;       /* chunks are formatted, to the end */
    bool nothing_found;   /* of one of the prompts' searches */
    bool too_large;       /* held_bytes passed max_result_bytes: everything was let go */
    struct error failure; /* why the engine did not finish it; OK otherwise */
    int64_t accepted_ns, first_token_ns, finished_ns; /* monotonic; 0: not yet */
};

/* Choices have scores: they come from a search, or name items of a catalogue. */
static inline bool generation_is_ranked(const struct generation *generation)
{
    return generation->job->catalog || generation->job->sampling.use_beam_search;
}

/* Token ids are part of each choice. */
static inline bool generation_wants_ids(const struct generation *generation)
{
    return generation->job->return_token_ids || generation_is_ranked(generation);
}

/* generation_logprobs.c */
void logprob_text_init(struct logprob_text *text, size_t max_bytes);
void logprob_text_release(struct logprob_text *text);
size_t logprob_text_bytes(const struct logprob_text *text);
/* Adds one token; `top` of the event's list are alternatives, the rest were asked for by id. event->top NULL:
 * a token without log-probability (the first of a prompt). */
void logprob_text_add(struct logprob_text *text, const struct generation *generation,
                      const struct engine_event *event, int32_t top);
/* Code points of a prompt's tokens: where the offsets of what follows it begin. */
size_t logprob_text_points(const struct generation *generation, const struct job_prompt *prompt);
void prompt_logprobs_add(struct bytes *out, const struct generation *generation,
                         const struct engine_event *event);
/* {"content":[…]} or {"tokens":[…],…} from lists[i] + from[i] on; `before` (may be NULL) comes first. */
void logprob_text_print(struct bytes *out, const struct job *job, const struct logprob_text *before,
                        const struct logprob_text *text, const size_t from[LOGPROB_LISTS]);

/* generation_chunk.c: what is not streamed yet of a choice; after it has finished also its end; after the
 * last choice also the usage. */
enum status generation_stream(struct generation *generation, uint32_t prompt, uint32_t choice,
                              struct bytes *chunks);

/* generation_score.c: scoring jobs (docs/formats/score.md). */
void generation_score_token(struct generation *generation, uint32_t prompt, const struct engine_event *event);
void generation_print_scores(struct bytes *out, const struct generation *generation); /* the list */

/* generation_result.c */
void generation_print_id(struct bytes *out, const struct job *job); /* "chatcmpl-…" with quotes */
void generation_print_usage(struct bytes *out, const struct generation *generation, bool details);
const char *generation_finish_name(const struct choice *choice);
void generation_print_stop_reason(struct bytes *out, const struct generation *generation,
                                  const struct choice *choice);

#endif
