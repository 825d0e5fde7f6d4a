// SPDX-License-Identifier: Apache-2.0
#include "config/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "config/config_field.h"

#define MAX_FILE_BYTES ((size_t)1 << 20)
#define MAX_ARENA_BYTES ((size_t)16 << 20)
enum { NAME_BYTES = 96, ENV_PREFIX_BYTES = 9 /* "MILLRACE_" */ };

#define ROW_TEXT(fallback_, min_, max_) .fallback = fallback_
#define ROW_STRING ROW_TEXT
#define ROW_SECRET ROW_TEXT
#define ROW_STRINGS ROW_TEXT
#define ROW_TOPICS ROW_TEXT
#define ROW_MAP ROW_TEXT
#define ROW_ENUM(fallback_, words_, unused) .fallback = fallback_, .words = words_
#define ROW_INT(fallback_, min_, max_) .fallback = #fallback_, .min = min_, .max = max_
#define ROW_NUMBER ROW_INT
#define ROW_BOOL(fallback_, min_, max_) .fallback = (fallback_) ? "true" : "false"
#define ROW(section, key, type_, fallback_, min_, max_, help) \
    {.name = #section "." #key,                               \
     .type = CONFIG_TYPE_##type_,                             \
     .offset = offsetof(struct config, section.key),          \
     ROW_##type_(fallback_, min_, max_)},
#define ROWS(section, keys) keys(ROW)

static const struct config_field fields[] = {CONFIG_SECTIONS(ROWS)};
enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };

enum origin { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENVIRONMENT, ORIGIN_FLAG };
static const char *const origin_names[] = {"default", "file", "environment", "flag"};

struct document {
    struct config config; /* first: config_close() finds the document by it */
    struct arena arena;
    enum origin origins[FIELD_COUNT];
};

static const struct config_field *find(const char *name, size_t bytes)
{
    for (size_t i = 0; i < FIELD_COUNT; i++)
        if (strlen(fields[i].name) == bytes && memcmp(fields[i].name, name, bytes) == 0)
            return &fields[i];
    return NULL;
}

/* An unknown key stops the program: a misspelt limit that is silently ignored costs more. */
static enum status unknown(const char *name, const char *origin, struct error *err)
{
    const char *names[FIELD_COUNT];
    for (size_t i = 0; i < FIELD_COUNT; i++)
        names[i] = fields[i].name;
    const char *nearest = config_nearest(name, names, FIELD_COUNT);
    return nearest
               ? error_set(err, STATUS_CONFIG, "%s: there is no key %.80s; did you mean %s?", origin, name,
                           nearest)
               : error_set(err, STATUS_CONFIG,
                           "%s: there is no key %.80s; config/worker.jsonc lists every key", origin, name);
}

static struct config_target target_of(struct document *document, const char *origin, struct error *err)
{
    return (struct config_target){&document->config, &document->arena, origin, err};
}

static enum status set_text(struct document *document, const struct config_field *field, const char *text,
                            const struct config_target *target, enum origin origin)
{
    document->origins[field - fields] = origin;
    return config_field_set_text(field, target, text);
}

static enum status apply_defaults(struct document *document, struct error *err)
{
    struct config_target target = target_of(document, "default", err);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        enum status status = set_text(document, &fields[i], fields[i].fallback, &target, ORIGIN_DEFAULT);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* Whole file into `out`, bounded. `what` names it in the message. */
static enum status read_file(const char *path, struct bytes *out, struct error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return error_set(err, STATUS_NOT_FOUND, "cannot read %s: %s", path, strerror(errno));
    char chunk[4096];
    enum status status = STATUS_OK;
    for (size_t got; status == STATUS_OK && (got = fread(chunk, 1, sizeof chunk, file)) > 0;)
        status = bytes_append(out, chunk, got);
    if (ferror(file))
        status = error_set(err, STATUS_NOT_FOUND, "cannot read %s: %s", path, strerror(errno));
    else if (status != STATUS_OK)
        status = error_set(err, STATUS_CONFIG, "%s is larger than %zu bytes", path, out->max_bytes);
    fclose(file);
    return status;
}

static enum status apply_section(struct document *document, const struct json *section,
                                 const struct config_target *target)
{
    if (section->type != JSON_OBJECT)
        return error_set(target->err, STATUS_CONFIG, "%s: \"%.40s\" must be an object", target->origin,
                         section->key);
    for (size_t i = 0; i < section->count; i++) {
        const struct json *value = &section->as.items[i];
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%.40s.%.50s", section->key, value->key);
        const struct config_field *field = find(name, strlen(name));
        if (!field)
            return unknown(name, target->origin, target->err);
        document->origins[field - fields] = ORIGIN_FILE;
        enum status status = config_field_set_json(field, target, value);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status known_section(const char *name, const struct config_target *target)
{
#define SECTION_NAME(section, keys) #section,
    static const char *const names[] = {CONFIG_SECTIONS(SECTION_NAME)};
#undef SECTION_NAME
    size_t count = sizeof names / sizeof names[0];
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return STATUS_OK;
    const char *nearest = config_nearest(name, names, count);
    return error_set(target->err, STATUS_CONFIG, "%s: there is no section \"%.40s\"%s%s%s", target->origin,
                     name, nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
}

static enum status apply_json(struct document *document, const struct json *root,
                              const struct config_target *target)
{
    if (root->type != JSON_OBJECT)
        return error_set(target->err, STATUS_CONFIG, "%s must hold one JSON object", target->origin);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < root->count && status == STATUS_OK; i++) {
        status = known_section(root->as.items[i].key, target);
        if (status == STATUS_OK)
            status = apply_section(document, &root->as.items[i], target);
    }
    return status;
}

static enum status apply_file(struct document *document, const char *path, struct error *err)
{
    struct bytes text;
    struct json_document *json = NULL;
    struct config_target target = target_of(document, path, err);
    bytes_init(&text, MAX_FILE_BYTES);
    enum status status = read_file(path, &text, err);
    if (status == STATUS_OK) {
        config_strip_comments(text.data, text.count_bytes);
        const struct json_limits limits = {.reject_nul = true};
        struct error detail;
        if (json_parse(&json, text.data ? text.data : "", text.count_bytes, &limits, &detail) != STATUS_OK)
            status = error_set(err, STATUS_CONFIG, "%s: %s", path, detail.text);
        else
            status = apply_json(document, json_root(json), &target);
    }
    json_close(json);
    bytes_release(&text);
    return status;
}

static void environment_name(const struct config_field *field, char name[NAME_BYTES])
{
    snprintf(name, NAME_BYTES, "MILLRACE_%s", field->name);
    for (char *c = name; *c; c++)
        *c = *c == '.' ? '_' : (char)toupper((unsigned char)*c);
}

/* A secret may lie in a file named by …_FILE (how container platforms hand secrets over). */
static enum status apply_secret_file(struct document *document, const struct config_field *field,
                                     const char *variable, struct error *err)
{
    char name[NAME_BYTES + 8];
    snprintf(name, sizeof name, "%s_FILE", variable);
    const char *path = getenv(name);
    if (!path)
        return STATUS_OK;
    if (getenv(variable))
        return error_set(err, STATUS_CONFIG, "%s and %s are both set: unset one", variable, name);
    struct bytes text;
    bytes_init(&text, 65536);
    struct config_target target = target_of(document, name, err);
    enum status status = read_file(path, &text, err);
    if (status == STATUS_OK) {
        while (text.count_bytes && strchr("\r\n", text.data[text.count_bytes - 1]))
            text.data[--text.count_bytes] = '\0';
        status = set_text(document, field, text.data ? text.data : "", &target, ORIGIN_ENVIRONMENT);
    } else {
        status = error_prefix(err, "%s", name);
    }
    bytes_release(&text);
    return status;
}

static bool known_variable(const char *variable, size_t bytes)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        char name[NAME_BYTES];
        environment_name(&fields[i], name);
        size_t length = strlen(name);
        bool file = fields[i].type == CONFIG_TYPE_SECRET && bytes == length + 5 &&
                    memcmp(variable + length, "_FILE", 5) == 0;
        if ((bytes == length || file) && memcmp(variable, name, length) == 0)
            return true;
    }
    return false;
}

/* A misspelt MILLRACE_<SECTION>_… stops us; other MILLRACE_… variables belong to other programs. */
static enum status check_variable(const char *variable, size_t bytes, struct error *err)
{
#define SECTION_NAME(section, keys) #section,
    static const char *const sections[] = {CONFIG_SECTIONS(SECTION_NAME)};
#undef SECTION_NAME
    const char *rest = variable + ENV_PREFIX_BYTES;
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        size_t length = strlen(sections[i]);
        if (strncasecmp(rest, sections[i], length) != 0 || rest[length] != '_' ||
            known_variable(variable, bytes))
            continue;
        char name[NAME_BYTES], shown[NAME_BYTES];
        snprintf(shown, sizeof shown, "%.*s", (int)(bytes < 90 ? bytes : 90), variable);
        snprintf(name, sizeof name, "%s.%.40s", sections[i], shown + ENV_PREFIX_BYTES + length + 1);
        for (char *c = name; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        return unknown(name, shown, err);
    }
    return STATUS_OK;
}

static enum status apply_environment(struct document *document, struct error *err)
{
    enum status status = STATUS_OK;
    for (char **entry = environ; entry && *entry && status == STATUS_OK; entry++)
        if (strncmp(*entry, "MILLRACE_", ENV_PREFIX_BYTES) == 0 && strchr(*entry, '='))
            status = check_variable(*entry, (size_t)(strchr(*entry, '=') - *entry), err);
    for (size_t i = 0; i < FIELD_COUNT && status == STATUS_OK; i++) {
        char name[NAME_BYTES];
        environment_name(&fields[i], name);
        struct config_target target = target_of(document, name, err);
        if (fields[i].type == CONFIG_TYPE_SECRET)
            status = apply_secret_file(document, &fields[i], name, err);
        const char *value = getenv(name);
        if (value && status == STATUS_OK)
            status = set_text(document, &fields[i], value, &target, ORIGIN_ENVIRONMENT);
    }
    return status;
}

static enum status apply_flag(struct document *document, const char *flag, struct error *err)
{
    char name[NAME_BYTES], origin[NAME_BYTES + 4];
    const char *equals = strchr(flag, '=');
    size_t bytes = equals ? (size_t)(equals - flag) : strlen(flag);
    snprintf(name, sizeof name, "%.*s", (int)(bytes < NAME_BYTES ? bytes : NAME_BYTES - 1), flag);
    snprintf(origin, sizeof origin, "--%s", name);
    const struct config_field *field = find(name, strlen(name));
    if (!field)
        return unknown(name, origin, err);
    if (!equals)
        return error_set(err, STATUS_CONFIG, "%s needs a value: %s=VALUE", origin, origin);
    struct config_target target = target_of(document, origin, err);
    return set_text(document, field, equals + 1, &target, ORIGIN_FLAG);
}

/* Rules that no single row can say. */
static enum status check_whole(const struct config *config, struct error *err)
{
    if (config->engine.block_tokens % 16 != 0)
        return error_set(err, STATUS_CONFIG, "engine.block_tokens must be a multiple of 16, got %lld",
                         (long long)config->engine.block_tokens);
    if (config->kafka.topics.count == 0)
        return error_set(err, STATUS_CONFIG, "kafka.topics must name at least one topic");
    return STATUS_OK;
}

enum status config_open(const struct config **out, const struct config_source *source, struct error *err)
{
    struct document *document = calloc(1, sizeof *document);
    *out = NULL;
    if (!document)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the configuration");
    arena_init(&document->arena, MAX_ARENA_BYTES);
    enum status status = apply_defaults(document, err);
    if (status == STATUS_OK && source->path)
        status = apply_file(document, source->path, err);
    if (status == STATUS_OK && !source->ignore_environment)
        status = apply_environment(document, err);
    for (size_t i = 0; i < source->flag_count && status == STATUS_OK; i++)
        status = apply_flag(document, source->flags[i], err);
    if (status == STATUS_OK)
        status = check_whole(&document->config, err);
    if (status == STATUS_OK)
        *out = &document->config;
    else
        config_close(&document->config);
    return status;
}

void config_close(const struct config *config)
{
    if (!config)
        return;
    struct document *document = (struct document *)(uintptr_t)config;
    arena_release(&document->arena);
    free(document);
}

enum status config_print(const struct config *config, struct bytes *out)
{
    const struct document *document = (const struct document *)config;
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        bytes_appendf(out, "%s = ", fields[i].name);
        config_field_append(&fields[i], config, out);
        bytes_appendf(out, "   (%s)\n", origin_names[document->origins[i]]);
    }
    return out->failed ? STATUS_NO_MEMORY : STATUS_OK;
}

/* End of the string that opens at text[at]: the index after its closing quote. */
static size_t skip_string(const char *text, size_t at, size_t bytes)
{
    for (at++; at < bytes && text[at] != '"'; at++)
        if (text[at] == '\\')
            at++;
    return at < bytes ? at + 1 : bytes;
}

void config_strip_comments(char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes;) {
        if (text[i] == '"') {
            i = skip_string(text, i, bytes);
        } else if (text[i] == '/' && i + 1 < bytes && text[i + 1] == '/') {
            while (i < bytes && text[i] != '\n')
                text[i++] = ' ';
        } else if (text[i] == '/' && i + 1 < bytes && text[i + 1] == '*') {
            const char *end = memmem(text + i + 2, bytes - i - 2, "*/", 2);
            size_t stop = end ? (size_t)(end - text) + 2 : bytes;
            for (; i < stop; i++)
                text[i] = text[i] == '\n' ? '\n' : ' '; /* positions in messages stay right */
        } else {
            i++;
        }
    }
}
