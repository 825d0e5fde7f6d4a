// SPDX-License-Identifier: Apache-2.0
#include "worker/intake/job_fields.h"

#define FIELD_ROW(name, jobs, class, type, low, high, help) \
    {#name,                                                 \
     JOB_FIELD_##jobs,                                      \
     JOB_FIELD_##class,                                     \
     JOB_FIELD_##type,                                      \
     (double)(low),                                         \
     (double)(high),                                        \
     offsetof(struct job_body, name),                       \
     help},

const struct job_field job_fields[] = {JOB_FIELDS(FIELD_ROW)};
const size_t job_field_count = sizeof job_fields / sizeof job_fields[0];

static const char *jobs_name(enum job_field_jobs jobs)
{
    switch (jobs) {
    case JOB_FIELD_CHAT:
        return "chat";
    case JOB_FIELD_COMPLETION:
        return "completions";
    case JOB_FIELD_SCORE:
        return "score";
    case JOB_FIELD_BOTH:
        return "chat, completions";
    default:
        return "all";
    }
}

static void print_range(struct bytes *out, const struct job_field *field)
{
    static const char *const words[] = {"number",        "number", "integer",
                                        "true or false", "string", "see right"};
    bytes_append_text(out, words[field->type]);
    if (field->type > JOB_FIELD_INTEGER || field->low <= -JOB_NO_LIMIT)
        return;
    if (field->high >= (double)JOB_MAX_TOKENS)
        bytes_appendf(out, field->type == JOB_FIELD_ABOVE ? " above %g" : " from %g", field->low);
    else
        bytes_appendf(out, " in %c%g, %g]", field->type == JOB_FIELD_ABOVE ? '(' : '[', field->low,
                      field->high);
}

static void print_names(struct bytes *out, enum job_field_class class)
{
    const char *separator = "";
    for (size_t i = 0; i < job_field_count; i++)
        if (job_fields[i].class == class) {
            bytes_appendf(out, "%s`%s`", separator, job_fields[i].name);
            separator = ", ";
        }
    bytes_append_text(out, "\n");
}

void job_fields_print(struct bytes *out)
{
    bytes_append_text(
        out, "# Body fields of a job\n\nWritten by `millrace batch --print-fields` from the parser's table "
             "(`worker/intake/job_fields.h`).\n`null` is the same as absent. A field in none of these "
             "lists is answered with a warning.\n\n## Read\n\n| field | jobs | value | meaning "
             "|\n|---|---|---|---|\n");
    for (size_t i = 0; i < job_field_count; i++) {
        if (job_fields[i].class != JOB_FIELD_READ)
            continue;
        bytes_appendf(out, "| `%s` | %s | ", job_fields[i].name, jobs_name(job_fields[i].jobs));
        print_range(out, &job_fields[i]);
        bytes_appendf(out, " | %s |\n", job_fields[i].help);
    }
    bytes_append_text(out, "\n## Accepted without effect\n\n");
    print_names(out, JOB_FIELD_NO_EFFECT);
    bytes_append_text(out, "\n## Known and not supported: a 400 names the field\n\n");
    print_names(out, JOB_FIELD_UNSUPPORTED);
}
