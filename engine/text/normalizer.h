// SPDX-License-Identifier: Apache-2.0
// The "normalizer" of tokenizer.json: a chain of rewriting steps applied to text between special tokens.
// Immutable after open; any thread. An unknown type is refused by name.
#ifndef ENGINE_TEXT_NORMALIZER_H
#define ENGINE_TEXT_NORMALIZER_H

#include "base/json.h"
#include "engine/text/text_scratch.h"

#define NORMALIZER_MAX_STEPS 64

struct normalizer;

/* `node` NULL or JSON null: nothing to do. Statuses: INVALID, UNSUPPORTED, NO_MEMORY. */
MUST_CHECK enum status normalizer_open(struct normalizer **out, const struct json *node, struct error *err);
void normalizer_close(struct normalizer *normalizer);
/* Rewrites *span; its new text lies in scratch->normal until the next call. */
MUST_CHECK enum status normalizer_apply(const struct normalizer *normalizer, struct text_scratch *scratch,
                                        struct text_span *span, struct error *err);

#endif
