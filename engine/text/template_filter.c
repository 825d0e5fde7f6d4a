// SPDX-License-Identifier: Apache-2.0
// Filters of chat templates: Jinja's own, and tojson as transformers defines it. Source: the Jinja
// documentation, "List of Builtin Filters".
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/template_node.h"
#include "engine/text/unicode.h"

typedef enum status filter_function(struct render *r, const struct value *in,
                                    const struct template_arguments *arguments, struct value *out);

static bool flag(const struct template_arguments *arguments, size_t place, const char *name, bool fallback)
{
    const struct value *value = template_argument(arguments, place, name);
    return value ? value_is_true(value) : fallback;
}

static enum status filter_trim(struct render *r, const struct value *in,
                               const struct template_arguments *arguments, struct value *out)
{
    const struct value *chars = template_argument(arguments, 0, "chars");
    enum status status = value_to_string(r, in, out);
    if (status != STATUS_OK || out->type != VALUE_STRING)
        return status;
    const struct string_view kept = template_strip(out->as.string, chars, true, true);
    *out = value_view(kept.text, kept.bytes);
    return STATUS_OK;
}

static enum status filter_string(struct render *r, const struct value *in,
                                 const struct template_arguments *arguments, struct value *out)
{
    (void)arguments;
    return value_to_string(r, in, out);
}

static enum status filter_safe(struct render *r, const struct value *in,
                               const struct template_arguments *arguments, struct value *out)
{
    (void)arguments;
    enum status status = value_to_string(r, in, out);
    out->safe = true;
    return status;
}

static enum status filter_length(struct render *r, const struct value *in,
                                 const struct template_arguments *arguments, struct value *out)
{
    size_t length;
    (void)arguments;
    enum status status = value_length(r, in, &length);
    *out = value_integer((int64_t)length);
    return status;
}

static enum status change_case(struct render *r, const struct value *in, bool upper, struct value *out)
{
    struct value text;
    struct bytes changed;
    enum status status = value_to_string(r, in, &text);
    if (status != STATUS_OK)
        return status;
    bytes_init(&changed, TEMPLATE_MAX_MEMORY_BYTES);
    status = upper ? unicode_upper(text.as.string.text, text.as.string.bytes, &changed)
                   : unicode_lower(text.as.string.text, text.as.string.bytes, &changed);
    changed.failed = changed.failed || status != STATUS_OK;
    return value_from_bytes(r, &changed, out);
}

static enum status filter_upper(struct render *r, const struct value *in,
                                const struct template_arguments *arguments, struct value *out)
{
    (void)arguments;
    return change_case(r, in, true, out);
}

static enum status filter_lower(struct render *r, const struct value *in,
                                const struct template_arguments *arguments, struct value *out)
{
    (void)arguments;
    return change_case(r, in, false, out);
}

/* First letters of words (`title`), or of the text, in upper case and the rest in lower case. */
static enum status capitalize(struct render *r, const struct value *in, bool title, struct value *out)
{
    struct value text;
    struct bytes changed;
    bool first = true;
    enum status status = value_to_string(r, in, &text);
    if (status != STATUS_OK)
        return status;
    const struct string_view view = text.as.string;
    bytes_init(&changed, TEMPLATE_MAX_MEMORY_BYTES);
    for (size_t at = 0; at < view.bytes && status == STATUS_OK;) {
        uint32_t c;
        const size_t length = unicode_decode(view.text + at, view.bytes - at, &c);
        status = first ? unicode_upper(view.text + at, length, &changed)
                       : unicode_lower(view.text + at, length, &changed);
        first = title && (value_is_blank(c) || (c < 0x80 && c && strchr("-({[<", (int)c)));
        at += length;
    }
    changed.failed = changed.failed || status != STATUS_OK;
    return value_from_bytes(r, &changed, out);
}

static enum status filter_capitalize(struct render *r, const struct value *in,
                                     const struct template_arguments *arguments, struct value *out)
{
    (void)arguments;
    return capitalize(r, in, false, out);
}

static enum status filter_title(struct render *r, const struct value *in,
                                const struct template_arguments *arguments, struct value *out)
{
    (void)arguments;
    return capitalize(r, in, true, out);
}

static enum status filter_default(struct render *r, const struct value *in,
                                  const struct template_arguments *arguments, struct value *out)
{
    const struct value *fallback = template_argument(arguments, 0, "default_value");
    const bool loose = flag(arguments, 1, "boolean", false);
    (void)r;
    *out = *in;
    if (in->type == VALUE_UNDEFINED || (loose && !value_is_true(in)))
        *out = fallback ? *fallback : value_view("", 0);
    return STATUS_OK;
}

/* value.a.b.0: the dotted path of map(attribute=…), selectattr and sort. */
static enum status follow_path(struct render *r, const struct value *in, const struct value *path,
                               struct value *out)
{
    *out = *in;
    if (path->type != VALUE_STRING)
        return template_index(r, in, path, out);
    struct string_view rest = path->as.string;
    while (rest.bytes) {
        const char *dot = memchr(rest.text, '.', rest.bytes);
        const size_t bytes = dot ? (size_t)(dot - rest.text) : rest.bytes;
        struct value key = value_view(rest.text, bytes), next;
        bool digits = bytes > 0 && bytes < 10;
        int64_t place = 0;
        for (size_t i = 0; i < bytes && digits; i++) {
            digits = isdigit((unsigned char)rest.text[i]) != 0;
            place = place * 10 + (rest.text[i] - '0');
        }
        if (digits)
            key = value_integer(place);
        if (out->type == VALUE_UNDEFINED)
            return STATUS_OK;
        enum status status = template_index(r, out, &key, &next);
        if (status != STATUS_OK)
            return status;
        *out = next;
        rest.text += bytes + (dot != NULL);
        rest.bytes -= bytes + (dot != NULL);
    }
    return STATUS_OK;
}

static enum status filter_join(struct render *r, const struct value *in,
                               const struct template_arguments *arguments, struct value *out)
{
    const struct value *by = template_argument(arguments, 0, "d"),
                       *path = template_argument(arguments, 1, "attribute");
    struct value_list items;
    struct bytes text;
    enum status status = value_items(r, in, &items);
    bytes_init(&text, TEMPLATE_MAX_MEMORY_BYTES);
    for (size_t i = 0; i < items.count && status == STATUS_OK; i++) {
        struct value item = items.items[i];
        if (i && by)
            status = value_print(r, by, &text);
        if (status == STATUS_OK && path)
            status = follow_path(r, &items.items[i], path, &item);
        if (status == STATUS_OK)
            status = value_print(r, &item, &text);
    }
    if (status == STATUS_OK)
        return value_from_bytes(r, &text, out);
    bytes_release(&text);
    return status;
}

static enum status end_item(struct render *r, const struct value *in, bool last, struct value *out)
{
    struct value_list items;
    enum status status = value_items(r, in, &items);
    *out = value_undefined("an item of an empty sequence", 28);
    if (status == STATUS_OK && items.count)
        *out = items.items[last ? items.count - 1 : 0];
    return status;
}

static enum status filter_first(struct render *r, const struct value *in,
                                const struct template_arguments *arguments, struct value *out)
{
    (void)arguments;
    return end_item(r, in, false, out);
}

static enum status filter_last(struct render *r, const struct value *in,
                               const struct template_arguments *arguments, struct value *out)
{
    (void)arguments;
    return end_item(r, in, true, out);
}

static enum status copy_items(struct render *r, const struct value_list *items, struct value *out)
{
    enum status status = value_new_list(r, VALUE_LIST, items->count, out);
    for (size_t i = 0; i < items->count && status == STATUS_OK; i++)
        status = value_append(r, out->as.list, items->items[i]);
    return status;
}

static enum status filter_list(struct render *r, const struct value *in,
                               const struct template_arguments *arguments, struct value *out)
{
    struct value_list items;
    (void)arguments;
    enum status status = value_items(r, in, &items);
    return status == STATUS_OK ? copy_items(r, &items, out) : status;
}

static enum status filter_reverse(struct render *r, const struct value *in,
                                  const struct template_arguments *arguments, struct value *out)
{
    const struct value minus = value_integer(-1);
    const struct template_slice slice = {.step = &minus};
    enum status status = STATUS_OK;
    struct value list = *in;
    if (in->type != VALUE_STRING)
        status = filter_list(r, in, arguments, &list);
    return status == STATUS_OK ? template_slice(r, &list, &slice, out) : status;
}

static enum status filter_items(struct render *r, const struct value *in,
                                const struct template_arguments *arguments, struct value *out)
{
    if (in->type == VALUE_UNDEFINED)
        return value_new_list(r, VALUE_LIST, 0, out);
    if (in->type != VALUE_DICT)
        return render_fail(r, "Can only get item pairs from a mapping.");
    const struct value_method method = {.object = *in, .name = {"items", 5}};
    return template_method_call(r, &method, arguments, out);
}

/* What an item is sorted or told apart by: an attribute of it, in lower case unless case matters. */
static enum status sort_key(struct render *r, const struct value *item, const struct value *path,
                            bool with_case, struct value *out)
{
    *out = *item;
    enum status status = path ? follow_path(r, item, path, out) : STATUS_OK;
    if (status == STATUS_OK && !with_case && out->type == VALUE_STRING) {
        const struct value text = *out;
        status = change_case(r, &text, false, out);
    }
    return status;
}

/* Stable merge sort of places by keys. */
static enum status merge_sort(struct render *r, const struct value *keys, size_t *places, size_t *room,
                              size_t count)
{
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t begin = 0; begin < count; begin += 2 * width) {
            const size_t middle = begin + width < count ? begin + width : count;
            const size_t end = begin + 2 * width < count ? begin + 2 * width : count;
            size_t a = begin, b = middle;
            for (size_t to = begin; to < end; to++) {
                int order = a == middle ? 1 : -1;
                enum status status = render_charge(r, 1);
                if (status == STATUS_OK && a < middle && b < end)
                    status = value_compare(r, &keys[places[b]], &keys[places[a]], &order),
                    order = order < 0 ? 1 : -1;
                if (status != STATUS_OK)
                    return status;
                room[to] = order > 0 ? places[b++] : places[a++];
            }
        }
        memcpy(places, room, count * sizeof *places);
    }
    return STATUS_OK;
}

static enum status sort_by(struct render *r, const struct value_list *items, const struct value *keys,
                           bool reverse, struct value *out)
{
    const size_t count = items->count;
    size_t *places = render_alloc(r, 2 * (count + 1) * sizeof *places);
    if (!places)
        return render_shortage(r);
    for (size_t i = 0; i < count; i++) /* reversed twice, so that equal ones keep their order */
        places[i] = reverse ? count - 1 - i : i;
    enum status status = merge_sort(r, keys, places, places + count + 1, count);
    if (status == STATUS_OK)
        status = value_new_list(r, VALUE_LIST, count, out);
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = value_append(r, out->as.list, items->items[places[reverse ? count - 1 - i : i]]);
    return status;
}

static enum status sort_keys_of(struct render *r, const struct value_list *items, const struct value *path,
                                bool with_case, struct value **keys)
{
    *keys = render_alloc(r, (items->count + 1) * sizeof **keys);
    if (!*keys)
        return render_shortage(r);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < items->count && status == STATUS_OK; i++)
        status = sort_key(r, &items->items[i], path, with_case, &(*keys)[i]);
    return status;
}

static enum status filter_sort(struct render *r, const struct value *in,
                               const struct template_arguments *arguments, struct value *out)
{
    struct value_list items;
    struct value *keys;
    enum status status = value_items(r, in, &items);
    if (status == STATUS_OK)
        status = sort_keys_of(r, &items, template_argument(arguments, 2, "attribute"),
                              flag(arguments, 1, "case_sensitive", false), &keys);
    return status == STATUS_OK ? sort_by(r, &items, keys, flag(arguments, 0, "reverse", false), out) : status;
}

static enum status filter_dictsort(struct render *r, const struct value *in,
                                   const struct template_arguments *arguments, struct value *out)
{
    const struct value *by = template_argument(arguments, 1, "by");
    const struct value place = value_integer(by && value_is_text(by, "value"));
    const struct template_arguments none = {0};
    struct value pairs, *keys;
    enum status status = filter_items(r, in, &none, &pairs);
    if (status == STATUS_OK)
        status = sort_keys_of(r, pairs.as.list, &place, flag(arguments, 0, "case_sensitive", false), &keys);
    return status == STATUS_OK ? sort_by(r, pairs.as.list, keys, flag(arguments, 2, "reverse", false), out)
                               : status;
}

static enum status filter_unique(struct render *r, const struct value *in,
                                 const struct template_arguments *arguments, struct value *out)
{
    struct value_list items;
    struct value *keys;
    enum status status = value_items(r, in, &items);
    if (status == STATUS_OK)
        status = sort_keys_of(r, &items, template_argument(arguments, 1, "attribute"),
                              flag(arguments, 0, "case_sensitive", false), &keys);
    if (status == STATUS_OK)
        status = value_new_list(r, VALUE_LIST, items.count, out);
    for (size_t i = 0; i < items.count && status == STATUS_OK; i++) {
        bool seen = false;
        for (size_t k = 0; k < i && !seen && status == STATUS_OK; k++) {
            status = render_charge(r, 1);
            if (status == STATUS_OK)
                status = value_equal(r, &keys[k], &keys[i], &seen);
        }
        if (!seen && status == STATUS_OK)
            status = value_append(r, out->as.list, items.items[i]);
    }
    return status;
}

static enum status extreme(struct render *r, const struct value *in,
                           const struct template_arguments *arguments, int sign, struct value *out)
{
    struct value_list items;
    struct value *keys;
    size_t best = 0;
    enum status status = value_items(r, in, &items);
    *out = value_undefined("an item of an empty sequence", 28);
    if (status == STATUS_OK)
        status = sort_keys_of(r, &items, template_argument(arguments, 1, "attribute"),
                              flag(arguments, 0, "case_sensitive", false), &keys);
    for (size_t i = 1; i < items.count && status == STATUS_OK; i++) {
        int order = 0;
        status = value_compare(r, &keys[i], &keys[best], &order);
        best = order * sign > 0 ? i : best;
    }
    if (status == STATUS_OK && items.count)
        *out = items.items[best];
    return status;
}

static enum status filter_min(struct render *r, const struct value *in,
                              const struct template_arguments *arguments, struct value *out)
{
    return extreme(r, in, arguments, -1, out);
}

static enum status filter_max(struct render *r, const struct value *in,
                              const struct template_arguments *arguments, struct value *out)
{
    return extreme(r, in, arguments, 1, out);
}

static enum status filter_sum(struct render *r, const struct value *in,
                              const struct template_arguments *arguments, struct value *out)
{
    const struct value *path = template_argument(arguments, 0, "attribute"),
                       *start = template_argument(arguments, 1, "start");
    struct value_list items;
    enum status status = value_items(r, in, &items);
    *out = start ? *start : value_integer(0);
    for (size_t i = 0; i < items.count && status == STATUS_OK; i++) {
        struct value item = items.items[i];
        const struct value sum = *out;
        if (path)
            status = follow_path(r, &items.items[i], path, &item);
        if (status == STATUS_OK)
            status = template_operate(r, OP_ADD, &sum, &item, out);
    }
    return status;
}

/* The arguments after the first `skipped` positional ones. */
static struct template_arguments rest_of(const struct template_arguments *arguments, size_t skipped)
{
    return (struct template_arguments){.values = arguments->values + skipped,
                                       .names = arguments->names + skipped,
                                       .count = arguments->count - skipped,
                                       .positional = arguments->positional - skipped};
}

static enum status filter_map(struct render *r, const struct value *in,
                              const struct template_arguments *arguments, struct value *out)
{
    const struct value *path = template_argument(arguments, SIZE_MAX, "attribute");
    const struct value *fallback = template_argument(arguments, SIZE_MAX, "default");
    struct value_list items;
    int filter = -1;
    struct template_arguments rest = {0};
    if (!path) {
        if (arguments->positional == 0 || arguments->values[0].type != VALUE_STRING)
            return render_fail(r, "map requires a filter argument");
        filter = template_filter_find(arguments->values[0].as.string);
        rest = rest_of(arguments, 1);
        if (filter < 0)
            return error_set(r->err, STATUS_UNSUPPORTED, "chat template, line %d: filter not supported: %.*s",
                             r->line, (int)arguments->values[0].as.string.bytes,
                             arguments->values[0].as.string.text);
    }
    enum status status = value_items(r, in, &items);
    if (status == STATUS_OK)
        status = value_new_list(r, VALUE_LIST, items.count, out);
    for (size_t i = 0; i < items.count && status == STATUS_OK; i++) {
        struct value item = value_none();
        status = path ? follow_path(r, &items.items[i], path, &item)
                      : template_filter_apply(r, filter, &items.items[i], &rest, &item);
        if (path && fallback && item.type == VALUE_UNDEFINED)
            item = *fallback;
        if (status == STATUS_OK)
            status = value_append(r, out->as.list, item);
    }
    return status;
}

/* select, reject, selectattr, rejectattr. */
static enum status choose(struct render *r, const struct value *in,
                          const struct template_arguments *arguments, int attribute_and_wanted,
                          struct value *out)
{
    const size_t skipped = (size_t)(attribute_and_wanted >> 1);
    const bool wanted = attribute_and_wanted & 1;
    struct template_arguments rest = {0};
    struct value_list items;
    int test = -1;
    if (arguments->positional < skipped)
        return render_fail(r, "missing parameter for attribute name");
    if (arguments->positional > skipped) {
        const struct value *name = &arguments->values[skipped];
        const char *sign = value_is_text(name, "==") ? "eq" : value_is_text(name, "!=") ? "ne" : NULL;
        test = name->type != VALUE_STRING ? -1
               : sign                     ? template_test_find((struct string_view){sign, 2})
                                          : template_test_find(name->as.string);
        rest = rest_of(arguments, skipped + 1);
        if (test < 0)
            return error_set(r->err, STATUS_UNSUPPORTED, "chat template, line %d: test not supported",
                             r->line);
    }
    enum status status = value_items(r, in, &items);
    if (status == STATUS_OK)
        status = value_new_list(r, VALUE_LIST, items.count, out);
    for (size_t i = 0; i < items.count && status == STATUS_OK; i++) {
        struct value subject = items.items[i];
        bool passes = false;
        if (skipped)
            status = follow_path(r, &items.items[i], &arguments->values[0], &subject);
        if (status == STATUS_OK && test >= 0)
            status = template_test_apply(r, test, &subject, &rest, &passes);
        else
            passes = value_is_true(&subject);
        if (status == STATUS_OK && passes == wanted)
            status = value_append(r, out->as.list, items.items[i]);
    }
    return status;
}

static enum status filter_select(struct render *r, const struct value *in,
                                 const struct template_arguments *arguments, struct value *out)
{
    return choose(r, in, arguments, 1, out);
}

static enum status filter_reject(struct render *r, const struct value *in,
                                 const struct template_arguments *arguments, struct value *out)
{
    return choose(r, in, arguments, 0, out);
}

static enum status filter_selectattr(struct render *r, const struct value *in,
                                     const struct template_arguments *arguments, struct value *out)
{
    return choose(r, in, arguments, 3, out);
}

static enum status filter_rejectattr(struct render *r, const struct value *in,
                                     const struct template_arguments *arguments, struct value *out)
{
    return choose(r, in, arguments, 2, out);
}

static enum status filter_attr(struct render *r, const struct value *in,
                               const struct template_arguments *arguments, struct value *out)
{
    const struct value *name = template_argument(arguments, 0, "name");
    if (!name || name->type != VALUE_STRING)
        return render_fail(r, "attr needs a name");
    *out = value_undefined(name->as.string.text, name->as.string.bytes);
    return in->type == VALUE_DICT && !template_method_of(in, name->as.string)
               ? STATUS_OK
               : template_attribute(r, in, name->as.string, out);
}

/* Replaces up to `limit` (-1: all) occurrences; an empty `what` stands before every character and at the end.
 */
static enum status replace_in(struct string_view text, struct string_view what, struct string_view with,
                              int64_t limit, struct bytes *out)
{
    while (limit != 0) {
        size_t before = 0;
        if (what.bytes) {
            const char *at = memmem(text.text, text.bytes, what.text, what.bytes);
            if (!at)
                break;
            before = (size_t)(at - text.text);
            bytes_append(out, text.text, before);
        }
        bytes_append(out, with.text, with.bytes);
        limit -= limit > 0;
        text.text += before + what.bytes;
        text.bytes -= before + what.bytes;
        if (what.bytes == 0) {
            uint32_t c;
            if (text.bytes == 0 || out->failed)
                break;
            const size_t length = unicode_decode(text.text, text.bytes, &c);
            bytes_append(out, text.text, length);
            text.text += length;
            text.bytes -= length;
        }
    }
    return bytes_append(out, text.text, text.bytes);
}

static enum status filter_replace(struct render *r, const struct value *in,
                                  const struct template_arguments *arguments, struct value *out)
{
    const struct value *what = template_argument(arguments, 0, "old"),
                       *with = template_argument(arguments, 1, "new");
    const struct value *count = template_argument(arguments, 2, "count");
    struct value text, from, to;
    struct bytes changed;
    if (!what || !with)
        return render_fail(r, "replace needs two texts");
    enum status status = value_to_string(r, in, &text);
    if (status == STATUS_OK)
        status = value_to_string(r, what, &from);
    if (status == STATUS_OK)
        status = value_to_string(r, with, &to);
    if (status != STATUS_OK)
        return status;
    bytes_init(&changed, TEMPLATE_MAX_MEMORY_BYTES);
    status = replace_in(text.as.string, from.as.string, to.as.string,
                        count && count->type == VALUE_INTEGER ? count->as.integer : -1, &changed);
    changed.failed = changed.failed || status != STATUS_OK;
    return value_from_bytes(r, &changed, out);
}

static enum status filter_indent(struct render *r, const struct value *in,
                                 const struct template_arguments *arguments, struct value *out)
{
    const struct value *width = template_argument(arguments, 0, "width");
    const bool first = flag(arguments, 1, "first", false), blank = flag(arguments, 2, "blank", false);
    const int64_t spaces = width && width->type == VALUE_INTEGER ? width->as.integer : 4;
    struct value text, indent = value_view("", 0);
    struct bytes changed;
    enum status status = value_to_string(r, in, &text);
    const struct value blank_text = value_view(" ", 1), times = value_integer(spaces);
    if (status == STATUS_OK && width && width->type == VALUE_STRING)
        indent = *width;
    else if (status == STATUS_OK)
        status = template_operate(r, OP_MULTIPLY, &blank_text, &times, &indent);
    if (status != STATUS_OK)
        return status;
    bytes_init(&changed, TEMPLATE_MAX_MEMORY_BYTES);
    const struct string_view view = text.as.string;
    bool line_begins = first;
    for (size_t at = 0; at < view.bytes; at++) {
        if (line_begins && (blank || view.text[at] != '\n' || (first && at == 0)))
            bytes_append(&changed, indent.as.string.text, indent.as.string.bytes);
        bytes_append_char(&changed, view.text[at]);
        line_begins = view.text[at] == '\n';
    }
    if (blank && view.bytes && view.text[view.bytes - 1] == '\n')
        bytes_append(&changed, indent.as.string.text, indent.as.string.bytes);
    if (first && view.bytes == 0)
        bytes_append(&changed, indent.as.string.text, indent.as.string.bytes);
    bytes_append(&changed, "", 0);
    return value_from_bytes(r, &changed, out);
}

/* A number as text, blanks around it allowed; false: it is none. */
static bool read_number(struct string_view text, bool whole, struct value *out)
{
    char copy[64], *end;
    text = template_strip(text, NULL, true, true);
    if (text.bytes == 0 || text.bytes >= sizeof copy)
        return false;
    memcpy(copy, text.text, text.bytes);
    copy[text.bytes] = '\0';
    if (whole)
        *out = value_integer(strtoll(copy, &end, 10));
    else
        *out = value_float(strtod(copy, &end));
    return *end == '\0';
}

static enum status filter_int(struct render *r, const struct value *in,
                              const struct template_arguments *arguments, struct value *out)
{
    const struct value *fallback = template_argument(arguments, 0, "default");
    struct value number;
    (void)r;
    *out = fallback ? *fallback : value_integer(0);
    if (value_is_number(in) && in->type != VALUE_FLOAT)
        *out = value_integer(value_whole(in));
    else if (in->type == VALUE_FLOAT && fabs(in->as.number) < 9e18)
        *out = value_integer((int64_t)in->as.number);
    else if (in->type == VALUE_STRING && read_number(in->as.string, true, &number))
        *out = number;
    else if (in->type == VALUE_STRING && read_number(in->as.string, false, &number) &&
             fabs(number.as.number) < 9e18)
        *out = value_integer((int64_t)number.as.number);
    return STATUS_OK;
}

static enum status filter_float(struct render *r, const struct value *in,
                                const struct template_arguments *arguments, struct value *out)
{
    const struct value *fallback = template_argument(arguments, 0, "default");
    struct value number;
    (void)r;
    *out = fallback ? *fallback : value_float(0);
    if (value_is_number(in))
        *out = value_float(value_number(in));
    else if (in->type == VALUE_STRING && read_number(in->as.string, false, &number))
        *out = number;
    return STATUS_OK;
}

static enum status filter_abs(struct render *r, const struct value *in,
                              const struct template_arguments *arguments, struct value *out)
{
    (void)arguments;
    if (!value_is_number(in))
        return render_fail(r, "bad operand type for abs(): '%s'", value_type_name(in));
    if (in->type == VALUE_FLOAT)
        *out = value_float(fabs(in->as.number));
    else
        *out = value_integer(value_whole(in) < 0 && value_whole(in) != INT64_MIN ? -value_whole(in)
                                                                                 : value_whole(in));
    return STATUS_OK;
}

static enum status filter_round(struct render *r, const struct value *in,
                                const struct template_arguments *arguments, struct value *out)
{
    const struct value *digits = template_argument(arguments, 0, "precision"),
                       *method = template_argument(arguments, 1, "method");
    const int64_t precision = digits && digits->type == VALUE_INTEGER ? digits->as.integer : 0;
    if (!value_is_number(in) || precision < -15 || precision > 15)
        return render_fail(r, "round needs a number and a precision from -15 to 15");
    const bool up = method && value_is_text(method, "ceil"), down = method && value_is_text(method, "floor");
    const double number = value_number(in), scale = pow(10, (double)precision);
    char text[400]; /* decimal rounding of the exact value, as Python's round() does it */
    *out = *in;
    if (up || down)
        *out = value_float((up ? ceil(number * scale) : floor(number * scale)) / scale);
    else if (in->type == VALUE_FLOAT && precision >= 0 && isfinite(number) &&
             snprintf(text, sizeof text, "%.*f", (int)precision, number) < (int)sizeof text)
        *out = value_float(strtod(text, NULL));
    else if (precision < 0)
        *out = in->type == VALUE_FLOAT ? value_float(nearbyint(number * scale) / scale)
                                       : value_integer((int64_t)(nearbyint(number * scale) / scale));
    return STATUS_OK;
}

static const struct {
    const char *name;
    filter_function *apply;
} filters[] = {
    {"abs", filter_abs},
    {"attr", filter_attr},
    {"capitalize", filter_capitalize},
    {"count", filter_length},
    {"d", filter_default},
    {"default", filter_default},
    {"dictsort", filter_dictsort},
    {"first", filter_first},
    {"float", filter_float},
    {"indent", filter_indent},
    {"int", filter_int},
    {"items", filter_items},
    {"join", filter_join},
    {"last", filter_last},
    {"length", filter_length},
    {"list", filter_list},
    {"lower", filter_lower},
    {"map", filter_map},
    {"max", filter_max},
    {"min", filter_min},
    {"reject", filter_reject},
    {"rejectattr", filter_rejectattr},
    {"replace", filter_replace},
    {"reverse", filter_reverse},
    {"round", filter_round},
    {"safe", filter_safe},
    {"select", filter_select},
    {"selectattr", filter_selectattr},
    {"sort", filter_sort},
    {"string", filter_string},
    {"sum", filter_sum},
    {"title", filter_title},
    {"tojson", template_tojson},
    {"trim", filter_trim},
    {"unique", filter_unique},
    {"upper", filter_upper},
};

int template_filter_find(struct string_view name)
{
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++)
        if (strlen(filters[i].name) == name.bytes && memcmp(filters[i].name, name.text, name.bytes) == 0)
            return (int)i;
    return -1;
}

enum status template_filter_apply(struct render *r, int filter, const struct value *in,
                                  const struct template_arguments *arguments, struct value *out)
{
    static const char *const kept[] = {"safe", "string", "length", "count", "default",
                                       "d",    "tojson", "items",  "list"};
    for (size_t i = 0; in->safe; i++) {
        if (i == sizeof kept / sizeof kept[0]) /* some of the others would keep the mark, some lose it */
            return error_set(r->err, STATUS_UNSUPPORTED,
                             "chat template, line %d: %s of safe text is not supported", r->line,
                             filters[filter].name);
        if (strcmp(filters[filter].name, kept[i]) == 0)
            break;
    }
    return filters[filter].apply(r, in, arguments, out);
}
