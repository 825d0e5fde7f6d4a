// SPDX-License-Identifier: Apache-2.0
// A context-free grammar over bytes: the one form into which regular expressions, choices, JSON schemas and
// EBNF texts are compiled. It is built as a tree of nodes and rules, then emitted as a program of a few
// instructions that engine/constrain/matcher.h runs. A program is immutable.
//
// Nodes are owned by the builder. A node function that finds no memory or passes a bound returns NULL, and
// NULL arguments give NULL, so that only grammar_finish needs a check.
#ifndef ENGINE_CONSTRAIN_GRAMMAR_H
#define ENGINE_CONSTRAIN_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

enum {
    GRAMMAR_MAX_INSTRUCTIONS = 1 << 18,
    GRAMMAR_MAX_RULES = 1 << 14,
    GRAMMAR_MAX_SETS = 4096,
    GRAMMAR_MAX_STEPS = 1 << 26,  /* of looking for left recursion */
    GRAMMAR_MAX_BYTES = 64 << 20, /* of nodes while it is built */
    GRAMMAR_ALIKE_BYTES = 128     /* longest token of the usual vocabularies */
};
#define GRAMMAR_UNBOUNDED UINT32_MAX

enum grammar_op {
    GRAMMAR_BYTES,  /* a: byte set, b: next */
    GRAMMAR_SPLIT,  /* go on at a and at b */
    GRAMMAR_CALL,   /* a: rule's first instruction, b: where to go on behind it */
    GRAMMAR_RETURN, /* end of a rule; of the root rule: the text may end */
    GRAMMAR_NEVER   /* nothing that comes from here on ever ends: not to be followed */
};

struct grammar_instruction {
    uint32_t op, a, b;
    uint32_t alike; /* one that allows the same next GRAMMAR_ALIKE_BYTES bytes; its own index where none is
                       known */
};

struct grammar_set { /* of bytes, one bit each */
    uint64_t bits[4];
};

struct grammar {
    struct grammar_instruction *program; /* [count] */
    uint32_t count, entry;
    uint8_t class_of[256]; /* bytes that no set tells apart have one class */
    uint32_t classes;
    struct grammar_set *class_sets; /* [set_count]: bit c is set when the set holds the bytes of class c */
    uint32_t set_count;
};

void grammar_close(struct grammar *grammar);

/* ---- building ---- */

struct codepoint_range {
    uint32_t first, last;
};

struct grammar_node;
struct grammar_builder;

MUST_CHECK enum status grammar_builder_open(struct grammar_builder **out, struct error *err);
void grammar_builder_close(struct grammar_builder *builder);
struct arena *
grammar_arena(struct grammar_builder *builder); /* for front ends; lives as long as the builder */

struct grammar_node *grammar_empty(struct grammar_builder *builder);
struct grammar_node *grammar_literal(struct grammar_builder *builder, const char *text, size_t bytes);
/* One code point of the ranges (ascending, not touching), as UTF-8; surrogates are left out. Within JSON
 * strings
 * (`json`), as JSON writes it: quotes, backslashes and controls escaped. */
struct grammar_node *grammar_set(struct grammar_builder *builder, const struct codepoint_range *ranges,
                                 size_t count, bool json);
struct grammar_node *grammar_cat(struct grammar_builder *builder, struct grammar_node *a,
                                 struct grammar_node *b);
struct grammar_node *grammar_alt(struct grammar_builder *builder, struct grammar_node *a,
                                 struct grammar_node *b);
struct grammar_node *grammar_repeat(struct grammar_builder *builder, struct grammar_node *node,
                                    uint32_t least, uint32_t most);
struct grammar_node *grammar_optional(struct grammar_builder *builder, struct grammar_node *node);
/* Rules may refer to each other and to themselves, but not begin with themselves. UINT32_MAX: no room. */
uint32_t grammar_add_rule(struct grammar_builder *builder);
void grammar_set_rule(struct grammar_builder *builder, uint32_t rule, struct grammar_node *node);
struct grammar_node *grammar_rule(struct grammar_builder *builder, uint32_t rule);
/* Statuses: TOO_LARGE (a bound), INVALID (left recursion; no text ever ends), NO_MEMORY. */
MUST_CHECK enum status grammar_finish(struct grammar_builder *builder, struct grammar_node *root,
                                      struct grammar **out, struct error *err);

#endif
