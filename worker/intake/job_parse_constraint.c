// SPDX-License-Identifier: Apache-2.0
// What an answer may be: response_format and structured_outputs become the job's constraint. A catalogue that
// is not known, or a form that is not supported, is an answer of its own, never an unconstrained job.
#include <string.h>

#include "engine/constrain/catalog_store.h"
#include "engine/constrain/grammar_store.h"
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
    job->sampling.whole_only = true;
    if (job->sampling.logprobs == SAMPLING_NO_LOGPROBS)
        job->sampling.logprobs = 0; /* the score is made of them */
    return status;
}

/* ---- grammars ---- */

struct wanted { /* what the answer shall be */
    enum grammar_kind kind;
    const struct json *value;
    const char *field; /* where it is said; NULL: nowhere */
    bool twice;
};

static void want(struct wanted *wanted, enum grammar_kind kind, const struct json *value, const char *field)
{
    if (!value || value->type == JSON_NULL)
        return;
    wanted->twice = wanted->twice || wanted->field;
    wanted->kind = kind;
    wanted->value = value;
    wanted->field = field;
}

static enum status read_response_format(struct job_parse *parse, struct wanted *wanted)
{
    static const char field[] = "response_format";
    const struct json *format = parse->body.response_format;
    const struct json *type = json_member(format, "type"), *named = json_member(format, "json_schema");
    if (!format || json_is_string(type, "text"))
        return STATUS_OK;
    if (json_is_string(type, "json_object")) {
        want(wanted, GRAMMAR_OF_OBJECT, type, field);
        return STATUS_OK;
    }
    if (!json_is_string(type, "json_schema"))
        return job_parse_refuse(parse, field, "unsupported_parameter",
                                "response_format.type must be text, json_object or json_schema");
    if (!json_member(named, "schema"))
        return job_parse_refuse(parse, field, "", "response_format.json_schema.schema is missing");
    want(wanted, GRAMMAR_OF_SCHEMA, json_member(named, "schema"), field);
    return STATUS_OK;
}

/* What changes what would be generated and is not known here is refused; what is switched off has no effect.
 */
static enum status read_structured_outputs(struct job_parse *parse, struct wanted *wanted)
{
    static const char field[] = "structured_outputs";
    static const struct {
        const char *name;
        enum grammar_kind kind;
    } kinds[] = {{"json", GRAMMAR_OF_SCHEMA},
                 {"regex", GRAMMAR_OF_REGEX},
                 {"choice", GRAMMAR_OF_CHOICE},
                 {"grammar", GRAMMAR_OF_EBNF},
                 {"json_object", GRAMMAR_OF_OBJECT}};
    const struct json *outputs = parse->body.structured_outputs;
    if (!outputs)
        return STATUS_OK;
    if (outputs->type != JSON_OBJECT)
        return job_parse_refuse(parse, field, "", "structured_outputs must be an object, got %s",
                                json_type_name(outputs->type));
    for (size_t i = 0; i < outputs->count; i++) {
        const struct json *member = &outputs->as.items[i];
        bool known = member->type == JSON_NULL || member->type == JSON_FALSE;
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0] && !known; k++)
            if (strcmp(member->key, kinds[k].name) == 0) {
                known = true;
                want(wanted, kinds[k].kind, member, field);
            }
        if (!known)
            return job_parse_refuse(parse, field, "unsupported_parameter",
                                    "structured_outputs.%.64s is not supported", member->key);
    }
    return STATUS_OK;
}

static enum status use_grammar(struct job_parse *parse, const struct wanted *wanted)
{
    struct job *job = parse->job;
    struct error err = {0};
    if (wanted->twice)
        return job_parse_refuse(
            parse, wanted->field, "",
            "the answer can have one form only: one of response_format, structured_outputs and "
            "its older names, with one kind");
    if (!parse->context->grammars)
        return job_parse_refuse(parse, wanted->field, "unsupported_parameter",
                                "structured output is not available here");
    if (job->sampling.min_tokens > 0 ||
        parse->context->hparams->eos_count + (int64_t)job->sampling.stop_token_count == 0)
        return job_parse_refuse(
            parse, wanted->field, "",
            "an answer with a form ends where the form ends: min_tokens must be 0, and the model "
            "needs an end-of-sequence token or the job stop_token_ids");
    enum status status = grammar_store_find(parse->context->grammars, wanted->kind, wanted->value,
                                            &job->sampling.constraint, &err);
    if (status_class_of(status) == STATUS_CLASS_REJECT)
        return job_parse_refuse(parse, wanted->field,
                                status == STATUS_UNSUPPORTED ? "unsupported_parameter" : "", "%s: %.400s",
                                wanted->field, err.text);
    return status;
}

enum status job_parse_constraint(struct job_parse *parse)
{
    const struct job_body *body = &parse->body;
    const struct json *outputs = body->structured_outputs;
    struct wanted wanted = {0};
    bool catalog = outputs && outputs->type == JSON_OBJECT && json_member(outputs, "catalog");
    enum status status = read_response_format(parse, &wanted);
    if (status == STATUS_OK && !catalog)
        status = read_structured_outputs(parse, &wanted);
    if (status != STATUS_OK)
        return status;
    want(&wanted, GRAMMAR_OF_SCHEMA, body->guided_json, "guided_json");
    want(&wanted, GRAMMAR_OF_REGEX, body->guided_regex, "guided_regex");
    want(&wanted, GRAMMAR_OF_CHOICE, body->guided_choice, "guided_choice");
    want(&wanted, GRAMMAR_OF_EBNF, body->guided_grammar, "guided_grammar");
    if (wanted.field && !catalog)
        return use_grammar(parse, &wanted);
    for (size_t i = 0; catalog && i < outputs->count; i++) {
        const char *key = outputs->as.items[i].key;
        if (wanted.field || (strcmp(key, "catalog") != 0 && strcmp(key, "exclude") != 0))
            return job_parse_refuse(parse, "structured_outputs", "unsupported_parameter",
                                    "%.64s is not supported beside a catalog",
                                    wanted.field ? wanted.field : key);
    }
    return catalog ? use_catalog(parse, outputs) : STATUS_OK;
}
