// SPDX-License-Identifier: Apache-2.0
// Compiled grammars, each once: found again by the SHA-256 of what they were compiled from. Owned by the
// thread that parses jobs; what it gives out is shared with the engine.
#ifndef ENGINE_CONSTRAIN_GRAMMAR_STORE_H
#define ENGINE_CONSTRAIN_GRAMMAR_STORE_H

#include "base/json.h"
#include "engine/constrain/constraint.h"
#include "engine/text/tokenizer.h"

enum {
    GRAMMAR_STORE_MAX = 64,            /* the one that was not used longest is let go, */
    GRAMMAR_STORE_MAX_BYTES = 1 << 30, /* also where all together have more */
    GRAMMAR_MAX_CHOICES = 2048
};

enum grammar_kind {
    GRAMMAR_OF_REGEX,  /* a string */
    GRAMMAR_OF_CHOICE, /* a list of strings */
    GRAMMAR_OF_SCHEMA, /* a JSON schema, or a string that holds one */
    GRAMMAR_OF_EBNF,   /* a string */
    GRAMMAR_OF_OBJECT  /* any JSON object; the value is not looked at */
};

struct grammar_store;

/* Statuses: NO_MEMORY. The tokenizer is borrowed. */
MUST_CHECK enum status grammar_store_open(struct grammar_store **out, const struct tokenizer *tokenizer,
                                          int32_t vocab, struct error *err);
void grammar_store_close(struct grammar_store *store);
/* A reference, given back by constraint_give_back. Statuses: INVALID, UNSUPPORTED, TOO_LARGE (the text says
 * what is wrong with the grammar), NO_MEMORY. */
MUST_CHECK enum status grammar_store_find(struct grammar_store *store, enum grammar_kind kind,
                                          const struct json *value, struct constraint **out,
                                          struct error *err);
/* The same without a store: for tests and fuzzing. */
struct grammar;
MUST_CHECK enum status grammar_compile(enum grammar_kind kind, const struct json *value, struct grammar **out,
                                       struct error *err);

#endif
