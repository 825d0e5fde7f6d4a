// SPDX-License-Identifier: Apache-2.0
#include "engine/constrain/grammar_schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/constrain/grammar_schema_internal.h"

struct grammar_node *schema_refuse(struct schema_compiler *c, enum status status, const char *format, ...)
{
    char text[256];
    va_list args;
    if (c->status != STATUS_OK)
        return NULL;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    c->status = error_set(c->err, status, "%s", text);
    return NULL;
}

/* ---- keywords ---- */

enum keyword_kind { KEYWORD_NOTE, KEYWORD_USED, KEYWORD_REFUSED };

static const struct {
    const char *name;
    enum keyword_kind kind;
    unsigned types; /* USED: what it speaks of; 0: any */
} keywords[] = {
    {"type", KEYWORD_USED, 0},
    {"enum", KEYWORD_USED, 0},
    {"const", KEYWORD_USED, 0},
    {"anyOf", KEYWORD_USED, 0},
    {"oneOf", KEYWORD_USED, 0},
    {"allOf", KEYWORD_USED, 0},
    {"$ref", KEYWORD_USED, 0},
    {"properties", KEYWORD_USED, TYPE_OBJECT},
    {"required", KEYWORD_USED, TYPE_OBJECT},
    {"additionalProperties", KEYWORD_USED, TYPE_OBJECT},
    {"items", KEYWORD_USED, TYPE_ARRAY},
    {"prefixItems", KEYWORD_USED, TYPE_ARRAY},
    {"minItems", KEYWORD_USED, TYPE_ARRAY},
    {"maxItems", KEYWORD_USED, TYPE_ARRAY},
    {"additionalItems", KEYWORD_USED, TYPE_ARRAY},
    {"minLength", KEYWORD_USED, TYPE_STRING},
    {"maxLength", KEYWORD_USED, TYPE_STRING},
    {"pattern", KEYWORD_USED, TYPE_STRING},
    {"format", KEYWORD_USED, TYPE_STRING},
    {"minimum", KEYWORD_USED, TYPE_NUMBER | TYPE_INTEGER},
    {"maximum", KEYWORD_USED, TYPE_NUMBER | TYPE_INTEGER},
    {"exclusiveMinimum", KEYWORD_USED, TYPE_NUMBER | TYPE_INTEGER},
    {"exclusiveMaximum", KEYWORD_USED, TYPE_NUMBER | TYPE_INTEGER},
    {"not", KEYWORD_REFUSED, 0},
    {"if", KEYWORD_REFUSED, 0},
    {"then", KEYWORD_REFUSED, 0},
    {"else", KEYWORD_REFUSED, 0},
    {"dependentRequired", KEYWORD_REFUSED, 0},
    {"dependentSchemas", KEYWORD_REFUSED, 0},
    {"dependencies", KEYWORD_REFUSED, 0},
    {"patternProperties", KEYWORD_REFUSED, 0},
    {"propertyNames", KEYWORD_REFUSED, 0},
    {"minProperties", KEYWORD_REFUSED, 0},
    {"maxProperties", KEYWORD_REFUSED, 0},
    {"unevaluatedProperties", KEYWORD_REFUSED, 0},
    {"unevaluatedItems", KEYWORD_REFUSED, 0},
    {"contains", KEYWORD_REFUSED, 0},
    {"minContains", KEYWORD_REFUSED, 0},
    {"maxContains", KEYWORD_REFUSED, 0},
    {"uniqueItems", KEYWORD_REFUSED, 0},
    {"multipleOf", KEYWORD_REFUSED, 0},
    {"$dynamicRef", KEYWORD_REFUSED, 0},
    {"$recursiveRef", KEYWORD_REFUSED, 0},
};

/* Written out, but without any effect. */
static bool is_idle(const struct json *member)
{
    if (strcmp(member->key, "uniqueItems") == 0)
        return member->type == JSON_FALSE;
    if (strcmp(member->key, "minProperties") == 0)
        return json_integer_or(member, -1) == 0;
    if (strcmp(member->key, "multipleOf") == 0)
        return false;
    return strcmp(member->key, "patternProperties") == 0 && member->type == JSON_OBJECT && member->count == 0;
}

/* What kinds of keywords the schema has: `types` of those that speak of some, `general` of the others. */
static bool check_keywords(struct schema_compiler *c, const struct json *schema)
{
    for (size_t i = 0; i < schema->count; i++)
        for (size_t k = 0; k < sizeof keywords / sizeof keywords[0]; k++)
            if (strcmp(keywords[k].name, schema->as.items[i].key) == 0 &&
                keywords[k].kind == KEYWORD_REFUSED && !is_idle(&schema->as.items[i])) {
                schema_refuse(c, STATUS_UNSUPPORTED, "the schema keyword \"%s\" is not supported",
                              keywords[k].name);
                return false;
            }
    return true;
}

/* A keyword beside `allowed` (and `also`) that restricts; NULL: none. */
static const char *restricts_beside(const struct json *schema, const char *allowed, const char *also)
{
    for (size_t i = 0; i < schema->count; i++)
        for (size_t k = 0; k < sizeof keywords / sizeof keywords[0]; k++)
            if (strcmp(keywords[k].name, schema->as.items[i].key) == 0 &&
                strcmp(keywords[k].name, allowed) != 0 && (!also || strcmp(keywords[k].name, also) != 0))
                return keywords[k].name;
    return NULL;
}

/* ---- types ---- */

static unsigned type_named(const char *name)
{
    static const struct {
        const char *name;
        unsigned types;
    } types[] = {{"object", TYPE_OBJECT},   {"array", TYPE_ARRAY},
                 {"string", TYPE_STRING},   {"number", TYPE_NUMBER | TYPE_INTEGER},
                 {"integer", TYPE_INTEGER}, {"boolean", TYPE_BOOLEAN},
                 {"null", TYPE_NULL}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].name, name) == 0)
            return types[i].types;
    return 0;
}

/* 0: refused. */
static unsigned types_of(struct schema_compiler *c, const struct json *schema)
{
    const struct json *type = json_member(schema, "type");
    unsigned types = 0;
    if (!type)
        return TYPE_ANY;
    if (type->type == JSON_STRING)
        types = type_named(type->as.string);
    for (size_t i = 0; type->type == JSON_ARRAY && i < type->count; i++) {
        unsigned one = type_named(json_string_or(&type->as.items[i], ""));
        types = one ? types | one : 0;
        if (!one)
            break;
    }
    if (!types)
        schema_refuse(c, STATUS_INVALID, "\"type\" must name types of JSON Schema");
    return types;
}

static unsigned type_of_value(const struct json *value)
{
    switch (value->type) {
    case JSON_OBJECT:
        return TYPE_OBJECT;
    case JSON_ARRAY:
        return TYPE_ARRAY;
    case JSON_STRING:
        return TYPE_STRING;
    case JSON_INTEGER:
        return TYPE_INTEGER;
    case JSON_NULL:
        return TYPE_NULL;
    case JSON_TRUE:
    case JSON_FALSE:
        return TYPE_BOOLEAN;
    default:
        return TYPE_NUMBER;
    }
}

/* ---- constants ---- */

static struct grammar_node *constant(struct schema_compiler *c, const struct json *value)
{
    struct bytes text;
    bytes_init(&text, SCHEMA_MAX_TEXT_BYTES);
    json_append_node(&text, value);
    struct grammar_node *node = text.failed ? NULL : grammar_literal(c->builder, text.data, text.count_bytes);
    bytes_release(&text);
    return node;
}

static struct grammar_node *constants(struct schema_compiler *c, const struct json *values, size_t count,
                                      unsigned types)
{
    struct grammar_node *node = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!(type_of_value(&values[i]) & types))
            continue;
        struct grammar_node *one = constant(c, &values[i]);
        node = node ? grammar_alt(c->builder, node, one) : one;
        if (!node)
            return NULL;
    }
    return node ? node
                : schema_refuse(c, STATUS_INVALID,
                                "no value of \"enum\" or \"const\" is of the schema's type");
}

static struct grammar_node *enumerated(struct schema_compiler *c, const struct json *schema, unsigned types)
{
    const struct json *list = json_member(schema, "enum"), *one = json_member(schema, "const");
    const char *beside = restricts_beside(schema, list ? "enum" : "const", "type");
    if (beside)
        return schema_refuse(c, STATUS_UNSUPPORTED, "\"%s\" beside \"enum\" or \"const\" is not supported",
                             beside);
    if (one)
        return constants(c, one, 1, types);
    if (list->type != JSON_ARRAY || list->count == 0)
        return schema_refuse(c, STATUS_INVALID, "\"enum\" must be a list of values");
    return constants(c, list->as.items, list->count, types);
}

/* ---- references ---- */

static int hex_value(char digit)
{
    static const char digits[] = "0123456789abcdef";
    const char *found = digit ? strchr(digits, digit >= 'A' && digit <= 'F' ? digit + 32 : digit) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* A byte of a JSON pointer in a URI fragment (RFC 6901 §6), %XX undone. */
static char take_byte(const char **at)
{
    int high = **at == '%' ? hex_value((*at)[1]) : -1, low = high >= 0 ? hex_value((*at)[2]) : -1;
    if (low < 0)
        return *(*at)++;
    *at += 3;
    return (char)(high << 4 | low);
}

/* One reference token of it, ~0 and ~1 undone. */
static void unescape(const char *token, size_t bytes, char *out, size_t capacity)
{
    size_t count = 0;
    for (const char *at = token; at < token + bytes && count + 1 < capacity;) {
        char byte = take_byte(&at);
        if (byte == '~' && (*at == '0' || *at == '1'))
            byte = *at++ == '0' ? '~' : '/';
        out[count++] = byte;
    }
    out[count] = '\0';
}

static const struct json *resolve(const struct json *root, const char *pointer)
{
    const struct json *at = root;
    while (at && *pointer == '/') {
        char name[512];
        size_t bytes = strcspn(++pointer, "/");
        unescape(pointer, bytes, name, sizeof name);
        pointer += bytes;
        if (at->type == JSON_ARRAY) {
            char *end;
            size_t index = (size_t)strtoul(name, &end, 10);
            at = *name && !*end && index < at->count ? &at->as.items[index] : NULL;
        } else {
            at = json_member(at, name);
        }
    }
    return *pointer ? NULL : at;
}

/* One rule per target and types, so that a schema may refer to itself. */
static struct grammar_node *reference(struct schema_compiler *c, const struct json *schema, unsigned types)
{
    const char *text = json_string_or(json_member(schema, "$ref"), "");
    const char *beside = restricts_beside(schema, "$ref", NULL);
    const struct json *target = *text == '#' ? resolve(c->root, text + 1) : NULL;
    if (beside)
        return schema_refuse(c, STATUS_UNSUPPORTED, "\"%s\" beside \"$ref\" is not supported", beside);
    if (!target)
        return schema_refuse(c, STATUS_UNSUPPORTED, "\"$ref\": \"%.100s\" is not found in this schema", text);
    for (size_t i = 0; i < c->reference_count; i++)
        if (c->references[i].target == target && c->references[i].types == types)
            return grammar_rule(c->builder, c->references[i].rule);
    if (c->reference_count == SCHEMA_MAX_REFERENCES)
        return schema_refuse(c, STATUS_TOO_LARGE, "the schema has more than %d targets of \"$ref\"",
                             SCHEMA_MAX_REFERENCES);
    uint32_t rule = grammar_add_rule(c->builder);
    c->references[c->reference_count++] = (struct schema_reference){target, types, rule};
    grammar_set_rule(c->builder, rule, schema_node(c, target, types));
    return grammar_rule(c->builder, rule);
}

/* ---- combinations ---- */

static const struct json *constant_of(const struct json *schema)
{
    const struct json *list = json_member(schema, "enum");
    return list && list->type == JSON_ARRAY && list->count == 1 ? &list->as.items[0]
                                                                : json_member(schema, "const");
}

static bool is_required(const struct json *schema, const char *name)
{
    const struct json *list = json_member(schema, "required");
    for (size_t i = 0; list && list->type == JSON_ARRAY && i < list->count; i++)
        if (json_is_string(&list->as.items[i], name))
            return true;
    return false;
}

static const struct json *follow(struct schema_compiler *c, const struct json *schema)
{
    const char *text = json_string_or(json_member(schema, "$ref"), "");
    const struct json *target = *text == '#' ? resolve(c->root, text + 1) : NULL;
    return target ? target : schema;
}

static bool differ(const struct json *a, const struct json *b)
{
    struct bytes x, y;
    bytes_init(&x, SCHEMA_MAX_TEXT_BYTES);
    bytes_init(&y, SCHEMA_MAX_TEXT_BYTES);
    json_append_node(&x, a);
    json_append_node(&y, b);
    bool result = !x.failed && !y.failed && strcmp(x.data, y.data) != 0;
    bytes_release(&x);
    bytes_release(&y);
    return result;
}

/* No text fits both: other types, other constants, or a required member whose constants differ. */
static bool are_apart(struct schema_compiler *c, const struct json *a, const struct json *b)
{
    a = follow(c, a);
    b = follow(c, b);
    if (a->type != JSON_OBJECT || b->type != JSON_OBJECT)
        return false;
    const struct json *one = constant_of(a), *other = constant_of(b);
    if (one && other)
        return differ(one, other);
    unsigned types_a = one ? type_of_value(one) : types_of(c, a);
    unsigned types_b = other ? type_of_value(other) : types_of(c, b);
    if (!(types_a & types_b))
        return true;
    const struct json *members = json_member(a, "properties");
    for (size_t i = 0; members && members->type == JSON_OBJECT && i < members->count; i++) {
        const char *name = members->as.items[i].key;
        const struct json *same = json_member(json_member(b, "properties"), name);
        one = constant_of(&members->as.items[i]);
        other = same ? constant_of(same) : NULL;
        if (one && other && is_required(a, name) && is_required(b, name) && differ(one, other))
            return types_a == TYPE_OBJECT && types_b == TYPE_OBJECT;
    }
    return false;
}

static bool check_one_of(struct schema_compiler *c, const struct json *list)
{
    for (size_t i = 0; i < list->count; i++)
        for (size_t k = i + 1; k < list->count; k++)
            if (!are_apart(c, &list->as.items[i], &list->as.items[k])) {
                schema_refuse(
                    c, STATUS_UNSUPPORTED,
                    "\"oneOf\" whose schemas %zu and %zu may both fit is not supported: use \"anyOf\", or "
                    "a required member with a constant in each",
                    i, k);
                return false;
            }
    return true;
}

static struct grammar_node *any_of(struct schema_compiler *c, const struct json *schema, const char *keyword,
                                   unsigned types)
{
    const struct json *list = json_member(schema, keyword);
    const char *beside = restricts_beside(schema, keyword, "type");
    struct grammar_node *node = NULL;
    if (beside)
        return schema_refuse(c, STATUS_UNSUPPORTED, "\"%s\" beside \"%s\" is not supported", beside, keyword);
    if (list->type != JSON_ARRAY || list->count == 0)
        return schema_refuse(c, STATUS_INVALID, "\"%s\" must be a list of schemas", keyword);
    if (strcmp(keyword, "oneOf") == 0 && !check_one_of(c, list))
        return NULL;
    for (size_t i = 0; i < list->count; i++) {
        struct grammar_node *one = schema_node(c, &list->as.items[i], types);
        node = node ? grammar_alt(c->builder, node, one) : one;
        if (!node)
            return NULL;
    }
    return node;
}

static struct grammar_node *all_of(struct schema_compiler *c, const struct json *schema, unsigned types)
{
    const struct json *list = json_member(schema, "allOf");
    const char *beside = restricts_beside(schema, "allOf", "type");
    if (beside)
        return schema_refuse(c, STATUS_UNSUPPORTED, "\"%s\" beside \"allOf\" is not supported", beside);
    if (list->type != JSON_ARRAY || list->count != 1)
        return schema_refuse(c, STATUS_UNSUPPORTED, "\"allOf\" of more than one schema is not supported");
    return schema_node(c, &list->as.items[0], types);
}

/* ---- a schema ---- */

static struct grammar_node *either(struct schema_compiler *c, struct grammar_node *so_far,
                                   struct grammar_node *more)
{
    return so_far ? grammar_alt(c->builder, so_far, more) : more;
}

static struct grammar_node *by_type(struct schema_compiler *c, const struct json *schema, unsigned types)
{
    struct grammar_node *node = NULL;
    if (types & TYPE_OBJECT && !(node = schema_object(c, schema)))
        return NULL;
    if (types & TYPE_ARRAY && !(node = either(c, node, schema_array(c, schema))))
        return NULL;
    if (types & TYPE_STRING && !(node = either(c, node, schema_string(c, schema))))
        return NULL;
    if (types & (TYPE_NUMBER | TYPE_INTEGER) &&
        !(node = either(c, node, schema_number(c, schema, !(types & TYPE_NUMBER)))))
        return NULL;
    if (types & TYPE_BOOLEAN && !(node = either(c, node,
                                                grammar_alt(c->builder, grammar_json_text(&c->json, "true"),
                                                            grammar_json_text(&c->json, "false")))))
        return NULL;
    return types & TYPE_NULL ? either(c, node, grammar_json_text(&c->json, "null")) : node;
}

static struct grammar_node *checked_node(struct schema_compiler *c, const struct json *schema, unsigned types)
{
    if (!check_keywords(c, schema))
        return NULL;
    unsigned own = types_of(c, schema);
    if (!own)
        return NULL;
    types &= own;
    if (!types)
        return schema_refuse(c, STATUS_INVALID, "\"type\" contradicts the type around it");
    if (json_member(schema, "$ref"))
        return reference(c, schema, types);
    if (json_member(schema, "enum") || json_member(schema, "const"))
        return enumerated(c, schema, types);
    if (json_member(schema, "anyOf"))
        return any_of(c, schema, "anyOf", types);
    if (json_member(schema, "oneOf"))
        return any_of(c, schema, "oneOf", types);
    if (json_member(schema, "allOf"))
        return all_of(c, schema, types);
    if (types == TYPE_ANY && !restricts_beside(schema, "type", NULL))
        return grammar_json_rule(&c->json, c->json.value);
    return by_type(c, schema, types);
}

struct grammar_node *schema_node(struct schema_compiler *c, const struct json *schema, unsigned types)
{
    if (c->status != STATUS_OK)
        return NULL;
    if (schema->type == JSON_FALSE)
        return schema_refuse(c, STATUS_UNSUPPORTED,
                             "the schema false, which nothing fits, is not supported here");
    if (schema->type == JSON_TRUE)
        return types == TYPE_ANY
                   ? grammar_json_rule(&c->json, c->json.value)
                   : schema_refuse(c, STATUS_UNSUPPORTED, "the schema true is not supported here");
    if (schema->type != JSON_OBJECT)
        return schema_refuse(c, STATUS_INVALID, "a schema must be an object or a boolean, got %s",
                             json_type_name(schema->type));
    if (++c->depth > SCHEMA_MAX_DEPTH)
        return schema_refuse(c, STATUS_TOO_LARGE, "schemas nested deeper than %d", SCHEMA_MAX_DEPTH);
    struct grammar_node *node = checked_node(c, schema, types);
    c->depth--;
    return node;
}

struct grammar_node *schema_or_any(struct schema_compiler *c, const struct json *schema)
{
    return schema ? schema_node(c, schema, TYPE_ANY) : grammar_json_rule(&c->json, c->json.value);
}

enum status grammar_schema(struct grammar_builder *builder, const struct json *schema,
                           struct grammar_node **out, struct error *err)
{
    *out = NULL;
    struct schema_compiler *c = calloc(1, sizeof *c);
    if (!c)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a schema");
    c->builder = builder;
    c->root = schema;
    c->err = err;
    grammar_json_init(&c->json, builder);
    *out = schema_node(c, schema, TYPE_ANY);
    enum status status = c->status;
    free(c);
    if (status == STATUS_OK && !*out)
        status = error_set(err, STATUS_TOO_LARGE, "the schema is too large");
    return status;
}

enum status grammar_json_object(struct grammar_builder *builder, struct grammar_node **out, struct error *err)
{
    struct grammar_json json;
    grammar_json_init(&json, builder);
    *out = grammar_json_rule(&json, json.object);
    return *out ? STATUS_OK : error_set(err, STATUS_NO_MEMORY, "no memory for a grammar");
}
