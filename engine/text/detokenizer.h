// SPDX-License-Identifier: Apache-2.0
// Incremental detokenizer and stop-string matcher of one sequence. Fed one token at a time, it releases
// text that can no longer change: never half a UTF-8 sequence, never a possible beginning of a stop string.
// The concatenation of everything released equals tokenizer_decode() of all tokens, cut at the stop string.
// Used by the engine thread (only to find stop strings) and by the emit thread (for text); one owner each.
#ifndef ENGINE_TEXT_DETOKENIZER_H
#define ENGINE_TEXT_DETOKENIZER_H

#include "engine/text/tokenizer.h"

struct detokenizer;

struct detokenizer_options {
    const char *const *stops; /* [stop_count], non-empty UTF-8; copied */
    size_t stop_count;
    bool include_stop; /* keep the stop string in the text */
    bool skip_special_tokens;
    size_t min_tokens; /* stop strings ending within the first min_tokens tokens are ignored */
};

MUST_CHECK enum status detokenizer_open(struct detokenizer **out, const struct tokenizer *tokenizer,
                                        const struct detokenizer_options *options, struct error *err);
void detokenizer_close(struct detokenizer *detokenizer);
/* The prompt's last tokens, for leading-space rules (may be omitted). */
void detokenizer_prime(struct detokenizer *detokenizer, const int32_t *ids, size_t count);

/* Adds one token; appends the released text to `out` (may be nothing). *stop_index = -1, or the index of
 * the stop string that was completed: the sequence ends here. No allocation after open besides `out`. */
MUST_CHECK enum status detokenizer_push(struct detokenizer *detokenizer, int32_t id, struct bytes *out,
                                        int *stop_index);
/* The sequence ended for another reason: releases what was withheld; an incomplete UTF-8 sequence
 * becomes U+FFFD. */
MUST_CHECK enum status detokenizer_finish(struct detokenizer *detokenizer, struct bytes *out);

#endif
