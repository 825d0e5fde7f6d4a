// SPDX-License-Identifier: Apache-2.0
#include "engine/constrain/grammar_ebnf.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/json.h"
#include "engine/constrain/grammar_regex.h"

struct name {
    const char *text; /* within the grammar's text */
    size_t bytes;
    uint32_t rule;
    bool defined;
};

struct parser {
    struct grammar_builder *builder;
    const char *text;
    size_t bytes, at;
    int depth;
    struct name *names; /* [EBNF_MAX_NAMES] */
    size_t name_count;
    enum status status;
    struct error *err;
};

static struct grammar_node *parse_alternatives(struct parser *parser);

static struct grammar_node *refuse(struct parser *parser, enum status status, const char *what)
{
    int line = 1;
    for (size_t i = 0; i < parser->at && i < parser->bytes; i++)
        line += parser->text[i] == '\n';
    if (parser->status == STATUS_OK)
        parser->status = error_set(parser->err, status, "%s in line %d of the grammar", what, line);
    return NULL;
}

static char peek(const struct parser *parser)
{
    return parser->at < parser->bytes ? parser->text[parser->at] : '\0';
}

static bool take(struct parser *parser, char letter)
{
    bool found = parser->at < parser->bytes && parser->text[parser->at] == letter;
    parser->at += found;
    return found;
}

static void skip_space(struct parser *parser)
{
    while (parser->at < parser->bytes) {
        char letter = peek(parser);
        if (letter == '#')
            while (parser->at < parser->bytes && peek(parser) != '\n')
                parser->at++;
        else if (letter == ' ' || letter == '\t' || letter == '\r' || letter == '\n')
            parser->at++;
        else
            break;
    }
}

/* ---- names ---- */

static bool is_name_letter(char letter)
{
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
           (letter >= '0' && letter <= '9') || letter == '-' || letter == '_';
}

static size_t name_bytes(const struct parser *parser)
{
    size_t end = parser->at;
    while (end < parser->bytes && is_name_letter(parser->text[end]))
        end++;
    return end - parser->at;
}

/* Whether a definition begins here: name ::= */
static bool defines(const struct parser *parser)
{
    struct parser ahead = *parser;
    size_t bytes = name_bytes(parser);
    ahead.at += bytes;
    skip_space(&ahead);
    return bytes > 0 && ahead.bytes - ahead.at >= 3 && memcmp(ahead.text + ahead.at, "::=", 3) == 0;
}

/* NULL: too many. */
static struct name *take_name(struct parser *parser)
{
    const char *text = parser->text + parser->at;
    size_t bytes = name_bytes(parser);
    parser->at += bytes;
    for (size_t i = 0; i < parser->name_count; i++)
        if (parser->names[i].bytes == bytes && memcmp(parser->names[i].text, text, bytes) == 0)
            return &parser->names[i];
    uint32_t rule = parser->name_count < EBNF_MAX_NAMES ? grammar_add_rule(parser->builder) : UINT32_MAX;
    if (rule == UINT32_MAX) {
        refuse(parser, STATUS_TOO_LARGE, "too many rules");
        return NULL;
    }
    parser->names[parser->name_count] = (struct name){text, bytes, rule, false};
    return &parser->names[parser->name_count++];
}

/* ---- elements ---- */

/* Code point of \xHH, \uHHHH and the rest, behind the backslash. False: refused. */
static bool take_escape(struct parser *parser, struct bytes *out)
{
    static const char names[] = "nrt\"'\\[]", values[] = "\n\r\t\"'\\[]";
    char letter = peek(parser);
    const char *found = letter ? strchr(names, letter) : NULL;
    parser->at++;
    if (found) {
        bytes_append_char(out, values[found - names]);
        return true;
    }
    size_t digits = letter == 'x' ? 2 : letter == 'u' ? 4 : letter == 'U' ? 8 : 0;
    char hex[9] = "", *end;
    if (digits > 0 && parser->bytes - parser->at >= digits) {
        memcpy(hex, parser->text + parser->at, digits);
        unsigned long c = strtoul(hex, &end, 16);
        if (*end == '\0' && hex[0] != '-' && hex[0] != '+' && hex[0] != ' ' && c < 0x110000 &&
            (c < 0xD800 || c > 0xDFFF)) {
            parser->at += digits;
            if (c < 0x80) {
                bytes_append_char(out, (char)c);
            } else {
                if (c >= 0x10000)
                    bytes_append_char(out, (char)(0xF0 | c >> 18));
                if (c >= 0x800)
                    bytes_append_char(out, (char)(c >= 0x10000 ? 0x80 | (c >> 12 & 0x3F) : 0xE0 | c >> 12));
                bytes_append_char(out, (char)(c >= 0x800 ? 0x80 | (c >> 6 & 0x3F) : 0xC0 | c >> 6));
                bytes_append_char(out, (char)(0x80 | (c & 0x3F)));
            }
            return true;
        }
    }
    refuse(parser, STATUS_INVALID, "an escape that is not known");
    return false;
}

static struct grammar_node *parse_literal(struct parser *parser, char quote)
{
    struct bytes text;
    bytes_init(&text, EBNF_MAX_BYTES);
    bool good = true;
    while (good && !take(parser, quote)) {
        if (parser->at >= parser->bytes || peek(parser) == '\n')
            good = refuse(parser, STATUS_INVALID, "a literal without its closing quote") != NULL;
        else if (take(parser, '\\'))
            good = take_escape(parser, &text);
        else
            bytes_append_char(&text, parser->text[parser->at++]);
    }
    for (size_t at = 0, length; good && at < text.count_bytes; at += length) {
        length = json_utf8_length(text.data + at, text.count_bytes - at);
        if (length == 0)
            good = refuse(parser, STATUS_INVALID, "a literal that is not UTF-8") != NULL;
    }
    struct grammar_node *node =
        good && !text.failed ? grammar_literal(parser->builder, text.data ? text.data : "", text.count_bytes)
                             : NULL;
    bytes_release(&text);
    return node;
}

/* Classes are those of regular expressions. */
static struct grammar_node *parse_class(struct parser *parser)
{
    size_t begin = parser->at - 1;
    struct grammar_node *node;
    struct error err = {0};
    while (parser->at < parser->bytes && peek(parser) != ']')
        parser->at += 1 + (peek(parser) == '\\');
    if (!take(parser, ']'))
        return refuse(parser, STATUS_INVALID, "a class without its closing bracket");
    enum status status =
        grammar_regex(parser->builder, parser->text + begin, parser->at - begin, false, &node, &err);
    if (status != STATUS_OK)
        return refuse(parser, status, err.text);
    return node;
}

static struct grammar_node *parse_element(struct parser *parser)
{
    if (take(parser, '"'))
        return parse_literal(parser, '"');
    if (take(parser, '\''))
        return parse_literal(parser, '\'');
    if (take(parser, '['))
        return parse_class(parser);
    if (take(parser, '.'))
        return grammar_any_in_line(parser->builder, false);
    if (take(parser, '(')) {
        if (++parser->depth > EBNF_MAX_DEPTH)
            return refuse(parser, STATUS_TOO_LARGE, "groups nested too deep");
        struct grammar_node *node = parse_alternatives(parser);
        parser->depth--;
        skip_space(parser);
        return node && !take(parser, ')')
                   ? refuse(parser, STATUS_INVALID, "a group without its closing bracket")
                   : node;
    }
    if (name_bytes(parser) > 0) {
        struct name *name = take_name(parser);
        return name ? grammar_rule(parser->builder, name->rule) : NULL;
    }
    return refuse(parser, STATUS_INVALID, "something that is no element");
}

static bool take_number(struct parser *parser, uint32_t *out)
{
    size_t begin = parser->at;
    for (*out = 0; peek(parser) >= '0' && peek(parser) <= '9' && *out <= REGEX_MAX_REPEAT; parser->at++)
        *out = *out * 10 + (uint32_t)(peek(parser) - '0');
    return parser->at > begin;
}

static bool take_counts(struct parser *parser, uint32_t *least, uint32_t *most)
{
    *least = 0;
    *most = GRAMMAR_UNBOUNDED;
    if (take(parser, '*'))
        return true;
    if (take(parser, '+')) {
        *least = 1;
        return true;
    }
    if (take(parser, '?')) {
        *most = 1;
        return true;
    }
    if (!take(parser, '{'))
        return false;
    bool low = take_number(parser, least);
    bool high = take(parser, ',') ? take_number(parser, most) : (*most = *least, low);
    if (!high)
        *most = GRAMMAR_UNBOUNDED;
    if (!low || !take(parser, '}') || *least > REGEX_MAX_REPEAT || *most < *least ||
        (high && *most > REGEX_MAX_REPEAT))
        refuse(parser, STATUS_INVALID, "a repetition that is none, or over its bounds");
    return true;
}

static struct grammar_node *parse_sequence(struct parser *parser)
{
    struct grammar_node *node = grammar_empty(parser->builder);
    skip_space(parser);
    while (node && parser->at < parser->bytes && peek(parser) != '|' && peek(parser) != ')' &&
           !defines(parser)) {
        uint32_t least, most;
        struct grammar_node *element = parse_element(parser);
        while (element && take_counts(parser, &least, &most))
            element =
                parser->status == STATUS_OK ? grammar_repeat(parser->builder, element, least, most) : NULL;
        node = grammar_cat(parser->builder, node, element);
        skip_space(parser);
    }
    return node;
}

static struct grammar_node *parse_alternatives(struct parser *parser)
{
    struct grammar_node *node = parse_sequence(parser);
    while (node && take(parser, '|'))
        node = grammar_alt(parser->builder, node, parse_sequence(parser));
    return node;
}

/* ---- rules ---- */

static bool parse_rule(struct parser *parser)
{
    if (!defines(parser)) {
        refuse(parser, STATUS_INVALID, "something that is no rule (name ::= …)");
        return false;
    }
    struct name *name = take_name(parser);
    if (!name)
        return false;
    if (name->defined) {
        refuse(parser, STATUS_INVALID, "a rule that is defined already");
        return false;
    }
    size_t index = (size_t)(name - parser->names);
    skip_space(parser);
    parser->at += 3;
    name->defined = true;
    struct grammar_node *node = parse_alternatives(parser);
    if (!node)
        return false;
    grammar_set_rule(parser->builder, parser->names[index].rule, node);
    return true;
}

static enum status parse_all(struct parser *parser, struct grammar_node **out)
{
    uint32_t root = UINT32_MAX;
    for (skip_space(parser); parser->at < parser->bytes; skip_space(parser))
        if (!parse_rule(parser))
            return parser->status != STATUS_OK
                       ? parser->status
                       : error_set(parser->err, STATUS_TOO_LARGE, "the grammar is too large");
    for (size_t i = 0; i < parser->name_count; i++) {
        const struct name *name = &parser->names[i];
        if (!name->defined)
            return error_set(parser->err, STATUS_INVALID, "the grammar has no rule \"%.*s\"",
                             (int)(name->bytes < 64 ? name->bytes : 64), name->text);
        if (name->bytes == 4 && memcmp(name->text, "root", 4) == 0)
            root = name->rule;
    }
    if (root == UINT32_MAX)
        return error_set(parser->err, STATUS_INVALID, "the grammar has no rule \"root\"");
    *out = grammar_rule(parser->builder, root);
    return *out ? STATUS_OK : error_set(parser->err, STATUS_NO_MEMORY, "no memory for a grammar");
}

enum status grammar_ebnf(struct grammar_builder *builder, const char *text, size_t bytes,
                         struct grammar_node **out, struct error *err)
{
    *out = NULL;
    if (bytes > EBNF_MAX_BYTES)
        return error_set(err, STATUS_TOO_LARGE, "the grammar is longer than %d bytes", EBNF_MAX_BYTES);
    struct parser parser = {.builder = builder, .text = text, .bytes = bytes, .err = err};
    parser.names = malloc(EBNF_MAX_NAMES * sizeof *parser.names);
    if (!parser.names)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a grammar");
    enum status status = parse_all(&parser, out);
    free(parser.names);
    return status;
}
