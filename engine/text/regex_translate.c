// SPDX-License-Identifier: Apache-2.0
// Oniguruma's Ruby syntax to pcre2's, one construct at a time (source: Oniguruma doc/RE, pcre2pattern(3)).
// What differs: \s (pcre2 adds U+180E), \w (Oniguruma adds marks and connectors), \h (a hex digit), \v,
// \uHHHH, script properties (pcre2 would use extensions), classes inside classes, {,n}, the m flag. What
// pcre2 cannot say the same way is UNSUPPORTED, never approximated.
#include <stdlib.h>
#include <string.h>

#include "engine/text/regex.h"

#define SPACES \
    "\\t-\\r\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACES                                                                                  \
    "\\x00-\\x08\\x0e-\\x1f!-\\x84\\x86-\\x9f\\xa1-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}" \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
/* Oniguruma counts the superscripts and fractions of Latin-1 as word characters, and no others. */
#define WORDS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\xb2\\xb3\\xb9\\xbc-\\xbe"
#define HEX_DIGITS "0-9A-Fa-f"
#define MAX_CLASS_DEPTH 8
#define MAX_PROPERTY_BYTES 40

struct translation {
    const char *at, *end;
    struct bytes *out;
    struct error *err;
};

static enum status refuse(struct translation *t, const char *what, size_t bytes)
{
    return error_set(t->err, STATUS_UNSUPPORTED, "regular expression: \"%.*s\" is not supported",
                     (int)(bytes < 40 ? bytes : 40), what);
}

/* A set of characters, as part of a class or as a class of its own. */
static enum status put_set(struct translation *t, const char *set, bool negated, bool in_class)
{
    if (in_class && negated)
        return error_set(t->err, STATUS_UNSUPPORTED,
                         "regular expression: a negated shorthand inside a class is not supported");
    return in_class ? bytes_append_text(t->out, set)
                    : bytes_appendf(t->out, "[%s%s]", negated ? "^" : "", set);
}

static const char *long_category(const char *name)
{
    static const char *const names[][2] = {
        {"Letter", "L"},         {"Number", "N"},        {"Punctuation", "P"},  {"Symbol", "S"},
        {"Mark", "M"},           {"Separator", "Z"},     {"Punct", "P"},        {"Digit", "Nd"},
        {"Alpha", "Alphabetic"}, {"Upper", "Uppercase"}, {"Lower", "Lowercase"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i][0], name) == 0)
            return names[i][1];
    return NULL;
}

static bool is_plain_property(const char *name)
{
    static const char *const names[] = {
        "Alphabetic", "Uppercase", "Lowercase",          "White_Space", "Ideographic",          "Emoji",
        "ASCII",      "Any",       "Emoji_Presentation", "Dash",        "Extended_Pictographic"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return strlen(name) <= 2;
}

/* \p{Name}, \p{^Name}, \P{Name}; a name that is neither a category nor a known property is a script. */
static enum status put_property(struct translation *t, char letter)
{
    char name[MAX_PROPERTY_BYTES];
    const char *close = t->at < t->end && *t->at == '{' ? memchr(t->at, '}', (size_t)(t->end - t->at)) : NULL;
    if (!close || close - t->at > MAX_PROPERTY_BYTES - 1)
        return refuse(t, "\\p without a short {Name}", 24);
    const char *begin = t->at + 1;
    bool negated = letter == 'P';
    if (*begin == '^') {
        negated = !negated;
        begin++;
    }
    memcpy(name, begin, (size_t)(close - begin));
    name[close - begin] = '\0';
    t->at = close + 1;
    if (strcmp(name, "Space") == 0)
        return bytes_append_text(t->out, negated ? "\\P{White_Space}" : "\\p{White_Space}");
    const char *mapped = long_category(name);
    const bool plain = mapped || is_plain_property(name);
    return bytes_appendf(t->out, "\\%c{%s%s}", negated ? 'P' : 'p',
                         plain ? "" : "sc:", mapped ? mapped : name);
}

static enum status put_unicode_escape(struct translation *t)
{
    char digits[5] = {0};
    for (int i = 0; i < 4; i++) {
        if (t->at >= t->end || !strchr("0123456789abcdefABCDEF", *t->at) || !*t->at)
            return refuse(t, "\\u without four hex digits", 26);
        digits[i] = *t->at++;
    }
    return bytes_appendf(t->out, "\\x{%s}", digits);
}

/* What follows a backslash; t->at is at the letter. */
static enum status put_escape(struct translation *t, bool in_class)
{
    if (t->at >= t->end)
        return refuse(t, "\\ at the end", 12);
    const char c = *t->at++;
    switch (c) {
    case 's':
        return put_set(t, SPACES, false, in_class);
    case 'S':
        return in_class ? bytes_append_text(t->out, NOT_SPACES) : put_set(t, SPACES, true, false);
    case 'w':
    case 'W':
        return put_set(t, WORDS, c == 'W', in_class);
    case 'h':
    case 'H':
        return put_set(t, HEX_DIGITS, c == 'H', in_class);
    case 'd':
        return bytes_append_text(t->out, "\\p{Nd}");
    case 'D':
        return bytes_append_text(t->out, "\\P{Nd}");
    case 'p':
    case 'P':
        return put_property(t, c);
    case 'u':
        return put_unicode_escape(t);
    case 'v':
        return bytes_append_text(t->out, "\\x0b");
    default:
        break;
    }
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '1' && c <= '9');
    if (letter && !strchr(in_class ? "nrtfaexb" : "nrtfaexbBAzZ", c))
        return refuse(t, t->at - 2, 2);
    bytes_append_char(t->out, '\\');
    return bytes_append_char(t->out, c);
}

/* The items of a class up to its ']'; a class inside a class is a union, so its items join the outer ones. */
static enum status put_class_items(struct translation *t, int depth)
{
    if (depth > MAX_CLASS_DEPTH)
        return refuse(t, "[[[[ nested too deep", 20);
    while (t->at < t->end && *t->at != ']') {
        const size_t left = (size_t)(t->end - t->at);
        enum status status;
        if (*t->at == '\\') {
            t->at++;
            status = put_escape(t, true);
        } else if (left > 1 && memcmp(t->at, "&&", 2) == 0) {
            status = refuse(t, "[..&&..]", 8);
        } else if (left > 1 && memcmp(t->at, "[:", 2) == 0) {
            status = refuse(t, "[[:class:]]", 11);
        } else if (left > 1 && memcmp(t->at, "[^", 2) == 0) {
            status = refuse(t, "[..[^..]..]", 11);
        } else if (*t->at == '[') {
            t->at++;
            status = put_class_items(t, depth + 1);
        } else {
            status = bytes_append_char(t->out, *t->at++);
        }
        if (status != STATUS_OK)
            return status;
    }
    if (t->at >= t->end)
        return error_set(t->err, STATUS_INVALID, "regular expression: a class has no ']'");
    t->at++;
    return STATUS_OK;
}

static enum status put_class(struct translation *t)
{
    t->at++;
    bytes_append_char(t->out, '[');
    if (t->at < t->end && *t->at == '^')
        bytes_append_char(t->out, *t->at++);
    enum status status = put_class_items(t, 0);
    return status == STATUS_OK ? bytes_append_char(t->out, ']') : status;
}

/* "(?...": flags may hold i, x and m; Ruby's m is pcre2's s. */
static enum status put_group(struct translation *t)
{
    bytes_append_char(t->out, *t->at++);
    if (t->at >= t->end || *t->at != '?')
        return STATUS_OK;
    bytes_append_char(t->out, *t->at++);
    if (t->at < t->end && strchr(":=!>", *t->at) && *t->at)
        return bytes_append_char(t->out, *t->at++);
    if (t->end - t->at > 1 && *t->at == '<' && (t->at[1] == '=' || t->at[1] == '!')) {
        bytes_append(t->out, t->at, 2);
        t->at += 2;
        return STATUS_OK;
    }
    while (t->at < t->end && strchr("imx-", *t->at) && *t->at)
        bytes_append_char(t->out, *t->at == 'm' ? 's' : *t->at), t->at++;
    if (t->at < t->end && (*t->at == ':' || *t->at == ')'))
        return bytes_append_char(t->out, *t->at++);
    return refuse(t, "(?", 2);
}

static enum status put_quantifier(struct translation *t)
{
    const char *close = memchr(t->at, '}', (size_t)(t->end - t->at));
    if (close && close + 1 < t->end && close[1] == '+')
        return refuse(t, "{n,m}+", 6);
    bytes_append_char(t->out, *t->at++);
    if (t->at < t->end && *t->at == ',')
        bytes_append_char(t->out, '0');
    return STATUS_OK;
}

static enum status put_next(struct translation *t)
{
    switch (*t->at) {
    case '\\':
        t->at++;
        return put_escape(t, false);
    case '[':
        return put_class(t);
    case '(':
        return put_group(t);
    case '{':
        return put_quantifier(t);
    default:
        return bytes_append_char(t->out, *t->at++);
    }
}

enum status regex_translate(const char *pattern, size_t bytes, struct bytes *out, struct error *err)
{
    struct translation t = {.at = pattern, .end = pattern + bytes, .out = out, .err = err};
    while (t.at < t.end) {
        enum status status = put_next(&t);
        if (status != STATUS_OK && !out->failed)
            return status;
        if (out->failed)
            break;
    }
    bytes_append(out, "", 0);
    return out->failed ? error_set(err, STATUS_NO_MEMORY, "no memory for a regular expression") : STATUS_OK;
}
