// SPDX-License-Identifier: Apache-2.0
// The "pre_tokenizer" of tokenizer.json: stages that cut text into the pieces which the model encodes one by
// one. Immutable after open; any thread. An unknown type is refused by name.
#ifndef ENGINE_TEXT_PRETOKENIZER_H
#define ENGINE_TEXT_PRETOKENIZER_H

#include "base/json.h"
#include "engine/text/text_scratch.h"

#define PRETOKENIZER_MAX_STAGES 64

struct pretokenizer;

/* `node` NULL or JSON null: one piece. Statuses: INVALID, UNSUPPORTED, NO_MEMORY. */
MUST_CHECK enum status pretokenizer_open(struct pretokenizer **out, const struct json *node,
                                         struct error *err);
void pretokenizer_close(struct pretokenizer *pretokenizer);
/* The last stage writes bytes as the byte alphabet, so a model may ask for the raw bytes instead. */
bool pretokenizer_ends_in_bytes(const struct pretokenizer *pretokenizer);
/* Replaces scratch->pieces by what the stages make of them; raw_bytes leaves out the last stage's alphabet.
 * Statuses: INVALID (step limit), NO_MEMORY. */
MUST_CHECK enum status pretokenizer_run(const struct pretokenizer *pretokenizer, struct text_scratch *scratch,
                                        bool raw_bytes, struct error *err);

#endif
