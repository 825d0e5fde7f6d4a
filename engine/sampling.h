// SPDX-License-Identifier: Apache-2.0
// How tokens are chosen: the fields of a job body that shape a token, with vLLM's names and ranges.
// Filled by worker/intake/job_parse.c (request over generation_config.json over library default),
// validated there, read by engine/sampler.c. Arrays are borrowed until the request finishes.
#ifndef ENGINE_SAMPLING_H
#define ENGINE_SAMPLING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct constraint;

struct token_bias {
    int32_t token;
    float bias;
};

struct token_run { /* one bad word as tokens */
    const int32_t *tokens;
    size_t count;
};

enum { SAMPLING_NO_LOGPROBS = -1, SAMPLING_MAX_LOGPROBS = 20 };

struct sampling_params {
    uint64_t seed;     /* resolved: the job's, or derived from the job's bytes */
    float temperature; /* < 1e-5: greedy */
    float top_p;       /* (0, 1] */
    int32_t top_k;     /* 0: off */
    float min_p;       /* [0, 1] */
    float presence_penalty, frequency_penalty, repetition_penalty; /* 0, 0, 1: off */
    uint32_t n;                                                    /* choices, >= 1 */
    uint32_t max_tokens; /* generated tokens per choice; 0 only with echo or scoring */
    uint32_t min_tokens;
    bool ignore_eos;
    int32_t logprobs;        /* SAMPLING_NO_LOGPROBS, or 0..SAMPLING_MAX_LOGPROBS top tokens per position */
    int32_t prompt_logprobs; /* the same, for prompt tokens */
    uint32_t prompt_logprobs_from;       /* the first prompt position that has them; 0: the second, as 1 */
    const struct token_bias *logit_bias; /* [logit_bias_count] */
    size_t logit_bias_count;
    const int32_t *allowed_tokens; /* [allowed_count]; count 0: all */
    size_t allowed_count;
    const int32_t *stop_tokens; /* [stop_token_count], besides the model's eos */
    size_t stop_token_count;
    const struct token_run *bad_words; /* [bad_word_count] */
    size_t bad_word_count;
    const int32_t *logprob_tokens; /* [logprob_token_count]: logprobs reported for these ids */
    size_t logprob_token_count;
    struct constraint *constraint; /* engine/constrain/constraint.h; NULL: none. Held by the job */
    bool use_beam_search;          /* n is the width and the number returned */
    float length_penalty;          /* score = cumulative log-probability / generated ^ length_penalty */
    bool early_stopping;           /* beams: end as soon as n are complete */
    bool whole_only;               /* beams: what max_tokens cuts inside the constraint is no result */
    const char *const *stops;      /* [stop_count] stop strings */
    size_t stop_count;
    bool include_stop;
    bool skip_special_tokens;
};

/* Greedy, 16 tokens, one choice: vLLM's library defaults but temperature 0. */
struct sampling_params sampling_defaults(void);

#endif
