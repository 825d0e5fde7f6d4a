// SPDX-License-Identifier: Apache-2.0
// Any bytes as a form of output, the first of which says its kind: r a regular expression, s a JSON schema, e
// a grammar, c choices. Refused with a sentence, or a machine that can be walked: whatever a state allows
// leads on, what it wrote is UTF-8, and JSON for a schema, and a state that is said to be alike allows the
// same.
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "engine/constrain/grammar_store.h"
#include "engine/constrain/matcher.h"

enum { MOST_STEPS = 400 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_utf8(const char *text, size_t bytes)
{
    for (size_t at = 0, length; at < bytes; at += length)
        if ((length = json_utf8_length(text + at, bytes - at)) == 0)
            return false;
    return true;
}

static void check_text(enum grammar_kind kind, const char *text, size_t bytes)
{
    struct json_document *document;
    struct error err = {0};
    CHECK(is_utf8(text, bytes));
    if (kind != GRAMMAR_OF_SCHEMA)
        return;
    const struct json_limits limits = {.max_depth = 512};
    enum status status = json_parse(&document, text, bytes, &limits, &err);
    if (status == STATUS_OK)
        json_close(document);
    CHECK(status == STATUS_OK || strstr(err.text, "too deep") || strstr(err.text, "out of range") ||
          strstr(err.text, "60 characters"));
}

/* The byte that the state allows and that lies first from `wish` on, or -1. */
static int choose(struct matcher *matcher, uint32_t state, unsigned wish)
{
    for (unsigned i = 0; i < 256; i++)
        if (matcher_step(matcher, state, (unsigned char)(wish + i)) != MATCHER_DEAD)
            return (int)((wish + i) & 255);
    return -1;
}

static bool allow_the_same(struct matcher *matcher, uint32_t a, uint32_t b)
{
    for (unsigned byte = 0; byte < 256; byte++)
        if ((matcher_step(matcher, a, (unsigned char)byte) == MATCHER_DEAD) !=
            (matcher_step(matcher, b, (unsigned char)byte) == MATCHER_DEAD))
            return matcher_is_over(matcher);
    return true;
}

static void walk(struct matcher *matcher, enum grammar_kind kind, uint32_t seed)
{
    char text[MOST_STEPS];
    uint32_t state = MATCHER_START, alike = state, shift = seed * 41 % GRAMMAR_ALIKE_BYTES;
    for (size_t bytes = 0; bytes < MOST_STEPS && !matcher_is_over(matcher); bytes++) {
        if (matcher_accepts(matcher, state))
            check_text(kind, text, bytes);
        if (bytes % GRAMMAR_ALIKE_BYTES == shift) /* so many bytes long it allows the same */
            alike = matcher_alike(matcher, state);
        CHECK(allow_the_same(matcher, state, alike));
        seed = seed * 1664525 + 1013904223;
        int byte = choose(matcher, state, seed >> 24);
        CHECK(byte >= 0 || matcher_accepts(matcher, state) || matcher_is_over(matcher) ||
              matcher_was_cut(matcher)); /* nothing leads nowhere */
        if (byte < 0)
            return;
        text[bytes] = (char)byte;
        state = matcher_step(matcher, state, (unsigned char)byte);
        alike = matcher_step(matcher, alike, (unsigned char)byte);
    }
}

static void run(enum grammar_kind kind, const struct json *value)
{
    struct grammar *grammar;
    struct matcher *matcher;
    struct error err = {0};
    enum status status = grammar_compile(kind, value, &grammar, &err);
    if (status != STATUS_OK) {
        CHECK(err.text[0]);
        CHECK(status_class_of(status) == STATUS_CLASS_REJECT || status == STATUS_NO_MEMORY);
        return;
    }
    if (matcher_open(&matcher, grammar, &err) != STATUS_OK)
        return;
    for (uint32_t seed = 0; seed < 3; seed++)
        walk(matcher, kind, seed);
    matcher_close(matcher);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[1 << 16];
    struct json_document *document;
    if (size == 0 || size > sizeof text - 1)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (data[0] == 'r' || data[0] == 'e') {
        if (!is_utf8(text, size - 1) || memchr(text, '\0', size - 1))
            return 0; /* JSON strings are UTF-8 */
        const struct json value = {.type = JSON_STRING, .count = size - 1, .as.string = text};
        run(data[0] == 'r' ? GRAMMAR_OF_REGEX : GRAMMAR_OF_EBNF, &value);
    } else if (data[0] == 's' || data[0] == 'c') {
        if (json_parse(&document, text, size - 1, NULL, NULL) != STATUS_OK)
            return 0;
        run(data[0] == 's' ? GRAMMAR_OF_SCHEMA : GRAMMAR_OF_CHOICE, json_root(document));
        json_close(document);
    }
    return 0;
}
