// SPDX-License-Identifier: Apache-2.0
// Objects, arrays, strings and numbers of a JSON schema.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/constrain/grammar_regex.h"
#include "engine/constrain/grammar_schema_internal.h"

enum { MOST_KEYS = 1024, MOST_KEY_BYTES = 256, LAST_CODEPOINT = 0x10FFFF };
#define MOST_BOUND INT64_C(1000000000000000000)

static struct grammar_node *cat(struct schema_compiler *c, struct grammar_node *a, struct grammar_node *b)
{
    return grammar_cat(c->builder, a, b);
}

static struct grammar_node *text(struct schema_compiler *c, const char *literal)
{
    return grammar_json_text(&c->json, literal);
}

static struct grammar_node *space(struct schema_compiler *c)
{
    return grammar_json_rule(&c->json, c->json.space);
}

/* ---- objects ---- */

struct member {
    const char *name;
    const struct json *schema; /* NULL: any value */
    bool required;
    uint32_t rule; /* name: value */
};

struct object {
    struct member members[MOST_KEYS];
    size_t count;
    const struct json *others; /* schema of further members; NULL: any value */
    bool open;                 /* there may be further members */
};

static struct member *find_member(struct object *object, const char *name)
{
    for (size_t i = 0; i < object->count; i++)
        if (strcmp(object->members[i].name, name) == 0)
            return &object->members[i];
    return NULL;
}

static bool add_member(struct schema_compiler *c, struct object *object, const char *name,
                       const struct json *schema)
{
    if (object->count == MOST_KEYS) {
        schema_refuse(c, STATUS_TOO_LARGE, "\"properties\" has more than %d members", MOST_KEYS);
        return false;
    }
    object->members[object->count++] = (struct member){.name = name, .schema = schema};
    return true;
}

static bool read_required(struct schema_compiler *c, struct object *object, const struct json *list)
{
    for (size_t i = 0; list && i < list->count; i++) {
        const char *name = list->type == JSON_ARRAY ? json_string_or(&list->as.items[i], NULL) : NULL;
        struct member *member = name ? find_member(object, name) : NULL;
        if (!name || (!member && !object->open)) {
            schema_refuse(c, STATUS_INVALID, "\"required\" must be a list of names that \"properties\" has");
            return false;
        }
        if (!member && !add_member(c, object, name, object->others))
            return false;
        find_member(object, name)->required = true;
    }
    return true;
}

static bool read_object(struct schema_compiler *c, struct object *object, const struct json *schema)
{
    const struct json *properties = json_member(schema, "properties");
    const struct json *others = json_member(schema, "additionalProperties");
    if (properties && properties->type != JSON_OBJECT) {
        schema_refuse(c, STATUS_INVALID, "\"properties\" must be an object");
        return false;
    }
    object->open = others ? others->type != JSON_FALSE : !properties || properties->count == 0;
    object->others = others && others->type == JSON_OBJECT ? others : NULL;
    for (size_t i = 0; properties && i < properties->count; i++)
        if (!add_member(c, object, properties->as.items[i].key, &properties->as.items[i]))
            return false;
    return read_required(c, object, json_member(schema, "required"));
}

static struct grammar_node *name_literal(struct schema_compiler *c, const char *name)
{
    struct bytes quoted;
    bytes_init(&quoted, SCHEMA_MAX_TEXT_BYTES);
    json_append_string(&quoted, name, strlen(name));
    struct grammar_node *node =
        quoted.failed ? NULL : grammar_literal(c->builder, quoted.data, quoted.count_bytes);
    bytes_release(&quoted);
    return node;
}

static struct grammar_node *pair(struct schema_compiler *c, struct grammar_node *name,
                                 struct grammar_node *value)
{
    return cat(c, cat(c, cat(c, name, text(c, ":")), space(c)), value);
}

static struct grammar_node *comma(struct schema_compiler *c, struct grammar_node *next)
{
    return cat(c, cat(c, text(c, ","), space(c)), next);
}

/* ---- names that are none of the known ones ---- */

struct keys { /* sorted; those that need no escape, so that only plain spelling could repeat them */
    const char *names[MOST_KEYS];
    size_t count;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static uint32_t codepoint_at(const char *at, size_t *length)
{
    static const uint8_t masks[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    *length = json_utf8_length(at, strlen(at));
    uint32_t codepoint = (unsigned char)at[0] & masks[*length];
    for (size_t i = 1; i < *length; i++)
        codepoint = codepoint << 6 | ((unsigned char)at[i] & 0x3F);
    return codepoint;
}

static struct grammar_node *plain_characters(struct schema_compiler *c)
{
    static const struct codepoint_range plain[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, LAST_CODEPOINT}};
    return grammar_repeat(c->builder, grammar_set(c->builder, plain, 3, false), 0, GRAMMAR_UNBOUNDED);
}

/* The plain characters but those of taken[], which ascend. */
static struct grammar_node *others_than(struct schema_compiler *c, const uint32_t *taken, size_t count)
{
    static const struct codepoint_range plain[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, LAST_CODEPOINT}};
    struct codepoint_range ranges[MOST_KEYS + 4];
    size_t made = 0, at = 0;
    for (int i = 0; i < 3; i++) {
        uint32_t next = plain[i].first;
        for (; at < count && taken[at] <= plain[i].last; at++) {
            if (taken[at] > next)
                ranges[made++] = (struct codepoint_range){next, taken[at] - 1};
            next = taken[at] + 1;
        }
        if (next <= plain[i].last)
            ranges[made++] = (struct codepoint_range){next, plain[i].last};
    }
    return grammar_set(c->builder, ranges, made, false);
}

/* What may follow where names[first..end) agree on their first `at` bytes: the rest of another name, and its
 * closing quote. */
static struct grammar_node *rest_of_name(struct schema_compiler *c, const struct keys *keys, size_t first,
                                         size_t end, size_t at)
{
    uint32_t taken[MOST_KEYS];
    size_t count = 0;
    struct grammar_node *node = NULL, *quote = text(c, "\"");
    bool is_name = first < end && keys->names[first][at] == '\0';
    if (!is_name)
        node = quote;
    for (size_t i = first + is_name; i < end;) {
        size_t length, last = i + 1;
        uint32_t codepoint = codepoint_at(keys->names[i] + at, &length);
        while (last < end && strncmp(keys->names[last] + at, keys->names[i] + at, length) == 0)
            last++;
        struct grammar_node *branch = cat(c, grammar_literal(c->builder, keys->names[i] + at, length),
                                          rest_of_name(c, keys, i, last, at + length));
        node = node ? grammar_alt(c->builder, node, branch) : branch;
        if (!node)
            return NULL;
        taken[count++] = codepoint;
        i = last;
    }
    struct grammar_node *other =
        cat(c, cat(c, others_than(c, taken, count), plain_characters(c)), text(c, "\""));
    return node ? grammar_alt(c->builder, node, other) : other;
}

static struct grammar_node *other_name(struct schema_compiler *c, const struct object *object)
{
    if (object->count == 0)
        return grammar_json_rule(&c->json, c->json.string);
    struct keys *keys = arena_alloc(grammar_arena(c->builder), sizeof *keys);
    if (!keys)
        return NULL;
    for (size_t i = 0; i < object->count; i++) {
        const char *name = object->members[i].name;
        if (strlen(name) > MOST_KEY_BYTES)
            return schema_refuse(
                c, STATUS_UNSUPPORTED,
                "a member's name of more than %d bytes beside \"additionalProperties\" is not supported",
                MOST_KEY_BYTES);
        bool plain = true;
        for (const char *at = name; *at; at++)
            plain = plain && (unsigned char)*at >= 0x20 && *at != '"' && *at != '\\';
        if (plain)
            keys->names[keys->count++] = name;
    }
    qsort(keys->names, keys->count, sizeof keys->names[0], compare_names);
    return cat(c, text(c, "\""), rest_of_name(c, keys, 0, keys->count, 0));
}

/* ---- objects, put together ---- */

/* Members in their order, the optional ones there or not. `bare` is what may follow when none has come yet,
 * `behind` when one has; both are built from the last member to the first. */
static struct grammar_node *members_node(struct schema_compiler *c, const struct object *object)
{
    struct grammar_node *behind = grammar_empty(c->builder), *bare = grammar_empty(c->builder);
    if (object->open) {
        uint32_t rule = grammar_add_rule(c->builder);
        grammar_set_rule(c->builder, rule, pair(c, other_name(c, object), schema_or_any(c, object->others)));
        behind = grammar_repeat(c->builder, comma(c, grammar_rule(c->builder, rule)), 0, GRAMMAR_UNBOUNDED);
        bare = grammar_optional(c->builder, cat(c, grammar_rule(c->builder, rule), behind));
    }
    for (size_t i = object->count; i-- > 0 && behind && bare;) {
        const struct member *member = &object->members[i];
        uint32_t next = grammar_add_rule(c->builder);
        grammar_set_rule(c->builder, next, behind);
        struct grammar_node *rest = grammar_rule(c->builder, next);
        struct grammar_node *first = cat(c, grammar_rule(c->builder, member->rule), rest);
        struct grammar_node *later = comma(c, cat(c, grammar_rule(c->builder, member->rule), rest));
        bare = member->required ? first : grammar_alt(c->builder, first, bare);
        behind = member->required ? later : grammar_alt(c->builder, later, rest);
    }
    return bare;
}

struct grammar_node *schema_object(struct schema_compiler *c, const struct json *schema)
{
    struct object *object = arena_alloc(grammar_arena(c->builder), sizeof *object);
    if (!object || !read_object(c, object, schema))
        return NULL;
    if (object->open && object->count == 0 && !object->others)
        return grammar_json_rule(&c->json, c->json.object);
    for (size_t i = 0; i < object->count; i++) {
        struct member *member = &object->members[i];
        member->rule = grammar_add_rule(c->builder);
        struct grammar_node *node = pair(c, name_literal(c, member->name), schema_or_any(c, member->schema));
        if (!node)
            return NULL;
        grammar_set_rule(c->builder, member->rule, node);
    }
    return cat(c, cat(c, cat(c, text(c, "{"), space(c)), members_node(c, object)),
               cat(c, space(c), text(c, "}")));
}

/* ---- arrays ---- */

/* False: refused. */
static bool read_count(struct schema_compiler *c, const struct json *schema, const char *name, uint32_t *out)
{
    const struct json *node = json_member(schema, name);
    if (!node)
        return true;
    double value = json_number_or(node, -1);
    if (value < 0 || value != floor(value)) {
        schema_refuse(c, STATUS_INVALID, "\"%s\" must be a whole number from 0 on", name);
        return false;
    }
    if (value > SCHEMA_MAX_COUNT) {
        schema_refuse(c, STATUS_UNSUPPORTED, "\"%s\" over %d is not supported", name, SCHEMA_MAX_COUNT);
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

struct array {
    const struct json *prefix; /* NULL: none */
    size_t prefix_count;
    const struct json *items; /* of the rest; NULL: any value */
    uint32_t least, most;
};

static bool read_array(struct schema_compiler *c, struct array *array, const struct json *schema)
{
    const struct json *prefix = json_member(schema, "prefixItems"), *items = json_member(schema, "items");
    if (!prefix && items && items->type == JSON_ARRAY) { /* before 2020-12 */
        prefix = items;
        items = json_member(schema, "additionalItems");
    }
    *array = (struct array){.items = items, .most = GRAMMAR_UNBOUNDED};
    if (prefix && prefix->type != JSON_ARRAY) {
        schema_refuse(c, STATUS_INVALID, "\"prefixItems\" must be a list of schemas");
        return false;
    }
    if (prefix) {
        array->prefix = prefix->as.items;
        array->prefix_count = prefix->count;
    }
    if (!read_count(c, schema, "minItems", &array->least) || !read_count(c, schema, "maxItems", &array->most))
        return false;
    if (items && items->type == JSON_FALSE && array->most > array->prefix_count)
        array->most = (uint32_t)array->prefix_count;
    if (array->least > array->most)
        schema_refuse(c, STATUS_INVALID, "\"minItems\" is more than there may be");
    return array->least <= array->most;
}

static struct grammar_node *item_node(struct schema_compiler *c, const struct array *array, size_t index)
{
    return schema_or_any(c, index < array->prefix_count ? &array->prefix[index] : array->items);
}

/* The items behind the prefix, each with its comma. */
static struct grammar_node *rest_node(struct schema_compiler *c, const struct array *array, uint32_t before)
{
    if (array->most <= before)
        return grammar_empty(c->builder);
    uint32_t least = array->least > before ? array->least - before : 0;
    uint32_t most = array->most == GRAMMAR_UNBOUNDED ? GRAMMAR_UNBOUNDED : array->most - before;
    return grammar_repeat(c->builder, comma(c, schema_or_any(c, array->items)), least, most);
}

static struct grammar_node *items_node(struct schema_compiler *c, const struct array *array)
{
    uint32_t prefix = array->prefix_count > 1 ? (uint32_t)array->prefix_count : 1;
    if (array->most == 0)
        return grammar_empty(c->builder);
    struct grammar_node *node = rest_node(c, array, prefix);
    for (uint32_t i = prefix - 1; i > 0; i--) {
        if (array->most <= i)
            continue;
        node = comma(c, cat(c, item_node(c, array, i), node));
        if (array->least <= i)
            node = grammar_optional(c->builder, node);
    }
    node = cat(c, item_node(c, array, 0), node);
    return array->least == 0 ? grammar_optional(c->builder, node) : node;
}

struct grammar_node *schema_array(struct schema_compiler *c, const struct json *schema)
{
    struct array array;
    if (!read_array(c, &array, schema))
        return NULL;
    return cat(c, cat(c, cat(c, text(c, "["), space(c)), items_node(c, &array)),
               cat(c, space(c), text(c, "]")));
}

/* ---- strings ---- */

/* From the year 1000 on, every day but the 29th of February. */
#define DATE "[12]\\d{3}-((0[1-9]|1[0-2])-(0[1-9]|1\\d|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
#define TIME "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
    {"email", "^[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
              "(\\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+$"},
    {"hostname",
     "^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?){0,2}$"},
    {"ipv4", "^(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)(\\.(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)){3}$"},
    {"uri",
     "^https?://[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
     "(:[1-9]\\d{0,3})?(/[A-Za-z0-9._~-]*)*(\\?[A-Za-z0-9._~=&-]*)?(#[A-Za-z0-9._~-]*)?$"},
};

static struct grammar_node *quoted(struct schema_compiler *c, struct grammar_node *content)
{
    return cat(c, cat(c, text(c, "\""), content), text(c, "\""));
}

static struct grammar_node *pattern_node(struct schema_compiler *c, const char *pattern, size_t bytes,
                                         const char *keyword)
{
    struct grammar_node *node;
    struct error err = {0};
    enum status status = grammar_regex(c->builder, pattern, bytes, true, &node, &err);
    if (status == STATUS_OK)
        return quoted(c, node);
    return schema_refuse(c, status, "\"%s\": %.160s", keyword, err.text);
}

struct grammar_node *schema_string(struct schema_compiler *c, const struct json *schema)
{
    const struct json *pattern = json_member(schema, "pattern"), *format = json_member(schema, "format");
    uint32_t least = 0, most = GRAMMAR_UNBOUNDED;
    if (!read_count(c, schema, "minLength", &least) || !read_count(c, schema, "maxLength", &most))
        return NULL;
    bool counted = least > 0 || most != GRAMMAR_UNBOUNDED;
    if ((pattern != NULL) + (format != NULL) + counted > 1)
        return schema_refuse(c, STATUS_UNSUPPORTED,
                             "only one of \"pattern\", \"format\" and a length is supported for one string");
    if (pattern && pattern->type != JSON_STRING)
        return schema_refuse(c, STATUS_INVALID, "\"pattern\" must be a string");
    if (pattern)
        return pattern_node(c, pattern->as.string, pattern->count, "pattern");
    for (size_t i = 0; format && i < sizeof formats / sizeof formats[0]; i++)
        if (json_is_string(format, formats[i].name))
            return pattern_node(c, formats[i].pattern, strlen(formats[i].pattern), "format");
    if (format)
        return schema_refuse(c, STATUS_UNSUPPORTED, "\"format\": \"%.64s\" is not supported",
                             json_string_or(format, "?"));
    if (least > most)
        return schema_refuse(c, STATUS_INVALID, "\"minLength\" is more than \"maxLength\"");
    if (!counted)
        return grammar_json_rule(&c->json, c->json.string);
    return quoted(c, grammar_repeat(c->builder, grammar_json_rule(&c->json, c->json.character), least, most));
}

/* ---- numbers ---- */

/* The bound as a whole number; a fraction is moved inwards for whole numbers (`whole`), and refused
 * otherwise. */
static bool read_bound(struct schema_compiler *c, const struct json *node, const char *name, bool whole,
                       bool upper, bool *open, int64_t *out)
{
    double value = json_number_or(node, NAN);
    if (!(fabs(value) <= (double)MOST_BOUND)) {
        schema_refuse(c, STATUS_INVALID, "\"%s\" must be a number within 10^18", name);
        return false;
    }
    double rounded = upper ? floor(value) : ceil(value);
    if (rounded != value && !whole) {
        schema_refuse(c, STATUS_UNSUPPORTED, "\"%s\" with a fraction is supported for integers only", name);
        return false;
    }
    if (rounded != value)
        *open = false;
    *out = node->type == JSON_INTEGER ? node->as.integer : (int64_t)rounded;
    return true;
}

static bool read_bounds(struct schema_compiler *c, const struct json *schema, bool whole,
                        struct grammar_bounds *b)
{
    const struct json *least = json_member(schema, "minimum"),
                      *above = json_member(schema, "exclusiveMinimum");
    const struct json *most = json_member(schema, "maximum"),
                      *below = json_member(schema, "exclusiveMaximum");
    if ((least && above) || (most && below)) {
        schema_refuse(c, STATUS_UNSUPPORTED, "a bound given with and without \"exclusive\" is not supported");
        return false;
    }
    b->has_least = least || above;
    b->has_most = most || below;
    b->above_least = above != NULL;
    b->below_most = below != NULL;
    return (!b->has_least || read_bound(c, least ? least : above, least ? "minimum" : "exclusiveMinimum",
                                        whole, false, &b->above_least, &b->least)) &&
           (!b->has_most || read_bound(c, most ? most : below, most ? "maximum" : "exclusiveMaximum", whole,
                                       true, &b->below_most, &b->most));
}

struct grammar_node *schema_number(struct schema_compiler *c, const struct json *schema, bool whole)
{
    struct grammar_bounds bounds = {0};
    bool empty;
    if (!read_bounds(c, schema, whole, &bounds))
        return NULL;
    struct grammar_node *node = whole ? grammar_json_integer(&c->json, &bounds, &empty)
                                      : grammar_json_number(&c->json, &bounds, &empty);
    return empty ? schema_refuse(c, STATUS_INVALID, "no number lies between the bounds") : node;
}
