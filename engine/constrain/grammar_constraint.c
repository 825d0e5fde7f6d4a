// SPDX-License-Identifier: Apache-2.0
#include "engine/constrain/grammar_constraint.h"

#include <stdlib.h>
#include <string.h>

#include "engine/constrain/matcher.h"

struct mask {
    uint64_t *words; /* [words]; NULL: never used */
    uint32_t state;
    bool made;
};

struct machine {
    struct constraint constraint;
    struct matcher *matcher;
    const struct vocab_order *order;
    size_t words;
    _Atomic size_t mask_bytes;
    struct mask masks[GRAMMAR_MASKS_KEPT]; /* by state % GRAMMAR_MASKS_KEPT: a later one takes the place */
    uint32_t *path;                        /* [order->most_bytes + 1] states along the bytes of a token */
};

static struct machine *machine_of(struct constraint *constraint)
{
    return (struct machine *)constraint;
}

/* Walks the vocabulary in the order of its bytes: path[n] is the state behind the first n bytes. Where the
 * way ends, every token that shares those bytes is passed over. */
static void fill_mask(struct machine *machine, uint32_t state, uint64_t *words)
{
    const struct vocab_order *order = machine->order;
    size_t known = 0; /* path[0 .. known] is right for the present token's leading bytes */
    machine->path[0] = state;
    memset(words, 0, machine->words * sizeof *words);
    for (const struct vocab_entry *entry = order->entries, *end = entry + order->count; entry < end;
         entry++) {
        if (entry->shared > known)
            continue; /* it shares the bytes at which the one before went wrong */
        known = entry->shared;
        known += matcher_walk(machine->matcher, machine->path + known, order->rest + entry->rest_at,
                              entry->rest_bytes);
        if (known == entry->shared + entry->rest_bytes)
            words[entry->token / 64] |= UINT64_C(1) << entry->token % 64;
    }
}

/* NULL: no memory. */
static struct mask *mask_place(struct machine *machine, uint32_t state)
{
    struct mask *mask = &machine->masks[state % GRAMMAR_MASKS_KEPT];
    if (!mask->words) {
        mask->words = malloc(machine->words * sizeof *mask->words);
        machine->mask_bytes += machine->words * sizeof *mask->words;
    }
    return mask->words ? mask : NULL;
}

static const uint64_t *machine_mask(struct constraint *constraint, uint32_t state)
{
    struct machine *machine = machine_of(constraint);
    if (machine->order->most_bytes <= GRAMMAR_ALIKE_BYTES)
        state = matcher_alike(machine->matcher, state);
    struct mask *mask = mask_place(machine, state);
    if (!mask || matcher_is_over(machine->matcher))
        return NULL;
    if (!mask->made || mask->state != state)
        fill_mask(machine, state, mask->words);
    mask->state = state;
    mask->made = !matcher_is_over(machine->matcher);
    return mask->made ? mask->words : NULL;
}

/* Where a bound is passed on the way, the text goes nowhere: mask says so. */
static uint32_t machine_next(struct constraint *constraint, uint32_t state, int32_t token)
{
    struct machine *machine = machine_of(constraint);
    size_t bytes;
    const char *text = tokenizer_token_bytes(machine->order->tokenizer, token, &bytes);
    if (bytes == 0 || tokenizer_is_special(machine->order->tokenizer, token))
        return CONSTRAINT_DEAD;
    for (size_t i = 0; i < bytes && state != MATCHER_DEAD; i++)
        state = matcher_step(machine->matcher, state, (unsigned char)text[i]);
    return state == MATCHER_DEAD && matcher_is_over(machine->matcher) ? CONSTRAINT_START : state;
}

static bool machine_accepts(struct constraint *constraint, uint32_t state)
{
    const struct matcher *matcher = machine_of(constraint)->matcher;
    return matcher_accepts(matcher, state) && !matcher_is_over(matcher);
}

static void machine_close(struct constraint *constraint)
{
    struct machine *machine = machine_of(constraint);
    for (int i = 0; i < GRAMMAR_MASKS_KEPT; i++)
        free(machine->masks[i].words);
    matcher_close(machine->matcher);
    free(machine->path);
    free(machine);
}

static const struct constraint_ops machine_ops = {
    .mask = machine_mask, .next = machine_next, .accepts = machine_accepts, .close = machine_close};

enum status grammar_constraint_open(struct constraint **out, struct grammar *grammar,
                                    const struct vocab_order *order, int32_t vocab, struct error *err)
{
    *out = NULL;
    struct machine *machine = calloc(1, sizeof *machine);
    if (!machine) {
        grammar_close(grammar);
        return error_set(err, STATUS_NO_MEMORY, "no memory for a constraint");
    }
    machine->constraint.ops = &machine_ops;
    machine->constraint.references = 1;
    machine->order = order;
    machine->words = ((size_t)vocab + 63) / 64;
    machine->path = malloc((order->most_bytes + 1) * sizeof *machine->path);
    enum status status = matcher_open(&machine->matcher, grammar, err);
    if (status == STATUS_OK && !machine->path)
        status = error_set(err, STATUS_NO_MEMORY, "no memory for a constraint");
    if (status == STATUS_OK)
        *out = &machine->constraint;
    else
        machine_close(&machine->constraint);
    return status;
}

bool grammar_constraint_is_worn(const struct constraint *constraint)
{
    return matcher_is_worn(((const struct machine *)constraint)->matcher);
}

size_t grammar_constraint_bytes(const struct constraint *constraint)
{
    const struct machine *machine = (const struct machine *)constraint;
    return matcher_bytes(machine->matcher) + machine->mask_bytes;
}
