// SPDX-License-Identifier: Apache-2.0
// Control fields of a job: how it is queued, streamed and answered. A header wins over the line's top-level
// "millrace" object, which wins over the body.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/intake/job_parse_internal.h"

enum { MAX_CONTROL_BYTES = 256 };

struct control { /* one control field from wherever it was found */
    const char *text;
    size_t bytes;
    bool found;
    char number[32];
};

static const char *const object_names[] = {"batch_id", "priority",    "deadline_ms", "stream",
                                           "tenant",   "reply_topic", "traceparent", "partial"};

static bool valid_text(const char *text, size_t bytes)
{
    for (size_t at = 0, length; at < bytes; at += length) {
        length = json_utf8_length(text + at, bytes - at);
        if (length == 0 || text[at] == '\0')
            return false;
    }
    return true;
}

/* "deadline_ms" is the header "millrace-deadline-ms"; traceparent keeps its own name. */
static bool is_header_of(const char *header, const char *name)
{
    static const char prefix[] = "millrace-";
    if (strcmp(name, "traceparent") == 0)
        return strcmp(header, name) == 0;
    if (strncmp(header, prefix, sizeof prefix - 1) != 0)
        return false;
    for (header += sizeof prefix - 1; *header && *name; header++, name++)
        if (*header != (*name == '_' ? '-' : *name))
            return false;
    return !*header && !*name;
}

static enum status read_object_member(struct job_parse *parse, const char *name, struct control *out)
{
    const struct json *node = json_member(json_member(parse->line, "millrace"), name);
    if (!node || node->type == JSON_NULL)
        return STATUS_OK;
    out->found = true;
    if (node->type == JSON_STRING) {
        out->text = node->as.string;
        out->bytes = node->count;
        return STATUS_OK;
    }
    if (node->type != JSON_INTEGER && node->type != JSON_TRUE && node->type != JSON_FALSE)
        return job_parse_refuse(parse, "millrace", "", "millrace.%s must be a string or an integer, got %s",
                                name, json_type_name(node->type));
    int64_t value = node->type == JSON_INTEGER ? node->as.integer : node->type == JSON_TRUE;
    out->bytes = (size_t)snprintf(out->number, sizeof out->number, "%lld", (long long)value);
    out->text = out->number;
    return STATUS_OK;
}

static enum status find(struct job_parse *parse, const char *name, struct control *out)
{
    *out = (struct control){0};
    const struct job_record *record = parse->record;
    for (size_t i = 0; i < record->header_count && !out->found; i++)
        if (record->headers[i].value && is_header_of(record->headers[i].name, name))
            *out = (struct control){
                .text = record->headers[i].value, .bytes = record->headers[i].value_bytes, .found = true};
    enum status status = out->found ? STATUS_OK : read_object_member(parse, name, out);
    if (status == STATUS_OK && out->found &&
        (out->bytes > MAX_CONTROL_BYTES || !valid_text(out->text, out->bytes)))
        return job_parse_refuse(parse, name, "", "control field %s must be UTF-8 text of at most %d bytes",
                                name, MAX_CONTROL_BYTES);
    return status;
}

static enum status find_text(struct job_parse *parse, const char *name, const char **out)
{
    struct control control;
    enum status status = find(parse, name, &control);
    if (status != STATUS_OK || !control.found)
        return status;
    *out = arena_copy(&parse->job->arena, control.text, control.bytes);
    return *out ? STATUS_OK : STATUS_NO_MEMORY;
}

static enum status find_integer(struct job_parse *parse, const char *name, int64_t *out)
{
    struct control control;
    enum status status = find(parse, name, &control);
    if (status != STATUS_OK || !control.found)
        return status;
    char text[MAX_CONTROL_BYTES + 1];
    memcpy(text, control.text, control.bytes);
    text[control.bytes] = '\0';
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return job_parse_refuse(parse, name, "", "control field %s must be a 64-bit integer, got \"%.64s\"",
                                name, text);
    *out = value;
    return STATUS_OK;
}

static enum status find_switch(struct job_parse *parse, const char *name, bool *out)
{
    int64_t value = *out;
    enum status status = find_integer(parse, name, &value);
    if (status == STATUS_OK && value != 0 && value != 1)
        return job_parse_refuse(parse, name, "", "control field %s must be 0 or 1, got %lld", name,
                                (long long)value);
    *out = value == 1;
    return status;
}

static enum status read_deadline(struct job_parse *parse)
{
    enum status status = find_integer(parse, "deadline_ms", &parse->job->deadline_ms);
    if (status == STATUS_OK && parse->job->deadline_ms < 0)
        return job_parse_refuse(parse, "deadline_ms", "",
                                "control field deadline_ms must be milliseconds since 1970, got %lld",
                                (long long)parse->job->deadline_ms);
    return status;
}

static enum status read_reply_topic(struct job_parse *parse)
{
    enum status status = find_text(parse, "reply_topic", &parse->job->reply_topic);
    if (status != STATUS_OK || !parse->job->reply_topic)
        return status;
    const struct config_strings *allowed = &parse->context->config->kafka.reply_topics;
    for (size_t i = 0; i < allowed->count; i++)
        if (strcmp(allowed->items[i], parse->job->reply_topic) == 0)
            return STATUS_OK;
    return job_parse_refuse(parse, "reply_topic", "",
                            "reply topic \"%.128s\" is not in kafka.reply_topics of the worker",
                            parse->job->reply_topic);
}

static enum status read_tenant(struct job_parse *parse)
{
    const char *tenant = "";
    enum status status = find_text(parse, "tenant", &tenant);
    if (status == STATUS_OK && parse->context->config->worker.trust_headers)
        parse->job->tenant = tenant;
    else if (status == STATUS_OK && *tenant)
        job_parse_warn(parse, "tenant ignored: worker.trust_headers is off");
    return status;
}

static void warn_unknown_members(struct job_parse *parse, const struct json *object)
{
    for (size_t i = 0; i < object->count; i++) {
        bool known = false;
        for (size_t k = 0; k < sizeof object_names / sizeof object_names[0]; k++)
            known = known || strcmp(object->as.items[i].key, object_names[k]) == 0;
        if (!known)
            job_parse_warn(parse, "unknown field \"millrace.%.64s\" ignored", object->as.items[i].key);
    }
}

enum status job_parse_control(struct job_parse *parse)
{
    struct job *job = parse->job;
    const struct json *object = json_member(parse->line, "millrace");
    if (object && object->type != JSON_NULL) {
        if (object->type != JSON_OBJECT)
            return job_parse_refuse(parse, "millrace", "", "millrace must be an object, got %s",
                                    json_type_name(object->type));
        warn_unknown_members(parse, object);
    }
    job->batch_id = "";
    job->tenant = "";
    enum status status = find_text(parse, "batch_id", &job->batch_id);
    if (status == STATUS_OK)
        status = find_integer(parse, "priority", &job->priority);
    if (status == STATUS_OK)
        status = read_deadline(parse);
    if (status == STATUS_OK)
        status = find_switch(parse, "stream", &job->stream_requested);
    if (status == STATUS_OK)
        status = find_switch(parse, "partial", &job->keep_partial);
    if (status == STATUS_OK)
        status = find_text(parse, "traceparent", &job->traceparent);
    if (status == STATUS_OK)
        status = read_reply_topic(parse);
    return status == STATUS_OK ? read_tenant(parse) : status;
}
