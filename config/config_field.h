// SPDX-License-Identifier: Apache-2.0
// One row of the table and how a value reaches its place in struct config, from text (defaults,
// environment, flags) or from JSON (the file). Private to config/.
#ifndef CONFIG_CONFIG_FIELD_H
#define CONFIG_CONFIG_FIELD_H

#include "base/arena.h"
#include "base/json.h"
#include "config/config.h"

enum config_type {
    CONFIG_TYPE_STRING,
    CONFIG_TYPE_SECRET,
    CONFIG_TYPE_ENUM,
    CONFIG_TYPE_INT,
    CONFIG_TYPE_NUMBER,
    CONFIG_TYPE_BOOL,
    CONFIG_TYPE_STRINGS,
    CONFIG_TYPE_TOPICS,
    CONFIG_TYPE_MAP
};

struct config_field {
    const char *name; /* "section.key" */
    enum config_type type;
    size_t offset;        /* in struct config */
    const char *fallback; /* as text */
    const char *words;    /* ENUM: "a|b" */
    double min, max;      /* INT, NUMBER */
};

/* Where a value goes, where it came from (for messages), and who owns its memory. */
struct config_target {
    struct config *config;
    struct arena *arena;
    const char *origin; /* "config/worker.jsonc", "MILLRACE_HTTP_PORT", "--http.port" */
    struct error *err;
};

/* Statuses: CONFIG (the sentence names field, origin and rule), NO_MEMORY. */
enum status config_field_set_text(const struct config_field *field, const struct config_target *target,
                                  const char *text);
enum status config_field_set_json(const struct config_field *field, const struct config_target *target,
                                  const struct json *node);
/* The value as JSON; a secret that is set as "***". */
void config_field_append(const struct config_field *field, const struct config *config, struct bytes *out);

#endif
