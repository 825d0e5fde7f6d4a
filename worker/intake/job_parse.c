// SPDX-License-Identifier: Apache-2.0
// DESIGN: the line is parsed once into a JSON tree; the body goes through the table of fields into a struct
// job_body; then each step (sampling, prompts, lengths, control) reads that struct and fills the job. The
// first fault ends the parse; it is an answer, not an error of ours.
#include "worker/intake/job_parse.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "base/sha256.h"
#include "worker/intake/job_parse_internal.h"

enum { ARENA_SLACK_BYTES = (1 << 20) + JOB_MAX_SCORE_TOKENS * 4, ARENA_FACTOR = 64, MAX_DEPTH = 64 };

/* ---- what the steps share ---- */

enum status job_parse_refuse(struct job_parse *parse, const char *param, const char *code, const char *format,
                             ...)
{
    struct job_fault *fault = parse->fault;
    va_list args;
    *fault = (struct job_fault){.http_status = 400, .type = "invalid_request_error"};
    snprintf(fault->param, sizeof fault->param, "%s", param);
    snprintf(fault->code, sizeof fault->code, "%s", code);
    va_start(args, format);
    vsnprintf(fault->message, sizeof fault->message, format, args);
    va_end(args);
    return STATUS_INVALID;
}

static enum status refuse_not_found(struct job_parse *parse, const char *param, const char *code,
                                    const char *message)
{
    enum status status = job_parse_refuse(parse, param, code, "%s", message);
    parse->fault->http_status = 404;
    return status == STATUS_INVALID ? STATUS_NOT_FOUND : status;
}

void job_parse_warn(struct job_parse *parse, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (parse->warnings.count_bytes + strlen(text) + 2 > parse->warnings.max_bytes)
        return;
    if (parse->warnings.count_bytes)
        bytes_append_text(&parse->warnings, "; ");
    bytes_append_text(&parse->warnings, text);
}

void *job_parse_alloc(struct job_parse *parse, size_t count, size_t size)
{
    return arena_alloc_array(&parse->job->arena, count ? count : 1, size);
}

char *job_parse_copy(struct job_parse *parse, const char *text)
{
    return arena_copy(&parse->job->arena, text, strlen(text));
}

void job_fault_from_error(struct job_fault *fault, const struct error *err)
{
    bool reject = status_class_of(err->status) == STATUS_CLASS_REJECT;
    *fault = (struct job_fault){.http_status = reject ? 400 : 500};
    snprintf(fault->type, sizeof fault->type, "%s", reject ? "invalid_request_error" : "server_error");
    snprintf(fault->code, sizeof fault->code, "%s", reject ? "" : "internal_error");
    snprintf(fault->message, sizeof fault->message, "%s", err->text);
}

/* ---- the line ---- */

static enum status read_custom_id(struct job_parse *parse)
{
    const struct json *node = json_member(parse->line, "custom_id");
    if (!node || node->type == JSON_NULL)
        return job_parse_refuse(parse, "custom_id", "", "the line needs a custom_id");
    if (node->type != JSON_STRING)
        return job_parse_refuse(parse, "custom_id", "", "custom_id must be a string, got %s",
                                json_type_name(node->type));
    if (strlen(node->as.string) != node->count)
        return job_parse_refuse(parse, "custom_id", "", "custom_id must not hold a NUL");
    if (node->count == 0 || node->count > JOB_MAX_CUSTOM_ID_BYTES)
        return job_parse_refuse(parse, "custom_id", "", "custom_id must have 1 to %d bytes, got %zu",
                                JOB_MAX_CUSTOM_ID_BYTES, node->count);
    parse->job->custom_id = job_parse_copy(parse, node->as.string);
    return parse->job->custom_id ? STATUS_OK : STATUS_NO_MEMORY;
}

static enum status read_url(struct job_parse *parse)
{
    const struct json *method = json_member(parse->line, "method");
    const char *url = json_string_or(json_member(parse->line, "url"), NULL);
    char message[256];
    if (!json_is_string(method, "POST"))
        return job_parse_refuse(parse, "method", "", "method must be \"POST\"");
    if (!url)
        return job_parse_refuse(parse, "url", "", "the line needs a url such as \"/v1/chat/completions\"");
    if (strcmp(url, "/v1/chat/completions") == 0)
        parse->job->kind = JOB_CHAT;
    else if (strcmp(url, "/v1/completions") == 0)
        parse->job->kind = JOB_COMPLETION;
    else if (strcmp(url, "/v1/score") == 0 || strcmp(url, "/generative_scoring") == 0)
        parse->job->kind = JOB_SCORE;
    else {
        snprintf(message, sizeof message,
                 "there is no url \"%.128s\" here; use /v1/chat/completions, /v1/completions or /v1/score",
                 url);
        return refuse_not_found(parse, "url", "unknown_url", message);
    }
    return STATUS_OK;
}

static void warn_unknown_members(struct job_parse *parse)
{
    static const char *const known[] = {"custom_id", "method", "url", "body", "millrace"};
    for (size_t i = 0; i < parse->line->count; i++) {
        bool found = false;
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
            found = found || strcmp(parse->line->as.items[i].key, known[k]) == 0;
        if (!found)
            job_parse_warn(parse, "unknown member \"%.64s\" of the line ignored",
                           parse->line->as.items[i].key);
    }
}

static enum status read_line(struct job_parse *parse)
{
    if (parse->line->type != JSON_OBJECT)
        return job_parse_refuse(parse, "", "", "a job must be a JSON object, got %s",
                                json_type_name(parse->line->type));
    enum status status = read_custom_id(parse);
    if (status == STATUS_OK)
        status = read_url(parse);
    if (status != STATUS_OK)
        return status;
    const struct json *body = json_member(parse->line, "body");
    if (!body || body->type != JSON_OBJECT)
        return job_parse_refuse(parse, "body", "", "body must be an object, got %s",
                                body ? json_type_name(body->type) : "nothing");
    warn_unknown_members(parse);
    return job_parse_body(parse, body);
}

/* ---- what is left of the body ---- */

static enum status read_model(struct job_parse *parse)
{
    const struct job_parse_context *context = parse->context;
    const char *asked = json_string_or(parse->body.model, context->served_names[0]);
    bool known = strcmp(context->config->model.unknown_model, "accept") == 0;
    char message[256];
    for (size_t i = 0; i < context->served_count && !known; i++)
        known = strcmp(context->served_names[i], asked) == 0;
    if (!known) {
        snprintf(message, sizeof message, "there is no model \"%.128s\" here; this worker serves \"%.64s\"",
                 asked, context->served_names[0]);
        return refuse_not_found(parse, "model", "model_not_found", message);
    }
    parse->job->model = job_parse_copy(parse, asked);
    return parse->job->model ? STATUS_OK : STATUS_NO_MEMORY;
}

/* No seed in the body: the first 8 bytes (big-endian) of SHA-256(custom_id, body as written). */
static void derive_seed(struct job_parse *parse)
{
    struct sha256 sha;
    uint8_t digest[32];
    const struct job_record *record = parse->record;
    size_t begin = 0, end = record->value_bytes;
    if (!job_parse_span(record->value, record->value_bytes, "body", &begin, &end)) {
        begin = 0; /* its name is written with escapes: the whole line stands for it */
        end = record->value_bytes;
    }
    sha256_init(&sha);
    sha256_update(&sha, parse->job->custom_id, strlen(parse->job->custom_id));
    sha256_update(&sha, record->value + begin, end - begin);
    sha256_final(&sha, digest);
    uint64_t seed = 0;
    for (int i = 0; i < 8; i++)
        seed = seed << 8 | digest[i];
    parse->job->sampling.seed = seed;
}

static enum status read_stream_options(struct job_parse *parse)
{
    const struct json *options = parse->body.stream_options;
    if (options && options->type != JSON_OBJECT)
        return job_parse_refuse(parse, "stream_options", "", "stream_options must be an object, got %s",
                                json_type_name(options->type));
    parse->job->stream_usage = json_bool_or(json_member(options, "include_usage"), false);
    return STATUS_OK;
}

/* The group's own salt (kvtier.salt, from the server's side) and the job's, framed so that no two pairs
 * agree. */
static enum status read_salt(struct job_parse *parse)
{
    struct job *job = parse->job;
    const struct json *own = parse->body.cache_salt;
    const char *group = parse->context->config->kvtier.salt;
    size_t group_bytes = strlen(group), own_bytes = own ? own->count : 0;
    if (group_bytes + own_bytes == 0)
        return STATUS_OK;
    job->salt_bytes = sizeof group_bytes + group_bytes + own_bytes;
    char *salt = arena_alloc(&job->arena, job->salt_bytes);
    if (!salt)
        return STATUS_NO_MEMORY;
    memcpy(salt, &group_bytes, sizeof group_bytes);
    memcpy(salt + sizeof group_bytes, group, group_bytes);
    if (own)
        memcpy(salt + sizeof group_bytes + group_bytes, own->as.string, own_bytes);
    job->salt = salt;
    return STATUS_OK;
}

static enum status read_rest(struct job_parse *parse)
{
    struct job *job = parse->job;
    const struct job_body *body = &parse->body;
    job->stream_requested = body->stream.value;
    job->priority = body->priority.value;
    job->return_token_ids = body->return_token_ids.value;
    job->tokens_as_ids = body->return_tokens_as_token_ids.value;
    job->has_seed = body->seed.given && body->seed.value != -1;
    if (job->has_seed)
        job->sampling.seed = (uint64_t)body->seed.value;
    else
        derive_seed(parse);
    enum status salted = read_salt(parse);
    if (salted != STATUS_OK)
        return salted;
    enum status status = read_stream_options(parse);
    return status == STATUS_OK ? read_model(parse) : status;
}

/* ---- the record ---- */

static enum status copy_headers(struct job_parse *parse)
{
    const struct job_record *from = parse->record;
    struct job_header *headers = job_parse_alloc(parse, from->header_count, sizeof *headers);
    if (!headers)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < from->header_count; i++) {
        headers[i] = from->headers[i];
        headers[i].name = job_parse_copy(parse, from->headers[i].name);
        if (from->headers[i].value)
            headers[i].value =
                arena_copy(&parse->job->arena, from->headers[i].value, from->headers[i].value_bytes);
        if (!headers[i].name || (from->headers[i].value && !headers[i].value))
            return STATUS_NO_MEMORY;
    }
    parse->job->source.headers = headers;
    return STATUS_OK;
}

static enum status copy_record(struct job_parse *parse)
{
    struct job *job = parse->job;
    struct job_identity identity;
    job_identity_read(&identity, parse->record);
    job->created_s = identity.created_s;
    job->received_ns = monotime_ns();
    job->id = job_parse_copy(parse, identity.id);
    job->request_id = job_parse_copy(parse, identity.request_id);
    job->source = *parse->record;
    job->source.value = NULL;
    job->source.value_bytes = 0;
    job->source.cluster_id =
        job_parse_copy(parse, parse->record->cluster_id ? parse->record->cluster_id : "");
    job->source.topic = job_parse_copy(parse, parse->record->topic ? parse->record->topic : "");
    if (parse->record->key)
        job->source.key = arena_copy(&job->arena, parse->record->key, parse->record->key_bytes);
    if (!job->id || !job->request_id || !job->source.cluster_id || !job->source.topic ||
        (parse->record->key && !job->source.key))
        return STATUS_NO_MEMORY;
    return copy_headers(parse);
}

static enum status read_generation(struct job_parse *parse)
{
    enum status status = job_parse_sampling(parse);
    if (status == STATUS_OK)
        status = job_parse_constraint(parse);
    if (status == STATUS_OK)
        status = job_parse_prompts(parse);
    return status == STATUS_OK ? job_parse_lengths(parse) : status;
}

static enum status build(struct job_parse *parse)
{
    parse->job->sampling = sampling_defaults();
    enum status status = copy_record(parse);
    if (status == STATUS_OK)
        status = read_line(parse);
    if (status == STATUS_OK)
        status = read_rest(parse);
    if (status == STATUS_OK)
        status = job_parse_control(parse);
    if (status == STATUS_OK)
        status = parse->job->kind == JOB_SCORE ? job_parse_score(parse) : read_generation(parse);
    if (status == STATUS_OK && parse->warnings.count_bytes) {
        parse->job->warnings = job_parse_copy(parse, parse->warnings.data);
        if (!parse->job->warnings)
            status = STATUS_NO_MEMORY;
    }
    return status;
}

static enum status parse_json(struct job_parse *parse, struct json_document **document)
{
    const struct job_record *record = parse->record;
    struct json_limits limits = {.max_bytes = (size_t)parse->context->config->limits.max_job_bytes,
                                 .max_depth = MAX_DEPTH};
    struct error err = {0};
    enum status status =
        json_parse(document, record->value ? record->value : "", record->value_bytes, &limits, &err);
    if (status_class_of(status) == STATUS_CLASS_REJECT)
        return job_parse_refuse(parse, "", status == STATUS_TOO_LARGE ? "job_too_large" : "invalid_json",
                                "the job is no valid JSON line: %s", err.text);
    return status;
}

enum status job_parse(struct job **out, const struct job_parse_context *context,
                      const struct job_record *record, struct job_fault *fault)
{
    *out = NULL;
    struct json_document *document = NULL;
    struct job_parse parse = {.context = context, .record = record, .fault = fault};
    *fault = (struct job_fault){0};
    enum status status = parse_json(&parse, &document);
    if (status != STATUS_OK)
        return status;
    parse.line = json_root(document);
    parse.job = calloc(1, sizeof *parse.job);
    if (parse.job) {
        arena_init(&parse.job->arena, record->value_bytes * ARENA_FACTOR + ARENA_SLACK_BYTES);
        bytes_init(&parse.warnings, JOB_MAX_WARNING_BYTES);
        status = build(&parse);
        bytes_release(&parse.warnings);
    } else {
        status = STATUS_NO_MEMORY;
    }
    json_close(document);
    if (status != STATUS_OK) {
        job_close(parse.job);
        return status;
    }
    *out = parse.job;
    return STATUS_OK;
}
