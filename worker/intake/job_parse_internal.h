// SPDX-License-Identifier: Apache-2.0
// What the files job_parse*.c share: the state of one parse and its steps, in the order they run. Private to
// them. Each step returns OK, a REJECT status with the fault filled, or NO_MEMORY.
#ifndef WORKER_INTAKE_JOB_PARSE_INTERNAL_H
#define WORKER_INTAKE_JOB_PARSE_INTERNAL_H

#include "worker/intake/job_fields.h"
#include "worker/intake/job_parse.h"

enum {
    JOB_MAX_PROMPTS = 2048,   /* prompts of one job */
    JOB_MAX_STOPS = 128,      /* stop strings */
    JOB_MAX_BAD_WORDS = 1024, /* words */
    JOB_MAX_LOGPROB_TOKENS = 128,
    JOB_MAX_CUSTOM_ID_BYTES = 512,
    JOB_MAX_BATCH_ID_BYTES = 256,
    JOB_MAX_WARNING_BYTES = 1024,
    JOB_MAX_SCORE_TOKENS = 1 << 22 /* of query and items, the query counted with each */
};

struct job_parse {
    const struct job_parse_context *context;
    const struct job_record *record;
    struct job *job; /* being built */
    struct job_fault *fault;
    const struct json *line; /* the whole value */
    struct job_body body;
    struct bytes warnings;
};

/* Fills the fault and returns INVALID. `param` and `code` may be "". */
enum status job_parse_refuse(struct job_parse *parse, const char *param, const char *code, const char *format,
                             ...) PRINTF_LIKE(4, 5);
/* Adds a sentence to the job's warnings; what does not fit is dropped. */
void job_parse_warn(struct job_parse *parse, const char *format, ...) PRINTF_LIKE(2, 3);
/* Arena memory of the job; NULL: no memory. */
void *job_parse_alloc(struct job_parse *parse, size_t count, size_t size);
char *job_parse_copy(struct job_parse *parse, const char *text);

/* job_parse_control.c: headers and the "millrace" object. Run after the body, over which they win. */
enum status job_parse_control(struct job_parse *parse);
/* job_parse_body.c: the body object into parse->body. */
enum status job_parse_body(struct job_parse *parse, const struct json *body);
/* job_parse_prompt.c: model-independent text into tokens, truncated; parse->job->prompts. */
enum status job_parse_prompts(struct job_parse *parse);
/* job_parse_sampling.c: sampling_params but for what depends on the prompt's length. */
enum status job_parse_sampling(struct job_parse *parse);
/* job_parse_sampling.c: max_tokens against the context, once the prompts are known. */
enum status job_parse_lengths(struct job_parse *parse);
/* job_parse_score.c: a scoring job's sampling_params and prompts, in place of all of these. */
enum status job_parse_score(struct job_parse *parse);
/* job_parse_constraint.c: structured_outputs into sampling.constraint. Runs after job_parse_sampling. */
enum status job_parse_constraint(struct job_parse *parse);
/* A list of token ids inside the vocabulary. */
enum status job_parse_token_ids(struct job_parse *parse, const char *name, const struct json *list,
                                const int32_t **out);

/* job_parse_span.c: bytes [*begin, *end) of the value of a top-level member of the object in `text`, found
 * without parsing the rest, so that it works in text that is no valid JSON. False: not found. */
bool job_parse_span(const char *text, size_t bytes, const char *key, size_t *begin, size_t *end);

#endif
