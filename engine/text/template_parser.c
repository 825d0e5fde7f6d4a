// SPDX-License-Identifier: Apache-2.0
// Statements of a chat template: one function per tag, listed in parse_tag. An unknown tag is refused with
// its line.
#include <string.h>

#include "engine/text/template_parser.h"

static struct template_node *parse_body(struct parser *p, const char *const *ends, const char **end);

static struct template_node *parse_target_name(struct parser *p)
{
    if (parser_take_operator(p, "(")) {
        struct template_node *inner = parser_bare_tuple(p, parse_target_name);
        parser_expect_operator(p, ")");
        return inner;
    }
    if (p->token->kind != TOKEN_NAME)
        return parser_invalid(p, "a name is expected");
    struct template_node *node = parser_node(p, NODE_NAME);
    if (node)
        node->value = value_view(p->token->text.text, p->token->text.bytes);
    parser_next(p);
    return node;
}

static struct template_node *finish(struct parser *p, struct template_node *node, const char *const *ends)
{
    const char *end;
    parser_expect(p, TOKEN_BLOCK_END, "%}");
    struct template_node *body = parse_body(p, ends, &end);
    if (node && body)
        node->items = body->items;
    parser_expect(p, TOKEN_BLOCK_END, "%}");
    return node;
}

static struct template_node *parse_if(struct parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    const char *end = NULL;
    struct template_node *node = NULL;
    if (parser_enter(p))
        node = parser_pair(p, NODE_IF, parser_bare_tuple(p, parser_expression), NULL);
    parser_expect(p, TOKEN_BLOCK_END, "%}");
    struct template_node *body = parse_body(p, ends, &end);
    if (node && body) {
        node->items = body->items;
        if (strcmp(end, "elif") == 0) {
            node->c = parse_if(p);
            p->nesting--;
            return node;
        }
        if (strcmp(end, "else") == 0) {
            parser_expect(p, TOKEN_BLOCK_END, "%}");
            node->c = parse_body(p, last, &end);
        }
        parser_expect(p, TOKEN_BLOCK_END, "%}");
    }
    p->nesting--;
    return node;
}

static struct template_node *parse_for(struct parser *p)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    const char *end = NULL;
    struct template_node *node = parser_node(p, NODE_FOR);
    struct template_node *target = parser_bare_tuple(p, parse_target_name);
    if (p->status == STATUS_OK && !parser_take_name(p, "in"))
        return parser_invalid(p, "expected 'in'");
    struct template_node *items = NULL;
    if (p->status == STATUS_OK) {
        items = parser_condition(p, false);
        if (items && parser_at_operator(p, ","))
            return parser_unsupported(p, "a loop over a bare tuple is not supported",
                                      (struct string_view){0});
    }
    if (!node || !target || !items)
        return NULL;
    node->a = target;
    node->b = items;
    if (parser_take_name(p, "if"))
        node->c = parser_expression(p);
    if (parser_at_name(p, "recursive"))
        return parser_unsupported(p, "recursive loops are not supported", (struct string_view){0});
    parser_expect(p, TOKEN_BLOCK_END, "%}");
    p->loops++;
    struct template_node *body = parse_body(p, ends, &end);
    p->loops--;
    if (!body)
        return NULL;
    node->items = body->items;
    if (strcmp(end, "else") == 0) {
        parser_expect(p, TOKEN_BLOCK_END, "%}");
        node->d = parse_body(p, last, &end);
    }
    parser_expect(p, TOKEN_BLOCK_END, "%}");
    return node;
}

static struct template_node *parse_set(struct parser *p)
{
    static const char *const ends[] = {"endset", NULL};
    struct template_node *node = parser_node(p, NODE_SET);
    struct template_node *target = parser_bare_tuple(p, parse_target_name);
    if (!node || !target)
        return NULL;
    if (parser_at_operator(p, ".") && target->kind == NODE_NAME)
        target = parser_member(p, target);
    node->a = target;
    if (parser_take_operator(p, "=")) {
        node->b = parser_bare_tuple(p, parser_expression);
        parser_expect(p, TOKEN_BLOCK_END, "%}");
        return node;
    }
    node->kind = NODE_SET_BLOCK;
    while (p->status == STATUS_OK && parser_take_operator(p, "|"))
        node->b = parser_filter(p, node->b);
    return finish(p, node, ends);
}

static struct template_node *parse_parameters(struct parser *p)
{
    struct template_node *node = parser_node(p, NODE_PARAMETERS), *last = NULL;
    int count = 0;
    while (node && p->status == STATUS_OK && !parser_at_operator(p, ")")) {
        if (node->items && !parser_expect_operator(p, ","))
            break;
        struct template_node *parameter = parser_node(p, NODE_PARAMETER);
        if (p->token->kind != TOKEN_NAME || !parameter)
            return parser_invalid(p, "a parameter's name is expected");
        if (++count > TEMPLATE_MAX_ARGUMENTS)
            return parser_invalid(p, "too many parameters");
        parameter->value = value_view(p->token->text.text, p->token->text.bytes);
        parser_next(p);
        if (parser_take_operator(p, "="))
            parameter->a = parser_expression(p);
        parser_append(&node->items, &last, parameter);
    }
    parser_expect_operator(p, ")");
    return node;
}

static struct template_node *parse_macro(struct parser *p)
{
    static const char *const ends[] = {"endmacro", NULL};
    struct template_node *node = parser_node(p, NODE_MACRO);
    if (p->token->kind != TOKEN_NAME || !node)
        return parser_invalid(p, "a macro's name is expected");
    node->value = value_view(p->token->text.text, p->token->text.bytes);
    parser_next(p);
    if (!parser_expect_operator(p, "("))
        return NULL;
    node->a = parse_parameters(p);
    const int loops = p->loops;
    p->loops = 0;
    node = finish(p, node, ends);
    p->loops = loops;
    return node;
}

static struct template_node *parse_call_block(struct parser *p)
{
    static const char *const ends[] = {"endcall", NULL};
    struct template_node *node = parser_node(p, NODE_CALL_BLOCK);
    if (!node)
        return NULL;
    if (parser_take_operator(p, "("))
        node->a = parse_parameters(p);
    node->b = parser_unary(p, true);
    if (node->b && node->b->kind != NODE_CALL)
        return parser_invalid(p, "{% call %} needs a call");
    const int loops = p->loops;
    p->loops = 0;
    node = finish(p, node, ends);
    p->loops = loops;
    return node;
}

static struct template_node *parse_filter_block(struct parser *p)
{
    static const char *const ends[] = {"endfilter", NULL};
    struct template_node *node = parser_node(p, NODE_FILTER_BLOCK);
    if (!node)
        return NULL;
    node->b = parser_filter(p, NULL);
    while (node->b && parser_take_operator(p, "|"))
        node->b = parser_filter(p, node->b);
    return finish(p, node, ends);
}

static struct template_node *parse_with(struct parser *p)
{
    static const char *const ends[] = {"endwith", NULL};
    struct template_node *node = parser_node(p, NODE_WITH), *last = NULL;
    if (!node)
        return NULL;
    node->a = parser_node(p, NODE_BODY);
    while (node->a && p->status == STATUS_OK && p->token->kind != TOKEN_BLOCK_END) {
        if (node->a->items && !parser_expect_operator(p, ","))
            break;
        struct template_node *set = parser_node(p, NODE_SET), *target = parse_target_name(p);
        if (!set || !target || !parser_expect_operator(p, "="))
            return NULL;
        set->a = target;
        set->b = parser_expression(p);
        parser_append(&node->a->items, &last, set);
    }
    return finish(p, node, ends);
}

static struct template_node *parse_generation(struct parser *p)
{
    static const char *const ends[] = {"endgeneration", NULL};
    const int loops = p->loops;
    p->loops = 0;
    struct template_node *node = finish(p, parser_node(p, NODE_GENERATION), ends);
    p->loops = loops;
    return node;
}

static struct template_node *parse_jump(struct parser *p, enum node_kind kind)
{
    if (p->loops == 0)
        return parser_invalid(p, "break or continue outside of a loop");
    struct template_node *node = parser_node(p, kind);
    parser_expect(p, TOKEN_BLOCK_END, "%}");
    return node;
}

static struct template_node *parse_break(struct parser *p)
{
    return parse_jump(p, NODE_BREAK);
}

static struct template_node *parse_continue(struct parser *p)
{
    return parse_jump(p, NODE_CONTINUE);
}

static struct template_node *parse_tag(struct parser *p)
{
    static const struct {
        const char *name;
        parse_function *parse;
    } tags[] = {{"if", parse_if},           {"for", parse_for},
                {"set", parse_set},         {"macro", parse_macro},
                {"call", parse_call_block}, {"filter", parse_filter_block},
                {"with", parse_with},       {"generation", parse_generation},
                {"break", parse_break},     {"continue", parse_continue}};
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++)
        if (parser_take_name(p, tags[i].name)) {
            struct template_node *node = parser_enter(p) ? tags[i].parse(p) : NULL;
            p->nesting--;
            return node;
        }
    if (p->token->kind != TOKEN_NAME)
        return parser_invalid(p, "a tag's name is expected after {%");
    return parser_unsupported(p, "tag not supported: ", p->token->text);
}

static struct template_node *parse_print(struct parser *p)
{
    struct template_node *node = parser_pair(p, NODE_PRINT, parser_bare_tuple(p, parser_expression), NULL);
    parser_expect(p, TOKEN_PRINT_END, "}}");
    return node;
}

static struct template_node *parse_statement(struct parser *p)
{
    if (p->token->kind == TOKEN_PRINT_BEGIN) {
        parser_next(p);
        return parse_print(p);
    }
    if (p->token->kind != TOKEN_TEXT)
        return parser_invalid(p, "text or a tag is expected");
    struct template_node *node = parser_node(p, NODE_TEXT);
    if (node)
        node->value = value_view(p->token->text.text, p->token->text.bytes);
    parser_next(p);
    return node;
}

/* The last of the tags that may end a body is the one that closes its statement. */
static struct template_node *unclosed(struct parser *p, const char *const *ends)
{
    while (ends[1])
        ends++;
    return parser_refuse(p, STATUS_INVALID, "the template ends before {% ",
                         (struct string_view){*ends, strlen(*ends)});
}

/* Statements up to one of the tags in `ends`, whose name is taken (not its "%}"). */
static struct template_node *parse_body(struct parser *p, const char *const *ends, const char **end)
{
    struct template_node *body = parser_node(p, NODE_BODY), *last = NULL;
    *end = NULL;
    while (body && p->status == STATUS_OK) {
        if (p->token->kind == TOKEN_END)
            return ends ? unclosed(p, ends) : body;
        struct template_node *node;
        if (p->token->kind == TOKEN_BLOCK_BEGIN) {
            parser_next(p);
            for (int i = 0; ends && ends[i]; i++)
                if (parser_take_name(p, ends[i])) {
                    *end = ends[i];
                    return body;
                }
            node = parse_tag(p);
        } else {
            node = parse_statement(p);
        }
        if (node)
            parser_append(&body->items, &last, node);
    }
    return NULL;
}

enum status template_parse(struct template_source *source, struct template_node **root)
{
    const char *end;
    struct parser p = {.source = source, .token = source->tokens};
    *root = parse_body(&p, NULL, &end);
    return p.status;
}
