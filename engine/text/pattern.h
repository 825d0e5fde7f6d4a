// SPDX-License-Identifier: Apache-2.0
// What splits and replaces look for: a literal string, a regular expression or a class of characters; from
// tokenizer.json {"String": …} or {"Regex": …}. Immutable after init; any thread.
#ifndef ENGINE_TEXT_PATTERN_H
#define ENGINE_TEXT_PATTERN_H

#include "base/json.h"
#include "engine/text/regex.h"

struct text_span;

struct pattern {
    char *literal; /* owned; NULL: see regex */
    size_t literal_bytes;
    struct regex *regex;           /* NULL: see is_member */
    bool (*is_member)(uint32_t c); /* NULL: see member */
    uint32_t member;
};

/* `node` is {"String": s}, {"Regex": r} or a plain string (a literal). Statuses: INVALID, UNSUPPORTED,
 * NO_MEMORY. */
MUST_CHECK enum status pattern_init(struct pattern *pattern, const struct json *node, struct error *err);
MUST_CHECK enum status pattern_init_literal(struct pattern *pattern, const char *text, size_t bytes,
                                            struct error *err);
MUST_CHECK enum status pattern_init_regex(struct pattern *pattern, const char *text, struct error *err);
void pattern_release(struct pattern *pattern);
/* Leftmost hit at or after `from` in text[0..bytes). Statuses: OK, INVALID (step limit), NO_MEMORY. */
MUST_CHECK enum status pattern_find(const struct pattern *pattern, struct regex_scratch *scratch,
                                    const struct text_span *text, size_t from, struct regex_hit *hit);

#endif
