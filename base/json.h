// SPDX-License-Identifier: Apache-2.0
// JSON (RFC 8259) in and out; the only user of cJSON. The text is validated first by a strict scanner
// (UTF-8, no trailing data, depth, duplicate keys, escapes, number range), which also keeps what cJSON
// 1.7.15 cannot represent: 64-bit integers and strings that contain U+0000. The result is an immutable
// tree of compact nodes in one arena, so any thread may read it.
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

enum json_type {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_INTEGER,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};

struct json {
    enum json_type type;
    uint32_t key_bytes;
    const char *key; /* NUL-terminated; NULL outside an object */
    size_t count;    /* ARRAY, OBJECT: members; STRING: bytes */
    union {
        int64_t integer;          /* INTEGER: written without '.', 'e' and within int64 */
        double number;            /* NUMBER: everything else; finite */
        const char *string;       /* NUL-terminated UTF-8; may contain NULs inside when count says so */
        const struct json *items; /* [count], in document order */
    } as;
};

struct json_limits {
    size_t max_bytes; /* 0: 1 GiB */
    int max_depth;    /* 0: 64 */
    bool reject_nul;  /* a U+0000 inside a string is an error */
};

struct json_document;

/* Statuses: INVALID (the text says what and at which byte), TOO_LARGE, NO_MEMORY. `text` is not kept. */
MUST_CHECK enum status json_parse(struct json_document **out, const char *text, size_t bytes,
                                  const struct json_limits *limits, struct error *err);
void json_close(struct json_document *document);
const struct json *json_root(const struct json_document *document);

/* Member of an object by exact name, or NULL (also when `object` is NULL or no object). */
const struct json *json_member(const struct json *object, const char *key);
bool json_is_string(const struct json *node, const char *text);
/* Any number as double; `fallback` when node is NULL or no number. */
double json_number_or(const struct json *node, double fallback);
int64_t json_integer_or(const struct json *node, int64_t fallback);
bool json_bool_or(const struct json *node, bool fallback);
const char *json_string_or(const struct json *node, const char *fallback);
const char *json_type_name(enum json_type type); /* "an integer", "a string", … for messages */

/* Writers append to `out`; check out->failed at the end. Invalid UTF-8 becomes U+FFFD. */
void json_append_string(struct bytes *out, const char *text, size_t bytes);
void json_append_number(struct bytes *out,
                        double value); /* shortest text that reads back equal; integers plain */
void json_append_node(struct bytes *out, const struct json *node); /* compact */

/* Length of the valid UTF-8 sequence at text[0..bytes), 1..4, or 0 when there is none. */
size_t json_utf8_length(const char *text, size_t bytes);

#endif
