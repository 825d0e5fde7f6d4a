// SPDX-License-Identifier: Apache-2.0
// Regular expressions of tokenizer files: written for Oniguruma (Ruby syntax), run by pcre2 with UTF, UCP and
// JIT. The pattern is translated construct by construct, so that \s, \w, \p{Script} and nested classes mean
// what they mean there; what has no equal is refused by name. The only user of pcre2. A regex is immutable;
// each thread brings its own regex_scratch.
#ifndef ENGINE_TEXT_REGEX_H
#define ENGINE_TEXT_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/error.h"

#define REGEX_MAX_PATTERN_BYTES 65536
#define REGEX_MAX_STEPS 20000000 /* backtracking steps of one search; over it, the text is refused */

struct regex;
struct regex_scratch;

/* Statuses: UNSUPPORTED (names the construct), INVALID (pcre2's own words), NO_MEMORY. */
MUST_CHECK enum status regex_open(struct regex **out, const char *pattern, size_t bytes, struct error *err);
void regex_close(struct regex *regex);

MUST_CHECK enum status regex_scratch_open(struct regex_scratch **out, struct error *err);
void regex_scratch_close(struct regex_scratch *scratch);

struct regex_hit {
    bool found;
    size_t begin, end;
};

/* Leftmost match in valid UTF-8 text at or after `from`. Statuses: INVALID (step limit), NO_MEMORY. */
MUST_CHECK enum status regex_find(const struct regex *regex, struct regex_scratch *scratch, const char *text,
                                  size_t bytes, size_t from, struct regex_hit *hit);

/* Private to regex.c: Oniguruma syntax to pcre2 syntax, appended to `out`. */
MUST_CHECK enum status regex_translate(const char *pattern, size_t bytes, struct bytes *out,
                                       struct error *err);

#endif
