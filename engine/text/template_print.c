// SPDX-License-Identifier: Apache-2.0
// How values look as text: Python's str() and repr(), and json.dumps as the tojson filter calls it.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/template_node.h"
#include "engine/text/unicode.h"

/* repr(float): the shortest digits that read back equal; fixed notation for exponents in [-4, 16). */
static void put_float(double number, struct bytes *out)
{
    char text[40];
    int precision = 0;
    if (isnan(number) || isinf(number)) {
        bytes_append_text(out, isnan(number) ? "nan" : number > 0 ? "inf" : "-inf");
        return;
    }
    do
        snprintf(text, sizeof text, "%.*e", precision++, number);
    while (strtod(text, NULL) != number && precision < 18);
    const char *mark = strchr(text, 'e');
    const int exponent = mark ? (int)strtol(mark + 1, NULL, 10) : 0;
    const int digits = precision - 1; /* behind the first one */
    if (exponent >= -4 && exponent < 16) {
        bytes_appendf(out, "%.*f", digits > exponent ? digits - exponent : 1, number);
        return;
    }
    bytes_append(out, text, (size_t)(mark - text));
    bytes_appendf(out, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
}

static bool is_printable(uint32_t c)
{
    return c == ' ' || (c >= 0x20 && c < 0x7F) || (c > 0x7F && !unicode_is_other(c) && !unicode_is_space(c));
}

static void put_escaped_code(uint32_t c, struct bytes *out)
{
    if (c <= 0xFF)
        bytes_appendf(out, "\\x%02x", c);
    else if (c <= 0xFFFF)
        bytes_appendf(out, "\\u%04x", c);
    else
        bytes_appendf(out, "\\U%08x", c);
}

static void put_string_repr(struct string_view text, struct bytes *out)
{
    const bool single = memchr(text.text, '\'', text.bytes) != NULL,
               twice = memchr(text.text, '"', text.bytes);
    const char quote = single && !twice ? '"' : '\'';
    bytes_append_char(out, quote);
    for (size_t at = 0; at < text.bytes;) {
        uint32_t c;
        const size_t length = unicode_decode(text.text + at, text.bytes - at, &c);
        if (c == (uint32_t)quote || c == '\\')
            bytes_appendf(out, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            bytes_append_text(out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        else if (is_printable(c))
            bytes_append(out, text.text + at, length);
        else
            put_escaped_code(c, out);
        at += length;
    }
    bytes_append_char(out, quote);
}

static enum status repr_list(struct render *r, const struct value *value, struct bytes *out)
{
    const struct value_list *list = value->as.list;
    const bool tuple = value->type == VALUE_TUPLE;
    enum status status = STATUS_OK;
    bytes_append_char(out, tuple ? '(' : '[');
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++) {
        if (i)
            bytes_append_text(out, ", ");
        status = value_repr(r, &list->items[i], out);
    }
    bytes_append_text(out, tuple && list->count == 1 ? ",)" : tuple ? ")" : "]");
    return status;
}

static enum status repr_dict(struct render *r, const struct value_dict *dict, struct bytes *out)
{
    enum status status = STATUS_OK;
    bytes_append_char(out, '{');
    for (size_t i = 0; i < dict->count && status == STATUS_OK; i++) {
        if (i)
            bytes_append_text(out, ", ");
        status = value_repr(r, &dict->pairs[i].key, out);
        bytes_append_text(out, ": ");
        if (status == STATUS_OK)
            status = value_repr(r, &dict->pairs[i].value, out);
    }
    bytes_append_char(out, '}');
    return status;
}

enum status value_repr(struct render *r, const struct value *value, struct bytes *out)
{
    enum status status = render_enter(r);
    if (status != STATUS_OK)
        return status;
    switch (value->type) {
    case VALUE_UNDEFINED:
        bytes_append_text(out, "Undefined");
        break;
    case VALUE_NONE:
        bytes_append_text(out, "None");
        break;
    case VALUE_BOOL:
        bytes_append_text(out, value->as.boolean ? "True" : "False");
        break;
    case VALUE_INTEGER:
        bytes_appendf(out, "%lld", (long long)value->as.integer);
        break;
    case VALUE_FLOAT:
        put_float(value->as.number, out);
        break;
    case VALUE_STRING:
        put_string_repr(value->as.string, out);
        status = render_charge(r, value->as.string.bytes / 16);
        break;
    case VALUE_LIST:
    case VALUE_TUPLE:
        status = repr_list(r, value, out);
        break;
    case VALUE_DICT:
        status = repr_dict(r, value->as.dict, out);
        break;
    default:
        status = render_fail(r, "a %s cannot be printed", value_type_name(value));
    }
    render_leave(r);
    return status;
}

enum status value_print(struct render *r, const struct value *value, struct bytes *out)
{
    if (value->type == VALUE_UNDEFINED)
        return STATUS_OK;
    if (value->type != VALUE_STRING)
        return value_repr(r, value, out);
    bytes_append(out, value->as.string.text, value->as.string.bytes);
    return render_charge(r, value->as.string.bytes / 64);
}

enum status value_to_string(struct render *r, const struct value *value, struct value *out)
{
    struct bytes text;
    *out = *value;
    if (value->type == VALUE_STRING)
        return STATUS_OK;
    bytes_init(&text, TEMPLATE_MAX_MEMORY_BYTES);
    enum status status = value_print(r, value, &text);
    if (status == STATUS_OK)
        return value_from_bytes(r, &text, out);
    bytes_release(&text);
    return status;
}

static void put_json_string(struct string_view text, bool ensure_ascii, struct bytes *out)
{
    bytes_append_char(out, '"');
    for (size_t at = 0; at < text.bytes;) {
        static const char plain[] = "\"\\\n\r\t\f\b", escaped[] = "\"\\nrtfb";
        uint32_t c;
        const size_t length = unicode_decode(text.text + at, text.bytes - at, &c);
        const char *place = c && c < 0x80 ? strchr(plain, (int)c) : NULL;
        if (place)
            bytes_appendf(out, "\\%c", escaped[place - plain]);
        else if (c < 0x20 || (ensure_ascii && c >= 0x7F && c <= 0xFFFF && c != 0x7F))
            bytes_appendf(out, "\\u%04x", c);
        else if (ensure_ascii && c > 0xFFFF)
            bytes_appendf(out, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10),
                          0xDC00 + ((c - 0x10000) & 0x3FF));
        else
            bytes_append(out, text.text + at, length);
        at += length;
    }
    bytes_append_char(out, '"');
}

struct json_writer {
    struct render *r;
    const struct json_style *style;
    struct bytes *out;
    int level;
};

static void put_line(struct json_writer *w)
{
    if (!w->style->indent)
        return;
    bytes_append_char(w->out, '\n');
    for (int i = 0; i < w->level; i++)
        bytes_append_text(w->out, w->style->indent);
}

static void put_separator(struct json_writer *w, bool first)
{
    if (!first)
        bytes_append(w->out, w->style->item_separator.text, w->style->item_separator.bytes);
    put_line(w);
}

static enum status put_json(struct json_writer *w, const struct value *value);

static enum status put_json_list(struct json_writer *w, const struct value_list *list)
{
    enum status status = STATUS_OK;
    if (list->count == 0) {
        bytes_append_text(w->out, "[]");
        return status;
    }
    bytes_append_char(w->out, '[');
    w->level++;
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++) {
        put_separator(w, i == 0);
        status = put_json(w, &list->items[i]);
    }
    w->level--;
    put_line(w);
    bytes_append_char(w->out, ']');
    return status;
}

/* A key is a string, or a number, boolean or null written as one. */
static enum status put_json_key(struct json_writer *w, const struct value *key)
{
    struct bytes text;
    if (key->type == VALUE_STRING) {
        put_json_string(key->as.string, w->style->ensure_ascii, w->out);
        return STATUS_OK;
    }
    if (!value_is_number(key) && key->type != VALUE_NONE)
        return render_fail(w->r, "keys must be str, int, float, bool or None, not %s", value_type_name(key));
    bytes_init(&text, 256);
    enum status status = put_json(&(struct json_writer){w->r, w->style, &text, 0}, key);
    if (status == STATUS_OK)
        bytes_appendf(w->out, "\"%s\"", text.data ? text.data : "");
    bytes_release(&text);
    return status;
}

static enum status sorted_places(struct render *r, const struct value_dict *dict, size_t *places)
{
    for (size_t i = 0; i < dict->count; i++) {
        size_t at = i;
        for (; at > 0; at--) {
            int order;
            enum status status = render_charge(r, 1);
            if (status == STATUS_OK)
                status = value_compare(r, &dict->pairs[places[at - 1]].key, &dict->pairs[i].key, &order);
            if (status != STATUS_OK)
                return status;
            if (order <= 0)
                break;
            places[at] = places[at - 1];
        }
        places[at] = i;
    }
    return STATUS_OK;
}

static enum status put_json_dict(struct json_writer *w, const struct value_dict *dict)
{
    enum status status = STATUS_OK;
    if (dict->count == 0) {
        bytes_append_text(w->out, "{}");
        return status;
    }
    size_t *places = render_alloc(w->r, dict->count * sizeof *places);
    if (!places)
        return render_shortage(w->r);
    for (size_t i = 0; i < dict->count; i++)
        places[i] = i;
    if (w->style->sort_keys)
        status = sorted_places(w->r, dict, places);
    bytes_append_char(w->out, '{');
    w->level++;
    for (size_t i = 0; i < dict->count && status == STATUS_OK; i++) {
        const struct value_pair *pair = &dict->pairs[places[i]];
        put_separator(w, i == 0);
        status = put_json_key(w, &pair->key);
        bytes_append(w->out, w->style->key_separator.text, w->style->key_separator.bytes);
        if (status == STATUS_OK)
            status = put_json(w, &pair->value);
    }
    w->level--;
    put_line(w);
    bytes_append_char(w->out, '}');
    return status;
}

static enum status put_json(struct json_writer *w, const struct value *value)
{
    enum status status = render_enter(w->r);
    if (status != STATUS_OK)
        return status;
    switch (value->type) {
    case VALUE_NONE:
        bytes_append_text(w->out, "null");
        break;
    case VALUE_BOOL:
        bytes_append_text(w->out, value->as.boolean ? "true" : "false");
        break;
    case VALUE_INTEGER:
        bytes_appendf(w->out, "%lld", (long long)value->as.integer);
        break;
    case VALUE_FLOAT:
        if (isnan(value->as.number) || isinf(value->as.number))
            bytes_append_text(w->out, isnan(value->as.number) ? "NaN"
                                      : value->as.number > 0  ? "Infinity"
                                                              : "-Infinity");
        else
            put_float(value->as.number, w->out);
        break;
    case VALUE_STRING:
        put_json_string(value->as.string, w->style->ensure_ascii, w->out);
        status = render_charge(w->r, value->as.string.bytes / 16);
        break;
    case VALUE_LIST:
    case VALUE_TUPLE:
        status = put_json_list(w, value->as.list);
        break;
    case VALUE_DICT:
        status = put_json_dict(w, value->as.dict);
        break;
    default:
        status = render_fail(w->r, "Object of type %s is not JSON serializable", value_type_name(value));
    }
    render_leave(w->r);
    return status;
}

enum status value_to_json(struct render *r, const struct value *value, const struct json_style *style,
                          struct bytes *out)
{
    return put_json(&(struct json_writer){.r = r, .style = style, .out = out}, value);
}

static bool is_set(const struct template_arguments *arguments, size_t place, const char *name)
{
    const struct value *value = template_argument(arguments, place, name);
    return value && value_is_true(value);
}

static enum status read_json_style(struct render *r, const struct template_arguments *arguments,
                                   struct json_style *style)
{
    const struct value *indent = template_argument(arguments, 1, "indent");
    const struct value *separators = template_argument(arguments, 2, "separators");
    *style = (struct json_style){.ensure_ascii = is_set(arguments, 0, "ensure_ascii"),
                                 .sort_keys = is_set(arguments, 3, "sort_keys"),
                                 .item_separator = {", ", 2},
                                 .key_separator = {": ", 2}};
    if (indent && indent->type != VALUE_NONE) {
        struct value text = *indent, times = *indent;
        const struct value blank = value_view(" ", 1);
        enum status status = STATUS_OK;
        if (indent->type != VALUE_STRING)
            status = template_operate(r, OP_MULTIPLY, &blank, &times, &text);
        if (status == STATUS_OK) /* a copy ends with a NUL */
            status = value_copy_string(r, text.as.string.text, text.as.string.bytes, &text);
        if (status != STATUS_OK)
            return status;
        style->indent = text.as.string.text;
        style->item_separator = (struct string_view){",", 1};
    }
    if (separators && (separators->type == VALUE_LIST || separators->type == VALUE_TUPLE)) {
        const struct value *items = separators->as.list->items;
        if (separators->as.list->count != 2 || items[0].type != VALUE_STRING || items[1].type != VALUE_STRING)
            return render_fail(r, "tojson: separators must be two texts");
        style->item_separator = items[0].as.string;
        style->key_separator = items[1].as.string;
    }
    return STATUS_OK;
}

enum status template_tojson(struct render *r, const struct value *in,
                            const struct template_arguments *arguments, struct value *out)
{
    struct json_style style;
    struct bytes text;
    enum status status = read_json_style(r, arguments, &style);
    if (status != STATUS_OK)
        return status;
    bytes_init(&text, TEMPLATE_MAX_MEMORY_BYTES);
    status = value_to_json(r, in, &style, &text);
    if (status == STATUS_OK)
        return value_from_bytes(r, &text, out);
    bytes_release(&text);
    return status;
}
