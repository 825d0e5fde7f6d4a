// SPDX-License-Identifier: Apache-2.0
// What the two halves of the template parser share: expressions (template_expression.c) and statements
// (template_parser.c). The first failure stays in `status`; after it every function returns NULL or false.
#ifndef ENGINE_TEXT_TEMPLATE_PARSER_H
#define ENGINE_TEXT_TEMPLATE_PARSER_H

#include "engine/text/template_node.h"

struct parser {
    struct template_source *source;
    const struct template_token *token;
    enum status status; /* of the first failure */
    int nesting;
    int loops; /* loops around the present place, in the same macro */
};

typedef struct template_node *parse_function(struct parser *p);

/* Failures: set the status, once, and return NULL. */
struct template_node *parser_refuse(struct parser *p, enum status status, const char *what,
                                    struct string_view name);
struct template_node *parser_invalid(struct parser *p, const char *what);
struct template_node *parser_unsupported(struct parser *p, const char *what, struct string_view name);

/* Nodes from the template's arena; NULL after a failure. */
struct template_node *parser_node(struct parser *p, enum node_kind kind);
struct template_node *parser_pair(struct parser *p, enum node_kind kind, struct template_node *a,
                                  struct template_node *b);
void parser_append(struct template_node **first, struct template_node **last, struct template_node *node);

/* Tokens: at_ looks, take_ takes what is there, expect_ fails without it. */
void parser_next(struct parser *p);
bool parser_at_operator(const struct parser *p, const char *text);
bool parser_at_name(const struct parser *p, const char *text);
bool parser_take_operator(struct parser *p, const char *text);
bool parser_take_name(struct parser *p, const char *text);
bool parser_expect_operator(struct parser *p, const char *text);
bool parser_expect(struct parser *p, enum token_kind kind, const char *what);

/* One level of nesting more; the caller counts it down again. */
bool parser_enter(struct parser *p);

/* expression: a condition; condition: with or without "if"; bare_tuple: "a" or "a, b"; filter: after '|',
 * `in` NULL in a filter block; member: after an object, at its '.'. */
struct template_node *parser_expression(struct parser *p);
struct template_node *parser_condition(struct parser *p, bool with_if);
struct template_node *parser_unary(struct parser *p, bool with_filter);
struct template_node *parser_bare_tuple(struct parser *p, parse_function *item);
struct template_node *parser_filter(struct parser *p, struct template_node *in);
struct template_node *parser_member(struct parser *p, struct template_node *object);

#endif
