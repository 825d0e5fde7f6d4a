// SPDX-License-Identifier: Apache-2.0
// Beam search of one request: which of all continuations of the live beams go on, and which are done. Pure
// bookkeeping: the engine offers each live beam's scores, beam_group_choose() picks, the engine forks
// sequences accordingly. Same choices and scores as Hugging Face transformers' beam search
// (generation/utils.py, _beam_search): candidates are the best max(2, 1 + ends) * width continuations; one
// that ends counts only among the first `width`; score = cumulative log-probability / generated ^
// length_penalty, the end counted. Ties go to the better beam, then to the lower token id. Everything is
// allocated at open. Owner: the engine thread.
#ifndef ENGINE_BEAM_H
#define ENGINE_BEAM_H

#include "engine/sequence.h"

struct scheduler;

struct beam_candidate {
    double sum;      /* cumulative log-probability, this token included */
    float logprob;   /* of this token */
    uint32_t parent; /* index among the live beams */
    int32_t token;
    uint32_t constraint_state; /* behind the token */
};

struct beam_result { /* a hypothesis, ended or cut */
    double score;
    bool whole;      /* ended where it may end; cut ones only fill up */
    int32_t end;     /* the token that ended it, or -1: cut by max_tokens */
    uint32_t count;  /* generated tokens, the end included */
    int32_t *tokens; /* [count] */
    float *logprobs; /* [count] */
};

enum beam_state { BEAM_RUNNING, BEAM_DONE, BEAM_CANCELLED, BEAM_FAILED };

struct beam_group {
    uint64_t request_id;
    const struct sampling_params *sampling; /* borrowed from the request */
    const int32_t *eos;
    int32_t eos_count;
    uint32_t width, max_new;   /* max_new: generated tokens at most */
    struct sequence **members; /* [width] owned; [0, live) run, best first; before the fork only [0] */
    double *sums;              /* [width] of the live ones */
    uint32_t live, generated;
    bool forked; /* the prompt is computed and the beams have parted */
    enum beam_state state;
    int32_t prompt_blocks;       /* full blocks of the prompt: shared by all */
    int32_t most_blocks;         /* that all beams together can hold */
    int32_t blocks_held;         /* different blocks that they hold */
    struct beam_candidate *heap; /* [heap_capacity] worst first */
    uint32_t heap_count, heap_capacity;
    struct beam_candidate *next; /* [width] who goes on, best first; after choose */
    struct sequence **placed;    /* [width] scratch of advance */
    uint32_t next_count;
    struct beam_result *results; /* [width] best first */
    uint32_t result_count;
    uint32_t cached_tokens, prompt_tokens;
    uint32_t report_choice, report_token; /* how far the results have been reported */
    bool stepped;                         /* has offered scores in this step */
    struct beam_group *following;         /* list of the engine */
};

struct beam_options {
    const struct engine_request *request;
    uint32_t max_tokens; /* prompt and generated */
    int32_t block_tokens;
    bool keyed;
    const uint8_t *fingerprint;
    const int32_t *eos; /* [eos_count] borrowed */
    int32_t eos_count;
};

/* Blocks that the beams of a request can come to hold together. */
int64_t beam_most_blocks(const struct engine_request *request, uint32_t max_tokens, int32_t block_tokens);

MUST_CHECK enum status beam_group_open(struct beam_group **out, const struct beam_options *options,
                                       struct error *err);
void beam_group_close(struct beam_group *group); /* and its members */

/* The scores of live beam `parent`: logits with what is not allowed at -INFINITY, and the logarithm of the
 * sum of their unmodified exponentials. */
void beam_group_offer(struct beam_group *group, uint32_t parent, const float *scores, int32_t vocab,
                      double norm);
/* After all live beams offered: fills next[], results[], and state when the search is over. */
void beam_group_choose(struct beam_group *group);
/* Gives next[] the members: the first child goes on in its parent's sequence, the others in copies that share
 * its full blocks; who has no child ends. */
void beam_group_advance(struct beam_group *group, struct scheduler *scheduler);
/* Ends its running beams and frees their blocks; results stay. */
void beam_group_stop(struct beam_group *group, struct scheduler *scheduler);
/* The next events of a group that is over: every choice's tokens and its end, in order. At most `most`; fewer
 * when that was all. */
size_t beam_group_report(struct beam_group *group, struct engine_event *events, size_t most);

#endif
