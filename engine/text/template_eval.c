// SPDX-License-Identifier: Apache-2.0
// Runs the tree of a chat template. Names are looked up through scopes as Jinja does: a loop's body, a macro
// and a with block have scopes of their own, an if has none. Every node costs a step and a level, so a
// template ends.
#include <string.h>

#include "engine/text/template_node.h"

enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };

const struct value *template_argument(const struct template_arguments *arguments, size_t place,
                                      const char *name)
{
    if (place < arguments->positional)
        return &arguments->values[place];
    for (size_t i = arguments->positional; i < arguments->count; i++)
        if (arguments->names[i].bytes == strlen(name) &&
            memcmp(arguments->names[i].text, name, arguments->names[i].bytes) == 0)
            return &arguments->values[i];
    return NULL;
}

static struct scope_binding *find_in_scope(const struct scope *scope, struct string_view name)
{
    for (struct scope_binding *b = scope->bindings; b; b = b->next)
        if (b->name.bytes == name.bytes && memcmp(b->name.text, name.text, name.bytes) == 0)
            return b;
    return NULL;
}

enum status template_bind(struct render *r, struct string_view name, struct value value)
{
    struct scope_binding *binding = find_in_scope(r->scope, name);
    if (!binding) {
        binding = render_alloc(r, sizeof *binding);
        if (!binding)
            return render_shortage(r);
        binding->name = name;
        binding->next = r->scope->bindings;
        r->scope->bindings = binding;
    }
    binding->value = value;
    return STATUS_OK;
}

static enum status push_scope(struct render *r, struct scope *parent, struct scope **saved)
{
    struct scope *scope = render_alloc(r, sizeof *scope);
    if (!scope)
        return render_shortage(r);
    *saved = r->scope;
    scope->parent = parent;
    r->scope = scope;
    return STATUS_OK;
}

static void look_up(struct render *r, struct string_view name, struct value *out)
{
    for (const struct scope *scope = r->scope; scope; scope = scope->parent) {
        const struct scope_binding *binding = find_in_scope(scope, name);
        if (binding) {
            *out = binding->value;
            return;
        }
    }
    const int function = template_function_find(name);
    *out = function >= 0 ? (struct value){.type = VALUE_FUNCTION, .as.function = function}
                         : value_undefined(name.text, name.bytes);
}

static enum status evaluate_items(struct render *r, const struct template_node *node, struct value *out)
{
    enum status status = value_new_list(r, node->kind == NODE_TUPLE ? VALUE_TUPLE : VALUE_LIST, 4, out);
    for (const struct template_node *item = node->items; item && status == STATUS_OK; item = item->next) {
        struct value value;
        status = template_evaluate(r, item, &value);
        if (status == STATUS_OK)
            status = value_append(r, out->as.list, value);
    }
    return status;
}

static enum status evaluate_dict(struct render *r, const struct template_node *node, struct value *out)
{
    enum status status = value_new_dict(r, VALUE_DICT, out);
    for (const struct template_node *pair = node->items; pair && status == STATUS_OK; pair = pair->next) {
        struct value key, value;
        status = template_evaluate(r, pair->a, &key);
        if (status == STATUS_OK)
            status = template_evaluate(r, pair->b, &value);
        if (status == STATUS_OK)
            status = value_put(r, out->as.dict, key, value);
    }
    return status;
}

static enum status evaluate_arguments(struct render *r, const struct template_node *first,
                                      struct template_arguments *out)
{
    *out = (struct template_arguments){0};
    if (!first)
        return STATUS_OK;
    out->values = render_alloc(r, TEMPLATE_MAX_ARGUMENTS * sizeof *out->values);
    out->names = render_alloc(r, TEMPLATE_MAX_ARGUMENTS * sizeof *out->names);
    if (!out->values || !out->names)
        return render_shortage(r);
    enum status status = STATUS_OK;
    for (const struct template_node *node = first; node && status == STATUS_OK; node = node->next) {
        status = template_evaluate(r, node->a, &out->values[out->count]);
        if (node->value.type == VALUE_STRING)
            out->names[out->count] = node->value.as.string;
        else
            out->positional++;
        out->count++;
    }
    return status;
}

static enum status test_pair(struct render *r, int op, const struct value *a, const struct value *b,
                             bool *result)
{
    int order = 0;
    enum status status;
    switch (op) {
    case OP_EQ:
        return value_equal(r, a, b, result);
    case OP_NE:
        status = value_equal(r, a, b, result);
        *result = !*result;
        return status;
    case OP_IN:
        return value_contains(r, b, a, result);
    case OP_NOT_IN:
        status = value_contains(r, b, a, result);
        *result = !*result;
        return status;
    default:
        break;
    }
    status = value_compare(r, a, b, &order);
    *result = op == OP_LT ? order < 0 : op == OP_LE ? order <= 0 : op == OP_GT ? order > 0 : order >= 0;
    return status;
}

static enum status evaluate_compare(struct render *r, const struct template_node *node, struct value *out)
{
    struct value left, right;
    bool result = true;
    enum status status = template_evaluate(r, node->a, &left);
    for (const struct template_node *operand = node->items; operand && status == STATUS_OK && result;
         operand = operand->next) {
        status = template_evaluate(r, operand->a, &right);
        if (status == STATUS_OK)
            status = test_pair(r, operand->op, &left, &right, &result);
        left = right;
    }
    *out = value_bool(result);
    return status;
}

static enum status evaluate_slice(struct render *r, const struct template_node *node, struct value *out)
{
    const struct template_node *const parts[] = {node->b, node->c, node->d};
    struct value object, values[3];
    enum status status = template_evaluate(r, node->a, &object);
    for (int i = 0; i < 3 && status == STATUS_OK; i++)
        if (parts[i])
            status = template_evaluate(r, parts[i], &values[i]);
        else
            values[i] = value_none();
    const struct template_slice slice = {&values[0], &values[1], &values[2]};
    return status == STATUS_OK ? template_slice(r, &object, &slice, out) : status;
}

/* Runs `body` with its output caught as a string. */
static enum status capture(struct render *r, const struct template_node *items, struct value *out)
{
    struct bytes text, *outer = r->out;
    bytes_init(&text, TEMPLATE_MAX_MEMORY_BYTES);
    r->out = &text;
    enum status status = template_run(r, items);
    r->out = outer;
    if (status == STATUS_OK)
        return value_from_bytes(r, &text, out);
    bytes_release(&text);
    return status;
}

static enum status bind_parameters(struct render *r, const struct value_macro *macro,
                                   const struct template_arguments *arguments)
{
    const struct template_node *list = macro->node->a;
    enum status status = STATUS_OK;
    size_t place = 0, used = 0;
    for (const struct template_node *p = list ? list->items : NULL; p && status == STATUS_OK; p = p->next) {
        char name[64];
        const struct string_view view = p->value.as.string;
        struct value value = value_undefined(view.text, view.bytes);
        if (view.bytes >= sizeof name)
            return render_fail(r, "a parameter's name is over %zu bytes", sizeof name - 1);
        memcpy(name, view.text, view.bytes);
        name[view.bytes] = '\0';
        const struct value *given = template_argument(arguments, place++, name);
        used += given != NULL;
        if (given)
            value = *given;
        else if (p->a)
            status = template_evaluate(r, p->a, &value);
        if (status == STATUS_OK)
            status = template_bind(r, view, value);
    }
    for (size_t i = arguments->positional; i < arguments->count; i++)
        used += arguments->names[i].bytes == 6 && memcmp(arguments->names[i].text, "caller", 6) == 0;
    if (status == STATUS_OK && used < arguments->count)
        return render_fail(r, "a macro was given more arguments than it takes, or twice the same");
    return status;
}

static enum status call_macro(struct render *r, const struct value_macro *macro,
                              const struct template_arguments *arguments, struct value *out)
{
    struct scope *saved = NULL;
    static const char caller_name[] = "caller";
    enum status status = push_scope(r, macro->closure, &saved);
    if (status != STATUS_OK)
        return status;
    status = bind_parameters(r, macro, arguments);
    const struct value *caller = template_argument(arguments, SIZE_MAX, caller_name);
    if (status == STATUS_OK && caller)
        status = template_bind(r, (struct string_view){caller_name, 6}, *caller);
    if (status == STATUS_OK)
        status = capture(r, macro->node->items, out);
    r->scope = saved;
    return status;
}

static enum status call_value(struct render *r, const struct value *callee,
                              const struct template_arguments *arguments, struct value *out)
{
    switch (callee->type) {
    case VALUE_MACRO:
        return call_macro(r, callee->as.macro, arguments, out);
    case VALUE_FUNCTION:
        return template_function_call(r, callee->as.function, arguments, out);
    case VALUE_METHOD:
        return template_method_call(r, callee->as.method, arguments, out);
    case VALUE_UNDEFINED:
        return render_fail(r, "'%.*s' is undefined", (int)callee->as.string.bytes, callee->as.string.text);
    default:
        return render_fail(r, "'%s' object is not callable", value_type_name(callee));
    }
}

/* A call; `caller` (NULL: none) is the body of a call block. */
static enum status evaluate_call(struct render *r, const struct template_node *node,
                                 const struct value *caller, struct value *out)
{
    struct value callee;
    struct template_arguments arguments;
    enum status status = template_evaluate(r, node->a, &callee);
    if (status == STATUS_OK)
        status = evaluate_arguments(r, node->items, &arguments);
    if (status != STATUS_OK)
        return status;
    if (caller) {
        struct template_arguments with = {.count = arguments.count + 1, .positional = arguments.positional};
        with.values = render_alloc(r, with.count * sizeof *with.values);
        with.names = render_alloc(r, with.count * sizeof *with.names);
        if (!with.values || !with.names)
            return render_shortage(r);
        for (size_t i = 0; i < arguments.count; i++) {
            with.values[i] = arguments.values[i];
            with.names[i] = arguments.names[i];
        }
        with.values[arguments.count] = *caller;
        with.names[arguments.count] = (struct string_view){"caller", 6};
        arguments = with;
    }
    r->line = node->line;
    return call_value(r, &callee, &arguments, out);
}

static enum status evaluate_filter(struct render *r, const struct template_node *node, const struct value *in,
                                   struct value *out)
{
    struct value value = in ? *in : value_none();
    struct template_arguments arguments;
    enum status status = STATUS_OK;
    if (node->a && (!in || node->a->kind == NODE_FILTER))
        status = in ? evaluate_filter(r, node->a, in, &value) : template_evaluate(r, node->a, &value);
    if (status == STATUS_OK)
        status = evaluate_arguments(r, node->items, &arguments);
    r->line = node->line;
    return status == STATUS_OK ? template_filter_apply(r, node->op, &value, &arguments, out) : status;
}

static enum status evaluate_test(struct render *r, const struct template_node *node, struct value *out)
{
    struct value value;
    struct template_arguments arguments;
    bool result = false;
    enum status status = template_evaluate(r, node->a, &value);
    if (status == STATUS_OK)
        status = evaluate_arguments(r, node->items, &arguments);
    r->line = node->line;
    if (status == STATUS_OK)
        status = template_test_apply(r, node->op, &value, &arguments, &result);
    *out = value_bool(result);
    return status;
}

static enum status evaluate_logic(struct render *r, const struct template_node *node, struct value *out)
{
    if (node->kind == NODE_CONDITION) {
        struct value condition;
        enum status status = template_evaluate(r, node->b, &condition);
        if (status != STATUS_OK)
            return status;
        if (value_is_true(&condition))
            return template_evaluate(r, node->a, out);
        *out = value_undefined("the inline if-expression without else", 37);
        return node->c ? template_evaluate(r, node->c, out) : STATUS_OK;
    }
    enum status status = template_evaluate(r, node->a, out);
    if (status != STATUS_OK)
        return status;
    if (node->kind == NODE_NOT) {
        *out = value_bool(!value_is_true(out));
        return STATUS_OK;
    }
    return value_is_true(out) == (node->kind == NODE_AND) ? template_evaluate(r, node->b, out) : STATUS_OK;
}

static enum status evaluate_sign(struct render *r, const struct template_node *node, struct value *out)
{
    enum status status = template_evaluate(r, node->a, out);
    if (status != STATUS_OK)
        return status;
    if (!value_is_number(out))
        return render_fail(r, "bad operand type for unary sign: '%s'", value_type_name(out));
    if (out->type != VALUE_FLOAT)
        *out = value_integer(node->kind == NODE_NEGATE && value_whole(out) != INT64_MIN ? -value_whole(out)
                                                                                        : value_whole(out));
    else if (node->kind == NODE_NEGATE)
        out->as.number = -out->as.number;
    return STATUS_OK;
}

static enum status evaluate_pair(struct render *r, const struct template_node *node, struct value *out)
{
    struct value a, b;
    enum status status = template_evaluate(r, node->a, &a);
    if (status == STATUS_OK)
        status = template_evaluate(r, node->b, &b);
    r->line = node->line;
    if (status != STATUS_OK)
        return status;
    return node->kind == NODE_INDEX ? template_index(r, &a, &b, out)
                                    : template_operate(r, node->op, &a, &b, out);
}

static enum status evaluate_attribute(struct render *r, const struct template_node *node, struct value *out)
{
    struct value object;
    enum status status = template_evaluate(r, node->a, &object);
    r->line = node->line;
    return status == STATUS_OK ? template_attribute(r, &object, node->value.as.string, out) : status;
}

static enum status evaluate(struct render *r, const struct template_node *node, struct value *out)
{
    switch (node->kind) {
    case NODE_CONSTANT:
        *out = node->value;
        return STATUS_OK;
    case NODE_NAME:
        look_up(r, node->value.as.string, out);
        return STATUS_OK;
    case NODE_LIST:
    case NODE_TUPLE:
        return evaluate_items(r, node, out);
    case NODE_DICT:
        return evaluate_dict(r, node, out);
    case NODE_NEGATE:
    case NODE_POSITIVE:
        return evaluate_sign(r, node, out);
    case NODE_BINARY:
    case NODE_INDEX:
        return evaluate_pair(r, node, out);
    case NODE_AND:
    case NODE_OR:
    case NODE_NOT:
    case NODE_CONDITION:
        return evaluate_logic(r, node, out);
    case NODE_COMPARE:
        return evaluate_compare(r, node, out);
    case NODE_ATTRIBUTE:
        return evaluate_attribute(r, node, out);
    case NODE_SLICE:
        return evaluate_slice(r, node, out);
    case NODE_CALL:
        return evaluate_call(r, node, NULL, out);
    case NODE_FILTER:
        return evaluate_filter(r, node, NULL, out);
    case NODE_TEST:
        return evaluate_test(r, node, out);
    default:
        UNREACHABLE();
    }
}

enum status template_evaluate(struct render *r, const struct template_node *node, struct value *out)
{
    *out = value_none();
    enum status status = render_enter(r);
    if (status != STATUS_OK)
        return status;
    r->line = node->line;
    status = evaluate(r, node, out);
    render_leave(r);
    return status;
}

static enum status assign(struct render *r, const struct template_node *target, struct value value)
{
    if (target->kind == NODE_NAME)
        return template_bind(r, target->value.as.string, value);
    if (target->kind == NODE_ATTRIBUTE) {
        struct value object;
        enum status status = template_evaluate(r, target->a, &object);
        if (status == STATUS_OK && object.type != VALUE_NAMESPACE)
            return render_fail(r, "cannot assign attribute on non-namespace object");
        if (status == STATUS_OK && target->value.as.string.text[0] == '_')
            return render_fail(r, "a namespace has no attributes that begin with an underscore");
        return status == STATUS_OK ? value_put(r, object.as.dict, target->value, value) : status;
    }
    struct value_list items;
    enum status status = value_items(r, &value, &items);
    size_t i = 0;
    for (const struct template_node *t = target->items; t && status == STATUS_OK; t = t->next, i++)
        status = i < items.count ? assign(r, t, items.items[i])
                                 : render_fail(r, "not enough values to unpack (got %zu)", items.count);
    if (status == STATUS_OK && i < items.count)
        return render_fail(r, "too many values to unpack (expected %zu)", i);
    return status;
}

/* The items for which the loop's condition holds. */
static enum status filter_items(struct render *r, const struct template_node *node, struct value_list *items)
{
    struct value kept;
    struct scope *saved = NULL;
    if (!node->c)
        return STATUS_OK;
    enum status status = value_new_list(r, VALUE_LIST, items->count, &kept);
    if (status == STATUS_OK)
        status = push_scope(r, r->scope, &saved);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < items->count && status == STATUS_OK; i++) {
        struct value condition = value_none();
        status = assign(r, node->a, items->items[i]);
        if (status == STATUS_OK)
            status = template_evaluate(r, node->c, &condition);
        if (status == STATUS_OK && value_is_true(&condition))
            status = value_append(r, kept.as.list, items->items[i]);
    }
    r->scope = saved;
    *items = *kept.as.list;
    return status;
}

static enum status run_iterations(struct render *r, const struct template_node *node, struct value_loop *loop)
{
    static const char loop_name[] = "loop";
    enum status status = STATUS_OK;
    struct scope *outer = r->scope, *saved = NULL;
    for (loop->index = 0; loop->index < loop->items.count && status == STATUS_OK; loop->index++) {
        const struct value self = {.type = VALUE_LOOP, .as.loop = loop};
        status = push_scope(r, outer, &saved);
        if (status == STATUS_OK)
            status = template_bind(r, (struct string_view){loop_name, 4}, self);
        if (status == STATUS_OK)
            status = assign(r, node->a, loop->items.items[loop->index]);
        if (status == STATUS_OK)
            status = template_run(r, node->items);
        const bool stop = r->flow == FLOW_BREAK;
        r->flow = FLOW_ON;
        if (stop)
            break;
    }
    r->scope = outer;
    return status;
}

static enum status run_for(struct render *r, const struct template_node *node)
{
    struct value iterable;
    struct value_loop *loop = render_alloc(r, sizeof *loop);
    if (!loop)
        return render_shortage(r);
    enum status status = template_evaluate(r, node->b, &iterable);
    if (status == STATUS_OK)
        status = value_items(r, &iterable, &loop->items);
    if (status == STATUS_OK)
        status = filter_items(r, node, &loop->items);
    if (status != STATUS_OK)
        return status;
    if (loop->items.count == 0)
        return node->d ? template_run(r, node->d->items) : STATUS_OK;
    return run_iterations(r, node, loop);
}

static enum status run_if(struct render *r, const struct template_node *node)
{
    for (; node; node = node->c) {
        struct value condition;
        if (node->kind == NODE_BODY)
            return template_run(r, node->items);
        enum status status = template_evaluate(r, node->a, &condition);
        if (status != STATUS_OK)
            return status;
        if (value_is_true(&condition))
            return template_run(r, node->items);
    }
    return STATUS_OK;
}

static enum status run_set(struct render *r, const struct template_node *node)
{
    struct value value;
    enum status status;
    if (node->kind == NODE_SET) {
        status = template_evaluate(r, node->b, &value);
    } else {
        struct value text;
        struct scope *saved = NULL;
        status = push_scope(r, r->scope, &saved);
        if (status != STATUS_OK)
            return status;
        status = capture(r, node->items, &text);
        r->scope = saved;
        value = text;
        if (status == STATUS_OK && node->b)
            status = evaluate_filter(r, node->b, &text, &value);
    }
    return status == STATUS_OK ? assign(r, node->a, value) : status;
}

static enum status new_macro(struct render *r, const struct template_node *node, struct value *out)
{
    struct value_macro *macro = render_alloc(r, sizeof *macro);
    if (!macro)
        return render_shortage(r);
    *macro = (struct value_macro){.node = node, .closure = r->scope};
    *out = (struct value){.type = VALUE_MACRO, .as.macro = macro};
    return STATUS_OK;
}

static enum status run_macro(struct render *r, const struct template_node *node)
{
    struct value macro;
    enum status status = new_macro(r, node, &macro);
    return status == STATUS_OK ? template_bind(r, node->value.as.string, macro) : status;
}

static enum status print(struct render *r, const struct value *value)
{
    enum status status = value_print(r, value, r->out);
    if (status == STATUS_OK && r->out->failed)
        return error_set(
            r->err, r->out->count_bytes > r->out->max_bytes / 4 ? STATUS_TOO_LARGE : STATUS_NO_MEMORY,
            "the rendered prompt does not fit into %zu bytes, or memory is short", r->out->max_bytes);
    return status;
}

static enum status run_call_block(struct render *r, const struct template_node *node)
{
    struct value caller, value;
    enum status status = new_macro(r, node, &caller);
    if (status == STATUS_OK)
        status = evaluate_call(r, node->b, &caller, &value);
    return status == STATUS_OK ? print(r, &value) : status;
}

static enum status run_filter_block(struct render *r, const struct template_node *node)
{
    struct value text, value;
    struct scope *saved = NULL;
    enum status status = push_scope(r, r->scope, &saved);
    if (status != STATUS_OK)
        return status;
    status = capture(r, node->items, &text);
    r->scope = saved;
    if (status == STATUS_OK)
        status = evaluate_filter(r, node->b, &text, &value);
    return status == STATUS_OK ? print(r, &value) : status;
}

/* with and generation: a scope of their own. The values of a with are computed outside of it. */
static enum status run_scoped(struct render *r, const struct template_node *node)
{
    struct scope *saved = NULL;
    struct value values[TEMPLATE_MAX_ARGUMENTS];
    const struct template_node *sets = node->a ? node->a->items : NULL;
    size_t count = 0;
    enum status status = STATUS_OK;
    for (const struct template_node *set = sets; set && status == STATUS_OK; set = set->next) {
        if (count == TEMPLATE_MAX_ARGUMENTS)
            return render_fail(r, "{%% with %%} takes at most %d names", TEMPLATE_MAX_ARGUMENTS);
        status = template_evaluate(r, set->b, &values[count++]);
    }
    if (status == STATUS_OK)
        status = push_scope(r, r->scope, &saved);
    if (status != STATUS_OK)
        return status;
    count = 0;
    for (const struct template_node *set = sets; set && status == STATUS_OK; set = set->next)
        status = assign(r, set->a, values[count++]);
    if (status == STATUS_OK)
        status = template_run(r, node->items);
    r->scope = saved;
    return status;
}

static enum status run_print(struct render *r, const struct template_node *node)
{
    struct value value;
    enum status status = template_evaluate(r, node->a, &value);
    return status == STATUS_OK ? print(r, &value) : status;
}

static enum status run(struct render *r, const struct template_node *node)
{
    switch (node->kind) {
    case NODE_TEXT:
        return print(r, &node->value);
    case NODE_PRINT:
        return run_print(r, node);
    case NODE_IF:
        return run_if(r, node);
    case NODE_FOR:
        return run_for(r, node);
    case NODE_SET:
    case NODE_SET_BLOCK:
        return run_set(r, node);
    case NODE_MACRO:
        return run_macro(r, node);
    case NODE_CALL_BLOCK:
        return run_call_block(r, node);
    case NODE_FILTER_BLOCK:
        return run_filter_block(r, node);
    case NODE_WITH:
    case NODE_GENERATION:
        return run_scoped(r, node);
    case NODE_BREAK:
    case NODE_CONTINUE:
        r->flow = node->kind == NODE_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
        return STATUS_OK;
    default:
        UNREACHABLE();
    }
}

enum status template_run(struct render *r, const struct template_node *body)
{
    enum status status = render_enter(r);
    if (status != STATUS_OK)
        return status;
    for (const struct template_node *node = body; node && status == STATUS_OK && r->flow == FLOW_ON;
         node = node->next) {
        status = render_charge(r, 1);
        r->line = node->line;
        if (status == STATUS_OK)
            status = run(r, node);
    }
    render_leave(r);
    return status;
}
