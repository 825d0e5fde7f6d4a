// SPDX-License-Identifier: Apache-2.0
// Values of the chat-template language, with the meaning Python gives them there. They live in the arena of
// one rendering (or of the template, for constants) and are immutable once another can see them, except
// namespaces. `struct render` carries the bounds: memory, steps, depth; every function that may take long
// charges it.
#ifndef ENGINE_TEXT_TEMPLATE_VALUE_H
#define ENGINE_TEXT_TEMPLATE_VALUE_H

#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"

#define TEMPLATE_MAX_STEPS 20000000
#define TEMPLATE_MAX_DEPTH 160
#define TEMPLATE_MAX_MEMORY_BYTES ((size_t)512 << 20)

enum value_type {
    VALUE_UNDEFINED, /* as.string names what was missing */
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INTEGER,
    VALUE_FLOAT,
    VALUE_STRING,
    VALUE_LIST,
    VALUE_TUPLE,
    VALUE_DICT,
    VALUE_NAMESPACE,
    VALUE_MACRO,
    VALUE_METHOD,
    VALUE_FUNCTION,
    VALUE_LOOP
};

struct string_view {
    const char *text;
    size_t bytes;
};

struct value_list;
struct value_dict;
struct value_macro;
struct value_method;
struct value_loop;

struct value {
    enum value_type type;
    bool safe; /* STRING: marked by the safe filter, so text joined to it is escaped */
    union {
        bool boolean;
        int64_t integer;
        double number;
        struct string_view string;
        struct value_list *list;
        struct value_dict *dict; /* DICT, NAMESPACE */
        struct value_macro *macro;
        struct value_method *method;
        int function;
        struct value_loop *loop;
    } as;
};

struct value_list {
    struct value *items;
    size_t count, capacity;
};

struct value_pair {
    struct value key, value;
};

struct value_dict {
    struct value_pair *pairs; /* in order of insertion */
    size_t count, capacity;
};

struct value_method {
    struct value object;
    struct string_view name;
};

struct scope;
struct chat_template;

struct render {
    struct arena arena;
    struct bytes *out;
    struct scope *scope;
    const struct chat_template *chat_template;
    struct error *err;
    int64_t now_ms;
    int64_t steps;
    int depth;
    int line;          /* of the node being evaluated */
    int flow;          /* break or continue on its way to its loop */
    size_t call_depth; /* macros within macros */
};

/* Sets "chat template, line N: …" and returns INVALID. */
enum status render_fail(struct render *r, const char *format, ...) PRINTF_LIKE(2, 3);
/* Statuses: OK, TOO_LARGE when the steps are used up. */
MUST_CHECK enum status render_charge(struct render *r, size_t steps);
MUST_CHECK enum status render_enter(struct render *r); /* one level deeper; TOO_LARGE */
void render_leave(struct render *r);
/* Arena memory, charged; NULL with the error set. */
void *render_alloc(struct render *r, size_t bytes);
enum status render_shortage(struct render *r); /* the status that fits a NULL of render_alloc */

struct value value_none(void);
struct value value_bool(bool boolean);
struct value value_integer(int64_t integer);
struct value value_float(double number);
struct value value_view(const char *text, size_t bytes); /* text must outlive the rendering */
struct value value_undefined(const char *name, size_t bytes);
MUST_CHECK enum status value_copy_string(struct render *r, const char *text, size_t bytes, struct value *out);
/* Takes what was appended to `text` and releases it; its failure is reported. */
MUST_CHECK enum status value_from_bytes(struct render *r, struct bytes *text, struct value *out);
MUST_CHECK enum status value_from_json(struct render *r, const struct json *json, struct value *out);

MUST_CHECK enum status value_new_list(struct render *r, enum value_type type, size_t capacity,
                                      struct value *out);
MUST_CHECK enum status value_append(struct render *r, struct value_list *list, struct value item);
MUST_CHECK enum status value_new_dict(struct render *r, enum value_type type, struct value *out);
MUST_CHECK enum status value_put(struct render *r, struct value_dict *dict, struct value key,
                                 struct value value);
/* NULL: absent. Charges by the size of the dictionary. */
const struct value *value_get(struct render *r, const struct value_dict *dict, const char *key, size_t bytes);
MUST_CHECK enum status value_find(struct render *r, const struct value_dict *dict, const struct value *key,
                                  const struct value **out);

const char *value_type_name(const struct value *value); /* Python's name for it */
bool value_is_text(const struct value *value, const char *text);
bool value_is_true(const struct value *value);
bool value_is_number(const struct value *value); /* bool, integer, float */
double value_number(const struct value *value);
int64_t value_whole(const struct value *value); /* bool, integer */
MUST_CHECK enum status value_equal(struct render *r, const struct value *a, const struct value *b,
                                   bool *equal);
/* *order < 0, 0, > 0; INVALID when Python would not order them. */
MUST_CHECK enum status value_compare(struct render *r, const struct value *a, const struct value *b,
                                     int *order);
MUST_CHECK enum status value_contains(struct render *r, const struct value *container,
                                      const struct value *item, bool *found);
/* The items of anything iterable, as a list (its own, or a new one). */
MUST_CHECK enum status value_items(struct render *r, const struct value *value, struct value_list *out);
/* len(): characters of a string; INVALID without a length. */
MUST_CHECK enum status value_length(struct render *r, const struct value *value, size_t *length);

/* str() and repr() appended. */
MUST_CHECK enum status value_print(struct render *r, const struct value *value, struct bytes *out);
MUST_CHECK enum status value_repr(struct render *r, const struct value *value, struct bytes *out);
/* A string is itself, everything else its str(). */
MUST_CHECK enum status value_to_string(struct render *r, const struct value *value, struct value *out);

struct json_style {
    bool ensure_ascii, sort_keys;
    const char *indent; /* NULL: one line */
    struct string_view item_separator, key_separator;
};
/* json.dumps. */
MUST_CHECK enum status value_to_json(struct render *r, const struct value *value,
                                     const struct json_style *style, struct bytes *out);

/* Python's str.isspace() for one character. */
bool value_is_blank(uint32_t c);
size_t value_characters(const char *text, size_t bytes);

#endif
