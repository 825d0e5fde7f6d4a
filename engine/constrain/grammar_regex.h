// SPDX-License-Identifier: Apache-2.0
// Regular expressions as grammars: what Python's re and ECMA-262 have in common. Refused by name:
// look-around, back references, word boundaries, flags, \p, anchors in the middle.
#ifndef ENGINE_CONSTRAIN_GRAMMAR_REGEX_H
#define ENGINE_CONSTRAIN_GRAMMAR_REGEX_H

#include "engine/constrain/grammar.h"

enum { REGEX_MAX_BYTES = 65536, REGEX_MAX_DEPTH = 200, REGEX_MAX_REPEAT = 10000 };

/* `json`: its characters are those of a JSON string's content, and it may match anywhere in it unless
 * anchored (JSON Schema's pattern); else it matches the whole text. Statuses: INVALID (says what and where),
 * UNSUPPORTED, NO_MEMORY. */
MUST_CHECK enum status grammar_regex(struct grammar_builder *builder, const char *pattern, size_t bytes,
                                     bool json, struct grammar_node **out, struct error *err);
/* Any character but those that end a line, as in a JSON string or plain. */
struct grammar_node *grammar_any_in_line(struct grammar_builder *builder, bool json);

#endif
