// SPDX-License-Identifier: Apache-2.0
// What an answer may be: structured_outputs becomes the job's constraint. A catalogue that is not known is an
// answer of its own, never an unconstrained job.
#include <string.h>

#include "engine/constrain/catalog_store.h"
#include "worker/intake/job_parse_internal.h"

enum { MAX_EXCLUDED = 4096 };

static enum status read_exclude(struct job_parse *parse, const struct json *list, const char *const **out,
                                size_t *count)
{
    *count = 0;
    if (!list || list->type == JSON_NULL)
        return STATUS_OK;
    if (list->type != JSON_ARRAY || list->count > MAX_EXCLUDED)
        return job_parse_refuse(parse, "structured_outputs", "",
                                "structured_outputs.exclude must be a list of at most %d item ids",
                                MAX_EXCLUDED);
    const char **ids = job_parse_alloc(parse, list->count, sizeof *ids);
    if (!ids)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < list->count; i++) {
        const struct json *id = &list->as.items[i];
        if (id->type != JSON_STRING || strlen(id->as.string) != id->count)
            return job_parse_refuse(parse, "structured_outputs", "",
                                    "structured_outputs.exclude must hold item ids as strings");
        ids[i] = id->as.string;
    }
    *out = ids;
    *count = list->count;
    return STATUS_OK;
}

static enum status find_catalog(struct job_parse *parse, const char *name, struct catalog **catalog)
{
    struct error err = {0};
    if (!parse->context->catalogs)
        return job_parse_refuse(parse, "structured_outputs", "catalog_not_found",
                                "there is no catalogue \"%.128s\": this worker has no catalogs.directory",
                                name);
    enum status status = catalog_store_find(parse->context->catalogs, name, catalog, &err);
    if (status == STATUS_NOT_FOUND)
        return job_parse_refuse(parse, "structured_outputs", "catalog_not_found",
                                "there is no catalogue \"%.128s\" here", name);
    if (status != STATUS_OK && status != STATUS_NO_MEMORY)
        return job_parse_refuse(parse, "structured_outputs", "catalog_invalid",
                                "catalogue \"%.128s\" cannot be used: %s", name, err.text);
    return status;
}

static enum status use_catalog(struct job_parse *parse, const struct json *wanted)
{
    struct job *job = parse->job;
    struct catalog *catalog;
    const char *const *exclude = NULL;
    size_t count;
    const struct json *name = json_member(wanted, "catalog");
    if (name->type != JSON_STRING || strlen(name->as.string) != name->count)
        return job_parse_refuse(parse, "structured_outputs", "",
                                "structured_outputs.catalog must be a string NAME@VERSION");
    if (job->sampling.min_tokens > 0 ||
        parse->context->hparams->eos_count + (int64_t)job->sampling.stop_token_count == 0)
        return job_parse_refuse(parse, "structured_outputs", "",
                                "a catalogue's items end where they end: min_tokens must be 0, and the model "
                                "needs an end-of-sequence token or the job stop_token_ids");
    enum status status = read_exclude(parse, json_member(wanted, "exclude"), &exclude, &count);
    if (status == STATUS_OK)
        status = find_catalog(parse, name->as.string, &catalog);
    if (status != STATUS_OK)
        return status;
    status = catalog_constraint(&job->sampling.constraint, catalog, exclude, count, NULL);
    if (status == STATUS_NOT_FOUND)
        return job_parse_refuse(parse, "structured_outputs", "no_valid_item",
                                "catalogue \"%.128s\" has no item that the job does not exclude",
                                name->as.string);
    job->catalog = job->sampling.constraint;
    if (job->sampling.logprobs == SAMPLING_NO_LOGPROBS)
        job->sampling.logprobs = 0; /* the score is made of them */
    return status;
}

enum status job_parse_constraint(struct job_parse *parse)
{
    const struct json *wanted = parse->body.structured_outputs;
    if (!wanted)
        return STATUS_OK;
    if (wanted->type != JSON_OBJECT || !json_member(wanted, "catalog"))
        return job_parse_refuse(parse, "structured_outputs", "unsupported_parameter",
                                "structured_outputs is supported with a catalog only");
    for (size_t i = 0; i < wanted->count; i++) {
        const char *key = wanted->as.items[i].key;
        if (strcmp(key, "catalog") != 0 && strcmp(key, "exclude") != 0)
            return job_parse_refuse(parse, "structured_outputs", "unsupported_parameter",
                                    "structured_outputs.%.64s is not supported beside a catalog", key);
    }
    return use_catalog(parse, wanted);
}
