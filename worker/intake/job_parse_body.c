// SPDX-License-Identifier: Apache-2.0
// The body object, checked against the table of fields: type, range, unknown names.
#include <float.h>
#include <math.h>
#include <string.h>

#include "config/config.h"
#include "worker/intake/job_parse_internal.h"

static enum status refuse_type(struct job_parse *parse, const struct job_field *field, const char *wanted,
                               const struct json *node)
{
    return job_parse_refuse(parse, field->name, "", "%s must be %s, got %s", field->name, wanted,
                            json_type_name(node->type));
}

static enum status refuse_range(struct job_parse *parse, const struct job_field *field, double value)
{
    bool above = field->type == JOB_FIELD_ABOVE;
    if (field->high >= JOB_NO_LIMIT || field->high >= (double)JOB_MAX_TOKENS)
        return job_parse_refuse(parse, field->name, "", "%s must be %s %g%s, got %.12g", field->name,
                                above ? "above" : "at least", field->low,
                                field->high >= JOB_NO_LIMIT ? "" : " and fit 32 bits", value);
    return job_parse_refuse(parse, field->name, "", "%s must be in %c%g, %g], got %.12g", field->name,
                            above ? '(' : '[', field->low, field->high, value);
}

static enum status read_number(struct job_parse *parse, const struct job_field *field,
                               const struct json *node, struct job_number *out)
{
    if (node->type != JSON_NUMBER && node->type != JSON_INTEGER)
        return refuse_type(parse, field, "a number", node);
    double value = json_number_or(node, 0);
    bool too_low = field->type == JOB_FIELD_ABOVE ? value <= field->low : value < field->low;
    if (too_low || value > field->high ||
        (value > 0 && field->type == JOB_FIELD_ABOVE && value < (double)FLT_MIN))
        return refuse_range(parse, field, value);
    *out = (struct job_number){.given = true, .value = value};
    return STATUS_OK;
}

static enum status read_integer(struct job_parse *parse, const struct job_field *field,
                                const struct json *node, struct job_integer *out)
{
    enum { EXACT_BITS = 53 };
    int64_t value;
    if (node->type == JSON_INTEGER)
        value = node->as.integer;
    else if (node->type != JSON_NUMBER || node->as.number != trunc(node->as.number))
        return refuse_type(parse, field, "an integer", node);
    else if (fabs(node->as.number) > (double)(INT64_C(1) << EXACT_BITS))
        return job_parse_refuse(parse, field->name, "", "%s must fit 64 bits, got %.17g", field->name,
                                node->as.number);
    else
        value = (int64_t)node->as.number;
    if ((double)value < field->low || (double)value > field->high)
        return refuse_range(parse, field, (double)value);
    *out = (struct job_integer){.given = true, .value = value};
    return STATUS_OK;
}

static enum status read_field(struct job_parse *parse, const struct job_field *field, const struct json *node)
{
    void *out = (char *)&parse->body + field->offset;
    switch (field->type) {
    case JOB_FIELD_NUMBER:
    case JOB_FIELD_ABOVE:
        return read_number(parse, field, node, out);
    case JOB_FIELD_INTEGER:
        return read_integer(parse, field, node, out);
    case JOB_FIELD_FLAG:
        if (node->type != JSON_TRUE && node->type != JSON_FALSE)
            return refuse_type(parse, field, "true or false", node);
        *(struct job_flag *)out = (struct job_flag){.given = true, .value = node->type == JSON_TRUE};
        return STATUS_OK;
    case JOB_FIELD_TEXT:
        if (node->type != JSON_STRING)
            return refuse_type(parse, field, "a string", node);
        *(const struct json **)out = node;
        return STATUS_OK;
    case JOB_FIELD_NODE:
        *(const struct json **)out = node;
        return STATUS_OK;
    }
    UNREACHABLE();
}

static const struct job_field *find_field(const char *name)
{
    for (size_t i = 0; i < job_field_count; i++)
        if (strcmp(job_fields[i].name, name) == 0)
            return &job_fields[i];
    return NULL;
}

static void warn_unknown(struct job_parse *parse, const char *name)
{
    enum { MAX_FIELDS = 128 };
    const char *names[MAX_FIELDS];
    CHECK(job_field_count <= MAX_FIELDS);
    for (size_t i = 0; i < job_field_count; i++)
        names[i] = job_fields[i].name;
    const char *nearest = config_nearest(name, names, job_field_count);
    if (nearest)
        job_parse_warn(parse, "unknown field \"%.64s\" ignored, did you mean \"%s\"?", name, nearest);
    else
        job_parse_warn(parse, "unknown field \"%.64s\" ignored", name);
}

static enum status read_member(struct job_parse *parse, const struct json *node)
{
    static const enum job_field_jobs kinds[] = {
        [JOB_CHAT] = JOB_FIELD_CHAT, [JOB_COMPLETION] = JOB_FIELD_COMPLETION, [JOB_SCORE] = JOB_FIELD_SCORE};
    const struct job_field *field = find_field(node->key);
    if (!field) {
        warn_unknown(parse, node->key);
        return STATUS_OK;
    }
    if (node->type == JSON_NULL || field->class == JOB_FIELD_NO_EFFECT)
        return STATUS_OK;
    if (!((unsigned)field->jobs & (unsigned)kinds[parse->job->kind])) {
        job_parse_warn(parse, "field \"%s\" ignored: it has no meaning for this url", field->name);
        return STATUS_OK;
    }
    if (field->class == JOB_FIELD_UNSUPPORTED)
        return job_parse_refuse(parse, field->name, "unsupported_parameter",
                                "%s is not supported by this worker; leave it out", field->name);
    return read_field(parse, field, node);
}

enum status job_parse_body(struct job_parse *parse, const struct json *body)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < body->count && status == STATUS_OK; i++)
        status = read_member(parse, &body->as.items[i]);
    return status;
}
