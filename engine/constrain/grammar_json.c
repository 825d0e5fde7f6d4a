// SPDX-License-Identifier: Apache-2.0
#include "engine/constrain/grammar_json.h"

#include <stdio.h>
#include <string.h>

enum { INDENT = 20, MOST_DIGITS = 20 /* before the point, and behind it: no model can go on with them */ };

static struct grammar_node *cat(struct grammar_json *json, struct grammar_node *a, struct grammar_node *b)
{
    return grammar_cat(json->builder, a, b);
}

static struct grammar_node *alt(struct grammar_json *json, struct grammar_node *a, struct grammar_node *b)
{
    return grammar_alt(json->builder, a, b);
}

struct grammar_node *grammar_json_text(struct grammar_json *json, const char *text)
{
    return grammar_literal(json->builder, text, strlen(text));
}

struct grammar_node *grammar_json_rule(struct grammar_json *json, uint32_t rule)
{
    return grammar_rule(json->builder, rule);
}

struct grammar_node *grammar_json_join(struct grammar_json *json, struct grammar_node *const *nodes)
{
    struct grammar_node *node = grammar_empty(json->builder);
    for (; *nodes; nodes++)
        node = cat(json, node, *nodes);
    return node;
}

static struct grammar_node *one_of(struct grammar_json *json, const char *characters)
{
    struct codepoint_range ranges[64];
    size_t count = 0;
    for (; *characters; characters += 2) /* pairs: first, last */
        ranges[count++] =
            (struct codepoint_range){(unsigned char)characters[0], (unsigned char)characters[1]};
    return grammar_set(json->builder, ranges, count, false);
}

static struct grammar_node *digits(struct grammar_json *json, uint32_t least, uint32_t most)
{
    return grammar_repeat(json->builder, one_of(json, "09"), least, most);
}

/* ---- rules ---- */

static struct grammar_node *make_space(struct grammar_json *json)
{
    struct grammar_node *line = cat(json, grammar_json_text(json, "\n"),
                                    grammar_repeat(json->builder, one_of(json, "\t\t  "), 0, INDENT));
    return grammar_optional(json->builder, alt(json, grammar_json_text(json, " "), line));
}

/* \u names no half of a surrogate pair: what it would stand for depends on the other half. */
static struct grammar_node *make_character(struct grammar_json *json)
{
    static const struct codepoint_range plain[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x10FFFF}};
    static const char hex[] = "09AFaf";
    struct grammar_node *low =
        cat(json, one_of(json, "09ACEFacef"), grammar_repeat(json->builder, one_of(json, hex), 3, 3));
    struct grammar_node *high = cat(json, cat(json, one_of(json, "DDdd"), one_of(json, "07")),
                                    grammar_repeat(json->builder, one_of(json, hex), 2, 2));
    struct grammar_node *unicode = cat(json, grammar_json_text(json, "u"), alt(json, low, high));
    struct grammar_node *escape =
        cat(json, grammar_json_text(json, "\\"), alt(json, one_of(json, "\"\"//\\\\bbffnnrrtt"), unicode));
    return alt(json, grammar_set(json->builder, plain, 3, false), escape);
}

static struct grammar_node *make_string(struct grammar_json *json)
{
    return cat(
        json,
        cat(json, grammar_json_text(json, "\""),
            grammar_repeat(json->builder, grammar_json_rule(json, json->character), 0, GRAMMAR_UNBOUNDED)),
        grammar_json_text(json, "\""));
}

static struct grammar_node *whole(struct grammar_json *json)
{
    return alt(json, grammar_json_text(json, "0"),
               cat(json, one_of(json, "19"), digits(json, 0, MOST_DIGITS - 1)));
}

static struct grammar_node *make_integer(struct grammar_json *json)
{
    return cat(json, grammar_optional(json->builder, grammar_json_text(json, "-")), whole(json));
}

static struct grammar_node *fraction(struct grammar_json *json)
{
    return cat(json, grammar_json_text(json, "."), digits(json, 1, MOST_DIGITS));
}

static struct grammar_node *make_number(struct grammar_json *json)
{
    struct grammar_node *exponent =
        cat(json, cat(json, one_of(json, "EEee"), grammar_optional(json->builder, one_of(json, "++--"))),
            digits(json, 1, 2));
    return cat(
        json,
        cat(json, grammar_json_rule(json, json->integer), grammar_optional(json->builder, fraction(json))),
        grammar_optional(json->builder, exponent));
}

/* open space (member (, space member)*)? space close */
static struct grammar_node *make_list(struct grammar_json *json, const char *open,
                                      struct grammar_node *member, struct grammar_node *again,
                                      const char *close)
{
    struct grammar_node *comma =
        cat(json, cat(json, grammar_json_text(json, ","), grammar_json_rule(json, json->space)), again);
    struct grammar_node *members =
        cat(json, member, grammar_repeat(json->builder, comma, 0, GRAMMAR_UNBOUNDED));
    return grammar_json_join(json, (struct grammar_node *const[]){grammar_json_text(json, open),
                                                                  grammar_json_rule(json, json->space),
                                                                  grammar_optional(json->builder, members),
                                                                  grammar_json_rule(json, json->space),
                                                                  grammar_json_text(json, close), NULL});
}

static struct grammar_node *any_member(struct grammar_json *json)
{
    return grammar_json_join(json, (struct grammar_node *const[]){
                                       grammar_json_rule(json, json->string), grammar_json_text(json, ":"),
                                       grammar_json_rule(json, json->space),
                                       grammar_json_rule(json, json->value), NULL});
}

static struct grammar_node *make_value(struct grammar_json *json)
{
    struct grammar_node *node = grammar_json_rule(json, json->object);
    node = alt(json, node, grammar_json_rule(json, json->array));
    node = alt(json, node, grammar_json_rule(json, json->string));
    node = alt(json, node, grammar_json_rule(json, json->number));
    node = alt(json, node, grammar_json_text(json, "true"));
    node = alt(json, node, grammar_json_text(json, "false"));
    return alt(json, node, grammar_json_text(json, "null"));
}

void grammar_json_init(struct grammar_json *json, struct grammar_builder *builder)
{
    uint32_t *rules[] = {&json->space,  &json->character, &json->string, &json->integer,
                         &json->number, &json->value,     &json->object, &json->array};
    json->builder = builder;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        *rules[i] = grammar_add_rule(builder);
    grammar_set_rule(builder, json->space, make_space(json));
    grammar_set_rule(builder, json->character, make_character(json));
    grammar_set_rule(builder, json->string, make_string(json));
    grammar_set_rule(builder, json->integer, make_integer(json));
    grammar_set_rule(builder, json->number, make_number(json));
    grammar_set_rule(builder, json->value, make_value(json));
    grammar_set_rule(builder, json->object, make_list(json, "{", any_member(json), any_member(json), "}"));
    grammar_set_rule(builder, json->array,
                     make_list(json, "[", grammar_json_rule(json, json->value),
                               grammar_json_rule(json, json->value), "]"));
}

/* ---- digits between two numbers ---- */

static struct grammar_node *digit(struct grammar_json *json, char first, char last)
{
    return one_of(json, (const char[]){first, last, '\0'});
}

/* Digit strings of this length that are not below (above: not over) `edge`. */
static struct grammar_node *beyond(struct grammar_json *json, const char *edge, bool above)
{
    uint32_t left = (uint32_t)strlen(edge);
    if (left == 0)
        return grammar_empty(json->builder);
    struct grammar_node *node = cat(json, digit(json, edge[0], edge[0]), beyond(json, edge + 1, above));
    if (above ? edge[0] == '9' : edge[0] == '0')
        return node;
    struct grammar_node *other =
        above ? digit(json, (char)(edge[0] + 1), '9') : digit(json, '0', (char)(edge[0] - 1));
    return alt(json, node, cat(json, other, digits(json, left - 1, left - 1)));
}

/* Both have the same length. */
static struct grammar_node *between(struct grammar_json *json, const char *low, const char *high)
{
    uint32_t left = (uint32_t)strlen(low);
    if (left == 0)
        return grammar_empty(json->builder);
    if (low[0] == high[0])
        return cat(json, digit(json, low[0], low[0]), between(json, low + 1, high + 1));
    struct grammar_node *node = alt(json, cat(json, digit(json, low[0], low[0]), beyond(json, low + 1, true)),
                                    cat(json, digit(json, high[0], high[0]), beyond(json, high + 1, false)));
    if (low[0] + 1 == high[0])
        return node;
    return alt(
        json, node,
        cat(json, digit(json, (char)(low[0] + 1), (char)(high[0] - 1)), digits(json, left - 1, left - 1)));
}

static struct grammar_node *either(struct grammar_json *json, struct grammar_node *so_far,
                                   struct grammar_node *more)
{
    return so_far && more ? alt(json, so_far, more) : so_far ? so_far : more;
}

/* 0 <= low; high < 0: no end. NULL: none. */
static struct grammar_node *naturals(struct grammar_json *json, int64_t low, int64_t high)
{
    struct grammar_node *node = NULL;
    char from[MOST_DIGITS + 2], to[MOST_DIGITS + 2];
    if (high >= 0 && high < low)
        return NULL;
    int first = snprintf(from, sizeof from, "%lld", (long long)low);
    int last = high < 0 ? first : snprintf(to, sizeof to, "%lld", (long long)high);
    for (int length = first; length <= last; length++) {
        if (length > first)
            snprintf(from, sizeof from, "1%0*d", length - 1, 0);
        if (length < last || high < 0)
            memset(to, '9', (size_t)length), to[length] = '\0';
        else
            snprintf(to, sizeof to, "%lld", (long long)high);
        node = either(json, node, between(json, from, to));
    }
    if (high < 0)
        node = either(json, node,
                      cat(json, one_of(json, "19"), digits(json, (uint32_t)last, GRAMMAR_UNBOUNDED)));
    return node;
}

static struct grammar_node *negative(struct grammar_json *json, struct grammar_node *node)
{
    return node ? cat(json, grammar_json_text(json, "-"), node) : NULL;
}

struct grammar_node *grammar_json_integer(struct grammar_json *json, const struct grammar_bounds *bounds,
                                          bool *empty)
{
    int64_t least = bounds->least + bounds->above_least, most = bounds->most - bounds->below_most;
    struct grammar_node *node = NULL;
    *empty = false;
    if (!bounds->has_least && !bounds->has_most)
        return grammar_json_rule(json, json->integer);
    if (!bounds->has_least || least < 0) { /* -most .. -least, from one on */
        int64_t low = bounds->has_most && most < 0 ? -most : 1;
        node = negative(json, naturals(json, low, bounds->has_least ? -least : -1));
    }
    if (!bounds->has_most || most >= 0)
        node =
            either(json, node,
                   naturals(json, bounds->has_least && least > 0 ? least : 0, bounds->has_most ? most : -1));
    *empty = !node;
    return node;
}

/* ---- numbers with fractions ---- */

static struct grammar_node *zeros(struct grammar_json *json)
{
    return grammar_optional(json->builder,
                            cat(json, grammar_json_text(json, "."),
                                grammar_repeat(json->builder, one_of(json, "00"), 1, GRAMMAR_UNBOUNDED)));
}

static struct grammar_node *not_zeros(struct grammar_json *json)
{
    return grammar_json_join(
        json, (struct grammar_node *const[]){grammar_json_text(json, "."), digits(json, 0, GRAMMAR_UNBOUNDED),
                                             one_of(json, "19"), digits(json, 0, GRAMMAR_UNBOUNDED), NULL});
}

/* From low (without it: open_low) to high (< 0: no end); 0 <= low. */
static struct grammar_node *fractions(struct grammar_json *json, int64_t low, bool open_low, int64_t high,
                                      bool open_high)
{
    struct grammar_node *node = NULL, *inner;
    if (high >= 0 && (high < low || (high == low && (open_low || open_high))))
        return NULL;
    if (high == low)
        return cat(json, naturals(json, low, low), zeros(json));
    if (open_low) {
        node = cat(json, naturals(json, low, low), not_zeros(json));
        low++;
    }
    inner = naturals(json, low, high < 0 ? -1 : high - 1);
    if (high - 1 != -1 && inner)
        node = either(json, node, cat(json, inner, grammar_optional(json->builder, fraction(json))));
    if (high >= 0 && !open_high)
        node = either(json, node, cat(json, naturals(json, high, high), zeros(json)));
    return node;
}

struct grammar_node *grammar_json_number(struct grammar_json *json, const struct grammar_bounds *b,
                                         bool *empty)
{
    struct grammar_node *node = NULL;
    *empty = false;
    if (!b->has_least && !b->has_most)
        return grammar_json_rule(json, json->number);
    if (!b->has_least || b->least < 0) {
        bool below = b->has_most && (b->most < 0 || (b->most == 0 && b->below_most));
        node = negative(json, fractions(json, below ? -b->most : 0, below ? b->below_most : true,
                                        b->has_least ? -b->least : -1, b->above_least));
    }
    if (!b->has_most || b->most > 0 || (b->most == 0 && !b->below_most)) {
        bool above = b->has_least && b->least >= 0;
        node = either(json, node,
                      fractions(json, above ? b->least : 0, above && b->above_least,
                                b->has_most ? b->most : -1, b->below_most));
    }
    *empty = !node;
    return node;
}
