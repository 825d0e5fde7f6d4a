// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/submit_check.h"

#include <stdio.h>
#include <string.h>

#include "config/config.h"
#include "worker/intake/job_fields.h"

enum { MAX_FIELDS = 256 };

static void refuse(struct submit_verdict *out, const char *text)
{
    out->good = false;
    snprintf(out->reason, sizeof out->reason, "%s", text);
}

static bool is_known(const char *name, const char **known, size_t *count)
{
    *count = 0;
    bool found = false;
    for (size_t i = 0; i < job_field_count && *count < MAX_FIELDS; i++) {
        known[(*count)++] = job_fields[i].name;
        found = found || strcmp(job_fields[i].name, name) == 0;
    }
    return found;
}

static bool check_fields(struct submit_verdict *out, const struct json *body)
{
    const char *known[MAX_FIELDS];
    size_t count;
    for (size_t i = 0; i < body->count; i++) {
        const char *name = body->as.items[i].key;
        if (is_known(name, known, &count))
            continue;
        const char *nearest = config_nearest(name, known, count);
        snprintf(out->reason, sizeof out->reason,
                 "unknown field \"%.100s\"%s%s%s; --allow-unknown sends it all the same", name,
                 nearest ? ", did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
        out->good = false;
        return false;
    }
    return true;
}

static bool check_shape(struct submit_verdict *out, const struct json *root)
{
    const struct json *id = json_member(root, "custom_id"), *url = json_member(root, "url");
    const struct json *body = json_member(root, "body");
    if (!id || id->type != JSON_STRING || id->count == 0 || id->count >= sizeof out->custom_id ||
        strlen(id->as.string) != id->count)
        refuse(out, "custom_id must be a string of 1 to 512 bytes");
    else if (!json_is_string(json_member(root, "method"), "POST"))
        refuse(out, "method must be \"POST\"");
    else if (!json_is_string(url, "/v1/chat/completions") && !json_is_string(url, "/v1/completions") &&
             !json_is_string(url, "/v1/score") && !json_is_string(url, "/generative_scoring"))
        refuse(out, "url must be /v1/chat/completions, /v1/completions or /v1/score");
    else if (!body || body->type != JSON_OBJECT)
        refuse(out, "body must be an object");
    if (out->good)
        memcpy(out->custom_id, id->as.string, id->count + 1);
    return out->good;
}

/* Catalogues are the workers'; who has none here cannot say that they have not. */
static bool only_workers_know(const struct setup *setup, const struct job_fault *fault)
{
    return !setup->parse.catalogs && strcmp(fault->code, "catalog_not_found") == 0;
}

static void ask_parser(struct submit_verdict *out, const struct setup *setup, const char *line, size_t bytes)
{
    struct job_record record = {
        .value = line, .value_bytes = bytes, .cluster_id = "", .topic = "", .timestamp_ms = -1};
    struct job_fault fault;
    struct job *job = NULL;
    if (job_parse(&job, &setup->parse, &record, &fault) != STATUS_OK) {
        if (!only_workers_know(setup, &fault))
            refuse(out, fault.message);
        return;
    }
    for (size_t i = 0; i < job->prompt_count; i++)
        out->prompt_tokens += job->prompts[i].count;
    out->most_tokens = (uint64_t)job->sampling.max_tokens * job->sampling.n * job->prompt_count;
    job_close(job);
}

void submit_check(struct submit_verdict *out, const struct setup *setup, const char *line, size_t bytes,
                  bool allow_unknown)
{
    struct json_document *document;
    struct error err;
    *out = (struct submit_verdict){.good = true};
    if (json_parse(&document, line, bytes, NULL, &err) != STATUS_OK) {
        refuse(out, err.text);
        return;
    }
    const struct json *root = json_root(document);
    bool good = check_shape(out, root);
    if (good && !allow_unknown)
        good = check_fields(out, json_member(root, "body"));
    json_close(document);
    if (good && setup)
        ask_parser(out, setup, line, bytes);
}
