// SPDX-License-Identifier: Apache-2.0
// The tokens of a vocabulary in the order of their bytes, with the length that each shares with the one
// before: so that a machine over bytes can try them all and walk what they share once. Immutable; made once
// per tokenizer. Special tokens, and those without bytes, are not in it.
#ifndef ENGINE_CONSTRAIN_VOCAB_ORDER_H
#define ENGINE_CONSTRAIN_VOCAB_ORDER_H

#include "base/error.h"
#include "engine/text/tokenizer.h"

struct vocab_entry {
    int32_t token;
    uint32_t shared;     /* leading bytes that it shares with the entry before */
    uint32_t rest_at;    /* in rest: its other bytes */
    uint32_t rest_bytes; /* 0: the same bytes as the entry before */
};

struct vocab_order {
    const struct tokenizer *tokenizer; /* borrowed */
    int32_t vocab;                     /* of the model */
    size_t count;
    struct vocab_entry *entries; /* [count] by bytes */
    unsigned char *rest;
    size_t most_bytes; /* of a token */
};

/* Statuses: NO_MEMORY. `vocab`: ids from there on are not in it. */
MUST_CHECK enum status vocab_order_open(struct vocab_order **out, const struct tokenizer *tokenizer,
                                        int32_t vocab, struct error *err);
void vocab_order_close(struct vocab_order *order);

#endif
