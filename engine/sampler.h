// SPDX-License-Identifier: Apache-2.0
// Logits to a token. Order of operations as in vLLM: log-probabilities come from the unmodified logits; then
// allowed tokens, logit bias, min_tokens, bad words, repetition, frequency and presence penalties; then
// temperature, min_p, top_k, top_p; then one uniform number of philox picks from the cumulative distribution
// in order of token id. Every sum runs in a fixed order, so equal logits give equal tokens.
// Owner: the engine thread. Works in memory allocated at open.
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include "base/error.h"
#include "engine/engine.h"
#include "engine/sampling.h"

struct sampler;

struct sampler_row {
    const float *logits; /* [vocab], not modified */
    const struct sampling_params *sampling;
    const int32_t *tokens; /* [token_count] prompt and generated so far */
    uint32_t token_count, prompt_tokens;
    const int32_t *eos; /* [eos_count] the model's */
    int32_t eos_count;
    uint32_t choice;
    uint32_t constraint_state; /* of sampling->constraint */
};

MUST_CHECK enum status sampler_open(struct sampler **out, int32_t vocab, struct error *err);
void sampler_close(struct sampler *sampler);
enum {
    SAMPLER_NOTHING = -1, /* the constraint passed a bound */
    SAMPLER_DEAD_END = -2 /* the constraint and the other rules together allow no token */
};
int32_t sampler_pick(struct sampler *sampler, const struct sampler_row *row);
/* For a search: the logits with everything that is not allowed at -INFINITY, and the logarithm of the sum of
 * the unmodified ones' exponentials. Valid until the next call. NULL: the constraint passed a bound. */
const float *sampler_scores(struct sampler *sampler, const struct sampler_row *row, double *norm);

/* Log-probabilities of one row: that of `token` with its rank, the `top` most likely, then those of `wanted`.
 * out has room for top + wanted_count. Returns how many were written. */
size_t sampler_logprobs(struct sampler *sampler, const float *logits, int32_t token, size_t top,
                        const struct sampling_params *sampling, struct engine_logprob *of_token,
                        struct engine_logprob *out);

#endif
