// SPDX-License-Identifier: Apache-2.0
// A range of code points as sequences of byte ranges in UTF-8 (RFC 3629).
#ifndef ENGINE_CONSTRAIN_GRAMMAR_UTF8_H
#define ENGINE_CONSTRAIN_GRAMMAR_UTF8_H

#include "engine/constrain/grammar.h"

enum { UTF8_MOST_SEQUENCES = 32 };

struct utf8_sequence {
    size_t bytes;
    uint8_t first[4], last[4];
};

/* The part of the range above ASCII; surrogates are left out. Returns how many. */
size_t utf8_sequences(struct codepoint_range range, struct utf8_sequence out[UTF8_MOST_SEQUENCES]);

#endif
