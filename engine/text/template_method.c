// SPDX-License-Identifier: Apache-2.0
// Methods of strings, lists, dictionaries and loops. One table names them all, so that a call of any other
// name is refused when the template is loaded.
#include <string.h>

#include "engine/text/template_node.h"
#include "engine/text/unicode.h"

typedef enum status method_function(struct render *r, const struct value *self,
                                    const struct template_arguments *arguments, struct value *out);

static bool blank_or_in(uint32_t c, const char *text, size_t bytes, const struct value *chars)
{
    return chars && chars->type == VALUE_STRING
               ? memmem(chars->as.string.text, chars->as.string.bytes, text, bytes) != NULL
               : value_is_blank(c);
}

struct string_view template_strip(struct string_view text, const struct value *chars, bool left, bool right)
{
    uint32_t c;
    while (left && text.bytes) {
        const size_t length = unicode_decode(text.text, text.bytes, &c);
        if (!blank_or_in(c, text.text, length, chars))
            break;
        text.text += length;
        text.bytes -= length;
    }
    while (right && text.bytes) {
        const size_t at = unicode_last(text.text, text.bytes);
        unicode_decode(text.text + at, text.bytes - at, &c);
        if (!blank_or_in(c, text.text + at, text.bytes - at, chars))
            break;
        text.bytes = at;
    }
    return text;
}

static enum status strip_by(const struct value *self, const struct template_arguments *arguments, int sides,
                            struct value *out)
{
    const struct value *chars = template_argument(arguments, 0, "chars");
    const struct string_view kept = template_strip(self->as.string, chars, sides & 1, sides & 2);
    *out = value_view(kept.text, kept.bytes);
    return STATUS_OK;
}

static enum status method_strip(struct render *r, const struct value *self,
                                const struct template_arguments *arguments, struct value *out)
{
    (void)r;
    return strip_by(self, arguments, 3, out);
}

static enum status method_lstrip(struct render *r, const struct value *self,
                                 const struct template_arguments *arguments, struct value *out)
{
    (void)r;
    return strip_by(self, arguments, 1, out);
}

static enum status method_rstrip(struct render *r, const struct value *self,
                                 const struct template_arguments *arguments, struct value *out)
{
    (void)r;
    return strip_by(self, arguments, 2, out);
}

/* A filter of the same name does the work. */
static enum status by_filter(struct render *r, const char *name, const struct value *self,
                             const struct template_arguments *arguments, struct value *out)
{
    const struct string_view view = {name, strlen(name)};
    return template_filter_apply(r, template_filter_find(view), self, arguments, out);
}

#define FILTER_METHOD(name)                                                                         \
    static enum status method_##name(struct render *r, const struct value *self,                    \
                                     const struct template_arguments *arguments, struct value *out) \
    {                                                                                               \
        return by_filter(r, #name, self, arguments, out);                                           \
    }
FILTER_METHOD(upper)
FILTER_METHOD(lower)
FILTER_METHOD(capitalize)
FILTER_METHOD(replace)

static bool has_affix(struct string_view text, struct string_view affix, bool at_end)
{
    return affix.bytes <= text.bytes &&
           memcmp(at_end ? text.text + text.bytes - affix.bytes : text.text, affix.text, affix.bytes) == 0;
}

static enum status affix(struct render *r, const struct value *self,
                         const struct template_arguments *arguments, bool at_end, struct value *out)
{
    const struct value *wanted = template_argument(arguments, 0, "prefix");
    bool found = false;
    if (!wanted || (wanted->type != VALUE_STRING && wanted->type != VALUE_TUPLE))
        return render_fail(r, "startswith and endswith need a str or a tuple of str");
    if (wanted->type == VALUE_STRING)
        found = has_affix(self->as.string, wanted->as.string, at_end);
    else
        for (size_t i = 0; i < wanted->as.list->count; i++)
            found = found || (wanted->as.list->items[i].type == VALUE_STRING &&
                              has_affix(self->as.string, wanted->as.list->items[i].as.string, at_end));
    *out = value_bool(found);
    return STATUS_OK;
}

static enum status method_startswith(struct render *r, const struct value *self,
                                     const struct template_arguments *arguments, struct value *out)
{
    return affix(r, self, arguments, false, out);
}

static enum status method_endswith(struct render *r, const struct value *self,
                                   const struct template_arguments *arguments, struct value *out)
{
    return affix(r, self, arguments, true, out);
}

static enum status remove_affix(struct render *r, const struct value *self,
                                const struct template_arguments *arguments, bool at_end, struct value *out)
{
    const struct value *wanted = template_argument(arguments, 0, "prefix");
    if (!wanted || wanted->type != VALUE_STRING)
        return render_fail(r, "removeprefix and removesuffix need a str");
    *out = *self;
    if (has_affix(self->as.string, wanted->as.string, at_end)) {
        out->as.string.bytes -= wanted->as.string.bytes;
        out->as.string.text += at_end ? 0 : wanted->as.string.bytes;
    }
    return STATUS_OK;
}

static enum status method_removeprefix(struct render *r, const struct value *self,
                                       const struct template_arguments *arguments, struct value *out)
{
    return remove_affix(r, self, arguments, false, out);
}

static enum status method_removesuffix(struct render *r, const struct value *self,
                                       const struct template_arguments *arguments, struct value *out)
{
    return remove_affix(r, self, arguments, true, out);
}

static enum status put_part(struct render *r, struct value *list, const char *text, size_t bytes)
{
    return value_append(r, list->as.list, value_view(text, bytes));
}

/* split() without a separator: runs of blanks, none at the ends. */
static enum status split_blanks(struct render *r, struct string_view text, int64_t limit, struct value *out)
{
    enum status status = STATUS_OK;
    text = template_strip(text, NULL, true, false);
    while (text.bytes && status == STATUS_OK) {
        size_t end = 0;
        uint32_t c = 0;
        while (end < text.bytes && limit != 0) {
            const size_t length = unicode_decode(text.text + end, text.bytes - end, &c);
            if (value_is_blank(c))
                break;
            end += length;
        }
        if (limit == 0)
            end = template_strip(text, NULL, false, true).bytes;
        status = put_part(r, out, text.text, end);
        limit -= limit > 0;
        text.text += end;
        text.bytes -= end;
        text = template_strip(text, NULL, true, false);
    }
    return status;
}

static const char *find_last(struct string_view text, struct string_view what)
{
    for (size_t at = text.bytes >= what.bytes ? text.bytes - what.bytes + 1 : 0; at > 0; at--)
        if (memcmp(text.text + at - 1, what.text, what.bytes) == 0)
            return text.text + at - 1;
    return NULL;
}

static enum status split_from_right(struct render *r, struct string_view text, struct string_view by,
                                    int64_t limit, struct value *out)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        const char *at = limit-- == 0 ? NULL : find_last(text, by);
        const size_t begin = at ? (size_t)(at - text.text) + by.bytes : 0;
        status = put_part(r, out, text.text + begin, text.bytes - begin);
        if (!at)
            break;
        text.bytes = (size_t)(at - text.text);
    }
    struct value_list *list = out->as.list;
    for (size_t i = 0; i < list->count / 2; i++) {
        const struct value swap = list->items[i];
        list->items[i] = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = swap;
    }
    return status;
}

static enum status split(struct render *r, const struct value *self,
                         const struct template_arguments *arguments, bool from_right, struct value *out)
{
    const struct value *by = template_argument(arguments, 0, "sep"),
                       *most = template_argument(arguments, 1, "maxsplit");
    int64_t limit = most && value_is_number(most) && most->type != VALUE_FLOAT ? value_whole(most) : -1;
    struct string_view text = self->as.string;
    enum status status = value_new_list(r, VALUE_LIST, 4, out);
    if (status == STATUS_OK)
        status = render_charge(r, text.bytes / 16);
    if (status != STATUS_OK)
        return status;
    if (!by || by->type == VALUE_NONE)
        return from_right && limit >= 0 ? render_fail(r, "rsplit by blanks with a limit is not supported")
                                        : split_blanks(r, text, limit, out);
    if (by->type != VALUE_STRING || by->as.string.bytes == 0)
        return render_fail(r, "split needs a separator that is not empty");
    if (from_right)
        return split_from_right(r, text, by->as.string, limit, out);
    while (status == STATUS_OK) {
        const char *at =
            limit-- == 0 ? NULL : memmem(text.text, text.bytes, by->as.string.text, by->as.string.bytes);
        const size_t part = at ? (size_t)(at - text.text) : text.bytes;
        status = put_part(r, out, text.text, part);
        if (!at)
            break;
        text.text += part + by->as.string.bytes;
        text.bytes -= part + by->as.string.bytes;
    }
    return status;
}

static enum status method_split(struct render *r, const struct value *self,
                                const struct template_arguments *arguments, struct value *out)
{
    return split(r, self, arguments, false, out);
}

static enum status method_rsplit(struct render *r, const struct value *self,
                                 const struct template_arguments *arguments, struct value *out)
{
    return split(r, self, arguments, true, out);
}

static enum status method_splitlines(struct render *r, const struct value *self,
                                     const struct template_arguments *arguments, struct value *out)
{
    const struct string_view text = self->as.string;
    const struct value *keep = template_argument(arguments, 0, "keepends");
    enum status status = value_new_list(r, VALUE_LIST, 4, out);
    for (size_t begin = 0; begin < text.bytes && status == STATUS_OK;) {
        size_t end = begin;
        while (end < text.bytes && text.text[end] != '\n' && text.text[end] != '\r')
            end++;
        size_t after = end + (end < text.bytes);
        if (after < text.bytes && text.text[end] == '\r' && text.text[after] == '\n')
            after++;
        status = put_part(r, out, text.text + begin, (keep && value_is_true(keep) ? after : end) - begin);
        begin = after;
    }
    return status;
}

static enum status method_join(struct render *r, const struct value *self,
                               const struct template_arguments *arguments, struct value *out)
{
    const struct value *list = template_argument(arguments, 0, "iterable");
    struct value_list items;
    struct bytes text;
    if (!list)
        return render_fail(r, "join needs a list");
    enum status status = value_items(r, list, &items);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < items.count; i++)
        if (items.items[i].type != VALUE_STRING)
            return render_fail(r, "sequence item %zu: expected str instance, %s found", i,
                               value_type_name(&items.items[i]));
    bytes_init(&text, TEMPLATE_MAX_MEMORY_BYTES);
    for (size_t i = 0; i < items.count; i++) {
        if (i)
            bytes_append(&text, self->as.string.text, self->as.string.bytes);
        bytes_append(&text, items.items[i].as.string.text, items.items[i].as.string.bytes);
    }
    return value_from_bytes(r, &text, out);
}

static enum status find(struct render *r, const struct value *self,
                        const struct template_arguments *arguments, bool last, struct value *out)
{
    const struct value *what = template_argument(arguments, 0, "sub");
    if (!what || what->type != VALUE_STRING || arguments->count > 1)
        return render_fail(r, "find takes one str");
    const struct string_view text = self->as.string;
    const char *at = last ? find_last(text, what->as.string)
                          : memmem(text.text, text.bytes, what->as.string.text, what->as.string.bytes);
    *out = value_integer(at ? (int64_t)value_characters(text.text, (size_t)(at - text.text)) : -1);
    return render_charge(r, text.bytes / 64);
}

static enum status method_find(struct render *r, const struct value *self,
                               const struct template_arguments *arguments, struct value *out)
{
    return find(r, self, arguments, false, out);
}

static enum status method_rfind(struct render *r, const struct value *self,
                                const struct template_arguments *arguments, struct value *out)
{
    return find(r, self, arguments, true, out);
}

static enum status count_in_string(struct render *r, struct string_view text, const struct value *what,
                                   struct value *out)
{
    int64_t count = 0;
    if (what->type != VALUE_STRING)
        return render_fail(r, "count needs a str");
    if (what->as.string.bytes == 0)
        count = (int64_t)value_characters(text.text, text.bytes) + 1;
    while (what->as.string.bytes) {
        const char *at = memmem(text.text, text.bytes, what->as.string.text, what->as.string.bytes);
        if (!at)
            break;
        count++;
        text.bytes -= (size_t)(at - text.text) + what->as.string.bytes;
        text.text = at + what->as.string.bytes;
    }
    *out = value_integer(count);
    return render_charge(r, text.bytes / 64);
}

static enum status method_count(struct render *r, const struct value *self,
                                const struct template_arguments *arguments, struct value *out)
{
    const struct value *what = template_argument(arguments, 0, "value");
    int64_t count = 0;
    if (!what)
        return render_fail(r, "count needs a value");
    if (self->type == VALUE_STRING)
        return count_in_string(r, self->as.string, what, out);
    for (size_t i = 0; i < self->as.list->count; i++) {
        bool equal;
        enum status status = value_equal(r, &self->as.list->items[i], what, &equal);
        if (status != STATUS_OK)
            return status;
        count += equal;
    }
    *out = value_integer(count);
    return STATUS_OK;
}

static enum status method_index(struct render *r, const struct value *self,
                                const struct template_arguments *arguments, struct value *out)
{
    const struct value *what = template_argument(arguments, 0, "value");
    if (self->type == VALUE_STRING) {
        enum status status = find(r, self, arguments, false, out);
        return status == STATUS_OK && out->as.integer < 0 ? render_fail(r, "substring not found") : status;
    }
    for (size_t i = 0; what && i < self->as.list->count; i++) {
        bool equal;
        enum status status = value_equal(r, &self->as.list->items[i], what, &equal);
        *out = value_integer((int64_t)i);
        if (status != STATUS_OK || equal)
            return status;
    }
    return render_fail(r, "the value is not in the list");
}

/* True when the text has characters and all of them pass. */
static enum status all_characters(const struct value *self, bool (*passes)(uint32_t), struct value *out)
{
    const struct string_view text = self->as.string;
    bool all = text.bytes > 0;
    for (size_t at = 0; at < text.bytes && all;) {
        uint32_t c;
        at += unicode_decode(text.text + at, text.bytes - at, &c);
        all = passes(c);
    }
    *out = value_bool(all);
    return STATUS_OK;
}

static enum status method_isspace(struct render *r, const struct value *self,
                                  const struct template_arguments *arguments, struct value *out)
{
    (void)r, (void)arguments;
    return all_characters(self, value_is_blank, out);
}

static enum status method_isdigit(struct render *r, const struct value *self,
                                  const struct template_arguments *arguments, struct value *out)
{
    (void)r, (void)arguments;
    return all_characters(self, unicode_is_numeric, out);
}

static enum status list_pairs(struct render *r, const struct value_dict *dict, int what, struct value *out)
{
    enum status status = value_new_list(r, VALUE_LIST, dict->count, out);
    for (size_t i = 0; i < dict->count && status == STATUS_OK; i++) {
        struct value item = what == 0 ? dict->pairs[i].key : dict->pairs[i].value;
        if (what == 2) {
            status = value_new_list(r, VALUE_TUPLE, 2, &item);
            if (status == STATUS_OK)
                status = value_append(r, item.as.list, dict->pairs[i].key);
            if (status == STATUS_OK)
                status = value_append(r, item.as.list, dict->pairs[i].value);
        }
        if (status == STATUS_OK)
            status = value_append(r, out->as.list, item);
    }
    return status;
}

static enum status method_keys(struct render *r, const struct value *self,
                               const struct template_arguments *arguments, struct value *out)
{
    (void)arguments;
    return list_pairs(r, self->as.dict, 0, out);
}

static enum status method_values(struct render *r, const struct value *self,
                                 const struct template_arguments *arguments, struct value *out)
{
    (void)arguments;
    return list_pairs(r, self->as.dict, 1, out);
}

static enum status method_items(struct render *r, const struct value *self,
                                const struct template_arguments *arguments, struct value *out)
{
    (void)arguments;
    return list_pairs(r, self->as.dict, 2, out);
}

static enum status method_get(struct render *r, const struct value *self,
                              const struct template_arguments *arguments, struct value *out)
{
    const struct value *key = template_argument(arguments, 0, "key"), *found;
    const struct value *fallback = template_argument(arguments, 1, "default");
    if (!key)
        return render_fail(r, "get needs a key");
    enum status status = value_find(r, self->as.dict, key, &found);
    *out = status == STATUS_OK && found ? *found : fallback ? *fallback : value_none();
    return status;
}

static enum status method_copy(struct render *r, const struct value *self,
                               const struct template_arguments *arguments, struct value *out)
{
    (void)r, (void)arguments;
    *out = *self; /* nothing can change either of the two */
    return STATUS_OK;
}

static enum status method_cycle(struct render *r, const struct value *self,
                                const struct template_arguments *arguments, struct value *out)
{
    if (arguments->count == 0)
        return render_fail(r, "no items for cycling given");
    *out = arguments->values[self->as.loop->index % arguments->count];
    return STATUS_OK;
}

static enum status method_changed(struct render *r, const struct value *self,
                                  const struct template_arguments *arguments, struct value *out)
{
    struct value_loop *loop = self->as.loop;
    struct value now;
    bool equal = false;
    enum status status = value_new_list(r, VALUE_TUPLE, arguments->count, &now);
    for (size_t i = 0; i < arguments->count && status == STATUS_OK; i++)
        status = value_append(r, now.as.list, arguments->values[i]);
    if (status == STATUS_OK && loop->has_changed)
        status = value_equal(r, &loop->changed, &now, &equal);
    loop->changed = now;
    loop->has_changed = true;
    *out = value_bool(!equal);
    return status;
}

static enum status method_unsafe(struct render *r, const struct value *self,
                                 const struct template_arguments *arguments, struct value *out)
{
    (void)arguments, (void)out;
    return render_fail(r, "this method would change a '%s', which a template may not do",
                       value_type_name(self));
}

enum { OF_STRING = 1, OF_LIST = 2, OF_DICT = 4, OF_LOOP = 8 };

static const struct {
    const char *name;
    int types;
    method_function *call;
} methods[] = {
    {"strip", OF_STRING, method_strip},
    {"lstrip", OF_STRING, method_lstrip},
    {"rstrip", OF_STRING, method_rstrip},
    {"upper", OF_STRING, method_upper},
    {"lower", OF_STRING, method_lower},
    {"capitalize", OF_STRING, method_capitalize},
    {"replace", OF_STRING, method_replace},
    {"startswith", OF_STRING, method_startswith},
    {"endswith", OF_STRING, method_endswith},
    {"removeprefix", OF_STRING, method_removeprefix},
    {"removesuffix", OF_STRING, method_removesuffix},
    {"split", OF_STRING, method_split},
    {"rsplit", OF_STRING, method_rsplit},
    {"splitlines", OF_STRING, method_splitlines},
    {"join", OF_STRING, method_join},
    {"find", OF_STRING, method_find},
    {"rfind", OF_STRING, method_rfind},
    {"isspace", OF_STRING, method_isspace},
    {"isdigit", OF_STRING, method_isdigit},
    {"index", OF_STRING | OF_LIST, method_index},
    {"count", OF_STRING | OF_LIST, method_count},
    {"keys", OF_DICT, method_keys},
    {"values", OF_DICT, method_values},
    {"items", OF_DICT, method_items},
    {"get", OF_DICT, method_get},
    {"copy", OF_DICT | OF_LIST, method_copy},
    {"cycle", OF_LOOP, method_cycle},
    {"changed", OF_LOOP, method_changed},
    {"append", OF_LIST, method_unsafe},
    {"extend", OF_LIST, method_unsafe},
    {"insert", OF_LIST, method_unsafe},
    {"remove", OF_LIST, method_unsafe},
    {"reverse", OF_LIST, method_unsafe},
    {"sort", OF_LIST, method_unsafe},
    {"pop", OF_LIST | OF_DICT, method_unsafe},
    {"clear", OF_LIST | OF_DICT, method_unsafe},
    {"update", OF_DICT, method_unsafe},
    {"setdefault", OF_DICT, method_unsafe},
    {"popitem", OF_DICT, method_unsafe},
};

static int find_method(struct string_view name)
{
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strlen(methods[i].name) == name.bytes && memcmp(methods[i].name, name.text, name.bytes) == 0)
            return (int)i;
    return -1;
}

bool template_method_known(struct string_view name)
{
    return find_method(name) >= 0;
}

bool template_method_of(const struct value *object, struct string_view name)
{
    const int type = object->type == VALUE_STRING                                ? OF_STRING
                     : object->type == VALUE_LIST || object->type == VALUE_TUPLE ? OF_LIST
                     : object->type == VALUE_DICT                                ? OF_DICT
                     : object->type == VALUE_LOOP                                ? OF_LOOP
                                                                                 : 0;
    const int place = type ? find_method(name) : -1;
    return place >= 0 && (methods[place].types & type);
}

enum status template_method_call(struct render *r, const struct value_method *method,
                                 const struct template_arguments *arguments, struct value *out)
{
    if (method->object.safe)
        return error_set(r->err, STATUS_UNSUPPORTED,
                         "chat template, line %d: .%.*s() on safe text is not supported", r->line,
                         (int)method->name.bytes, method->name.text);
    return methods[find_method(method->name)].call(r, &method->object, arguments, out);
}
