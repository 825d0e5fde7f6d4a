// SPDX-License-Identifier: Apache-2.0
// Text and tags of a chat template, with the whitespace rules of transformers' environment: trim_blocks (the
// line feed after a block tag goes), lstrip_blocks (blanks before a block tag on its line go), '-' and '+' in
// tags, the last line feed of the template goes. Source: the Jinja documentation, "Whitespace Control".
#include <stdlib.h>
#include <string.h>

#include "engine/text/template_node.h"
#include "engine/text/unicode.h"

struct lexer {
    struct template_source *source;
    const char *text;
    size_t bytes, at;
    int line;
    bool line_begins; /* the text before `at` ended a line */
};

static enum status fail(const struct lexer *l, const char *what)
{
    return error_set(l->source->err, STATUS_INVALID, "chat template, line %d: %s", l->line, what);
}

static enum status shortage(const struct template_source *source)
{
    return error_set(source->err, STATUS_NO_MEMORY, "no memory for the chat template");
}

static enum status push(struct lexer *l, enum token_kind kind, struct string_view text,
                        struct template_token **out)
{
    struct template_source *s = l->source;
    if (s->count == TEMPLATE_MAX_TOKENS)
        return error_set(s->err, STATUS_TOO_LARGE, "chat template: over %zu tokens", TEMPLATE_MAX_TOKENS);
    if (s->count == s->capacity) {
        const size_t capacity = s->capacity ? s->capacity * 2 : 256;
        struct template_token *tokens = realloc(s->tokens, capacity * sizeof *tokens);
        if (!tokens)
            return shortage(s);
        s->tokens = tokens;
        s->capacity = capacity;
    }
    struct template_token *token = &s->tokens[s->count++];
    *token = (struct template_token){.kind = kind, .line = l->line, .text = text};
    if (out)
        *out = token;
    return STATUS_OK;
}

static bool looking_at(const struct lexer *l, const char *text)
{
    const size_t bytes = strlen(text);
    return l->bytes - l->at >= bytes && memcmp(l->text + l->at, text, bytes) == 0;
}

static void advance(struct lexer *l, size_t count)
{
    for (size_t i = 0; i < count; i++)
        l->line += l->text[l->at + i] == '\n';
    l->at += count;
}

static size_t blanks_at(const struct lexer *l, size_t at)
{
    const size_t begin = at;
    while (at < l->bytes) {
        uint32_t c;
        const size_t length = unicode_decode(l->text + at, l->bytes - at, &c);
        if (!value_is_blank(c))
            break;
        at += length;
    }
    return at - begin;
}

static size_t rstrip(const char *text, size_t bytes)
{
    while (bytes) {
        uint32_t c;
        const size_t last = unicode_last(text, bytes);
        unicode_decode(text + last, bytes - last, &c);
        if (!value_is_blank(c))
            break;
        bytes = last;
    }
    return bytes;
}

/* What is left of the text before a tag: `sign` is the one in the tag, '-' strips all blanks. */
static size_t text_before_tag(const struct lexer *l, const char *text, size_t bytes, char sign, bool is_print)
{
    if (sign == '-')
        return rstrip(text, bytes);
    if (sign == '+' || is_print)
        return bytes;
    size_t line = bytes;
    while (line > 0 && text[line - 1] != '\n')
        line--;
    const bool at_line_start = line > 0 || l->line_begins;
    return at_line_start && bytes > line && rstrip(text + line, bytes - line) == 0 ? line : bytes;
}

/* After the sign of a closing tag: "-" takes the blanks behind, a block's end takes one line feed. */
static void close_tag(struct lexer *l, size_t tag_bytes, bool trims_line)
{
    const char sign = l->text[l->at];
    advance(l, tag_bytes);
    if (sign == '-')
        advance(l, blanks_at(l, l->at));
    else if (trims_line && sign != '+' && l->at < l->bytes && l->text[l->at] == '\n')
        advance(l, 1);
    l->line_begins = l->text[l->at - 1] == '\n';
}

/* Length of a closing tag "}}", "-}}", "+%}", … at `at`, or 0. */
static size_t closing_bytes(const struct lexer *l, const char *tag)
{
    if (looking_at(l, tag))
        return 2;
    const bool signed_tag = l->text[l->at] == '-' || (l->text[l->at] == '+' && tag[0] != '}');
    return signed_tag && l->bytes - l->at >= 3 && memcmp(l->text + l->at + 1, tag, 2) == 0 ? 3 : 0;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* \xHH, \uHHHH, \UHHHHHHHH and octal; returns how much of `text` it took, 0 for what is no such escape. */
static size_t numeric_escape(const char *text, size_t bytes, uint32_t *code)
{
    const size_t digits = text[0] == 'x' ? 2 : text[0] == 'u' ? 4 : text[0] == 'U' ? 8 : 0;
    size_t taken = 0;
    *code = 0;
    if (digits == 0) {
        while (taken < 3 && taken < bytes && text[taken] >= '0' && text[taken] <= '7')
            *code = *code * 8 + (uint32_t)(text[taken++] - '0');
        return taken;
    }
    for (taken = 1; taken <= digits; taken++) {
        const int value = taken < bytes ? hex_value(text[taken]) : -1;
        if (value < 0)
            return 0;
        *code = *code * 16 + (uint32_t)value;
    }
    return taken;
}

/* Unescapes as Python does; unknown escapes keep their backslash. */
static enum status unescape(struct lexer *l, const char *text, size_t bytes, struct string_view *out)
{
    static const char letters[] = "\\'\"abfnrtv", values[] = "\\'\"\a\b\f\n\r\t\v";
    char *to = arena_alloc(l->source->arena, bytes + UNICODE_MAX_BYTES);
    size_t count = 0;
    if (!to)
        return shortage(l->source);
    for (size_t at = 0; at < bytes;) {
        if (text[at] != '\\' || at + 1 == bytes) {
            to[count++] = text[at++];
            continue;
        }
        uint32_t code;
        const char *letter = text[at + 1] ? strchr(letters, text[at + 1]) : NULL;
        const size_t taken = letter ? 0 : numeric_escape(text + at + 1, bytes - at - 1, &code);
        if (taken && (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)))
            return fail(l, "a string has an escape that is no character");
        if (letter)
            to[count++] = values[letter - letters], at += 2;
        else if (taken)
            count += unicode_encode(code, to + count), at += 1 + taken;
        else if (text[at + 1] == '\n')
            at += 2;
        else if (strchr("NxuU", text[at + 1]))
            return fail(l, "a string has a broken or unsupported escape");
        else
            to[count++] = text[at++];
    }
    *out = (struct string_view){to, count};
    return STATUS_OK;
}

static enum status lex_string(struct lexer *l)
{
    const char quote = l->text[l->at];
    size_t end = l->at + 1;
    struct template_token *token;
    while (end < l->bytes && l->text[end] != quote)
        end += l->text[end] == '\\' && end + 1 < l->bytes ? 2 : 1;
    if (end >= l->bytes)
        return fail(l, "a string does not end");
    enum status status = push(l, TOKEN_STRING, (struct string_view){0}, &token);
    if (status == STATUS_OK)
        status = unescape(l, l->text + l->at + 1, end - l->at - 1, &token->text);
    advance(l, end + 1 - l->at);
    return status;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static enum status lex_number(struct lexer *l)
{
    char digits[64];
    size_t count = 0, at = l->at;
    bool is_float = false;
    struct template_token *token;
    int base = 10;
    if (l->bytes - at > 2 && l->text[at] == '0' && strchr("xXoObB", l->text[at + 1]) && l->text[at + 1]) {
        base = (l->text[at + 1] | 32) == 'x' ? 16 : (l->text[at + 1] | 32) == 'o' ? 8 : 2;
        at += 2;
    }
    for (; at < l->bytes && count < sizeof digits - 1; at++) {
        const char c = l->text[at], next = at + 1 < l->bytes ? l->text[at + 1] : '\0';
        const bool sign = (c == '+' || c == '-') && is_float && (digits[count - 1] | 32) == 'e';
        const bool point = c == '.' && base == 10 && is_digit(next) && !is_float && count;
        const bool power =
            (c == 'e' || c == 'E') && base == 10 && count && (is_digit(next) || next == '+' || next == '-');
        if (c == '_')
            continue;
        if (!sign && !point && !power && (base == 16 ? hex_value(c) < 0 : !is_digit(c)))
            break;
        is_float = is_float || point || power;
        digits[count++] = c;
    }
    digits[count] = '\0';
    if (count == 0 || count == sizeof digits - 1)
        return fail(l, "a number is malformed");
    enum status status = push(l, is_float ? TOKEN_FLOAT : TOKEN_INTEGER, (struct string_view){0}, &token);
    if (status != STATUS_OK)
        return status;
    if (is_float)
        token->number = strtod(digits, NULL);
    else
        token->integer = strtoll(digits, NULL, base);
    if (!is_float && token->integer == INT64_MAX)
        return fail(l, "a number is over 64 bits");
    advance(l, at - l->at);
    return STATUS_OK;
}

static bool is_name(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && is_digit(c));
}

static enum status lex_operator(struct lexer *l)
{
    static const char *const operators[] = {"**", "//", "==", "!=", "<=", ">=", "+", "-", "*",
                                            "/",  "%",  "~",  "<",  ">",  "=",  "(", ")", "[",
                                            "]",  "{",  "}",  ",",  ".",  ":",  "|"};
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++)
        if (looking_at(l, operators[i])) {
            const struct string_view text = {operators[i], strlen(operators[i])};
            enum status status = push(l, TOKEN_OPERATOR, text, NULL);
            advance(l, text.bytes);
            return status;
        }
    return error_set(l->source->err, STATUS_INVALID, "chat template, line %d: unexpected character '%.*s'",
                     l->line, (int)json_utf8_length(l->text + l->at, l->bytes - l->at), l->text + l->at);
}

static enum status lex_token(struct lexer *l)
{
    const char c = l->text[l->at];
    if (c == '"' || c == '\'')
        return lex_string(l);
    if (is_digit(c))
        return lex_number(l);
    if (!is_name(c, true))
        return lex_operator(l);
    size_t end = l->at;
    while (end < l->bytes && is_name(l->text[end], false))
        end++;
    enum status status = push(l, TOKEN_NAME, (struct string_view){l->text + l->at, end - l->at}, NULL);
    advance(l, end - l->at);
    return status;
}

/* The inside of {{ … }} or {% … %}, its end included. A brace of a dictionary is not an end. */
static enum status lex_tag(struct lexer *l, bool is_print)
{
    const char *end = is_print ? "}}" : "%}";
    int open = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        advance(l, blanks_at(l, l->at));
        if (l->at >= l->bytes)
            return fail(l, is_print ? "\"{{\" is not closed" : "\"{%\" is not closed");
        const size_t closing = open == 0 ? closing_bytes(l, end) : 0;
        if (closing) {
            status = push(l, is_print ? TOKEN_PRINT_END : TOKEN_BLOCK_END, (struct string_view){0}, NULL);
            close_tag(l, closing, !is_print);
            return status;
        }
        const char c = l->text[l->at];
        open += (c == '{' || c == '(' || c == '[') - (c == '}' || c == ')' || c == ']');
        if (open < 0)
            return fail(l, "a bracket is closed that was not opened");
        status = lex_token(l);
    }
    return status;
}

/* Matches "{%", a sign, a name and the end of the tag; returns its length, or 0. */
static size_t word_tag_bytes(const struct lexer *l, size_t at, const char *word, char *sign)
{
    struct lexer probe = *l;
    probe.at = at + 2;
    *sign = probe.at < l->bytes && (l->text[probe.at] == '-' || l->text[probe.at] == '+') ? l->text[probe.at]
                                                                                          : '\0';
    probe.at += *sign != '\0';
    probe.at += blanks_at(&probe, probe.at);
    if (probe.at >= l->bytes || !looking_at(&probe, word))
        return 0;
    probe.at += strlen(word);
    probe.at += blanks_at(&probe, probe.at);
    return probe.at < l->bytes && closing_bytes(&probe, "%}") ? probe.at - at : 0;
}

/* {% raw %} … {% endraw %}; l->at is at the first tag, whose text before has gone out. */
static enum status lex_raw(struct lexer *l, size_t tag_bytes)
{
    char sign = '\0';
    advance(l, tag_bytes);
    close_tag(l, closing_bytes(l, "%}"), false);
    const size_t begin = l->at;
    for (size_t at = begin; at + 1 < l->bytes; at++) {
        const size_t end_bytes =
            memcmp(l->text + at, "{%", 2) == 0 ? word_tag_bytes(l, at, "endraw", &sign) : 0;
        if (!end_bytes)
            continue;
        const size_t kept = text_before_tag(l, l->text + begin, at - begin, sign, false);
        enum status status = push(l, TOKEN_TEXT, (struct string_view){l->text + begin, kept}, NULL);
        advance(l, at + end_bytes - l->at);
        close_tag(l, closing_bytes(l, "%}"), true);
        return status;
    }
    return fail(l, "{% raw %} is not closed");
}

static enum status lex_comment(struct lexer *l)
{
    const int line = l->line;
    advance(l, 2);
    while (l->at < l->bytes && !closing_bytes(l, "#}"))
        advance(l, 1);
    if (l->at >= l->bytes) {
        l->line = line;
        return fail(l, "\"{#\" is not closed");
    }
    close_tag(l, closing_bytes(l, "#}"), true);
    return STATUS_OK;
}

/* Offset of the next "{{", "{%" or "{#" at or after l->at; the end when there is none. */
static size_t next_tag(const struct lexer *l)
{
    size_t at = l->at;
    while (at + 1 < l->bytes && (l->text[at] != '{' || !strchr("{%#", l->text[at + 1]) || !l->text[at + 1]))
        at++;
    return at + 1 < l->bytes ? at : l->bytes;
}

static enum status lex_piece(struct lexer *l)
{
    const size_t tag = next_tag(l), begin = l->at;
    if (tag == l->bytes) {
        enum status status = push(l, TOKEN_TEXT, (struct string_view){l->text + begin, tag - begin}, NULL);
        l->at = tag;
        return status;
    }
    const char kind = l->text[tag + 1], next = tag + 2 < l->bytes ? l->text[tag + 2] : '\0';
    const char sign = next == '-' || next == '+' ? next : '\0';
    const size_t kept = text_before_tag(l, l->text + begin, tag - begin, sign, kind == '{');
    enum status status = STATUS_OK;
    if (kept)
        status = push(l, TOKEN_TEXT, (struct string_view){l->text + begin, kept}, NULL);
    advance(l, tag - begin);
    if (status != STATUS_OK)
        return status;
    char raw_sign;
    const size_t raw_bytes = kind == '%' ? word_tag_bytes(l, tag, "raw", &raw_sign) : 0;
    l->line_begins = false;
    if (raw_bytes)
        return lex_raw(l, raw_bytes);
    if (kind == '#')
        return lex_comment(l);
    status = push(l, kind == '{' ? TOKEN_PRINT_BEGIN : TOKEN_BLOCK_BEGIN, (struct string_view){0}, NULL);
    advance(l, sign ? 3 : 2);
    return status == STATUS_OK ? lex_tag(l, kind == '{') : status;
}

/* One kind of line end, and without the last one. */
static size_t unify_lines(const char *text, size_t bytes, char *out)
{
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++) {
        out[count++] = text[i] == '\r' ? '\n' : text[i];
        if (text[i] == '\r' && i + 1 < bytes && text[i + 1] == '\n')
            i++;
    }
    return count && out[count - 1] == '\n' ? count - 1 : count;
}

enum status template_lex(struct template_source *source, const char *text, size_t bytes)
{
    if (bytes > TEMPLATE_MAX_BYTES)
        return error_set(source->err, STATUS_TOO_LARGE,
                         "a chat template of %zu bytes is over the limit of %zu", bytes, TEMPLATE_MAX_BYTES);
    const size_t valid = unicode_valid_prefix(text, bytes);
    if (valid < bytes)
        return error_set(source->err, STATUS_INVALID, "the chat template is not valid UTF-8 at byte %zu",
                         valid);
    char *copy = arena_alloc(source->arena, bytes + 1);
    if (!copy)
        return shortage(source);
    struct lexer l = {.source = source, .text = copy, .line = 1, .line_begins = true};
    l.bytes = unify_lines(text, bytes, copy);
    enum status status = STATUS_OK;
    while (l.at < l.bytes && status == STATUS_OK)
        status = lex_piece(&l);
    return status == STATUS_OK ? push(&l, TOKEN_END, (struct string_view){0}, NULL) : status;
}
