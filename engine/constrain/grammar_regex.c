// SPDX-License-Identifier: Apache-2.0
// A recursive descent over the pattern; anchors are taken off its ends first, per alternative of the top
// level.
#include "engine/constrain/grammar_regex.h"

#include <string.h>

#include "base/json.h"

enum { MOST_RANGES = 512, LAST_CODEPOINT = 0x10FFFF };

struct parser {
    struct grammar_builder *builder;
    const char *text;
    size_t bytes, at;
    int depth;
    bool json;
    enum status status;
    struct error *err;
};

struct ranges {
    struct codepoint_range items[MOST_RANGES];
    size_t count;
    bool full; /* more than fit */
};

static struct grammar_node *parse_alternatives(struct parser *parser);

static struct grammar_node *refuse(struct parser *parser, enum status status, const char *what)
{
    if (parser->status == STATUS_OK)
        parser->status = error_set(parser->err, status, "%s at byte %zu of the pattern", what, parser->at);
    return NULL;
}

static bool at_end(const struct parser *parser)
{
    return parser->at >= parser->bytes;
}

static bool is_next(const struct parser *parser, const char *text)
{
    size_t bytes = strlen(text);
    return parser->bytes - parser->at >= bytes && memcmp(parser->text + parser->at, text, bytes) == 0;
}

static bool take(struct parser *parser, const char *text)
{
    bool found = is_next(parser, text);
    parser->at += found ? strlen(text) : 0;
    return found;
}

/* ---- ranges ---- */

static void add_range(struct ranges *ranges, uint32_t first, uint32_t last)
{
    if (ranges->count == MOST_RANGES)
        ranges->full = true;
    else
        ranges->items[ranges->count++] = (struct codepoint_range){first, last};
}

/* Ascending and apart: by insertion, as there are few. */
static void normalize(struct ranges *ranges)
{
    size_t kept = 0;
    for (size_t i = 1; i < ranges->count; i++) {
        struct codepoint_range moved = ranges->items[i];
        size_t at = i;
        for (; at > 0 && ranges->items[at - 1].first > moved.first; at--)
            ranges->items[at] = ranges->items[at - 1];
        ranges->items[at] = moved;
    }
    for (size_t i = 0; i < ranges->count; i++) {
        struct codepoint_range *last = kept ? &ranges->items[kept - 1] : NULL;
        if (last && ranges->items[i].first <= last->last + 1)
            last->last = ranges->items[i].last > last->last ? ranges->items[i].last : last->last;
        else
            ranges->items[kept++] = ranges->items[i];
    }
    ranges->count = kept;
}

static void invert(struct ranges *ranges)
{
    struct ranges result = {.count = 0};
    uint32_t next = 0;
    normalize(ranges);
    for (size_t i = 0; i < ranges->count; i++) {
        if (ranges->items[i].first > next)
            add_range(&result, next, ranges->items[i].first - 1);
        next = ranges->items[i].last + 1;
    }
    if (next <= LAST_CODEPOINT)
        add_range(&result, next, LAST_CODEPOINT);
    *ranges = result;
}

/* \d \w \s and their opposites. Languages differ on which letters beyond ASCII they hold: `narrow` is what
 * all agree on, `wide` what any of them holds, so that what is generated matches for every reader. */
static const struct char_class {
    char letter;
    struct codepoint_range narrow[4], wide[12];
} char_classes[] = {
    {'d', {{'0', '9'}}, {{'0', '9'}, {0x80, LAST_CODEPOINT}}},
    {'w',
     {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
     {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}, {0x80, LAST_CODEPOINT}}},
    {'s',
     {{'\t', '\r'}, {' ', ' '}},
     {{'\t', '\r'},
      {0x1C, ' '},
      {0x85, 0x85},
      {0xA0, 0xA0},
      {0x1680, 0x1680},
      {0x2000, 0x200A},
      {0x2028, 0x2029},
      {0x202F, 0x202F},
      {0x205F, 0x205F},
      {0x3000, 0x3000},
      {0xFEFF, 0xFEFF}}},
};

/* False: no class. `within`: in a class that is inverted itself. */
static bool add_class(struct ranges *ranges, char letter, bool within)
{
    struct ranges class = {.count = 0};
    bool opposite = letter < 'a', wide = opposite != within;
    const struct char_class *found = NULL;
    for (size_t i = 0; i < sizeof char_classes / sizeof char_classes[0]; i++)
        if (char_classes[i].letter == (letter | 0x20))
            found = &char_classes[i];
    if (!found)
        return false;
    const struct codepoint_range *items = wide ? found->wide : found->narrow;
    for (size_t i = 0; i < (wide ? 12 : 4) && items[i].last > 0; i++)
        add_range(&class, items[i].first, items[i].last);
    if (opposite)
        invert(&class);
    for (size_t i = 0; i < class.count; i++)
        add_range(ranges, class.items[i].first, class.items[i].last);
    return true;
}

static struct grammar_node *set_node(struct parser *parser, struct ranges *ranges)
{
    normalize(ranges);
    if (ranges->full)
        return refuse(parser, STATUS_INVALID, "a character class with too many ranges");
    return grammar_set(parser->builder, ranges->items, ranges->count, parser->json);
}

struct grammar_node *grammar_any_in_line(struct grammar_builder *builder, bool json)
{
    static const struct codepoint_range line[] = {
        {0, '\n' - 1}, {'\n' + 1, '\r' - 1}, {'\r' + 1, 0x2027}, {0x202A, LAST_CODEPOINT}};
    return grammar_set(builder, line, 4, json);
}

/* ---- single characters ---- */

static bool take_codepoint(struct parser *parser, uint32_t *out)
{
    const unsigned char *at = (const unsigned char *)parser->text + parser->at;
    size_t length =
        at_end(parser) ? 0 : json_utf8_length(parser->text + parser->at, parser->bytes - parser->at);
    if (length == 0) {
        refuse(parser, STATUS_INVALID, "text that is not UTF-8");
        return false;
    }
    static const uint8_t masks[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    *out = at[0] & masks[length];
    for (size_t i = 1; i < length; i++)
        *out = *out << 6 | (at[i] & 0x3F);
    parser->at += length;
    return true;
}

static bool take_hex(struct parser *parser, int digits, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < digits; i++, parser->at++) {
        static const char hex[] = "0123456789abcdef";
        const char *found =
            at_end(parser) || !parser->text[parser->at]
                ? NULL
                : strchr(hex, parser->text[parser->at] >= 'A' && parser->text[parser->at] <= 'F'
                                  ? parser->text[parser->at] + 32
                                  : parser->text[parser->at]);
        if (!found) {
            refuse(parser, STATUS_INVALID, "hexadecimal digits missing");
            return false;
        }
        *out = *out * 16 + (uint32_t)(found - hex);
    }
    return true;
}

/* Behind a backslash, and no class. */
static bool take_escaped(struct parser *parser, uint32_t *out)
{
    static const char names[] = "tnrfv0a", values[] = "\t\n\r\f\v\0\a";
    char letter = parser->text[parser->at];
    const char *found = letter ? strchr(names, letter) : NULL;
    if (found) {
        parser->at++;
        *out = (unsigned char)values[found - names];
        return true;
    }
    if (take(parser, "x"))
        return take_hex(parser, 2, out);
    if (take(parser, "u")) {
        uint32_t low;
        if (!take_hex(parser, 4, out))
            return false;
        if (*out >= 0xD800 && *out < 0xDC00 && take(parser, "\\u")) {
            if (!take_hex(parser, 4, &low))
                return false;
            *out = 0x10000 + ((*out - 0xD800) << 10) + (low - 0xDC00);
        }
        if (*out > LAST_CODEPOINT)
            refuse(parser, STATUS_INVALID, "no such code point");
        return parser->status == STATUS_OK;
    }
    if ((letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'z') ||
        (letter >= 'A' && letter <= 'Z')) {
        refuse(parser, STATUS_UNSUPPORTED,
               "an escape that is not supported (back references, \\b, \\p and others)");
        return false;
    }
    return take_codepoint(parser, out);
}

/* ---- classes ---- */

/* One end of a range, or a class such as \d (*is_class). */
static bool take_member(struct parser *parser, struct ranges *ranges, bool inverted, uint32_t *out,
                        bool *is_class)
{
    *is_class = false;
    if (is_next(parser, "[:"))
        refuse(parser, STATUS_UNSUPPORTED, "a POSIX class");
    if (at_end(parser) || parser->status != STATUS_OK)
        return false;
    if (!take(parser, "\\"))
        return take_codepoint(parser, out);
    if (at_end(parser)) {
        refuse(parser, STATUS_INVALID, "a backslash at the end");
        return false;
    }
    if (add_class(ranges, parser->text[parser->at], inverted)) {
        parser->at++;
        *is_class = true;
        return true;
    }
    if (take(parser, "b")) {
        *out = '\b';
        return true;
    }
    return take_escaped(parser, out);
}

static struct grammar_node *parse_class(struct parser *parser)
{
    struct ranges ranges = {.count = 0};
    bool inverted = take(parser, "^"), first = true;
    for (; !take(parser, "]") || (first && !parser->json); first = false) {
        uint32_t low, high;
        bool is_class;
        if (first && parser->at > 0 && parser->text[parser->at - 1] == ']')
            parser->at--; /* Python: a bracket right at the beginning is a character */
        if (at_end(parser))
            return refuse(parser, STATUS_INVALID, "a class without its closing bracket");
        if (!take_member(parser, &ranges, inverted, &low, &is_class))
            return NULL;
        if (is_class)
            continue;
        high = low;
        bool range =
            is_next(parser, "-") && parser->at + 1 < parser->bytes && parser->text[parser->at + 1] != ']';
        if (range) {
            parser->at++;
            if (!take_member(parser, &ranges, inverted, &high, &is_class))
                return NULL;
            if (is_class || high < low)
                return refuse(parser, STATUS_INVALID, "a range whose ends are the wrong way round");
        }
        add_range(&ranges, low, high);
    }
    if (inverted)
        invert(&ranges);
    return set_node(parser, &ranges);
}

/* ---- atoms and repetition ---- */

static struct grammar_node *parse_group(struct parser *parser)
{
    if (take(parser, "?")) {
        if (take(parser, "P<") ||
            (is_next(parser, "<") && !is_next(parser, "<=") && !is_next(parser, "<!"))) {
            while (!at_end(parser) && !take(parser, ">"))
                parser->at++;
        } else if (!take(parser, ":")) {
            return refuse(parser, STATUS_UNSUPPORTED, "look-around or a flag");
        }
    }
    if (++parser->depth > REGEX_MAX_DEPTH)
        return refuse(parser, STATUS_INVALID, "groups nested too deep");
    struct grammar_node *node = parse_alternatives(parser);
    parser->depth--;
    return node && !take(parser, ")") ? refuse(parser, STATUS_INVALID, "a group without its closing bracket")
                                      : node;
}

static struct grammar_node *parse_atom(struct parser *parser)
{
    struct ranges ranges = {.count = 0};
    uint32_t codepoint;
    if (take(parser, "("))
        return parse_group(parser);
    if (take(parser, "["))
        return parse_class(parser);
    if (take(parser, "."))
        return grammar_any_in_line(parser->builder, parser->json);
    if (is_next(parser, "^") || is_next(parser, "$"))
        return refuse(parser, STATUS_UNSUPPORTED, "an anchor in the middle");
    if (is_next(parser, "*") || is_next(parser, "+") || is_next(parser, "?"))
        return refuse(parser, STATUS_INVALID, "a repetition of nothing");
    if (take(parser, "\\")) {
        if (at_end(parser))
            return refuse(parser, STATUS_INVALID, "a backslash at the end");
        if (add_class(&ranges, parser->text[parser->at], false)) {
            parser->at++;
            return set_node(parser, &ranges);
        }
        if (!take_escaped(parser, &codepoint))
            return NULL;
    } else if (!take_codepoint(parser, &codepoint)) {
        return NULL;
    }
    add_range(&ranges, codepoint, codepoint);
    return set_node(parser, &ranges);
}

static bool take_number(struct parser *parser, uint32_t *out)
{
    size_t begin = parser->at;
    *out = 0;
    while (!at_end(parser) && parser->text[parser->at] >= '0' && parser->text[parser->at] <= '9' &&
           *out <= REGEX_MAX_REPEAT)
        *out = *out * 10 + (uint32_t)(parser->text[parser->at++] - '0');
    return parser->at > begin;
}

/* {m}, {m,}, {,n}, {m,n}. False: the brace is a character, and nothing was taken. */
static bool take_counts(struct parser *parser, uint32_t *least, uint32_t *most)
{
    size_t begin = parser->at;
    if (!take(parser, "{"))
        return false;
    bool low = take_number(parser, least), comma = take(parser, ",");
    bool high = comma && take_number(parser, most);
    if ((low || high) && take(parser, "}")) {
        if (!low)
            *least = 0;
        if (!high)
            *most = comma ? GRAMMAR_UNBOUNDED : *least;
        return true;
    }
    parser->at = begin;
    return false;
}

static struct grammar_node *parse_repeated(struct parser *parser)
{
    struct grammar_node *node = parse_atom(parser);
    while (node && !at_end(parser)) {
        uint32_t least = 0, most = GRAMMAR_UNBOUNDED;
        if (take(parser, "+"))
            least = 1;
        else if (take(parser, "?"))
            most = 1;
        else if (!take(parser, "*") && !take_counts(parser, &least, &most))
            break;
        if (least > REGEX_MAX_REPEAT ||
            (most != GRAMMAR_UNBOUNDED && (most > REGEX_MAX_REPEAT || most < least)))
            return refuse(parser, STATUS_INVALID, "a repetition over its bounds");
        take(parser, "?"); /* lazy: the same language */
        node = grammar_repeat(parser->builder, node, least, most);
    }
    return node;
}

static bool ends_sequence(const struct parser *parser)
{
    return at_end(parser) || is_next(parser, "|") || is_next(parser, ")");
}

/* Any text of a JSON string, for a pattern that is not anchored. */
static struct grammar_node *anything(struct parser *parser)
{
    static const struct codepoint_range all[] = {{0, LAST_CODEPOINT}};
    return grammar_repeat(parser->builder, grammar_set(parser->builder, all, 1, true), 0, GRAMMAR_UNBOUNDED);
}

static struct grammar_node *parse_sequence(struct parser *parser)
{
    bool outer = parser->depth == 0;
    struct grammar_node *node = grammar_empty(parser->builder);
    if (!(outer && take(parser, "^")) && outer && parser->json)
        node = anything(parser);
    bool closed = false;
    while (node && !closed && !ends_sequence(parser)) {
        closed = outer && is_next(parser, "$") &&
                 (parser->at + 1 == parser->bytes || parser->text[parser->at + 1] == '|');
        if (closed)
            parser->at++;
        else
            node = grammar_cat(parser->builder, node, parse_repeated(parser));
    }
    return node && outer && parser->json && !closed ? grammar_cat(parser->builder, node, anything(parser))
                                                    : node;
}

static struct grammar_node *parse_alternatives(struct parser *parser)
{
    struct grammar_node *node = parse_sequence(parser);
    while (node && take(parser, "|"))
        node = grammar_alt(parser->builder, node, parse_sequence(parser));
    return node;
}

enum status grammar_regex(struct grammar_builder *builder, const char *pattern, size_t bytes, bool json,
                          struct grammar_node **out, struct error *err)
{
    struct parser parser = {.builder = builder, .text = pattern, .bytes = bytes, .json = json, .err = err};
    *out = NULL;
    if (bytes > REGEX_MAX_BYTES)
        return error_set(err, STATUS_INVALID, "the pattern is longer than %d bytes", REGEX_MAX_BYTES);
    *out = parse_alternatives(&parser);
    if (*out && !at_end(&parser))
        refuse(&parser, STATUS_INVALID, "a closing bracket without its opening one");
    if (parser.status == STATUS_OK && !*out)
        return error_set(err, STATUS_TOO_LARGE, "the pattern is too large");
    return parser.status;
}
