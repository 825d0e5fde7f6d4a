// SPDX-License-Identifier: Apache-2.0
// Code points for the text room: UTF-8 in and out, the character classes that tokenizer files speak of, the
// four normal forms, and GPT-2's byte alphabet. The only user of utf8proc. No state; any thread.
#ifndef ENGINE_TEXT_UNICODE_H
#define ENGINE_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

#define UNICODE_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */
#define UNICODE_MAX_BYTES 4                /* of one code point in UTF-8 */

enum unicode_form { UNICODE_NFC, UNICODE_NFD, UNICODE_NFKC, UNICODE_NFKD };

/* Length of the longest prefix of text[0..bytes) that is valid UTF-8. */
size_t unicode_valid_prefix(const char *text, size_t bytes);
/* Reads one code point of valid UTF-8 (bytes > 0) and returns its length. */
size_t unicode_decode(const char *text, size_t bytes, uint32_t *code_point);
size_t unicode_encode(uint32_t code_point, char out[UNICODE_MAX_BYTES]);
/* Start of the last code point in text[0..bytes), bytes > 0. */
size_t unicode_last(const char *text, size_t bytes);
/* What text[0..bytes) is from its start: length of one maximal subpart of an ill-formed sequence (Unicode
 * 3.9, "best practice"), with *incomplete set when more bytes could still make it well-formed. */
size_t unicode_ill_formed(const char *text, size_t bytes, bool *incomplete);

bool unicode_is_space(uint32_t c);       /* White_Space */
bool unicode_is_word(uint32_t c);        /* \w of UTS 18: Alphabetic, M, Nd, Pc, Join_Control */
bool unicode_is_punctuation(uint32_t c); /* ASCII punctuation or P* */
bool unicode_is_numeric(uint32_t c);     /* Nd, Nl, No */
bool unicode_is_mark(uint32_t c);        /* Mn, Mc, Me */
bool unicode_is_other(uint32_t c);       /* Cc, Cf, Cn, Co */

/* Appends; `text` is valid UTF-8. Statuses: OK, NO_MEMORY, TOO_LARGE, INVALID (a run of combining marks
 * over UNICODE_MAX_MARKS, whose ordering would cost quadratic time). */
#define UNICODE_MAX_MARKS 2048
MUST_CHECK enum status unicode_normalize(enum unicode_form form, const char *text, size_t bytes,
                                         struct bytes *out);
/* Cheap and sure: true means that the text is in the form already. */
bool unicode_is_normal(enum unicode_form form, const char *text, size_t bytes);
/* Appends the lower-case form, code point by code point (no final sigma rule). */
MUST_CHECK enum status unicode_lower(const char *text, size_t bytes, struct bytes *out);
MUST_CHECK enum status unicode_upper(const char *text, size_t bytes, struct bytes *out);

/* Length of the extended grapheme cluster at the start of valid UTF-8 (bytes > 0). */
size_t unicode_grapheme(const char *text, size_t bytes);

/* GPT-2's alphabet: each byte has a printable code point. */
uint32_t unicode_from_byte(uint8_t byte);
int unicode_to_byte(uint32_t code_point); /* -1: not in the alphabet */

#endif
