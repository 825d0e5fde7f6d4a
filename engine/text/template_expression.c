// SPDX-License-Identifier: Apache-2.0
// Expressions of a chat template, by recursive descent with Jinja's grammar and precedence. Filters, tests,
// methods and star arguments that the evaluator does not know are refused here, with their line.
#include <string.h>

#include "engine/text/template_parser.h"

#define MAX_NESTING 100

struct template_node *parser_refuse(struct parser *p, enum status status, const char *what,
                                    struct string_view name)
{
    if (p->status == STATUS_OK)
        p->status = error_set(p->source->err, status, "chat template, line %d: %s%.*s", p->token->line, what,
                              (int)(name.bytes < 60 ? name.bytes : 60), name.text ? name.text : "");
    return NULL;
}

struct template_node *parser_invalid(struct parser *p, const char *what)
{
    return parser_refuse(p, STATUS_INVALID, what, (struct string_view){0});
}

struct template_node *parser_unsupported(struct parser *p, const char *what, struct string_view name)
{
    return parser_refuse(p, STATUS_UNSUPPORTED, what, name);
}

struct template_node *parser_node(struct parser *p, enum node_kind kind)
{
    struct template_node *node = p->status == STATUS_OK ? arena_alloc(p->source->arena, sizeof *node) : NULL;
    if (!node && p->status == STATUS_OK)
        p->status = error_set(p->source->err, STATUS_NO_MEMORY, "no memory for the chat template");
    if (node) {
        node->kind = kind;
        node->line = p->token->line;
    }
    return node;
}

struct template_node *parser_pair(struct parser *p, enum node_kind kind, struct template_node *a,
                                  struct template_node *b)
{
    struct template_node *node = a || b ? parser_node(p, kind) : NULL;
    if (node) {
        node->a = a;
        node->b = b;
    }
    return node;
}

void parser_next(struct parser *p)
{
    if (p->token->kind != TOKEN_END)
        p->token++;
}

static bool token_is(const struct template_token *token, enum token_kind kind, const char *text)
{
    return token->kind == kind && token->text.bytes == strlen(text) &&
           memcmp(token->text.text, text, token->text.bytes) == 0;
}

bool parser_at_operator(const struct parser *p, const char *text)
{
    return token_is(p->token, TOKEN_OPERATOR, text);
}

bool parser_at_name(const struct parser *p, const char *text)
{
    return token_is(p->token, TOKEN_NAME, text);
}

bool parser_take_operator(struct parser *p, const char *text)
{
    const bool there = parser_at_operator(p, text);
    if (there)
        parser_next(p);
    return there;
}

bool parser_take_name(struct parser *p, const char *text)
{
    const bool there = parser_at_name(p, text);
    if (there)
        parser_next(p);
    return there;
}

bool parser_expect_operator(struct parser *p, const char *text)
{
    if (p->status == STATUS_OK && !parser_take_operator(p, text))
        parser_refuse(p, STATUS_INVALID, "expected ", (struct string_view){text, strlen(text)});
    return p->status == STATUS_OK;
}

bool parser_expect(struct parser *p, enum token_kind kind, const char *what)
{
    if (p->status == STATUS_OK && p->token->kind != kind)
        parser_refuse(p, STATUS_INVALID, "expected ", (struct string_view){what, strlen(what)});
    if (p->status == STATUS_OK)
        parser_next(p);
    return p->status == STATUS_OK;
}

bool parser_enter(struct parser *p)
{
    if (++p->nesting > MAX_NESTING && p->status == STATUS_OK)
        p->status = error_set(p->source->err, STATUS_TOO_LARGE,
                              "chat template, line %d: nested over %d levels", p->token->line, MAX_NESTING);
    return p->status == STATUS_OK;
}

void parser_append(struct template_node **first, struct template_node **last, struct template_node *node)
{
    if (*last)
        (*last)->next = node;
    else
        *first = node;
    *last = node;
}

/* name=value or value, up to the closing parenthesis. */
static struct template_node *parse_arguments(struct parser *p, int *count)
{
    struct template_node *first = NULL, *last = NULL;
    bool named = false;
    *count = 0;
    while (p->status == STATUS_OK && !parser_at_operator(p, ")")) {
        if (first && !parser_expect_operator(p, ","))
            return NULL;
        if (parser_at_operator(p, ")"))
            break;
        if (parser_at_operator(p, "*") || parser_at_operator(p, "**"))
            return parser_unsupported(p, "star arguments are not supported", (struct string_view){0});
        struct template_node *argument = parser_node(p, NODE_ARGUMENT);
        if (!argument)
            return NULL;
        if (p->token->kind == TOKEN_NAME && token_is(p->token + 1, TOKEN_OPERATOR, "=")) {
            argument->value = value_view(p->token->text.text, p->token->text.bytes);
            parser_next(p);
            parser_next(p);
            named = true;
        } else if (named) {
            return parser_invalid(p, "a positional argument follows a named one");
        }
        argument->a = parser_expression(p);
        parser_append(&first, &last, argument);
        if (++*count > TEMPLATE_MAX_ARGUMENTS)
            return parser_invalid(p, "too many arguments");
    }
    parser_expect_operator(p, ")");
    return first;
}

static struct template_node *parse_constant(struct parser *p, struct value value)
{
    struct template_node *node = parser_node(p, NODE_CONSTANT);
    if (node)
        node->value = value;
    parser_next(p);
    return node;
}

static struct template_node *parse_string(struct parser *p)
{
    struct template_node *node = parse_constant(p, value_view(p->token->text.text, p->token->text.bytes));
    while (node && p->token->kind == TOKEN_STRING) { /* neighbours are one string */
        const struct string_view left = node->value.as.string, right = p->token->text;
        char *joined = arena_alloc(p->source->arena, left.bytes + right.bytes + 1);
        if (!joined) {
            p->status = error_set(p->source->err, STATUS_NO_MEMORY, "no memory for the chat template");
            return NULL;
        }
        memcpy(joined, left.text, left.bytes);
        memcpy(joined + left.bytes, right.text, right.bytes);
        node->value = value_view(joined, left.bytes + right.bytes);
        parser_next(p);
    }
    return node;
}

static struct template_node *parse_items(struct parser *p, enum node_kind kind, const char *end)
{
    struct template_node *node = parser_node(p, kind), *last = NULL;
    parser_next(p);
    while (node && p->status == STATUS_OK && !parser_at_operator(p, end)) {
        if (node->items && !parser_expect_operator(p, ","))
            break;
        if (parser_at_operator(p, end))
            break;
        struct template_node *item = parser_expression(p);
        if (kind == NODE_DICT && item && parser_expect_operator(p, ":"))
            item = parser_pair(p, NODE_PAIR, item, parser_expression(p));
        if (item)
            parser_append(&node->items, &last, item);
    }
    parser_expect_operator(p, end);
    return node;
}

/* (a), (), (a,) or (a, b). */
static struct template_node *parse_parentheses(struct parser *p)
{
    struct template_node *tuple = parser_node(p, NODE_TUPLE), *last = NULL;
    bool comma = false;
    parser_next(p);
    while (tuple && p->status == STATUS_OK && !parser_at_operator(p, ")")) {
        struct template_node *item = parser_expression(p);
        if (item)
            parser_append(&tuple->items, &last, item);
        if (!parser_take_operator(p, ","))
            break;
        comma = true;
    }
    parser_expect_operator(p, ")");
    return tuple && tuple->items && !comma ? tuple->items : tuple;
}

static struct template_node *parse_primary(struct parser *p)
{
    const struct template_token *token = p->token;
    switch (token->kind) {
    case TOKEN_STRING:
        return parse_string(p);
    case TOKEN_INTEGER:
        return parse_constant(p, value_integer(token->integer));
    case TOKEN_FLOAT:
        return parse_constant(p, value_float(token->number));
    case TOKEN_NAME:
        break;
    default:
        if (parser_at_operator(p, "("))
            return parse_parentheses(p);
        if (parser_at_operator(p, "["))
            return parse_items(p, NODE_LIST, "]");
        if (parser_at_operator(p, "{"))
            return parse_items(p, NODE_DICT, "}");
        return parser_invalid(p, "an expression is expected");
    }
    if (parser_at_name(p, "true") || parser_at_name(p, "True") || parser_at_name(p, "false") ||
        parser_at_name(p, "False"))
        return parse_constant(p, value_bool((token->text.text[0] | 32) == 't'));
    if (parser_at_name(p, "none") || parser_at_name(p, "None"))
        return parse_constant(p, value_none());
    struct template_node *node = parser_node(p, NODE_NAME);
    if (node)
        node->value = value_view(token->text.text, token->text.bytes);
    parser_next(p);
    return node;
}

static struct template_node *parse_subscript(struct parser *p, struct template_node *object)
{
    struct template_node *parts[3] = {NULL};
    int count = 0;
    bool sliced = false;
    parser_next(p);
    while (p->status == STATUS_OK && !parser_at_operator(p, "]")) {
        if (parser_take_operator(p, ":")) {
            sliced = true;
            if (++count > 2)
                return parser_invalid(p, "a slice has at most three parts");
        } else if (parser_at_operator(p, ",")) {
            return parser_unsupported(p, "an index of several values is not supported",
                                      (struct string_view){0});
        } else {
            if (parts[count])
                return parser_invalid(p, "expected ]");
            parts[count] = parser_expression(p);
        }
    }
    if (!parser_expect_operator(p, "]") || (!sliced && !parts[0]))
        return parser_invalid(p, "an index is expected");
    struct template_node *node = parser_pair(p, sliced ? NODE_SLICE : NODE_INDEX, object, parts[0]);
    if (node) {
        node->c = parts[1];
        node->d = parts[2];
    }
    return node;
}

struct template_node *parser_member(struct parser *p, struct template_node *object)
{
    parser_next(p);
    struct template_node *node = parser_node(p, NODE_ATTRIBUTE);
    if (p->token->kind == TOKEN_INTEGER && node) {
        node->kind = NODE_INDEX;
        node->a = object;
        node->b = parse_constant(p, value_integer(p->token->integer));
        return node;
    }
    if (p->token->kind != TOKEN_NAME)
        return parser_invalid(p, "a name is expected after '.'");
    if (node) {
        node->a = object;
        node->value = value_view(p->token->text.text, p->token->text.bytes);
    }
    parser_next(p);
    return node;
}

static bool name_is(const struct template_node *node, const char *name)
{
    return node->kind == NODE_NAME && value_is_text(&node->value, name);
}

static struct template_node *parse_call(struct parser *p, struct template_node *callee)
{
    static const char *const absent[] = {"cycler", "joiner", "lipsum", "super", "self"};
    for (size_t i = 0; callee && i < sizeof absent / sizeof absent[0]; i++)
        if (name_is(callee, absent[i]))
            return parser_unsupported(p, "function not supported: ", callee->value.as.string);
    if (callee && callee->kind == NODE_ATTRIBUTE && !template_method_known(callee->value.as.string) &&
        !(callee->a->kind == NODE_NAME && name_is(callee->a, "loop")))
        return parser_unsupported(p, "method not supported: ", callee->value.as.string);
    int count;
    struct template_node *node = parser_node(p, NODE_CALL);
    parser_next(p);
    if (node) {
        node->a = callee;
        node->items = parse_arguments(p, &count);
    }
    return node;
}

static struct template_node *parse_postfix(struct parser *p, struct template_node *node)
{
    while (node && p->status == STATUS_OK) {
        if (parser_at_operator(p, "."))
            node = parser_member(p, node);
        else if (parser_at_operator(p, "["))
            node = parse_subscript(p, node);
        else if (parser_at_operator(p, "("))
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

/* name or name(arguments) after '|'; `in` NULL in a filter block. */
struct template_node *parser_filter(struct parser *p, struct template_node *in)
{
    const struct string_view name = p->token->text;
    int count;
    if (p->token->kind != TOKEN_NAME)
        return parser_invalid(p, "a filter's name is expected after '|'");
    struct template_node *node = parser_node(p, NODE_FILTER);
    if (!node)
        return NULL;
    node->a = in;
    node->value = value_view(name.text, name.bytes);
    node->op = template_filter_find(name);
    if (node->op < 0)
        return parser_unsupported(p, "filter not supported: ", name);
    parser_next(p);
    if (parser_take_operator(p, "("))
        node->items = parse_arguments(p, &count);
    return node;
}

static bool test_argument_begins(const struct parser *p)
{
    const struct template_token *t = p->token;
    if (t->kind == TOKEN_STRING || t->kind == TOKEN_INTEGER || t->kind == TOKEN_FLOAT ||
        parser_at_operator(p, "[") || parser_at_operator(p, "{"))
        return true;
    return t->kind == TOKEN_NAME && !parser_at_name(p, "else") && !parser_at_name(p, "or") &&
           !parser_at_name(p, "and") && !parser_at_name(p, "if") && !parser_at_name(p, "is") &&
           !parser_at_name(p, "in") && !parser_at_name(p, "not");
}

static struct template_node *parse_test(struct parser *p, struct template_node *in)
{
    int count;
    const bool negated = parser_take_name(p, "not");
    const struct string_view name = p->token->text;
    struct template_node *node = parser_node(p, NODE_TEST);
    if (p->token->kind != TOKEN_NAME || !node)
        return parser_invalid(p, "a test's name is expected after 'is'");
    node->a = in;
    node->op = template_test_find(name);
    if (node->op < 0)
        return parser_unsupported(p, "test not supported: ", name);
    parser_next(p);
    if (parser_take_operator(p, "(")) {
        node->items = parse_arguments(p, &count);
    } else if (test_argument_begins(p)) {
        node->items = parser_node(p, NODE_ARGUMENT);
        struct template_node *argument = parse_postfix(p, parse_primary(p));
        if (node->items)
            node->items->a = argument;
    }
    return negated ? parser_pair(p, NODE_NOT, node, NULL) : node;
}

static struct template_node *parse_filters(struct parser *p, struct template_node *node)
{
    while (node && p->status == STATUS_OK) {
        if (parser_take_operator(p, "|"))
            node = parser_filter(p, node);
        else if (parser_take_name(p, "is"))
            node = parse_test(p, node);
        else if (parser_at_operator(p, "("))
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

struct template_node *parser_unary(struct parser *p, bool with_filter)
{
    struct template_node *node = NULL;
    if (parser_enter(p)) {
        const bool negative = parser_at_operator(p, "-");
        if (parser_take_operator(p, "-") || parser_take_operator(p, "+"))
            node = parser_pair(p, negative ? NODE_NEGATE : NODE_POSITIVE, parser_unary(p, false), NULL);
        else
            node = parse_primary(p);
        node = parse_postfix(p, node);
        if (with_filter)
            node = parse_filters(p, node);
    }
    p->nesting--;
    return node;
}

static struct template_node *parse_any_unary(struct parser *p)
{
    return parser_unary(p, true);
}

/* One level of left-associative operators. */
struct level {
    parse_function *operand;
    struct {
        const char *text;
        int op;
    } operators[5];
};

static struct template_node *parse_level(struct parser *p, const struct level *level)
{
    struct template_node *left = level->operand(p);
    while (left && p->status == STATUS_OK) {
        int found = -1;
        for (int i = 0; level->operators[i].text && found < 0; i++)
            if (parser_at_operator(p, level->operators[i].text))
                found = i;
        if (found < 0)
            break;
        parser_next(p);
        left = parser_pair(p, NODE_BINARY, left, level->operand(p));
        if (left)
            left->op = level->operators[found].op;
    }
    return left;
}

static struct template_node *parse_power(struct parser *p)
{
    static const struct level level = {parse_any_unary, {{"**", OP_POWER}}};
    return parse_level(p, &level);
}

static struct template_node *parse_product(struct parser *p)
{
    static const struct level level = {
        parse_power, {{"*", OP_MULTIPLY}, {"/", OP_DIVIDE}, {"//", OP_FLOOR_DIVIDE}, {"%", OP_MODULO}}};
    return parse_level(p, &level);
}

static struct template_node *parse_concat(struct parser *p)
{
    static const struct level level = {parse_product, {{"~", OP_CONCAT}}};
    return parse_level(p, &level);
}

static struct template_node *parse_sum(struct parser *p)
{
    static const struct level level = {parse_concat, {{"+", OP_ADD}, {"-", OP_SUBTRACT}}};
    return parse_level(p, &level);
}

/* The comparison at the present place, taken; -1: none. */
static int take_comparison(struct parser *p)
{
    static const struct {
        const char *text;
        int op;
    } operators[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<", OP_LT}, {"<=", OP_LE}, {">", OP_GT}, {">=", OP_GE}};
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++)
        if (parser_take_operator(p, operators[i].text))
            return operators[i].op;
    if (parser_take_name(p, "in"))
        return OP_IN;
    if (parser_at_name(p, "not") && token_is(p->token + 1, TOKEN_NAME, "in")) {
        parser_next(p);
        parser_next(p);
        return OP_NOT_IN;
    }
    return -1;
}

static struct template_node *parse_compare(struct parser *p)
{
    struct template_node *left = parse_sum(p), *last = NULL, *node = NULL;
    for (int op = left ? take_comparison(p) : -1; op >= 0 && p->status == STATUS_OK;
         op = take_comparison(p)) {
        struct template_node *operand = parser_pair(p, NODE_OPERAND, parse_sum(p), NULL);
        if (!node)
            node = parser_pair(p, NODE_COMPARE, left, NULL);
        if (!operand || !node)
            return NULL;
        operand->op = op;
        parser_append(&node->items, &last, operand);
    }
    return node ? node : left;
}

static struct template_node *parse_not(struct parser *p)
{
    struct template_node *node = NULL;
    if (parser_enter(p))
        node = parser_take_name(p, "not") ? parser_pair(p, NODE_NOT, parse_not(p), NULL) : parse_compare(p);
    p->nesting--;
    return node;
}

static struct template_node *parse_and(struct parser *p)
{
    struct template_node *left = parse_not(p);
    while (left && parser_take_name(p, "and"))
        left = parser_pair(p, NODE_AND, left, parse_not(p));
    return left;
}

static struct template_node *parse_or(struct parser *p)
{
    struct template_node *left = parse_and(p);
    while (left && parser_take_name(p, "or"))
        left = parser_pair(p, NODE_OR, left, parse_and(p));
    return left;
}

struct template_node *parser_condition(struct parser *p, bool with_if)
{
    struct template_node *node = NULL;
    if (parser_enter(p)) {
        node = parse_or(p);
        while (with_if && node && parser_take_name(p, "if")) {
            node = parser_pair(p, NODE_CONDITION, node, parse_or(p));
            if (node && parser_take_name(p, "else"))
                node->c = parser_condition(p, true);
        }
    }
    p->nesting--;
    return node;
}

struct template_node *parser_expression(struct parser *p)
{
    return parser_condition(p, true);
}

/* a or a, b: a tuple without parentheses. */
struct template_node *parser_bare_tuple(struct parser *p, parse_function *item)
{
    struct template_node *first = item(p), *tuple, *last = NULL;
    if (!first || !parser_at_operator(p, ","))
        return first;
    tuple = parser_node(p, NODE_TUPLE);
    if (!tuple)
        return NULL;
    parser_append(&tuple->items, &last, first);
    while (p->status == STATUS_OK && parser_take_operator(p, ",")) {
        if (p->token->kind == TOKEN_BLOCK_END || p->token->kind == TOKEN_PRINT_END ||
            parser_at_name(p, "in") || parser_at_operator(p, "="))
            break;
        struct template_node *more = item(p);
        if (more)
            parser_append(&tuple->items, &last, more);
    }
    return tuple;
}
