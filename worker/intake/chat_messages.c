// SPDX-License-Identifier: Apache-2.0
// DESIGN: nodes are immutable, so a message that changes gets its own member array in the arena, and so does
// whatever lies between it and the change (message -> tool_calls -> call -> function -> arguments).
#include "worker/intake/chat_messages.h"

#include <string.h>

/* ---- changing a copy ---- */

static struct json *own_items(struct arena *arena, struct json *node)
{
    struct json *items = arena_alloc_array(arena, node->count ? node->count : 1, sizeof *items);
    if (items && node->count)
        memcpy(items, node->as.items, node->count * sizeof *items);
    if (items)
        node->as.items = items;
    return items;
}

static struct json *find(struct json *items, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(items[i].key, key) == 0)
            return &items[i];
    return NULL;
}

/* What belongs to another document, into the arena. The parser bounds the depth. */
static bool copy_node(struct arena *arena, struct json *node)
{
    if (node->key && !(node->key = arena_copy(arena, node->key, node->key_bytes)))
        return false;
    if (node->type == JSON_STRING)
        return (node->as.string = arena_copy(arena, node->as.string, node->count)) != NULL;
    if (node->type != JSON_ARRAY && node->type != JSON_OBJECT)
        return true;
    struct json *items = own_items(arena, node);
    for (size_t i = 0; items && i < node->count; i++)
        if (!copy_node(arena, &items[i]))
            return false;
    return items != NULL;
}

/* ---- content ---- */

/* The text of a part, or NULL after an error. */
static const struct json *part_text(const struct json *part, struct error *err)
{
    const struct json *text = part->type == JSON_STRING ? part : json_member(part, "text");
    const char *type = json_string_or(json_member(part, "type"), "text");
    if (strcmp(type, "text") != 0 && strcmp(type, "input_text") != 0) {
        error_set(err, STATUS_UNSUPPORTED,
                  "a content part of type \"%.64s\" is not supported: this worker reads text", type);
        return NULL;
    }
    if (!text || text->type != JSON_STRING) {
        error_set(err, STATUS_INVALID, "a content part needs its text as a string");
        return NULL;
    }
    return text;
}

static enum status join_parts(struct arena *arena, struct json *content, struct error *err)
{
    size_t bytes = 0;
    for (size_t i = 0; i < content->count; i++)
        bytes += part_text(&content->as.items[i], NULL)->count + 1;
    char *joined = arena_alloc(arena, bytes + 1), *at = joined;
    if (!joined)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a message");
    for (size_t i = 0; i < content->count; i++) {
        const struct json *text = part_text(&content->as.items[i], NULL);
        if (i > 0)
            *at++ = '\n';
        memcpy(at, text->as.string, text->count);
        at += text->count;
    }
    *at = '\0';
    content->type = JSON_STRING;
    content->as.string = joined;
    content->count = (size_t)(at - joined);
    return STATUS_OK;
}

static enum status prepare_content(struct arena *arena, struct json *content, bool reads_parts,
                                   struct error *err)
{
    if (content->type == JSON_STRING || content->type == JSON_NULL)
        return STATUS_OK;
    if (content->type != JSON_ARRAY)
        return error_set(err, STATUS_INVALID, "content must be a string or a list of text parts, got %s",
                         json_type_name(content->type));
    for (size_t i = 0; i < content->count; i++) {
        struct error fault = {0};
        if (part_text(&content->as.items[i], &fault))
            continue;
        if (err)
            *err = fault;
        return fault.status;
    }
    return reads_parts ? STATUS_OK : join_parts(arena, content, err);
}

/* ---- tool calls ---- */

static enum status parse_arguments(struct arena *arena, struct json *arguments, struct error *err)
{
    struct json_document *document;
    struct error fault = {0};
    struct json parsed = {.type = JSON_OBJECT};
    bool copied = true;
    if (arguments->count > 0) {
        enum status status = json_parse(&document, arguments->as.string, arguments->count, NULL, &fault);
        if (status != STATUS_OK)
            return error_set(err, status == STATUS_NO_MEMORY ? status : STATUS_INVALID,
                             "the arguments of a tool call must be JSON: %s", fault.text);
        parsed = *json_root(document);
        copied = copy_node(arena, &parsed);
        json_close(document);
    }
    parsed.key = arguments->key;
    parsed.key_bytes = arguments->key_bytes;
    *arguments = parsed;
    return copied ? STATUS_OK : error_set(err, STATUS_NO_MEMORY, "no memory for a message");
}

static enum status prepare_call(struct arena *arena, struct json *call, struct error *err)
{
    const struct json *text = json_member(json_member(call, "function"), "arguments");
    if (!text || text->type != JSON_STRING)
        return STATUS_OK; /* absent, or an object already */
    struct json *members = own_items(arena, call);
    struct json *function = members ? find(members, call->count, "function") : NULL;
    struct json *inner = function ? own_items(arena, function) : NULL;
    if (!inner)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a message");
    return parse_arguments(arena, find(inner, function->count, "arguments"), err);
}

static enum status prepare_calls(struct arena *arena, struct json *calls, struct error *err)
{
    if (calls->type != JSON_ARRAY)
        return STATUS_OK; /* null, or the template's own business */
    struct json *items = own_items(arena, calls);
    enum status status = items ? STATUS_OK : error_set(err, STATUS_NO_MEMORY, "no memory for a message");
    for (size_t i = 0; status == STATUS_OK && i < calls->count; i++)
        status = prepare_call(arena, &items[i], err);
    return status;
}

/* ---- messages ---- */

static enum status prepare_message(struct arena *arena, struct json *message, bool reads_parts,
                                   struct error *err)
{
    const char *role = json_string_or(json_member(message, "role"), NULL);
    if (message->type != JSON_OBJECT || !role)
        return error_set(err, STATUS_INVALID, "every message must be an object with a role");
    struct json *members = own_items(arena, message);
    if (!members)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a message");
    struct json *content = find(members, message->count, "content");
    struct json *calls = strcmp(role, "assistant") == 0 ? find(members, message->count, "tool_calls") : NULL;
    enum status status = content ? prepare_content(arena, content, reads_parts, err) : STATUS_OK;
    if (status == STATUS_OK && calls)
        status = prepare_calls(arena, calls, err);
    return status;
}

enum status chat_messages_prepare(struct arena *arena, const struct json *messages, bool reads_parts,
                                  struct json *out, struct error *err)
{
    if (messages->type != JSON_ARRAY || messages->count == 0)
        return error_set(err, STATUS_INVALID, "messages must be a list that is not empty");
    *out = *messages;
    struct json *items = own_items(arena, out);
    enum status status = items ? STATUS_OK : error_set(err, STATUS_NO_MEMORY, "no memory for messages");
    for (size_t i = 0; status == STATUS_OK && i < out->count; i++)
        status = prepare_message(arena, &items[i], reads_parts, err);
    return status;
}
