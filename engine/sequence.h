// SPDX-License-Identifier: Apache-2.0
// One choice of one request: its tokens, its block table, how much of it is computed. Allocated at submit
// with room for everything it can become, so that a step allocates nothing. Owner: the engine thread.
//   WAITING -> RUNNING -> FINISHED, and back to WAITING when preempted (its blocks go, its tokens stay).
#ifndef ENGINE_SEQUENCE_H
#define ENGINE_SEQUENCE_H

#include "engine/engine.h"
#include "engine/kv/block_pool.h"
#include "engine/speculate/prompt_lookup.h"
#include "engine/text/detokenizer.h"

struct beam_group;

struct sequence {
    uint64_t request_id;
    uint32_t choice;
    const struct sampling_params *sampling; /* borrowed from the request */
    int64_t priority, deadline, arrival;    /* place in the queue, in this order; lower first */
    uint32_t overtaken;                     /* times that a later arrival was put before it */
    bool running, cancelled;
    bool wants_prompt_logprobs;
    int32_t *tokens; /* [max_tokens] prompt, then generated */
    uint32_t token_count, prompt_tokens, max_tokens;
    uint32_t computed;  /* leading tokens whose keys and values are in blocks */
    uint32_t scheduled; /* rows of the current step */
    uint32_t drafted;   /* of these the last, for guesses: tokens[token_count..], engine/speculate/ */
    struct prompt_lookup lookup;
    uint32_t generated_at_start; /* token_count when it last began to run */
    uint32_t cached_tokens;      /* prompt tokens found in the prefix cache when it first ran */
    bool ran_before;
    uint32_t next_prompt_logprob; /* prompt position to report next */
    int32_t *table;               /* [max_blocks] physical blocks */
    int32_t block_count, max_blocks;
    struct kv_window *window; /* its blocks in order (engine/kv/kv_windows.h), while it runs; NULL: none */
    struct block_key *keys;   /* [max_blocks] of full blocks; empty without a prefix cache */
    struct block_key root;
    int32_t key_count;               /* keys computed */
    int32_t stored;                  /* leading blocks already offered to the prefix cache */
    uint32_t constraint_state;       /* of sampling->constraint, after the generated tokens */
    struct detokenizer *detokenizer; /* only with stop strings */
    struct beam_group *group;        /* its beam search (engine/beam.h), which owns it; NULL: none */
    float *logprobs;             /* [max_tokens - prompt_tokens] of the generated tokens; only in a group */
    struct sequence *next_ended; /* finished in this step; events may point to its tokens */
};

struct sequence_options {
    const struct engine_request *request;
    uint32_t choice;
    uint32_t max_tokens; /* prompt and generated */
    int32_t block_tokens;
    bool keyed; /* compute block keys */
    const uint8_t *fingerprint;
    const struct tokenizer *tokenizer;
    struct beam_group *group; /* NULL: none */
};

MUST_CHECK enum status sequence_open(struct sequence **out, const struct sequence_options *options,
                                     struct error *err);
void sequence_close(struct sequence *sequence);
/* Extends the key chain over the full blocks of the first `tokens` tokens. Allocates nothing. */
void sequence_extend_keys(struct sequence *sequence, uint32_t tokens, int32_t block_tokens);
static inline uint32_t sequence_generated(const struct sequence *sequence)
{
    return sequence->token_count - sequence->prompt_tokens;
}

#endif
