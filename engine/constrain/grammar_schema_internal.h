// SPDX-License-Identifier: Apache-2.0
// What grammar_schema.c (keywords, references, combinations) and grammar_schema_types.c (objects, arrays,
// strings, numbers) share. Private to them.
#ifndef ENGINE_CONSTRAIN_GRAMMAR_SCHEMA_INTERNAL_H
#define ENGINE_CONSTRAIN_GRAMMAR_SCHEMA_INTERNAL_H

#include "base/bytes.h"
#include "engine/constrain/grammar_json.h"
#include "engine/constrain/grammar_schema.h"

enum {
    SCHEMA_MAX_REFERENCES = 1024,
    SCHEMA_MAX_DEPTH = 100,
    SCHEMA_MAX_TEXT_BYTES = 1 << 20,
    SCHEMA_MAX_COUNT = 10000
};

enum schema_type {
    TYPE_OBJECT = 1,
    TYPE_ARRAY = 2,
    TYPE_STRING = 4,
    TYPE_NUMBER = 8, /* whole ones too */
    TYPE_INTEGER = 16,
    TYPE_BOOLEAN = 32,
    TYPE_NULL = 64,
    TYPE_ANY = 127
};

struct schema_reference {
    const struct json *target;
    unsigned types;
    uint32_t rule;
};

struct schema_compiler {
    struct grammar_builder *builder;
    struct grammar_json json;
    const struct json *root;
    struct schema_reference references[SCHEMA_MAX_REFERENCES];
    size_t reference_count;
    int depth;
    enum status status; /* of the first refusal */
    struct error *err;
};

/* Always NULL. */
struct grammar_node *schema_refuse(struct schema_compiler *c, enum status status, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* The texts that the schema allows and that are of one of the types. NULL: refused, or no room. */
struct grammar_node *schema_node(struct schema_compiler *c, const struct json *schema, unsigned types);
/* Any value: a schema that is not there. */
struct grammar_node *schema_or_any(struct schema_compiler *c, const struct json *schema);
struct grammar_node *schema_object(struct schema_compiler *c, const struct json *schema);
struct grammar_node *schema_array(struct schema_compiler *c, const struct json *schema);
struct grammar_node *schema_string(struct schema_compiler *c, const struct json *schema);
struct grammar_node *schema_number(struct schema_compiler *c, const struct json *schema, bool whole);

#endif
