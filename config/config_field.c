// SPDX-License-Identifier: Apache-2.0
#include "config/config_field.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Properties of librdkafka that Millrace sets itself, because its guarantees rest on them. */
static const char *const owned_properties[] = {
    "acks",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "max.poll.interval.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "session.timeout.ms",
    "transactional.id",
};

static void *place(const struct config_field *field, const struct config_target *target)
{
    return (char *)target->config + field->offset;
}

static enum status wrong(const struct config_field *field, const struct config_target *target,
                         const char *rule)
{
    return error_set(target->err, STATUS_CONFIG, "%s (%s) must be %s", field->name, target->origin, rule);
}

static enum status no_memory(const struct config_target *target)
{
    return error_set(target->err, STATUS_NO_MEMORY, "no memory for the configuration");
}

static enum status set_string(const struct config_field *field, const struct config_target *target,
                              const char *text, size_t bytes)
{
    char *copy = arena_copy(target->arena, text, bytes);
    if (!copy)
        return no_memory(target);
    *(const char **)place(field, target) = copy;
    return STATUS_OK;
}

static bool is_word(const char *words, const char *text)
{
    size_t length = strlen(text);
    for (const char *at = words; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (length && strncmp(at, text, length) == 0 && (at[length] == '|' || at[length] == '\0'))
            return true;
    return false;
}

static enum status set_enum(const struct config_field *field, const struct config_target *target,
                            const char *text)
{
    if (!is_word(field->words, text))
        return error_set(target->err, STATUS_CONFIG, "%s (%s) must be one of %s, got \"%.60s\"", field->name,
                         target->origin, field->words, text);
    return set_string(field, target, text, strlen(text));
}

static enum status set_number(const struct config_field *field, const struct config_target *target,
                              double value)
{
    if (!(value >= field->min && value <= field->max))
        return error_set(target->err, STATUS_CONFIG, "%s (%s) must be between %.15g and %.15g, got %.15g",
                         field->name, target->origin, field->min, field->max, value);
    if (field->type == CONFIG_TYPE_INT)
        *(int64_t *)place(field, target) = (int64_t)value; /* the ranges of the table are exact in a double */
    else
        *(double *)place(field, target) = value;
    return STATUS_OK;
}

/* Room for `count` items of a list whose struct is {items, count}. */
static void *list_room(const struct config_target *target, size_t count, size_t size)
{
    return arena_alloc_array(target->arena, count ? count : 1, size);
}

static enum status check_topic(const struct config_field *field, const struct config_target *target,
                               const struct config_topic *topic)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t length = strlen(topic->name);
    if (length == 0 || length > 249 || strspn(topic->name, allowed) != length)
        return wrong(field, target, "topic names of letters, digits, '.', '_' and '-' (249 at most)");
    if (topic->weight < 1 || topic->weight > 1000)
        return wrong(field, target, "topics with weights between 1 and 1000");
    return STATUS_OK;
}

static enum status check_pair(const struct config_field *field, const struct config_target *target,
                              const struct config_pair *pair)
{
    for (size_t i = 0; i < sizeof owned_properties / sizeof owned_properties[0]; i++)
        if (strcmp(pair->key, owned_properties[i]) == 0)
            return error_set(target->err, STATUS_CONFIG,
                             "%s (%s) names %s, which Millrace sets itself: remove it", field->name,
                             target->origin, pair->key);
    return *pair->key ? STATUS_OK : wrong(field, target, "properties with a name");
}

/* One list element from text[0..bytes): "word", "topic:weight" or "key=value". */
static enum status set_text_item(const struct config_field *field, const struct config_target *target,
                                 char *text, void *items, size_t index)
{
    if (field->type == CONFIG_TYPE_STRINGS) {
        ((const char **)items)[index] = text;
        return STATUS_OK;
    }
    if (field->type == CONFIG_TYPE_TOPICS) {
        struct config_topic *topic = &((struct config_topic *)items)[index];
        char *colon = strchr(text, ':'), *end = NULL;
        *topic = (struct config_topic){.name = text, .weight = 1};
        if (colon) {
            *colon = '\0';
            topic->weight = strtoll(colon + 1, &end, 10);
            if (end == colon + 1 || *end)
                return wrong(field, target, "a list like name:weight,name:weight");
        }
        return check_topic(field, target, topic);
    }
    char *equals = strchr(text, '=');
    if (!equals)
        return wrong(field, target, "a list like name=value,name=value, or a JSON object");
    *equals = '\0';
    struct config_pair *pair = &((struct config_pair *)items)[index];
    *pair = (struct config_pair){.key = text, .value = equals + 1};
    return check_pair(field, target, pair);
}

static size_t item_bytes(enum config_type type)
{
    if (type == CONFIG_TYPE_STRINGS)
        return sizeof(const char *);
    return type == CONFIG_TYPE_TOPICS ? sizeof(struct config_topic) : sizeof(struct config_pair);
}

static void store_list(const struct config_field *field, const struct config_target *target,
                       const void *items, size_t count)
{
    void *to = place(field, target);
    if (field->type == CONFIG_TYPE_STRINGS)
        *(struct config_strings *)to = (struct config_strings){items, count};
    else if (field->type == CONFIG_TYPE_TOPICS)
        *(struct config_topics *)to = (struct config_topics){items, count};
    else
        *(struct config_map *)to = (struct config_map){items, count};
}

/* Comma-separated items; spaces around each are not part of it. */
static enum status set_text_list(const struct config_field *field, const struct config_target *target,
                                 const char *text)
{
    size_t most = 1, count = 0;
    for (const char *c = text; *c; c++)
        most += *c == ',';
    char *copy = arena_copy(target->arena, text, strlen(text));
    void *items = list_room(target, most, item_bytes(field->type));
    if (!copy || !items)
        return no_memory(target);
    for (char *at = copy, *next; at && *at; at = next) {
        next = strchr(at, ',');
        if (next)
            *next++ = '\0';
        at += strspn(at, " ");
        for (size_t length = strlen(at); length && at[length - 1] == ' ';)
            at[--length] = '\0';
        enum status status = set_text_item(field, target, at, items, count++);
        if (status != STATUS_OK)
            return status;
    }
    store_list(field, target, items, count);
    return STATUS_OK;
}

/* Lists and maps may also be given as JSON text, the form of the file. */
static enum status set_text_as_json(const struct config_field *field, const struct config_target *target,
                                    const char *text)
{
    const struct json_limits limits = {.reject_nul = true};
    struct json_document *document;
    struct error detail;
    if (json_parse(&document, text, strlen(text), &limits, &detail) != STATUS_OK)
        return wrong(field, target, detail.text);
    enum status status = config_field_set_json(field, target, json_root(document));
    json_close(document);
    return status;
}

enum status config_field_set_text(const struct config_field *field, const struct config_target *target,
                                  const char *text)
{
    char *end = NULL;
    switch (field->type) {
    case CONFIG_TYPE_STRING:
    case CONFIG_TYPE_SECRET:
        return set_string(field, target, text, strlen(text));
    case CONFIG_TYPE_ENUM:
        return set_enum(field, target, text);
    case CONFIG_TYPE_INT: {
        errno = 0;
        long long value = strtoll(text, &end, 10);
        if (end == text || *end || errno)
            return wrong(field, target, "an integer");
        return set_number(field, target, (double)value);
    }
    case CONFIG_TYPE_NUMBER: {
        double value = strtod(text, &end);
        return end == text || *end ? wrong(field, target, "a number") : set_number(field, target, value);
    }
    case CONFIG_TYPE_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return wrong(field, target, "true or false");
        *(bool *)place(field, target) = text[0] == 't';
        return STATUS_OK;
    default:
        return *text == '[' || *text == '{' ? set_text_as_json(field, target, text)
                                            : set_text_list(field, target, text);
    }
}

/* A string member copied into the arena, or NULL after setting the error. */
static const char *copy_member(const struct config_field *field, const struct config_target *target,
                               const struct json *node)
{
    const char *copy = NULL;
    if (!node || node->type != JSON_STRING)
        (void)wrong(field, target, "made of strings");
    else if (!(copy = arena_copy(target->arena, node->as.string, node->count)))
        (void)no_memory(target);
    return copy;
}

static enum status set_json_topic(const struct config_field *field, const struct config_target *target,
                                  const struct json *node, struct config_topic *topic)
{
    const struct json *weight = NULL;
    topic->weight = 1;
    if (node->type == JSON_OBJECT) {
        weight = json_member(node, "weight");
        if (node->count != (weight ? 2u : 1u) || (weight && weight->type != JSON_INTEGER))
            return wrong(field, target, "a list of {\"name\": text, \"weight\": integer}");
        topic->weight = json_integer_or(weight, 1);
        node = json_member(node, "name");
    }
    topic->name = copy_member(field, target, node);
    return topic->name ? check_topic(field, target, topic) : STATUS_CONFIG;
}

static enum status set_json_item(const struct config_field *field, const struct config_target *target,
                                 const struct json *node, void *items, size_t index)
{
    if (field->type == CONFIG_TYPE_TOPICS)
        return set_json_topic(field, target, node, &((struct config_topic *)items)[index]);
    const char *text = copy_member(field, target, node);
    if (!text)
        return STATUS_CONFIG;
    if (field->type == CONFIG_TYPE_STRINGS) {
        ((const char **)items)[index] = text;
        return STATUS_OK;
    }
    struct config_pair *pair = &((struct config_pair *)items)[index];
    *pair = (struct config_pair){.key = arena_copy(target->arena, node->key, node->key_bytes), .value = text};
    return pair->key ? check_pair(field, target, pair) : no_memory(target);
}

static enum status set_json_list(const struct config_field *field, const struct config_target *target,
                                 const struct json *node)
{
    bool map = field->type == CONFIG_TYPE_MAP;
    if (!map && node->type == JSON_STRING)
        return set_text_list(field, target, node->as.string);
    if (node->type != (map ? JSON_OBJECT : JSON_ARRAY))
        return wrong(field, target, map ? "an object of strings" : "a list");
    void *items = list_room(target, node->count, item_bytes(field->type));
    if (!items)
        return no_memory(target);
    for (size_t i = 0; i < node->count; i++) {
        enum status status = set_json_item(field, target, &node->as.items[i], items, i);
        if (status != STATUS_OK)
            return status;
    }
    store_list(field, target, items, node->count);
    return STATUS_OK;
}

enum status config_field_set_json(const struct config_field *field, const struct config_target *target,
                                  const struct json *node)
{
    bool string = node->type == JSON_STRING;
    switch (field->type) {
    case CONFIG_TYPE_STRING:
    case CONFIG_TYPE_SECRET:
        return string ? set_string(field, target, node->as.string, node->count)
                      : wrong(field, target, "a string");
    case CONFIG_TYPE_ENUM:
        return string ? set_enum(field, target, node->as.string) : wrong(field, target, "a string");
    case CONFIG_TYPE_INT:
        return node->type == JSON_INTEGER ? set_number(field, target, (double)node->as.integer)
                                          : wrong(field, target, "an integer");
    case CONFIG_TYPE_NUMBER:
        return node->type == JSON_INTEGER || node->type == JSON_NUMBER
                   ? set_number(field, target, json_number_or(node, 0))
                   : wrong(field, target, "a number");
    case CONFIG_TYPE_BOOL:
        if (node->type != JSON_TRUE && node->type != JSON_FALSE)
            return wrong(field, target, "true or false");
        *(bool *)place(field, target) = node->type == JSON_TRUE;
        return STATUS_OK;
    default:
        return set_json_list(field, target, node);
    }
}

static void append_text(struct bytes *out, const char *text)
{
    json_append_string(out, text, strlen(text));
}

static void append_strings(struct bytes *out, const struct config_strings *list)
{
    bytes_append_char(out, '[');
    for (size_t i = 0; i < list->count; i++) {
        bytes_append_text(out, i ? ", " : "");
        append_text(out, list->items[i]);
    }
    bytes_append_char(out, ']');
}

static void append_topics(struct bytes *out, const struct config_topics *topics)
{
    bytes_append_char(out, '[');
    for (size_t i = 0; i < topics->count; i++) {
        bytes_append_text(out, i ? ", {\"name\": " : "{\"name\": ");
        append_text(out, topics->items[i].name);
        bytes_appendf(out, ", \"weight\": %lld}", (long long)topics->items[i].weight);
    }
    bytes_append_char(out, ']');
}

/* librdkafka's own secrets: sasl.password, ssl.key.password, ssl.key.pem, sasl.oauthbearer.client.secret … */
static bool is_secret_property(const char *key)
{
    return strstr(key, "password") || strstr(key, "secret") || strstr(key, ".pem") ||
           strstr(key, "oauthbearer.config");
}

static void append_map(struct bytes *out, const struct config_map *map)
{
    bytes_append_char(out, '{');
    for (size_t i = 0; i < map->count; i++) {
        bytes_append_text(out, i ? ", " : "");
        append_text(out, map->items[i].key);
        bytes_append_text(out, ": ");
        append_text(out, is_secret_property(map->items[i].key) ? "***" : map->items[i].value);
    }
    bytes_append_char(out, '}');
}

void config_field_append(const struct config_field *field, const struct config *config, struct bytes *out)
{
    const void *at = (const char *)config + field->offset;
    switch (field->type) {
    case CONFIG_TYPE_STRING:
    case CONFIG_TYPE_ENUM:
        append_text(out, *(const char *const *)at);
        break;
    case CONFIG_TYPE_SECRET:
        append_text(out, **(const char *const *)at ? "***" : "");
        break;
    case CONFIG_TYPE_INT:
        bytes_appendf(out, "%lld", (long long)*(const int64_t *)at);
        break;
    case CONFIG_TYPE_NUMBER:
        json_append_number(out, *(const double *)at);
        break;
    case CONFIG_TYPE_BOOL:
        bytes_append_text(out, *(const bool *)at ? "true" : "false");
        break;
    case CONFIG_TYPE_STRINGS:
        append_strings(out, at);
        break;
    case CONFIG_TYPE_TOPICS:
        append_topics(out, at);
        break;
    case CONFIG_TYPE_MAP:
        append_map(out, at);
        break;
    }
}
