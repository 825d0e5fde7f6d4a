// SPDX-License-Identifier: Apache-2.0
// Grammars as text, in the notation of GBNF: `name ::= elements | elements`, with "literals", [classes],
// groups, references, * + ? {m,n}, # comments. The rule `root` is the whole text.
#ifndef ENGINE_CONSTRAIN_GRAMMAR_EBNF_H
#define ENGINE_CONSTRAIN_GRAMMAR_EBNF_H

#include "engine/constrain/grammar.h"

enum { EBNF_MAX_BYTES = 1 << 18, EBNF_MAX_NAMES = 4096, EBNF_MAX_DEPTH = 200 };

/* Statuses: INVALID (says what, and in which line), UNSUPPORTED, TOO_LARGE, NO_MEMORY. */
MUST_CHECK enum status grammar_ebnf(struct grammar_builder *builder, const char *text, size_t bytes,
                                    struct grammar_node **out, struct error *err);

#endif
