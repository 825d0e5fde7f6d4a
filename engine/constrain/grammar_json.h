// SPDX-License-Identifier: Apache-2.0
// JSON's own syntax (RFC 8259) as grammar: what every JSON schema is made of. White space is what a pretty
// printer writes: nothing, a space, or a newline with at most 20 of indentation, so that no model can go on
// with it; for the same reason numbers have at most 20 digits before the point, 20 behind it and 2 in an
// exponent.
#ifndef ENGINE_CONSTRAIN_GRAMMAR_JSON_H
#define ENGINE_CONSTRAIN_GRAMMAR_JSON_H

#include "engine/constrain/grammar.h"

struct grammar_json { /* rules of one builder */
    struct grammar_builder *builder;
    uint32_t space, character, string, integer, number, value, object, array;
};

void grammar_json_init(struct grammar_json *json, struct grammar_builder *builder);
struct grammar_node *grammar_json_text(struct grammar_json *json, const char *text); /* a literal */
struct grammar_node *grammar_json_rule(struct grammar_json *json, uint32_t rule);
/* A list of nodes, one after the other; NULL-terminated. */
struct grammar_node *grammar_json_join(struct grammar_json *json, struct grammar_node *const *nodes);

struct grammar_bounds { /* of a number; both ends are whole numbers */
    bool has_least, has_most;
    bool above_least, below_most; /* the end itself is left out */
    int64_t least, most;          /* within +-10^18 */
};
/* Whole numbers; NULL also when there is none within the bounds (*empty). */
struct grammar_node *grammar_json_integer(struct grammar_json *json, const struct grammar_bounds *bounds,
                                          bool *empty);
/* Numbers with a fraction or none, without an exponent. */
struct grammar_node *grammar_json_number(struct grammar_json *json, const struct grammar_bounds *bounds,
                                         bool *empty);

#endif
