// SPDX-License-Identifier: Apache-2.0
// The model's chat template: a bounded interpreter for the subset of Jinja that model templates use.
// Parsed at open; a construct outside the subset is an error that names it and its line. Immutable after
// open, any thread may render. Source: the Jinja template documentation; rendering rules of transformers.
#ifndef ENGINE_TEXT_CHAT_TEMPLATE_H
#define ENGINE_TEXT_CHAT_TEMPLATE_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"

struct chat_template;

/* From chat_template.jinja, else tokenizer_config.json ("chat_template": string or list of named ones).
 * Statuses: NOT_FOUND (the model has none), INVALID, UNSUPPORTED (construct and line), NO_MEMORY. */
MUST_CHECK enum status chat_template_open(struct chat_template **out, const char *model_dir,
                                          struct error *err);
MUST_CHECK enum status chat_template_open_text(struct chat_template **out, const char *source, size_t bytes,
                                               const char *bos_token, const char *eos_token,
                                               struct error *err);
void chat_template_close(struct chat_template *chat_template);
/* Does it read content given as a list of text parts (found out by showing it one), or strings only? */
bool chat_template_reads_parts(const struct chat_template *chat_template);

struct chat_render_options {
    const struct json *messages; /* array, required */
    const struct json *tools;    /* NULL: none */
    const struct json *documents;
    const struct json *kwargs; /* object: chat_template_kwargs; NULL: none */
    bool add_generation_prompt;
    bool continue_final_message;
    int64_t now_ms; /* for strftime_now; UTC */
};

/* Appends the prompt to `out`. Statuses: INVALID (raise_exception's own text, type errors with line),
 * TOO_LARGE (out's bound, or the step limit), NO_MEMORY. */
MUST_CHECK enum status chat_template_render(const struct chat_template *chat_template,
                                            const struct chat_render_options *options, struct bytes *out,
                                            struct error *err);

#endif
