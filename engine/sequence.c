// SPDX-License-Identifier: Apache-2.0
#include "engine/sequence.h"

#include <stdlib.h>
#include <string.h>

#include "engine/constrain/constraint.h"

enum { MOST_TOKEN_TEXT = 65536 };

static enum status open_detokenizer(struct sequence *sequence, const struct sequence_options *options,
                                    struct error *err)
{
    const struct sampling_params *s = sequence->sampling;
    if (s->stop_count == 0)
        return STATUS_OK;
    CHECK(options->tokenizer != NULL);
    struct detokenizer_options detokenizer = {.stops = s->stops,
                                              .stop_count = s->stop_count,
                                              .include_stop = s->include_stop,
                                              .skip_special_tokens = s->skip_special_tokens,
                                              .min_tokens = s->min_tokens};
    return detokenizer_open(&sequence->detokenizer, options->tokenizer, &detokenizer, err);
}

static bool allocate(struct sequence *sequence, bool keyed)
{
    sequence->tokens = malloc(sequence->max_tokens * sizeof *sequence->tokens);
    sequence->table = malloc((size_t)sequence->max_blocks * sizeof *sequence->table);
    if (keyed)
        sequence->keys = malloc((size_t)sequence->max_blocks * sizeof *sequence->keys);
    if (sequence->group)
        sequence->logprobs = malloc((sequence->max_tokens - sequence->prompt_tokens) * sizeof(float));
    return sequence->tokens && sequence->table && (sequence->keys || !keyed) &&
           (sequence->logprobs || !sequence->group);
}

/* What was said before, as if it had been sampled here; what would have ended it cannot have been. */
static enum status resume(struct sequence *sequence, const struct engine_request *request, struct error *err)
{
    struct constraint *constraint = sequence->sampling->constraint;
    struct bytes text;
    int stop_string = -1;
    bytes_init(&text, MOST_TOKEN_TEXT); /* not used */
    for (size_t i = 0; i < request->resumed_tokens && stop_string < 0; i++) {
        int32_t token = request->prompt[request->prompt_tokens + i];
        sequence->tokens[sequence->token_count++] = token;
        bytes_reset(&text);
        enum status status = sequence->detokenizer
                                 ? detokenizer_push(sequence->detokenizer, token, &text, &stop_string)
                                 : STATUS_OK;
        CHECK(status == STATUS_OK || status == STATUS_TOO_LARGE);
        if (constraint && sequence->constraint_state != CONSTRAINT_DEAD)
            sequence->constraint_state = constraint->ops->next(constraint, sequence->constraint_state, token);
    }
    bytes_release(&text);
    if (stop_string >= 0 || (constraint && sequence->constraint_state == CONSTRAINT_DEAD))
        return error_set(err, STATUS_INVALID,
                         "the tokens that this request is resumed with would have ended it");
    return STATUS_OK;
}

enum status sequence_open(struct sequence **out, const struct sequence_options *options, struct error *err)
{
    const struct engine_request *request = options->request;
    *out = NULL;
    CHECK(options->max_tokens >= request->prompt_tokens && request->prompt_tokens > 0);
    struct sequence *sequence = calloc(1, sizeof *sequence);
    if (!sequence)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a sequence");
    uint32_t block_tokens = (uint32_t)options->block_tokens;
    sequence->request_id = request->id;
    sequence->choice = options->choice;
    sequence->sampling = request->sampling;
    sequence->priority = request->priority;
    sequence->deadline = request->deadline > 0 ? request->deadline : INT64_MAX;
    sequence->group = options->group;
    sequence->wants_prompt_logprobs =
        options->choice == 0 && request->sampling->prompt_logprobs != SAMPLING_NO_LOGPROBS;
    sequence->next_prompt_logprob =
        request->sampling->prompt_logprobs_from > 1 ? request->sampling->prompt_logprobs_from : 1;
    sequence->prompt_tokens = (uint32_t)request->prompt_tokens;
    sequence->max_tokens = options->max_tokens;
    sequence->max_blocks = (int32_t)((options->max_tokens + block_tokens - 1) / block_tokens);
    enum status status =
        allocate(sequence, options->keyed)
            ? open_detokenizer(sequence, options, err)
            : error_set(err, STATUS_NO_MEMORY, "no memory for a sequence of %u tokens", options->max_tokens);
    if (status != STATUS_OK) {
        sequence_close(sequence);
        return status;
    }
    memcpy(sequence->tokens, request->prompt, request->prompt_tokens * sizeof(int32_t));
    sequence->token_count = sequence->prompt_tokens;
    status = resume(sequence, request, err);
    if (status != STATUS_OK) {
        sequence_close(sequence);
        return status;
    }
    sequence->root = block_key_root(options->fingerprint, request->salt, request->salt_bytes);
    sequence_extend_keys(sequence, sequence->token_count, options->block_tokens);
    *out = sequence;
    return STATUS_OK;
}

void sequence_close(struct sequence *sequence)
{
    if (!sequence)
        return;
    detokenizer_close(sequence->detokenizer);
    free(sequence->logprobs);
    free(sequence->keys);
    free(sequence->table);
    free(sequence->tokens);
    free(sequence);
}

void sequence_extend_keys(struct sequence *sequence, uint32_t tokens, int32_t block_tokens)
{
    if (!sequence->keys)
        return;
    for (; ((uint32_t)sequence->key_count + 1) * (uint32_t)block_tokens <= tokens; sequence->key_count++) {
        int32_t i = sequence->key_count;
        const struct block_key *parent = i ? &sequence->keys[i - 1] : &sequence->root;
        sequence->keys[i] = block_key_next(parent, sequence->tokens + i * block_tokens, (size_t)block_tokens);
    }
}
