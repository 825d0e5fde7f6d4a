// SPDX-License-Identifier: Apache-2.0
// JSON Schema (draft 2020-12, and what earlier drafts spell the same) as a grammar of JSON texts. Everything
// that the grammar lets pass is valid; not everything valid passes: members come in the order of
// `properties`, an object that lists properties has no others unless additionalProperties says so, constants
// are written in one way, and a whole number has no fraction. A keyword that restricts and is not supported
// is refused by name.
#ifndef ENGINE_CONSTRAIN_GRAMMAR_SCHEMA_H
#define ENGINE_CONSTRAIN_GRAMMAR_SCHEMA_H

#include "base/json.h"
#include "engine/constrain/grammar.h"

/* Statuses: UNSUPPORTED and INVALID (the text names the keyword), TOO_LARGE, NO_MEMORY. */
MUST_CHECK enum status grammar_schema(struct grammar_builder *builder, const struct json *schema,
                                      struct grammar_node **out, struct error *err);
/* Any JSON object. */
MUST_CHECK enum status grammar_json_object(struct grammar_builder *builder, struct grammar_node **out,
                                           struct error *err);

#endif
