// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding of one piece of text: ranked merges over the vocabulary's ids (Sennrich et al. 2016; the
// order and the fallbacks are those of Hugging Face `tokenizers`). Read-only after open except for a memo of
// one atomic byte per token, which only ever says what is true; any thread.
#ifndef ENGINE_TEXT_BPE_H
#define ENGINE_TEXT_BPE_H

#include "base/json.h"
#include "engine/text/text_scratch.h"
#include "engine/text/tokenizer.h"
#include "engine/text/vocab.h"

struct bpe;

/* `model` is the "model" object. `vocab` holds its strings; `raw` the same tokens as bytes when pieces arrive
 * as raw bytes of the byte alphabet, else NULL. Both must outlive the result.
 * Statuses: INVALID, UNSUPPORTED (dropout), NO_MEMORY. */
MUST_CHECK enum status bpe_open(struct bpe **out, const struct json *model, const struct vocab *vocab,
                                const struct vocab *raw, struct error *err);
void bpe_close(struct bpe *bpe);
/* False when a byte has no token: pieces must then come in the byte alphabet. */
bool bpe_takes_raw(const struct bpe *bpe);
/* Appends the ids of one non-empty piece. Statuses: OK, NO_MEMORY. O(n log n). */
MUST_CHECK enum status bpe_encode(const struct bpe *bpe, struct text_scratch *scratch,
                                  const struct text_span *piece, struct token_list *out);

#endif
