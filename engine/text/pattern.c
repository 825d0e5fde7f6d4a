// SPDX-License-Identifier: Apache-2.0
#include "engine/text/pattern.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text/text_scratch.h"
#include "engine/text/unicode.h"

enum status pattern_init_literal(struct pattern *pattern, const char *text, size_t bytes, struct error *err)
{
    *pattern = (struct pattern){.literal = malloc(bytes + 1), .literal_bytes = bytes};
    if (!pattern->literal)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a pattern");
    memcpy(pattern->literal, text, bytes);
    pattern->literal[bytes] = '\0';
    return STATUS_OK;
}

enum status pattern_init_regex(struct pattern *pattern, const char *text, struct error *err)
{
    *pattern = (struct pattern){0};
    return regex_open(&pattern->regex, text, strlen(text), err);
}

enum status pattern_init(struct pattern *pattern, const struct json *node, struct error *err)
{
    *pattern = (struct pattern){0};
    if (node && node->type == JSON_STRING)
        return pattern_init_literal(pattern, node->as.string, node->count, err);
    const struct json *literal = json_member(node, "String");
    const struct json *regex = json_member(node, "Regex");
    if (literal && literal->type == JSON_STRING)
        return pattern_init_literal(pattern, literal->as.string, literal->count, err);
    if (regex && regex->type == JSON_STRING)
        return regex_open(&pattern->regex, regex->as.string, regex->count, err);
    return error_set(err, STATUS_INVALID, "a pattern must be {\"String\": …} or {\"Regex\": …}");
}

void pattern_release(struct pattern *pattern)
{
    free(pattern->literal);
    regex_close(pattern->regex);
    *pattern = (struct pattern){0};
}

static void find_member(const struct pattern *pattern, const struct text_span *text, size_t from,
                        struct regex_hit *hit)
{
    for (size_t at = from; at < text->bytes;) {
        uint32_t c;
        const size_t length = unicode_decode(text->text + at, text->bytes - at, &c);
        if (pattern->is_member ? pattern->is_member(c) : c == pattern->member) {
            *hit = (struct regex_hit){.found = true, .begin = at, .end = at + length};
            return;
        }
        at += length;
    }
}

enum status pattern_find(const struct pattern *pattern, struct regex_scratch *scratch,
                         const struct text_span *text, size_t from, struct regex_hit *hit)
{
    if (pattern->regex)
        return regex_find(pattern->regex, scratch, text->text, text->bytes, from, hit);
    *hit = (struct regex_hit){0};
    if (!pattern->literal) {
        find_member(pattern, text, from, hit);
    } else if (pattern->literal_bytes) { /* the empty string is found nowhere */
        const char *at =
            memmem(text->text + from, text->bytes - from, pattern->literal, pattern->literal_bytes);
        if (at)
            *hit = (struct regex_hit){.found = true,
                                      .begin = (size_t)(at - text->text),
                                      .end = (size_t)(at - text->text) + pattern->literal_bytes};
    }
    return STATUS_OK;
}
