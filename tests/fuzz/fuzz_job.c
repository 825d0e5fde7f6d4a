// SPDX-License-Identifier: Apache-2.0
// Any bytes as a job: a job that keeps every promise the engine relies on, or a fault whose result line is
// valid JSON in OpenAI's shape.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/constrain/grammar_store.h"
#include "worker/infer/result.h"
#include "worker/intake/job_parse.h"

#define MODEL MILLRACE_SOURCE_DIR "/examples/models/shop-qwen3"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"shop-qwen3"};
static struct hparams hparams;

static const struct job_parse_context *open_context(void)
{
    static struct job_parse_context context; /* one per process: opened at the first input */
    struct config_source source = {.ignore_environment = true};
    struct tokenizer *tokenizer = NULL;
    struct chat_template *chat_template = NULL;
    struct grammar_store *grammars = NULL;
    struct error err = {0};
    if (context.config)
        return &context;
    CHECK(hparams_read(&hparams, MODEL, &err) == STATUS_OK);
    CHECK(tokenizer_open(&tokenizer, MODEL, &err) == STATUS_OK);
    CHECK(grammar_store_open(&grammars, tokenizer, hparams.vocab, &err) == STATUS_OK);
    enum status status = chat_template_open(&chat_template, MODEL, &err);
    CHECK(status == STATUS_OK || status == STATUS_NOT_FOUND);
    context = (struct job_parse_context){.hparams = &hparams,
                                         .tokenizer = tokenizer,
                                         .chat_template = chat_template,
                                         .grammars = grammars,
                                         .served_names = names,
                                         .served_count = 1,
                                         .max_context_tokens = hparams.max_context_tokens};
    CHECK(config_open(&context.config, &source, &err) == STATUS_OK);
    return &context;
}

static void check_ids(const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        CHECK(ids[i] >= 0 && ids[i] < hparams.vocab);
}

static void check_job(const struct job *job)
{
    const struct sampling_params *s = &job->sampling;
    CHECK(job->custom_id[0] && strlen(job->custom_id) <= 512);
    CHECK(job->prompt_count >= 1);
    for (size_t i = 0; i < job->prompt_count; i++) {
        CHECK(job->prompts[i].count >= 1 &&
              job->prompts[i].count + s->max_tokens <= (size_t)hparams.max_context_tokens);
        check_ids(job->prompts[i].tokens, job->prompts[i].count);
    }
    CHECK(s->n >= 1 && s->n <= 128 && s->min_tokens <= s->max_tokens);
    CHECK(s->temperature >= 0 && s->temperature <= 2 && s->top_p > 0 && s->top_p <= 1);
    CHECK(s->top_k >= 0 && s->min_p >= 0 && s->min_p <= 1 && s->repetition_penalty > 0);
    CHECK(s->temperature > 0 || s->n == 1 || s->use_beam_search);
    CHECK(s->logprobs >= -1 && s->logprobs <= SAMPLING_MAX_LOGPROBS);
    CHECK(s->prompt_logprobs >= -1 && s->prompt_logprobs <= SAMPLING_MAX_LOGPROBS);
    check_ids(s->stop_tokens, s->stop_token_count);
    check_ids(s->allowed_tokens, s->allowed_count);
    check_ids(s->logprob_tokens, s->logprob_token_count);
    for (size_t i = 0; i < s->stop_count; i++)
        CHECK(s->stops[i][0]);
    for (size_t i = 0; i < s->bad_word_count; i++)
        CHECK(s->bad_words[i].count >= 1);
}

static void check_fault(const struct job_record *record, const struct job_fault *fault)
{
    struct job_identity identity;
    struct result result;
    struct json_document *document;
    struct error err = {0};
    CHECK(fault->http_status == 400 || fault->http_status == 404);
    CHECK(fault->message[0] && fault->type[0]);
    job_identity_read(&identity, record);
    CHECK(result_from_fault(&result, &identity, fault, &err) == STATUS_OK);
    CHECK(json_parse(&document, result.value.data, result.value.count_bytes, NULL, &err) == STATUS_OK);
    CHECK(json_root(document)->count == 4 && !memchr(result.value.data, '\n', result.value.count_bytes));
    json_close(document);
    result_release(&result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct job *job;
    struct job_fault fault;
    struct job_record record = {.value = (const char *)data,
                                .value_bytes = size,
                                .cluster_id = "",
                                .topic = "t",
                                .offset = 1,
                                .timestamp_ms = 1700000000000};
    enum status status = job_parse(&job, open_context(), &record, &fault);
    if (status == STATUS_OK) {
        check_job(job);
        job_close(job);
    } else if (status_class_of(status) == STATUS_CLASS_REJECT) {
        check_fault(&record, &fault);
    }
    return 0;
}
