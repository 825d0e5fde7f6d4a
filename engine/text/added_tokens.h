// SPDX-License-Identifier: Apache-2.0
// The "added_tokens" of tokenizer.json: strings that are one token wherever they stand, found before (or,
// when `normalized`, after) the normalizer. Leftmost-longest. Immutable after open; any thread.
#ifndef ENGINE_TEXT_ADDED_TOKENS_H
#define ENGINE_TEXT_ADDED_TOKENS_H

#include "base/json.h"
#include "engine/text/normalizer.h"
#include "engine/text/trie.h"
#include "engine/text/vocab.h"

struct added_token {
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
};

struct added_tokens {
    struct vocab contents;      /* by id */
    struct added_token *tokens; /* [count] */
    size_t count;
    struct trie plain, normalized; /* value: index into tokens */
};

void added_tokens_release(struct added_tokens *added); /* a zeroed one is empty and valid */
/* A token that the model's vocabulary has keeps the model's id. Statuses: INVALID, NO_MEMORY. */
MUST_CHECK enum status added_tokens_init(struct added_tokens *added, const struct json *list,
                                         const struct vocab *model, const struct normalizer *normalizer,
                                         struct error *err);
const struct added_token *added_tokens_find(const struct added_tokens *added, int32_t id); /* NULL: none */

/* Walks text from *at: the next token in `trie`, or NULL at the end. The text before it is
 * [*at, *begin); afterwards *at is where the token ends. Special tokens are passed over when `skip_special`.
 */
struct added_cursor {
    const struct text_span *span;
    size_t at;    /* everything before is done */
    size_t begin; /* of the token found */
    size_t from;  /* where the search goes on */
    bool skip_special;
};
const struct added_token *added_tokens_next(const struct added_tokens *added, const struct trie *trie,
                                            struct added_cursor *cursor);

#endif
