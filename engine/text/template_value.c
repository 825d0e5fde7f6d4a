// SPDX-License-Identifier: Apache-2.0
#include "engine/text/template_value.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/text/template_node.h"
#include "engine/text/unicode.h"

enum status render_fail(struct render *r, const char *format, ...)
{
    char text[ERROR_TEXT_BYTES - 40];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return error_set(r->err, STATUS_INVALID, "chat template, line %d: %s", r->line, text);
}

enum status render_charge(struct render *r, size_t steps)
{
    if (steps < (size_t)r->steps) {
        r->steps -= (int64_t)steps;
        return STATUS_OK;
    }
    r->steps = 0;
    return error_set(r->err, STATUS_TOO_LARGE, "chat template, line %d: over the limit of %d steps", r->line,
                     TEMPLATE_MAX_STEPS);
}

enum status render_enter(struct render *r)
{
    if (r->depth >= TEMPLATE_MAX_DEPTH)
        return error_set(r->err, STATUS_TOO_LARGE, "chat template, line %d: nested over %d levels", r->line,
                         TEMPLATE_MAX_DEPTH);
    r->depth++;
    return render_charge(r, 1);
}

void render_leave(struct render *r)
{
    r->depth--;
}

enum status render_shortage(struct render *r)
{
    if (r->steps <= 0)
        return STATUS_TOO_LARGE; /* render_charge has said so */
    if (r->arena.total_bytes > r->arena.max_bytes / 4)
        return error_set(r->err, STATUS_TOO_LARGE,
                         "chat template, line %d: over the limit of %zu MB of values", r->line,
                         TEMPLATE_MAX_MEMORY_BYTES >> 20);
    return error_set(r->err, STATUS_NO_MEMORY, "no memory to render the chat template");
}

void *render_alloc(struct render *r, size_t bytes)
{
    if (render_charge(r, 1 + bytes / 64) != STATUS_OK)
        return NULL;
    return arena_alloc(&r->arena, bytes ? bytes : 1);
}

struct value value_none(void)
{
    return (struct value){.type = VALUE_NONE};
}

struct value value_bool(bool boolean)
{
    return (struct value){.type = VALUE_BOOL, .as.boolean = boolean};
}

struct value value_integer(int64_t integer)
{
    return (struct value){.type = VALUE_INTEGER, .as.integer = integer};
}

struct value value_float(double number)
{
    return (struct value){.type = VALUE_FLOAT, .as.number = number};
}

struct value value_view(const char *text, size_t bytes)
{
    return (struct value){.type = VALUE_STRING, .as.string = {text, bytes}};
}

struct value value_undefined(const char *name, size_t bytes)
{
    return (struct value){.type = VALUE_UNDEFINED, .as.string = {name, bytes}};
}

enum status value_copy_string(struct render *r, const char *text, size_t bytes, struct value *out)
{
    char *copy = render_alloc(r, bytes + 1);
    if (!copy)
        return render_shortage(r);
    if (bytes)
        memcpy(copy, text, bytes);
    *out = value_view(copy, bytes);
    return STATUS_OK;
}

enum status value_from_bytes(struct render *r, struct bytes *text, struct value *out)
{
    enum status status;
    if (text->failed && text->count_bytes > text->max_bytes / 4)
        status = error_set(r->err, STATUS_TOO_LARGE, "chat template, line %d: a text is over %zu bytes",
                           r->line, text->max_bytes);
    else if (text->failed)
        status = error_set(r->err, STATUS_NO_MEMORY, "no memory to render the chat template");
    else
        status = value_copy_string(r, text->data, text->count_bytes, out);
    bytes_release(text);
    return status;
}

enum status value_from_json(struct render *r, const struct json *json, struct value *out)
{
    enum status status = STATUS_OK;
    if (!json || json->type == JSON_NULL) {
        *out = value_none();
    } else if (json->type == JSON_TRUE || json->type == JSON_FALSE) {
        *out = value_bool(json->type == JSON_TRUE);
    } else if (json->type == JSON_INTEGER) {
        *out = value_integer(json->as.integer);
    } else if (json->type == JSON_NUMBER) {
        *out = value_float(json->as.number);
    } else if (json->type == JSON_STRING) {
        *out = value_view(json->as.string, json->count);
    } else if (json->type == JSON_ARRAY) {
        status = value_new_list(r, VALUE_LIST, json->count, out);
        for (size_t i = 0; i < json->count && status == STATUS_OK; i++) {
            struct value item = value_none();
            status = value_from_json(r, &json->as.items[i], &item);
            if (status == STATUS_OK)
                status = value_append(r, out->as.list, item);
        }
    } else {
        status = value_new_dict(r, VALUE_DICT, out);
        for (size_t i = 0; i < json->count && status == STATUS_OK; i++) {
            const struct json *member = &json->as.items[i];
            struct value item = value_none();
            status = value_from_json(r, member, &item);
            if (status == STATUS_OK) /* the parser has refused doubles, so no search is needed */
                status = value_put(r, out->as.dict, value_view(member->key, member->key_bytes), item);
        }
    }
    return status;
}

enum status value_new_list(struct render *r, enum value_type type, size_t capacity, struct value *out)
{
    struct value_list *list = render_alloc(r, sizeof *list);
    if (list && capacity)
        list->items = render_alloc(r, capacity * sizeof *list->items);
    if (!list || (capacity && !list->items))
        return render_shortage(r);
    list->capacity = capacity;
    *out = (struct value){.type = type, .as.list = list};
    return STATUS_OK;
}

enum status value_append(struct render *r, struct value_list *list, struct value item)
{
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity ? list->capacity * 2 : 8;
        struct value *items = render_alloc(r, capacity * sizeof *items);
        if (!items)
            return render_shortage(r);
        if (list->count)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
    return STATUS_OK;
}

enum status value_new_dict(struct render *r, enum value_type type, struct value *out)
{
    struct value_dict *dict = render_alloc(r, sizeof *dict);
    if (!dict)
        return render_shortage(r);
    *out = (struct value){.type = type, .as.dict = dict};
    return STATUS_OK;
}

enum status value_find(struct render *r, const struct value_dict *dict, const struct value *key,
                       const struct value **out)
{
    *out = NULL;
    enum status status = render_charge(r, 1 + dict->count / 8);
    for (size_t i = 0; i < dict->count && status == STATUS_OK && !*out; i++) {
        bool equal;
        status = value_equal(r, &dict->pairs[i].key, key, &equal);
        if (status == STATUS_OK && equal)
            *out = &dict->pairs[i].value;
    }
    return status;
}

const struct value *value_get(struct render *r, const struct value_dict *dict, const char *key, size_t bytes)
{
    const size_t charged = 1 + dict->count / 8;
    r->steps -= (int64_t)charged < r->steps ? (int64_t)charged : 0;
    for (size_t i = 0; i < dict->count; i++) {
        const struct value *name = &dict->pairs[i].key;
        if (name->type == VALUE_STRING && name->as.string.bytes == bytes &&
            memcmp(name->as.string.text, key, bytes) == 0)
            return &dict->pairs[i].value;
    }
    return NULL;
}

enum status value_put(struct render *r, struct value_dict *dict, struct value key, struct value value)
{
    const struct value *place;
    if (key.type == VALUE_LIST || key.type == VALUE_DICT)
        return render_fail(r, "unhashable type: '%s'", value_type_name(&key));
    enum status status = value_find(r, dict, &key, &place);
    if (status != STATUS_OK)
        return status;
    if (place) {
        *(struct value *)(uintptr_t)place = value;
        return STATUS_OK;
    }
    if (dict->count == dict->capacity) {
        const size_t capacity = dict->capacity ? dict->capacity * 2 : 8;
        struct value_pair *pairs = render_alloc(r, capacity * sizeof *pairs);
        if (!pairs)
            return render_shortage(r);
        if (dict->count)
            memcpy(pairs, dict->pairs, dict->count * sizeof *pairs);
        dict->pairs = pairs;
        dict->capacity = capacity;
    }
    dict->pairs[dict->count++] = (struct value_pair){key, value};
    return STATUS_OK;
}

const char *value_type_name(const struct value *value)
{
    static const char *const names[] = {
        [VALUE_UNDEFINED] = "Undefined", [VALUE_NONE] = "NoneType",    [VALUE_BOOL] = "bool",
        [VALUE_INTEGER] = "int",         [VALUE_FLOAT] = "float",      [VALUE_STRING] = "str",
        [VALUE_LIST] = "list",           [VALUE_TUPLE] = "tuple",      [VALUE_DICT] = "dict",
        [VALUE_NAMESPACE] = "Namespace", [VALUE_MACRO] = "Macro",      [VALUE_METHOD] = "method",
        [VALUE_FUNCTION] = "function",   [VALUE_LOOP] = "LoopContext",
    };
    return names[value->type];
}

bool value_is_text(const struct value *value, const char *text)
{
    return value->type == VALUE_STRING && value->as.string.bytes == strlen(text) &&
           memcmp(value->as.string.text, text, value->as.string.bytes) == 0;
}

bool value_is_true(const struct value *value)
{
    switch (value->type) {
    case VALUE_UNDEFINED:
    case VALUE_NONE:
        return false;
    case VALUE_BOOL:
        return value->as.boolean;
    case VALUE_INTEGER:
        return value->as.integer != 0;
    case VALUE_FLOAT:
        return value->as.number != 0;
    case VALUE_STRING:
        return value->as.string.bytes != 0;
    case VALUE_LIST:
    case VALUE_TUPLE:
        return value->as.list->count != 0;
    case VALUE_DICT:
        return value->as.dict->count != 0;
    case VALUE_NAMESPACE:
    case VALUE_MACRO:
    case VALUE_METHOD:
    case VALUE_FUNCTION:
    case VALUE_LOOP:
        break;
    }
    return true;
}

bool value_is_number(const struct value *value)
{
    return value->type == VALUE_BOOL || value->type == VALUE_INTEGER || value->type == VALUE_FLOAT;
}

int64_t value_whole(const struct value *value)
{
    return value->type == VALUE_BOOL ? value->as.boolean : value->as.integer;
}

double value_number(const struct value *value)
{
    return value->type == VALUE_FLOAT ? value->as.number : (double)value_whole(value);
}

static enum status lists_equal(struct render *r, const struct value_list *a, const struct value_list *b,
                               bool *equal)
{
    enum status status = STATUS_OK;
    *equal = a->count == b->count;
    for (size_t i = 0; i < a->count && *equal && status == STATUS_OK; i++)
        status = value_equal(r, &a->items[i], &b->items[i], equal);
    return status;
}

static enum status dicts_equal(struct render *r, const struct value_dict *a, const struct value_dict *b,
                               bool *equal)
{
    enum status status = STATUS_OK;
    *equal = a->count == b->count;
    for (size_t i = 0; i < a->count && *equal && status == STATUS_OK; i++) {
        const struct value *other;
        status = value_find(r, b, &a->pairs[i].key, &other);
        if (status == STATUS_OK && !other)
            *equal = false;
        else if (status == STATUS_OK)
            status = value_equal(r, &a->pairs[i].value, other, equal);
    }
    return status;
}

enum status value_equal(struct render *r, const struct value *a, const struct value *b, bool *equal)
{
    *equal = false;
    if (value_is_number(a) && value_is_number(b)) {
        *equal = a->type == VALUE_FLOAT || b->type == VALUE_FLOAT ? value_number(a) == value_number(b)
                                                                  : value_whole(a) == value_whole(b);
        return STATUS_OK;
    }
    if (a->type != b->type)
        return STATUS_OK;
    if (a->type == VALUE_STRING) {
        *equal = a->as.string.bytes == b->as.string.bytes &&
                 memcmp(a->as.string.text, b->as.string.text, a->as.string.bytes) == 0;
        return *equal ? render_charge(r, a->as.string.bytes / 64) : STATUS_OK;
    }
    if (a->type == VALUE_NONE || a->type == VALUE_UNDEFINED) {
        *equal = true;
        return STATUS_OK;
    }
    enum status status = render_enter(r);
    if (status != STATUS_OK)
        return status;
    if (a->type == VALUE_LIST || a->type == VALUE_TUPLE)
        status = lists_equal(r, a->as.list, b->as.list, equal);
    else if (a->type == VALUE_DICT)
        status = dicts_equal(r, a->as.dict, b->as.dict, equal);
    else
        *equal = a->as.dict == b->as.dict; /* all the rest are the same only if they are one */
    render_leave(r);
    return status;
}

static int compare_strings(struct string_view a, struct string_view b)
{
    const size_t common = a.bytes < b.bytes ? a.bytes : b.bytes;
    const int order = common ? memcmp(a.text, b.text, common) : 0; /* UTF-8 sorts as its code points do */
    return order ? order : (a.bytes > b.bytes) - (a.bytes < b.bytes);
}

static enum status compare_lists(struct render *r, const struct value_list *a, const struct value_list *b,
                                 int *order)
{
    enum status status = render_enter(r);
    if (status != STATUS_OK)
        return status;
    *order = 0;
    for (size_t i = 0; i < a->count && i < b->count && status == STATUS_OK && *order == 0; i++) {
        bool equal;
        status = value_equal(r, &a->items[i], &b->items[i], &equal);
        if (status == STATUS_OK && !equal)
            status = value_compare(r, &a->items[i], &b->items[i], order);
    }
    if (*order == 0)
        *order = (a->count > b->count) - (a->count < b->count);
    render_leave(r);
    return status;
}

enum status value_compare(struct render *r, const struct value *a, const struct value *b, int *order)
{
    if (value_is_number(a) && value_is_number(b)) {
        if (a->type == VALUE_FLOAT || b->type == VALUE_FLOAT)
            *order = (value_number(a) > value_number(b)) - (value_number(a) < value_number(b));
        else
            *order = (value_whole(a) > value_whole(b)) - (value_whole(a) < value_whole(b));
        return STATUS_OK;
    }
    if (a->type == VALUE_STRING && b->type == VALUE_STRING) {
        *order = compare_strings(a->as.string, b->as.string);
        return render_charge(r, a->as.string.bytes / 64);
    }
    if (a->type == b->type && (a->type == VALUE_LIST || a->type == VALUE_TUPLE))
        return compare_lists(r, a->as.list, b->as.list, order);
    return render_fail(r, "'%s' and '%s' cannot be ordered", value_type_name(a), value_type_name(b));
}

enum status value_contains(struct render *r, const struct value *container, const struct value *item,
                           bool *found)
{
    const struct value *place;
    struct value_list items;
    *found = false;
    if (container->type == VALUE_STRING) {
        if (item->type != VALUE_STRING)
            return render_fail(r, "'in <string>' requires string as left operand, not %s",
                               value_type_name(item));
        *found = item->as.string.bytes == 0 || memmem(container->as.string.text, container->as.string.bytes,
                                                      item->as.string.text, item->as.string.bytes) != NULL;
        return render_charge(r, container->as.string.bytes / 64);
    }
    if (container->type == VALUE_DICT) {
        enum status status = value_find(r, container->as.dict, item, &place);
        *found = status == STATUS_OK && place;
        return status;
    }
    enum status status = value_items(r, container, &items);
    for (size_t i = 0; status == STATUS_OK && i < items.count && !*found; i++) {
        status = render_charge(r, 1);
        if (status == STATUS_OK)
            status = value_equal(r, &items.items[i], item, found);
    }
    return status;
}

static enum status string_items(struct render *r, struct string_view text, struct value_list *out)
{
    struct value list;
    enum status status = value_new_list(r, VALUE_LIST, value_characters(text.text, text.bytes), &list);
    for (size_t at = 0; at < text.bytes && status == STATUS_OK;) {
        uint32_t c;
        const size_t length = unicode_decode(text.text + at, text.bytes - at, &c);
        status = value_append(r, list.as.list, value_view(text.text + at, length));
        at += length;
    }
    if (status == STATUS_OK)
        *out = *list.as.list;
    return status;
}

enum status value_items(struct render *r, const struct value *value, struct value_list *out)
{
    struct value list;
    *out = (struct value_list){0};
    switch (value->type) {
    case VALUE_UNDEFINED:
        return STATUS_OK;
    case VALUE_LIST:
    case VALUE_TUPLE:
        *out = *value->as.list;
        return STATUS_OK;
    case VALUE_STRING:
        return string_items(r, value->as.string, out);
    case VALUE_DICT: {
        enum status status = value_new_list(r, VALUE_LIST, value->as.dict->count, &list);
        for (size_t i = 0; i < value->as.dict->count && status == STATUS_OK; i++)
            status = value_append(r, list.as.list, value->as.dict->pairs[i].key);
        if (status == STATUS_OK)
            *out = *list.as.list;
        return status;
    }
    default:
        return render_fail(r, "'%s' object is not iterable", value_type_name(value));
    }
}

enum status value_length(struct render *r, const struct value *value, size_t *length)
{
    *length = 0;
    switch (value->type) {
    case VALUE_UNDEFINED:
        return STATUS_OK;
    case VALUE_STRING:
        *length = value_characters(value->as.string.text, value->as.string.bytes);
        return render_charge(r, value->as.string.bytes / 64);
    case VALUE_LIST:
    case VALUE_TUPLE:
        *length = value->as.list->count;
        return STATUS_OK;
    case VALUE_DICT:
        *length = value->as.dict->count;
        return STATUS_OK;
    default:
        return render_fail(r, "object of type '%s' has no len()", value_type_name(value));
    }
}

bool value_is_blank(uint32_t c)
{
    return unicode_is_space(c) || (c >= 0x1C && c <= 0x1F);
}

size_t value_characters(const char *text, size_t bytes)
{
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++)
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}
