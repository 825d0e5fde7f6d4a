// SPDX-License-Identifier: Apache-2.0
// Syntax tree of a chat template, and the parts of the interpreter that share it: lexer → parser → evaluator
// with its filters, tests and methods. Private to the text room. The tree is immutable once parsed.
#ifndef ENGINE_TEXT_TEMPLATE_NODE_H
#define ENGINE_TEXT_TEMPLATE_NODE_H

#include "engine/text/template_value.h"

#define TEMPLATE_MAX_BYTES ((size_t)4 << 20)
#define TEMPLATE_MAX_TOKENS ((size_t)1 << 20)
#define TEMPLATE_MAX_ARGUMENTS 32

enum token_kind {
    TOKEN_TEXT,
    TOKEN_NAME,
    TOKEN_STRING,
    TOKEN_INTEGER,
    TOKEN_FLOAT,
    TOKEN_OPERATOR,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_PRINT_BEGIN,
    TOKEN_PRINT_END,
    TOKEN_END
};

struct template_token {
    enum token_kind kind;
    int line;
    struct string_view text; /* NAME, OPERATOR; TEXT and STRING: the content, unescaped */
    int64_t integer;
    double number;
};

struct template_source {
    struct arena *arena; /* tokens and tree; owned by the chat_template */
    struct template_token *tokens;
    size_t count, capacity;
    struct error *err;
};

/* Statuses: INVALID (line and what), UNSUPPORTED, TOO_LARGE, NO_MEMORY. */
MUST_CHECK enum status template_lex(struct template_source *source, const char *text, size_t bytes);

enum node_kind {
    /* expressions */
    NODE_CONSTANT,  /* value */
    NODE_NAME,      /* value: the name */
    NODE_LIST,      /* items */
    NODE_TUPLE,     /* items */
    NODE_DICT,      /* items: PAIR */
    NODE_PAIR,      /* a: key, b: value */
    NODE_NEGATE,    /* a */
    NODE_POSITIVE,  /* a */
    NODE_BINARY,    /* op, a, b */
    NODE_AND,       /* a, b */
    NODE_OR,        /* a, b */
    NODE_NOT,       /* a */
    NODE_COMPARE,   /* a; items: OPERAND */
    NODE_OPERAND,   /* op, a */
    NODE_CONDITION, /* a if b else c (c may be NULL) */
    NODE_ATTRIBUTE, /* a . value */
    NODE_INDEX,     /* a [ b ] */
    NODE_SLICE,     /* a [ b : c : d ], each may be NULL */
    NODE_CALL,      /* a ( items: ARGUMENT ) */
    NODE_ARGUMENT,  /* value: its name or undefined; a */
    NODE_FILTER,    /* a | value ( items ); a NULL in a filter block */
    NODE_TEST,      /* a is value ( items ) */
    /* statements */
    NODE_TEXT,         /* value */
    NODE_PRINT,        /* a */
    NODE_IF,           /* a; items: then; c: NODE_BODY or NODE_IF */
    NODE_BODY,         /* items */
    NODE_FOR,          /* a: target, b: iterable, c: condition or NULL, d: else BODY; items: body */
    NODE_SET,          /* a: target, b */
    NODE_SET_BLOCK,    /* a: target, b: FILTER chain or NULL; items: body */
    NODE_MACRO,        /* value: name; a: PARAMETER list in its items; items: body */
    NODE_PARAMETERS,   /* items: PARAMETER */
    NODE_PARAMETER,    /* value: name; a: default or NULL */
    NODE_CALL_BLOCK,   /* a: PARAMETERS, b: CALL; items: body */
    NODE_FILTER_BLOCK, /* b: FILTER chain; items: body */
    NODE_WITH,         /* a: NODE_BODY of SET; items: body */
    NODE_BREAK,
    NODE_CONTINUE,
    NODE_GENERATION /* items: body */
};

enum operator_kind {
    OP_ADD,
    OP_SUBTRACT,
    OP_MULTIPLY,
    OP_DIVIDE,
    OP_FLOOR_DIVIDE,
    OP_MODULO,
    OP_POWER,
    OP_CONCAT,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN
};

struct template_node {
    enum node_kind kind;
    int line;
    int op; /* enum operator_kind; FILTER, TEST: place in the table */
    struct value value;
    struct template_node *a, *b, *c, *d;
    struct template_node *items, *next;
};

/* `root` becomes a BODY. Names of filters, tests, functions and methods are checked here. */
MUST_CHECK enum status template_parse(struct template_source *source, struct template_node **root);

struct scope_binding {
    struct string_view name;
    struct value value;
    struct scope_binding *next;
};

struct scope {
    struct scope *parent;
    struct scope_binding *bindings;
};

struct value_macro {
    const struct template_node *node; /* MACRO or CALL_BLOCK */
    struct scope *closure;
};

struct value_loop {
    struct value_list items;
    size_t index; /* from 0 */
    size_t depth; /* loops around it in the same template */
    struct value changed;
    bool has_changed;
};

struct template_arguments {
    struct value *values;      /* [count] */
    struct string_view *names; /* [count]; text NULL: positional */
    size_t count, positional;  /* positional ones come first */
};

/* Argument by place or name; NULL when it is not given. */
const struct value *template_argument(const struct template_arguments *arguments, size_t place,
                                      const char *name);

/* Evaluator. */
MUST_CHECK enum status template_run(struct render *r, const struct template_node *body);
MUST_CHECK enum status template_evaluate(struct render *r, const struct template_node *node,
                                         struct value *out);
MUST_CHECK enum status template_bind(struct render *r, struct string_view name, struct value value);
MUST_CHECK enum status template_operate(struct render *r, int op, const struct value *a,
                                        const struct value *b, struct value *out);
MUST_CHECK enum status template_attribute(struct render *r, const struct value *object,
                                          struct string_view name, struct value *out);
MUST_CHECK enum status template_index(struct render *r, const struct value *object, const struct value *key,
                                      struct value *out);
struct template_slice {
    const struct value *start, *stop, *step; /* NULL or none: open */
};
MUST_CHECK enum status template_slice(struct render *r, const struct value *object,
                                      const struct template_slice *slice, struct value *out);

/* Tables by name: place, or -1. */
int template_filter_find(struct string_view name);
MUST_CHECK enum status template_filter_apply(struct render *r, int filter, const struct value *in,
                                             const struct template_arguments *arguments, struct value *out);
/* The tojson filter, as transformers defines it: ensure_ascii, indent, separators, sort_keys. */
MUST_CHECK enum status template_tojson(struct render *r, const struct value *in,
                                       const struct template_arguments *arguments, struct value *out);
int template_test_find(struct string_view name);
MUST_CHECK enum status template_test_apply(struct render *r, int test, const struct value *in,
                                           const struct template_arguments *arguments, bool *result);
int template_function_find(struct string_view name);
MUST_CHECK enum status template_function_call(struct render *r, int function,
                                              const struct template_arguments *arguments, struct value *out);
/* Some type has a method of this name (also one that is refused when it is called). */
bool template_method_known(struct string_view name);
bool template_method_of(const struct value *object, struct string_view name);
MUST_CHECK enum status template_method_call(struct render *r, const struct value_method *method,
                                            const struct template_arguments *arguments, struct value *out);
/* str.strip and its kin: `chars` NULL: blanks. */
struct string_view template_strip(struct string_view text, const struct value *chars, bool left, bool right);

#endif
