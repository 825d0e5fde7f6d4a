// SPDX-License-Identifier: Apache-2.0
// File, environment and flags become one validated, immutable struct. Precedence: default < file (JSON with
// // and /* */ comments) < MILLRACE_<SECTION>_<KEY> (…_FILE for secrets) < flag --section.key=value.
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "config/config_schema.h"

struct config_strings {
    const char *const *items;
    size_t count;
};

struct config_topic {
    const char *name;
    int64_t weight;
};

struct config_topics {
    const struct config_topic *items;
    size_t count;
};

struct config_pair {
    const char *key, *value;
};

struct config_map {
    const struct config_pair *items;
    size_t count;
};

#define CONFIG_C_STRING const char *
#define CONFIG_C_SECRET const char *
#define CONFIG_C_ENUM const char * /* one of the listed words */
#define CONFIG_C_INT int64_t
#define CONFIG_C_NUMBER double
#define CONFIG_C_BOOL bool
#define CONFIG_C_STRINGS struct config_strings
#define CONFIG_C_TOPICS struct config_topics
#define CONFIG_C_MAP struct config_map
#define CONFIG_FIELD(section, key, type, fallback, min, max, help) CONFIG_C_##type key;
#define CONFIG_STRUCT(section, keys) \
    struct {                         \
        keys(CONFIG_FIELD)           \
    } section;

struct config {
    CONFIG_SECTIONS(CONFIG_STRUCT)
};

struct config_source {
    const char *path;         /* file; NULL: none */
    const char *const *flags; /* "section.key=value", [flag_count] */
    size_t flag_count;
    bool ignore_environment;
};

/* Statuses: CONFIG (unknown key with the nearest known one, wrong type, out of range), NOT_FOUND, NO_MEMORY.
 */
MUST_CHECK enum status config_open(const struct config **out, const struct config_source *source,
                                   struct error *err);
void config_close(const struct config *config);
/* Each effective value and its origin, one per line: kafka.group_id = "x"   (file). Secrets show as ***. */
enum status config_print(const struct config *config, struct bytes *out);
/* Text with comments replaced by spaces (strings untouched), for other JSONC readers. */
void config_strip_comments(char *text, size_t bytes);
/* The known word nearest to `word` by edit distance, or NULL when none is near. */
const char *config_nearest(const char *word, const char *const *known, size_t count);

#endif
