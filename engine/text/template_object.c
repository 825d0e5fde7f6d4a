// SPDX-License-Identifier: Apache-2.0
// Operators, attributes, indexes, slices and methods of template values, as Python has them. Methods that
// change a list or a dictionary exist but are refused when called, as transformers' immutable sandbox does.
#include <math.h>
#include <string.h>

#include "engine/text/template_node.h"
#include "engine/text/unicode.h"

static enum status no_operator(struct render *r, const char *sign, const struct value *a,
                               const struct value *b)
{
    const struct value *missing = a->type == VALUE_UNDEFINED ? a : b->type == VALUE_UNDEFINED ? b : NULL;
    if (missing)
        return render_fail(r, "'%.*s' is undefined", (int)missing->as.string.bytes, missing->as.string.text);
    return render_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", sign, value_type_name(a),
                       value_type_name(b));
}

static enum status join_strings(struct render *r, struct string_view a, struct string_view b,
                                struct value *out)
{
    char *text = render_alloc(r, a.bytes + b.bytes + 1);
    if (!text)
        return render_shortage(r);
    if (a.bytes)
        memcpy(text, a.text, a.bytes);
    if (b.bytes)
        memcpy(text + a.bytes, b.text, b.bytes);
    *out = value_view(text, a.bytes + b.bytes);
    return STATUS_OK;
}

static enum status join_lists(struct render *r, const struct value *a, const struct value *b,
                              struct value *out)
{
    enum status status = value_new_list(r, a->type, a->as.list->count + b->as.list->count, out);
    for (size_t i = 0; i < a->as.list->count && status == STATUS_OK; i++)
        status = value_append(r, out->as.list, a->as.list->items[i]);
    for (size_t i = 0; i < b->as.list->count && status == STATUS_OK; i++)
        status = value_append(r, out->as.list, b->as.list->items[i]);
    return status;
}

static enum status repeat(struct render *r, const struct value *what, int64_t times, struct value *out)
{
    enum status status = STATUS_OK;
    if (times < 0)
        times = 0;
    if (what->type != VALUE_STRING) {
        status = value_new_list(r, what->type, 0, out);
        for (int64_t n = 0; n < times && status == STATUS_OK && what->as.list->count; n++)
            for (size_t i = 0; i < what->as.list->count && status == STATUS_OK; i++)
                status = value_append(r, out->as.list, what->as.list->items[i]);
        return status;
    }
    const size_t bytes = what->as.string.bytes;
    if (bytes && (uint64_t)times > TEMPLATE_MAX_MEMORY_BYTES / bytes)
        return render_fail(r, "a text repeated %lld times is too long", (long long)times);
    char *text = render_alloc(r, bytes * (size_t)times + 1);
    if (!text)
        return render_shortage(r);
    for (int64_t n = 0; n < times; n++)
        memcpy(text + bytes * (size_t)n, what->as.string.text, bytes);
    *out = value_view(text, bytes * (size_t)times);
    return STATUS_OK;
}

static enum status whole_arithmetic(struct render *r, int op, int64_t a, int64_t b, struct value *out)
{
    int64_t result = 0;
    bool over = false;
    if (op == OP_ADD)
        over = __builtin_add_overflow(a, b, &result);
    else if (op == OP_SUBTRACT)
        over = __builtin_sub_overflow(a, b, &result);
    else if (op == OP_MULTIPLY)
        over = __builtin_mul_overflow(a, b, &result);
    else if (b == -1 && op == OP_FLOOR_DIVIDE)
        over = __builtin_sub_overflow((int64_t)0, a, &result);
    else if (b != -1 && op == OP_FLOOR_DIVIDE)
        result = a / b - (a % b != 0 && (a < 0) != (b < 0));
    else if (b != -1) /* Python's modulo has the divisor's sign */
        result = (a % b + b) % b;
    *out = value_integer(result);
    return over ? render_fail(r, "an integer is over 64 bits") : STATUS_OK;
}

static enum status power(struct render *r, const struct value *a, const struct value *b, struct value *out)
{
    if (a->type == VALUE_FLOAT || b->type == VALUE_FLOAT || value_whole(b) < 0) {
        *out = value_float(pow(value_number(a), value_number(b)));
        return STATUS_OK;
    }
    int64_t result = 1, base = value_whole(a);
    for (int64_t n = value_whole(b); n > 0; n--) {
        if (__builtin_mul_overflow(result, base, &result))
            return render_fail(r, "an integer is over 64 bits");
        if (result == 0 || (result == 1 && base == 1))
            break;
        if (base == -1) {
            result = value_whole(b) % 2 ? -1 : 1;
            break;
        }
    }
    *out = value_integer(result);
    return STATUS_OK;
}

static enum status arithmetic(struct render *r, int op, const struct value *a, const struct value *b,
                              struct value *out)
{
    if (op == OP_POWER)
        return power(r, a, b, out);
    const double x = value_number(a), y = value_number(b);
    if ((op == OP_DIVIDE || op == OP_FLOOR_DIVIDE || op == OP_MODULO) && y == 0)
        return render_fail(r, "division by zero");
    if (op != OP_DIVIDE && a->type != VALUE_FLOAT && b->type != VALUE_FLOAT)
        return whole_arithmetic(r, op, value_whole(a), value_whole(b), out);
    double result = op == OP_ADD            ? x + y
                    : op == OP_SUBTRACT     ? x - y
                    : op == OP_MULTIPLY     ? x * y
                    : op == OP_DIVIDE       ? x / y
                    : op == OP_FLOOR_DIVIDE ? floor(x / y)
                                            : fmod(x, y);
    if (op == OP_MODULO && result != 0 && (result < 0) != (y < 0))
        result += y;
    *out = value_float(result);
    return STATUS_OK;
}

static bool is_sequence(const struct value *value)
{
    return value->type == VALUE_LIST || value->type == VALUE_TUPLE;
}

static enum status escape(struct render *r, struct value *text)
{
    static const char plain[] = "&<>'\"";
    static const char *const escaped[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    struct bytes out;
    if (text->safe)
        return STATUS_OK;
    bytes_init(&out, TEMPLATE_MAX_MEMORY_BYTES);
    for (size_t i = 0; i < text->as.string.bytes; i++) {
        const char c = text->as.string.text[i], *place = c ? strchr(plain, c) : NULL;
        if (place)
            bytes_append_text(&out, escaped[place - plain]);
        else
            bytes_append_char(&out, c);
    }
    bytes_append(&out, "", 0);
    return value_from_bytes(r, &out, text);
}

/* Text next to safe text is escaped, and the whole is safe: what markupsafe makes of it under transformers.
 */
static enum status join_texts(struct render *r, struct value left, struct value right, struct value *out)
{
    const bool safe = left.safe || right.safe;
    enum status status = STATUS_OK;
    if (safe)
        status = escape(r, &left);
    if (safe && status == STATUS_OK)
        status = escape(r, &right);
    if (status == STATUS_OK)
        status = join_strings(r, left.as.string, right.as.string, out);
    out->safe = safe;
    return status;
}

enum status template_operate(struct render *r, int op, const struct value *a, const struct value *b,
                             struct value *out)
{
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "**", "~"};
    if (op == OP_CONCAT) {
        struct value left, right;
        enum status status = value_to_string(r, a, &left);
        if (status == STATUS_OK)
            status = value_to_string(r, b, &right);
        return status == STATUS_OK ? join_strings(r, left.as.string, right.as.string, out) : status;
    }
    if (value_is_number(a) && value_is_number(b))
        return arithmetic(r, op, a, b, out);
    if (op == OP_ADD && a->type == VALUE_STRING && b->type == VALUE_STRING)
        return join_texts(r, *a, *b, out);
    if (op == OP_ADD && is_sequence(a) && a->type == b->type)
        return join_lists(r, a, b, out);
    if (op == OP_MULTIPLY && value_is_number(b) && b->type != VALUE_FLOAT &&
        (a->type == VALUE_STRING || is_sequence(a)))
        return repeat(r, a, value_whole(b), out);
    if (op == OP_MULTIPLY && value_is_number(a) && a->type != VALUE_FLOAT &&
        (b->type == VALUE_STRING || is_sequence(b)))
        return repeat(r, b, value_whole(a), out);
    if (op == OP_MODULO && a->type == VALUE_STRING)
        return error_set(r->err, STATUS_UNSUPPORTED,
                         "chat template, line %d: text %% values is not supported", r->line);
    return no_operator(r, signs[op], a, b);
}

static bool view_is(struct string_view view, const char *text)
{
    return view.bytes == strlen(text) && memcmp(view.text, text, view.bytes) == 0;
}

static void loop_attribute(struct value_loop *loop, struct string_view name, struct value *out)
{
    const int64_t index = (int64_t)loop->index, count = (int64_t)loop->items.count;
    if (view_is(name, "index"))
        *out = value_integer(index + 1);
    else if (view_is(name, "index0"))
        *out = value_integer(index);
    else if (view_is(name, "revindex"))
        *out = value_integer(count - index);
    else if (view_is(name, "revindex0"))
        *out = value_integer(count - index - 1);
    else if (view_is(name, "first"))
        *out = value_bool(index == 0);
    else if (view_is(name, "last"))
        *out = value_bool(index == count - 1);
    else if (view_is(name, "length"))
        *out = value_integer(count);
    else if (view_is(name, "depth") || view_is(name, "depth0"))
        *out = value_integer(name.bytes == 5);
    else if (view_is(name, "previtem") && index > 0)
        *out = loop->items.items[index - 1];
    else if (view_is(name, "nextitem") && index + 1 < count)
        *out = loop->items.items[index + 1];
}

static enum status new_method(struct render *r, const struct value *object, struct string_view name,
                              struct value *out)
{
    struct value_method *method = render_alloc(r, sizeof *method);
    if (!method)
        return render_shortage(r);
    *method = (struct value_method){.object = *object, .name = name};
    *out = (struct value){.type = VALUE_METHOD, .as.method = method};
    return STATUS_OK;
}

enum status template_attribute(struct render *r, const struct value *object, struct string_view name,
                               struct value *out)
{
    if (object->type == VALUE_UNDEFINED)
        return render_fail(r, "'%.*s' is undefined", (int)object->as.string.bytes, object->as.string.text);
    *out = value_undefined(name.text, name.bytes);
    if (object->type == VALUE_LOOP && !view_is(name, "cycle") && !view_is(name, "changed")) {
        loop_attribute(object->as.loop, name, out);
        return STATUS_OK;
    }
    if (template_method_of(object, name))
        return new_method(r, object, name, out);
    if (object->type != VALUE_DICT && object->type != VALUE_NAMESPACE)
        return STATUS_OK;
    const struct value *found = value_get(r, object->as.dict, name.text, name.bytes);
    if (found)
        *out = *found;
    return STATUS_OK;
}

/* The place of the character that begins at `index`; bytes when index is the length. */
static size_t character_offset(struct string_view text, size_t index)
{
    size_t at = 0;
    while (index > 0 && at < text.bytes) {
        uint32_t c;
        at += unicode_decode(text.text + at, text.bytes - at, &c);
        index--;
    }
    return at;
}

static enum status index_by_place(struct render *r, const struct value *object, int64_t place,
                                  struct value *out)
{
    size_t length;
    enum status status = value_length(r, object, &length);
    if (status != STATUS_OK)
        return status;
    if (place < 0)
        place += (int64_t)length;
    if (place < 0 || place >= (int64_t)length)
        return STATUS_OK; /* undefined */
    if (object->type != VALUE_STRING) {
        *out = object->as.list->items[place];
        return STATUS_OK;
    }
    uint32_t c;
    const struct string_view text = object->as.string;
    const size_t at = character_offset(text, (size_t)place);
    *out = value_view(text.text + at, unicode_decode(text.text + at, text.bytes - at, &c));
    return STATUS_OK;
}

enum status template_index(struct render *r, const struct value *object, const struct value *key,
                           struct value *out)
{
    if (object->type == VALUE_UNDEFINED)
        return render_fail(r, "'%.*s' is undefined", (int)object->as.string.bytes, object->as.string.text);
    *out = value_undefined(key->type == VALUE_STRING ? key->as.string.text : "an index",
                           key->type == VALUE_STRING ? key->as.string.bytes : 8);
    if (object->type == VALUE_DICT || object->type == VALUE_NAMESPACE) {
        const struct value *found;
        enum status status = value_find(r, object->as.dict, key, &found);
        if (status != STATUS_OK)
            return status;
        if (found) {
            *out = *found;
            return STATUS_OK;
        }
    }
    if (key->type == VALUE_STRING)
        return template_attribute(r, object, key->as.string, out);
    const bool whole = key->type == VALUE_INTEGER || key->type == VALUE_BOOL;
    return whole && (is_sequence(object) || object->type == VALUE_STRING)
               ? index_by_place(r, object, value_whole(key), out)
               : STATUS_OK;
}

/* A bound of a slice as Python's slice.indices gives it. */
static enum status slice_bound(struct render *r, const struct value *value, int64_t fallback, int64_t length,
                               int64_t *out)
{
    *out = fallback;
    if (!value || value->type == VALUE_NONE)
        return STATUS_OK;
    if (value->type != VALUE_INTEGER && value->type != VALUE_BOOL)
        return render_fail(r, "slice indices must be integers or None");
    *out = value_whole(value);
    if (length >= 0 && *out < 0)
        *out += length;
    return STATUS_OK;
}

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static enum status slice_string(struct render *r, struct string_view text, const int64_t range[3],
                                struct value *out)
{
    struct bytes joined;
    if (range[2] == 1) {
        const size_t begin = character_offset(text, (size_t)range[0]);
        const size_t end = range[1] > range[0] ? character_offset(text, (size_t)range[1]) : begin;
        *out = value_view(text.text + begin, end - begin);
        return STATUS_OK;
    }
    struct value_list items;
    const struct value whole = value_view(text.text, text.bytes);
    enum status status = value_items(r, &whole, &items);
    if (status != STATUS_OK)
        return status;
    bytes_init(&joined, TEMPLATE_MAX_MEMORY_BYTES);
    for (int64_t i = range[0]; range[2] > 0 ? i < range[1] : i > range[1]; i += range[2])
        bytes_append(&joined, items.items[i].as.string.text, items.items[i].as.string.bytes);
    return value_from_bytes(r, &joined, out);
}

enum status template_slice(struct render *r, const struct value *object, const struct template_slice *slice,
                           struct value *out)
{
    size_t length;
    int64_t range[3];
    if (!is_sequence(object) && object->type != VALUE_STRING && object->type != VALUE_UNDEFINED)
        return render_fail(r, "'%s' object cannot be sliced", value_type_name(object));
    if (object->type == VALUE_UNDEFINED)
        return render_fail(r, "'%.*s' is undefined", (int)object->as.string.bytes, object->as.string.text);
    enum status status = value_length(r, object, &length);
    if (status == STATUS_OK)
        status = slice_bound(r, slice->step, 1, -1, &range[2]);
    const int64_t count = (int64_t)length;
    const bool down = status == STATUS_OK && range[2] < 0;
    if (status == STATUS_OK && (range[2] == 0 || range[2] > INT32_MAX || range[2] < -INT32_MAX))
        return render_fail(r, "a slice's step must not be zero or huge");
    if (status == STATUS_OK)
        status = slice_bound(r, slice->start, down ? count - 1 : 0, count, &range[0]);
    if (status == STATUS_OK)
        status = slice_bound(r, slice->stop, down ? -1 : count, count, &range[1]);
    if (status != STATUS_OK)
        return status;
    range[0] = clamp(range[0], down ? -1 : 0, down ? count - 1 : count);
    range[1] = clamp(range[1], down ? -1 : 0, down ? count - 1 : count);
    if (object->type == VALUE_STRING)
        return slice_string(r, object->as.string, range, out);
    status = value_new_list(r, object->type, 0, out);
    for (int64_t i = range[0]; status == STATUS_OK && (down ? i > range[1] : i < range[1]); i += range[2])
        status = value_append(r, out->as.list, object->as.list->items[i]);
    return status;
}
