// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, as described by a Hugging Face tokenizer.json. Immutable after open: any
// thread may encode and read. A type that is not implemented is refused by name at open, never guessed.
#ifndef ENGINE_TEXT_TOKENIZER_H
#define ENGINE_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

struct tokenizer;

struct token_list { /* owner frees with token_list_release */
    int32_t *ids;
    size_t count;
    size_t capacity;
};

void token_list_release(struct token_list *list);
MUST_CHECK enum status token_list_push(struct token_list *list, int32_t id); /* OK, NO_MEMORY */

/* Reads model_dir/tokenizer.json (and tokenizer_config.json when there is one).
 * Statuses: NOT_FOUND, INVALID, UNSUPPORTED (names the type), NO_MEMORY. */
MUST_CHECK enum status tokenizer_open(struct tokenizer **out, const char *model_dir, struct error *err);
/* Same from memory (tests, fuzzing); `config` may be NULL. */
MUST_CHECK enum status tokenizer_open_text(struct tokenizer **out, const char *json, size_t json_bytes,
                                           const char *config, size_t config_bytes, struct error *err);
void tokenizer_close(struct tokenizer *tokenizer);

struct encode_options {
    bool add_special_tokens;   /* run the post-processor (BOS and the like) */
    bool plain_special_tokens; /* treat special-token look-alikes in the text as ordinary text */
};

/* Appends to `out`. `text` must be valid UTF-8. Statuses: INVALID (UTF-8, step limit), NO_MEMORY. */
MUST_CHECK enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                                        const struct encode_options *options, struct token_list *out,
                                        struct error *err);

/* Whole-sequence decode, equal to Hugging Face `tokenizers` decode(). */
MUST_CHECK enum status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                                        bool skip_special_tokens, struct bytes *out, struct error *err);

int32_t tokenizer_vocab_size(const struct tokenizer *tokenizer); /* largest id + 1, added tokens included */
int32_t tokenizer_token_id(const struct tokenizer *tokenizer, const char *token); /* -1: none */
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);
bool tokenizer_is_valid(const struct tokenizer *tokenizer, int32_t id); /* a token has this id */
/* Raw bytes that the token stands for when generated mid-text (byte-level mapped back, "<0x0A>" as that
 * byte, U+2581 as space); special tokens give their text. Owned by the tokenizer. Empty for unknown ids. */
const char *tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id, size_t *bytes);
/* bos/eos from tokenizer_config.json, -1 when absent. */
int32_t tokenizer_bos(const struct tokenizer *tokenizer);
int32_t tokenizer_eos(const struct tokenizer *tokenizer);

#endif
