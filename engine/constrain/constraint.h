// SPDX-License-Identifier: Apache-2.0
// What a sequence may say next: a compiled grammar (JSON schema, regex, choice, EBNF) or a catalogue of token
// strings, as a machine over token ids. A state is one number, so that a beam forks it by copying it. A
// constraint is compiled on the intake thread, shared by every job that asks for the same one, and read by
// the engine thread, or while the model computes by the thread of mask_ahead.h: for given bytes and
// tokenizer, states and masks are a function of the tokens said so far, never of what other jobs did.
//
// Stops: `stop` tokens (the model's eos and the job's stop token ids) are allowed exactly where the output is
// complete; a state whose only continuation is to stop allows nothing else.
#ifndef ENGINE_CONSTRAIN_CONSTRAINT_H
#define ENGINE_CONSTRAIN_CONSTRAINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct constraint;

enum { CONSTRAINT_START = 0 };
#define CONSTRAINT_DEAD UINT32_MAX

/* One kind of constraint. All take the constraint first; `state` is one that the constraint gave out. */
struct constraint_ops {
    /* The tokens that may follow, one bit each: bit (t % 64) of word t / 64. [ (vocab + 63) / 64 ] words,
     * valid until the next call on this constraint. Stop tokens are not in it: see accepts. NULL: a bound was
     * passed (states, memory): the sequence ends as ENGINE_FINISH_ERROR. */
    const uint64_t *(*mask)(struct constraint *constraint, uint32_t state);
    /* The few tokens that may follow, ascending, for machines that know them (a trie); NULL op: use mask. */
    size_t (*tokens)(struct constraint *constraint, uint32_t state, const int32_t **tokens);
    /* CONSTRAINT_DEAD when the token is not allowed there. Where a bound was passed: a state without a mask.
     */
    uint32_t (*next)(struct constraint *constraint, uint32_t state, int32_t token);
    bool (*accepts)(struct constraint *constraint, uint32_t state); /* may it end here? */
    void (*close)(struct constraint *constraint);
};

/* The head of every kind's own struct. References are counted: a job holds one until its last choice ended.
 */
struct constraint {
    const struct constraint_ops *ops;
    _Atomic uint32_t references;
};

static inline void constraint_take(struct constraint *constraint)
{
    constraint->references++;
}
static inline void constraint_give_back(struct constraint *constraint)
{
    if (constraint && --constraint->references == 0)
        constraint->ops->close(constraint);
}

#endif
