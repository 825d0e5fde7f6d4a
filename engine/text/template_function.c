// SPDX-License-Identifier: Apache-2.0
// Functions that a template may call, and its tests ("x is defined").
#include <string.h>
#include <time.h>

#include "engine/text/template_node.h"
#include "engine/text/unicode.h"

#define MAX_RANGE 100000 /* of the Jinja sandbox */
#define MAX_DATE_BYTES 512

static enum status call_range(struct render *r, const struct template_arguments *arguments, struct value *out)
{
    int64_t bounds[3] = {0, 0, 1};
    if (arguments->count < 1 || arguments->count > 3 || arguments->positional < arguments->count)
        return render_fail(r, "range takes 1 to 3 numbers");
    for (size_t i = 0; i < arguments->count; i++) {
        if (arguments->values[i].type != VALUE_INTEGER && arguments->values[i].type != VALUE_BOOL)
            return render_fail(r, "'%s' object cannot be interpreted as an integer",
                               value_type_name(&arguments->values[i]));
        bounds[arguments->count == 1 ? 1 : i] = value_whole(&arguments->values[i]);
    }
    const int64_t step = bounds[2];
    if (step == 0)
        return render_fail(r, "range() arg 3 must not be zero");
    enum status status = value_new_list(r, VALUE_LIST, 0, out);
    for (int64_t i = bounds[0]; status == STATUS_OK && (step > 0 ? i < bounds[1] : i > bounds[1]);) {
        if (out->as.list->count == MAX_RANGE)
            return render_fail(r, "a range is over %d numbers", MAX_RANGE);
        status = value_append(r, out->as.list, value_integer(i));
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    return status;
}

static enum status call_dict(struct render *r, const struct template_arguments *arguments,
                             enum value_type type, struct value *out)
{
    enum status status = value_new_dict(r, type, out);
    for (size_t i = 0; i < arguments->positional && status == STATUS_OK; i++) {
        const struct value *from = &arguments->values[i];
        if (from->type != VALUE_DICT)
            return render_fail(r, "dict and namespace take dictionaries and names");
        for (size_t k = 0; k < from->as.dict->count && status == STATUS_OK; k++)
            status = value_put(r, out->as.dict, from->as.dict->pairs[k].key, from->as.dict->pairs[k].value);
    }
    for (size_t i = arguments->positional; i < arguments->count && status == STATUS_OK; i++)
        status = value_put(r, out->as.dict, value_view(arguments->names[i].text, arguments->names[i].bytes),
                           arguments->values[i]);
    return status;
}

static enum status call_raise(struct render *r, const struct template_arguments *arguments)
{
    struct value text;
    const struct value *message = template_argument(arguments, 0, "message");
    if (!message)
        return render_fail(r, "raise_exception needs a message");
    enum status status = value_to_string(r, message, &text);
    if (status != STATUS_OK)
        return status;
    if (text.as.string.bytes == 0 || text.as.string.text[0] == '\0') /* an error always has a sentence */
        return render_fail(r, "the chat template refuses these messages and does not say why");
    return error_set(r->err, STATUS_INVALID, "%.*s",
                     (int)(text.as.string.bytes < 500 ? text.as.string.bytes : 500), text.as.string.text);
}

static enum status call_strftime_now(struct render *r, const struct template_arguments *arguments,
                                     struct value *out)
{
    char format[MAX_DATE_BYTES], text[MAX_DATE_BYTES];
    const struct value *given = template_argument(arguments, 0, "format");
    const time_t seconds = (time_t)(r->now_ms / 1000);
    struct tm parts;
    if (!given || given->type != VALUE_STRING || given->as.string.bytes > sizeof format - 2)
        return render_fail(r, "strftime_now needs a short format");
    memcpy(format, given->as.string.text, given->as.string.bytes);
    memcpy(format + given->as.string.bytes, "|", 2); /* so that an empty result is told from a failure */
    gmtime_r(&seconds, &parts);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    const size_t count = strftime(text, sizeof text, format, &parts);
#pragma GCC diagnostic pop
    return count ? value_copy_string(r, text, count - 1, out)
                 : render_fail(r, "a date is over %d bytes", MAX_DATE_BYTES);
}

enum { FUNCTION_RANGE, FUNCTION_DICT, FUNCTION_NAMESPACE, FUNCTION_RAISE, FUNCTION_STRFTIME };

static int find_name(const char *const *names, size_t count, struct string_view name)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(names[i]) == name.bytes && memcmp(names[i], name.text, name.bytes) == 0)
            return (int)i;
    return -1;
}

int template_function_find(struct string_view name)
{
    static const char *const names[] = {
        [FUNCTION_RANGE] = "range",           [FUNCTION_DICT] = "dict",
        [FUNCTION_NAMESPACE] = "namespace",   [FUNCTION_RAISE] = "raise_exception",
        [FUNCTION_STRFTIME] = "strftime_now",
    };
    return find_name(names, sizeof names / sizeof names[0], name);
}

enum status template_function_call(struct render *r, int function, const struct template_arguments *arguments,
                                   struct value *out)
{
    switch (function) {
    case FUNCTION_RANGE:
        return call_range(r, arguments, out);
    case FUNCTION_RAISE:
        return call_raise(r, arguments);
    case FUNCTION_STRFTIME:
        return call_strftime_now(r, arguments, out);
    default:
        return call_dict(r, arguments, function == FUNCTION_DICT ? VALUE_DICT : VALUE_NAMESPACE, out);
    }
}

enum {
    TEST_DEFINED,
    TEST_UNDEFINED,
    TEST_NONE,
    TEST_BOOLEAN,
    TEST_TRUE,
    TEST_FALSE,
    TEST_INTEGER,
    TEST_FLOAT,
    TEST_NUMBER,
    TEST_STRING,
    TEST_MAPPING,
    TEST_SEQUENCE,
    TEST_ITERABLE,
    TEST_CALLABLE,
    TEST_EVEN,
    TEST_ODD,
    TEST_DIVISIBLE,
    TEST_LOWER,
    TEST_UPPER,
    TEST_SAME,
    TEST_EQ,
    TEST_EQUALTO,
    TEST_NE,
    TEST_LT,
    TEST_LESS,
    TEST_LE,
    TEST_GT,
    TEST_GREATER,
    TEST_GE,
    TEST_IN
};

int template_test_find(struct string_view name)
{
    static const char *const names[] = {
        "defined",     "undefined", "none",    "boolean",     "true",     "false",    "integer", "float",
        "number",      "string",    "mapping", "sequence",    "iterable", "callable", "even",    "odd",
        "divisibleby", "lower",     "upper",   "sameas",      "eq",       "equalto",  "ne",      "lt",
        "lessthan",    "le",        "gt",      "greaterthan", "ge",       "in"};
    return find_name(names, sizeof names / sizeof names[0], name);
}

static bool test_type(int test, const struct value *in)
{
    const enum value_type type = in->type;
    const bool sequence = type == VALUE_STRING || type == VALUE_LIST || type == VALUE_TUPLE ||
                          type == VALUE_DICT || type == VALUE_UNDEFINED;
    switch (test) {
    case TEST_DEFINED:
        return type != VALUE_UNDEFINED;
    case TEST_UNDEFINED:
        return type == VALUE_UNDEFINED;
    case TEST_NONE:
        return type == VALUE_NONE;
    case TEST_BOOLEAN:
        return type == VALUE_BOOL;
    case TEST_TRUE:
        return type == VALUE_BOOL && in->as.boolean;
    case TEST_FALSE:
        return type == VALUE_BOOL && !in->as.boolean;
    case TEST_INTEGER:
        return type == VALUE_INTEGER;
    case TEST_FLOAT:
        return type == VALUE_FLOAT;
    case TEST_NUMBER:
        return value_is_number(in);
    case TEST_STRING:
        return type == VALUE_STRING;
    case TEST_MAPPING:
        return type == VALUE_DICT;
    case TEST_SEQUENCE:
        return sequence;
    case TEST_ITERABLE:
        return sequence || type == VALUE_LOOP;
    default:
        return type == VALUE_MACRO || type == VALUE_METHOD || type == VALUE_FUNCTION ||
               type == VALUE_UNDEFINED;
    }
}

/* str.islower and str.isupper: some cased letter, and none of the other case. */
static enum status test_case(struct render *r, int test, const struct value *in, bool *result)
{
    struct value text, mapped;
    bool lower_changes, upper_changes;
    const struct template_arguments none = {0};
    const struct string_view lower = {"lower", 5}, upper = {"upper", 5};
    enum status status = value_to_string(r, in, &text);
    if (status == STATUS_OK)
        status = template_filter_apply(r, template_filter_find(lower), &text, &none, &mapped);
    if (status == STATUS_OK)
        status = value_equal(r, &text, &mapped, &lower_changes);
    if (status == STATUS_OK)
        status = template_filter_apply(r, template_filter_find(upper), &text, &none, &mapped);
    if (status == STATUS_OK)
        status = value_equal(r, &text, &mapped, &upper_changes);
    if (status == STATUS_OK)
        *result = test == TEST_LOWER ? lower_changes && !upper_changes : upper_changes && !lower_changes;
    return status;
}

static enum status test_division(struct render *r, int test, const struct value *in, const struct value *by,
                                 bool *result)
{
    const struct value two = value_integer(2), zero = value_integer(0);
    struct value rest;
    enum status status = template_operate(r, OP_MODULO, in, test == TEST_DIVISIBLE ? by : &two, &rest);
    if (status == STATUS_OK)
        status = value_equal(r, &rest, &zero, result);
    if (test == TEST_ODD)
        *result = !*result;
    return status;
}

static enum status test_order(struct render *r, int test, const struct value *in, const struct value *other,
                              bool *result)
{
    int order = 0;
    enum status status = value_compare(r, in, other, &order);
    *result = test == TEST_LT || test == TEST_LESS      ? order < 0
              : test == TEST_LE                         ? order <= 0
              : test == TEST_GT || test == TEST_GREATER ? order > 0
                                                        : order >= 0;
    return status;
}

enum status template_test_apply(struct render *r, int test, const struct value *in,
                                const struct template_arguments *arguments, bool *result)
{
    const struct value *other = template_argument(arguments, 0, "other");
    enum status status;
    *result = false;
    if (test <= TEST_CALLABLE) {
        *result = test_type(test, in);
        return STATUS_OK;
    }
    if (test == TEST_LOWER || test == TEST_UPPER)
        return test_case(r, test, in, result);
    if (!other && test != TEST_EVEN && test != TEST_ODD)
        return render_fail(r, "this test needs a value to compare with");
    if (test <= TEST_DIVISIBLE)
        return test_division(r, test, in, other, result);
    switch (test) {
    case TEST_SAME:
    case TEST_EQ:
    case TEST_EQUALTO:
    case TEST_NE:
        status = value_equal(r, in, other, result);
        if (test == TEST_NE)
            *result = !*result;
        if (test == TEST_SAME)
            *result = *result && in->type == other->type;
        return status;
    case TEST_IN:
        return value_contains(r, other, in, result);
    default:
        return test_order(r, test, in, other, result);
    }
}
