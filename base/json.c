// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/json_scan.h"

#define DEFAULT_MAX_BYTES ((size_t)1 << 30)
enum { DEFAULT_MAX_DEPTH = 64, SMALL_OBJECT = 8 };

struct json_document {
    struct arena arena;
    const struct json *root;
};

/* Walks a cJSON tree in document order and takes the scanner's exact values where they exist. */
struct converter {
    struct arena *arena;
    const struct json_scan *scan;
    size_t number_at, string_at, nul_at;
    struct error *err;
};

static enum status no_memory(struct error *err)
{
    return error_set(err, STATUS_NO_MEMORY, "no memory to parse JSON");
}

/* Copies one string, or takes its exact form when it contains U+0000. */
static const char *convert_string(struct converter *c, const char *text, size_t *bytes)
{
    const struct json_scan *scan = c->scan;
    size_t ordinal = c->string_at++;
    if (c->nul_at < scan->nul_count && scan->nul_strings[c->nul_at].ordinal == ordinal) {
        const struct json_scan_string *exact = &scan->nul_strings[c->nul_at++];
        char *copy = arena_alloc(c->arena, exact->end - exact->begin + 1);
        *bytes = copy ? json_scan_decode(scan->text, exact->begin, exact->end, copy) : 0;
        return copy;
    }
    *bytes = strlen(text);
    return arena_copy(c->arena, text, *bytes);
}

static uint64_t key_hash(const char *key, size_t bytes)
{
    uint64_t hash = 1469598103934665603u;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ (unsigned char)key[i]) * 1099511628211u;
    return hash;
}

static bool same_key(const struct json *a, const struct json *b)
{
    return a->key_bytes == b->key_bytes && memcmp(a->key, b->key, a->key_bytes) == 0;
}

static enum status duplicate(const struct json *item, struct error *err)
{
    return error_set(err, STATUS_INVALID, "not valid JSON: key \"%.80s\" appears twice in an object",
                     item->key);
}

static enum status check_duplicates(const struct json *object, struct error *err)
{
    const struct json *items = object->as.items;
    if (object->count <= SMALL_OBJECT) {
        for (size_t i = 1; i < object->count; i++)
            for (size_t j = 0; j < i; j++)
                if (same_key(&items[i], &items[j]))
                    return duplicate(&items[i], err);
        return STATUS_OK;
    }
    size_t slots = 16;
    while (slots < object->count * 2)
        slots *= 2;
    uint32_t *table = calloc(slots, sizeof *table); /* index + 1 */
    if (!table)
        return no_memory(err);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < object->count && status == STATUS_OK; i++) {
        size_t slot = key_hash(items[i].key, items[i].key_bytes) & (slots - 1);
        while (table[slot] && !same_key(&items[table[slot] - 1], &items[i]))
            slot = (slot + 1) & (slots - 1);
        if (table[slot])
            status = duplicate(&items[i], err);
        table[slot] = (uint32_t)i + 1;
    }
    free(table);
    return status;
}

static enum status convert(struct converter *c, const cJSON *from, struct json *to);

static enum status convert_items(struct converter *c, const cJSON *from, struct json *to)
{
    size_t count = 0;
    for (const cJSON *child = from->child; child; child = child->next)
        count++;
    if (count > UINT32_MAX - 1)
        return error_set(c->err, STATUS_TOO_LARGE, "JSON container with more than 2^32 members");
    struct json *items = arena_alloc_array(c->arena, count ? count : 1, sizeof *items);
    if (!items)
        return no_memory(c->err);
    to->count = count;
    to->as.items = items;
    size_t i = 0;
    for (const cJSON *child = from->child; child; child = child->next, i++) {
        if (to->type == JSON_OBJECT) {
            size_t bytes;
            items[i].key = convert_string(c, child->string, &bytes);
            items[i].key_bytes = (uint32_t)bytes;
            if (!items[i].key)
                return no_memory(c->err);
        }
        enum status status = convert(c, child, &items[i]);
        if (status != STATUS_OK)
            return status;
    }
    return to->type == JSON_OBJECT ? check_duplicates(to, c->err) : STATUS_OK;
}

static enum status convert_number(struct converter *c, const cJSON *from, struct json *to)
{
    const struct json_scan_number *exact = &c->scan->numbers[c->number_at++];
    if (exact->is_integer) {
        to->type = JSON_INTEGER;
        to->as.integer = exact->integer;
        return STATUS_OK;
    }
    to->type = JSON_NUMBER;
    to->as.number = from->valuedouble;
    return isfinite(from->valuedouble)
               ? STATUS_OK
               : error_set(c->err, STATUS_INVALID, "not valid JSON: a number out of range");
}

static enum status convert(struct converter *c, const cJSON *from, struct json *to)
{
    switch (from->type & 0xFF) {
    case cJSON_False:
        to->type = JSON_FALSE;
        return STATUS_OK;
    case cJSON_True:
        to->type = JSON_TRUE;
        return STATUS_OK;
    case cJSON_NULL:
        to->type = JSON_NULL;
        return STATUS_OK;
    case cJSON_Number:
        return convert_number(c, from, to);
    case cJSON_String:
        to->type = JSON_STRING;
        to->as.string = convert_string(c, from->valuestring, &to->count);
        return to->as.string ? STATUS_OK : no_memory(c->err);
    case cJSON_Array:
    case cJSON_Object:
        to->type = (from->type & 0xFF) == cJSON_Array ? JSON_ARRAY : JSON_OBJECT;
        return convert_items(c, from, to);
    default:
        UNREACHABLE();
    }
}

static enum status build(struct json_document **out, const struct json_scan *scan, struct error *err)
{
    cJSON *tree = cJSON_ParseWithLength(scan->text, scan->bytes);
    if (!tree) /* the scanner accepted the text, so only memory can be missing */
        return no_memory(err);
    struct json_document *document = calloc(1, sizeof *document);
    struct json *root = NULL;
    if (document) {
        /* Nodes, keys and strings, with room for alignment of every string. */
        size_t most =
            scan->bytes + (scan->value_count + 1) * (sizeof(struct json) + 16) + scan->string_count * 32;
        arena_init(&document->arena, most + most / 2 + 65536);
        root = arena_alloc(&document->arena, sizeof *root);
    }
    struct converter c = {.arena = document ? &document->arena : NULL, .scan = scan, .err = err};
    enum status status = root ? convert(&c, tree, root) : no_memory(err);
    cJSON_Delete(tree);
    if (status != STATUS_OK) {
        json_close(document);
        return status;
    }
    document->root = root;
    *out = document;
    return STATUS_OK;
}

enum status json_parse(struct json_document **out, const char *text, size_t bytes,
                       const struct json_limits *limits, struct error *err)
{
    *out = NULL;
    struct json_scan scan = {.text = text, .bytes = bytes, .err = err};
    scan.limits = limits ? *limits : (struct json_limits){0};
    if (scan.limits.max_bytes == 0)
        scan.limits.max_bytes = DEFAULT_MAX_BYTES;
    if (scan.limits.max_depth == 0)
        scan.limits.max_depth = DEFAULT_MAX_DEPTH;
    if (bytes > scan.limits.max_bytes)
        return error_set(err, STATUS_TOO_LARGE, "JSON of %zu bytes is over the limit of %zu", bytes,
                         scan.limits.max_bytes);
    enum status status = json_scan_run(&scan);
    if (status == STATUS_OK)
        status = build(out, &scan, err);
    json_scan_release(&scan);
    return status;
}

void json_close(struct json_document *document)
{
    if (!document)
        return;
    arena_release(&document->arena);
    free(document);
}

const struct json *json_root(const struct json_document *document)
{
    return document->root;
}

const struct json *json_member(const struct json *object, const char *key)
{
    if (!object || object->type != JSON_OBJECT)
        return NULL;
    size_t bytes = strlen(key);
    for (size_t i = 0; i < object->count; i++)
        if (object->as.items[i].key_bytes == bytes && memcmp(object->as.items[i].key, key, bytes) == 0)
            return &object->as.items[i];
    return NULL;
}

bool json_is_string(const struct json *node, const char *text)
{
    return node && node->type == JSON_STRING && node->count == strlen(text) &&
           memcmp(node->as.string, text, node->count) == 0;
}

double json_number_or(const struct json *node, double fallback)
{
    if (node && node->type == JSON_INTEGER)
        return (double)node->as.integer;
    return node && node->type == JSON_NUMBER ? node->as.number : fallback;
}

int64_t json_integer_or(const struct json *node, int64_t fallback)
{
    return node && node->type == JSON_INTEGER ? node->as.integer : fallback;
}

bool json_bool_or(const struct json *node, bool fallback)
{
    return node && node->type == JSON_TRUE ? true : node && node->type == JSON_FALSE ? false : fallback;
}

const char *json_string_or(const struct json *node, const char *fallback)
{
    return node && node->type == JSON_STRING ? node->as.string : fallback;
}

const char *json_type_name(enum json_type type)
{
    static const char *const names[] = {"null",     "a boolean", "a boolean", "an integer",
                                        "a number", "a string",  "an array",  "an object"};
    CHECK((unsigned)type < sizeof names / sizeof names[0]);
    return names[type];
}

void json_append_string(struct bytes *out, const char *text, size_t bytes)
{
    static const char hex[] = "0123456789abcdef";
    bytes_append_char(out, '"');
    size_t plain = 0; /* start of the run that needs no escape */
    for (size_t i = 0; i < bytes;) {
        unsigned char c = (unsigned char)text[i];
        size_t length = json_utf8_length(text + i, bytes - i);
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7F && length > 0) {
            i += length;
            continue;
        }
        bytes_append(out, text + plain, i - plain);
        const char *named = c ? strchr("\"\"\\\\\nn\rr\tt\bb\ff", c) : NULL;
        if (length == 0) {
            bytes_append_text(out, "\xEF\xBF\xBD");
        } else if (named) {
            char escape[2] = {'\\', named[1]};
            bytes_append(out, escape, 2);
        } else {
            char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            bytes_append(out, escape, 6);
        }
        i += length ? length : 1;
        plain = i;
    }
    bytes_append(out, text + plain, bytes - plain);
    bytes_append_char(out, '"');
}

void json_append_number(struct bytes *out, double value)
{
    char text[40];
    if (!isfinite(value)) {
        bytes_append_text(out, "null");
        return;
    }
    if (value == 0 && signbit(value)) { /* "-0" would read back as the integer 0 */
        bytes_append_text(out, "-0.0");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    bytes_append_text(out, text);
}

void json_append_node(struct bytes *out, const struct json *node)
{
    switch (node->type) {
    case JSON_NULL:
        bytes_append_text(out, "null");
        return;
    case JSON_FALSE:
    case JSON_TRUE:
        bytes_append_text(out, node->type == JSON_TRUE ? "true" : "false");
        return;
    case JSON_INTEGER:
        bytes_appendf(out, "%lld", (long long)node->as.integer);
        return;
    case JSON_NUMBER:
        json_append_number(out, node->as.number);
        return;
    case JSON_STRING:
        json_append_string(out, node->as.string, node->count);
        return;
    case JSON_ARRAY:
    case JSON_OBJECT:
        bytes_append_char(out, node->type == JSON_ARRAY ? '[' : '{');
        for (size_t i = 0; i < node->count; i++) {
            const struct json *item = &node->as.items[i];
            if (i)
                bytes_append_char(out, ',');
            if (node->type == JSON_OBJECT) {
                json_append_string(out, item->key, item->key_bytes);
                bytes_append_char(out, ':');
            }
            json_append_node(out, item);
        }
        bytes_append_char(out, node->type == JSON_ARRAY ? ']' : '}');
    }
}
