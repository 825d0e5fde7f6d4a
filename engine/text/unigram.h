// SPDX-License-Identifier: Apache-2.0
// Unigram language model segmentation (Kudo 2018): the most probable cut of a piece into vocabulary strings,
// by Viterbi over byte positions. Read-only after open; any thread.
#ifndef ENGINE_TEXT_UNIGRAM_H
#define ENGINE_TEXT_UNIGRAM_H

#include "base/json.h"
#include "engine/text/text_scratch.h"
#include "engine/text/tokenizer.h"
#include "engine/text/vocab.h"

struct unigram;

/* `model` is the "model" object with "vocab": [[text, log probability], …]; its strings are in `vocab`, which
 * must outlive the result. Statuses: INVALID, NO_MEMORY. */
MUST_CHECK enum status unigram_open(struct unigram **out, const struct json *model, const struct vocab *vocab,
                                    struct error *err);
void unigram_close(struct unigram *unigram);
/* Appends the ids of one non-empty piece. Statuses: INVALID (a character that nothing covers), NO_MEMORY. */
MUST_CHECK enum status unigram_encode(const struct unigram *unigram, struct text_scratch *scratch,
                                      const struct text_span *piece, struct token_list *out);

#endif
