// SPDX-License-Identifier: Apache-2.0
// The result line of a finished generation, and what chunks and lines have in common. The digest covers the
// bytes of the value of `choices`, then those of `usage` without its member prompt_tokens_details.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/monotime.h"
#include "base/sha256.h"
#include "engine/constrain/catalog.h"
#include "worker/infer/generation_internal.h"

enum { ID_PREFIX_BYTES = sizeof "batch_req_" - 1, MAX_USAGE_BYTES = 512 };

static const size_t from_start[LOGPROB_LISTS] = {0};

/* ---- shared with chunks ---- */

void generation_print_id(struct bytes *out, const struct job *job)
{
    const char *hash = strlen(job->id) > ID_PREFIX_BYTES ? job->id + ID_PREFIX_BYTES : job->id;
    static const char *const prefixes[] = {
        [JOB_CHAT] = "chatcmpl", [JOB_COMPLETION] = "cmpl", [JOB_SCORE] = "score"};
    bytes_appendf(out, "\"%s-%s\"", prefixes[job->kind], hash);
}

const char *generation_finish_name(const struct choice *choice)
{
    return !choice->finished || choice->finish == ENGINE_FINISH_CANCELLED ? "abort"
           : choice->finish == ENGINE_FINISH_STOP                         ? "stop"
                                                                          : "length";
}

static bool is_eos(const struct generation *generation, int32_t token)
{
    const struct hparams *model = generation->context->hparams;
    for (int32_t i = 0; i < model->eos_count; i++)
        if (model->eos[i] == token)
            return !generation->job->sampling.ignore_eos;
    return false;
}

/* As vLLM: the stop string, the stop token's id, or null for the model's own end. */
void generation_print_stop_reason(struct bytes *out, const struct generation *generation,
                                  const struct choice *choice)
{
    const struct sampling_params *s = &generation->job->sampling;
    if (choice->finish == ENGINE_FINISH_STOP && choice->stop_string >= 0) {
        CHECK((size_t)choice->stop_string < s->stop_count);
        json_append_string(out, s->stops[choice->stop_string], strlen(s->stops[choice->stop_string]));
    } else if (choice->finish == ENGINE_FINISH_STOP && choice->stop_token >= 0 &&
               !is_eos(generation, choice->stop_token)) {
        bytes_appendf(out, "%d", choice->stop_token);
    } else {
        bytes_append_text(out, "null");
    }
}

struct token_sums {
    uint64_t prompt, completion, cached, tier;
};

static struct token_sums sum_tokens(const struct generation *generation)
{
    const struct job *job = generation->job;
    struct token_sums sums = {0};
    for (size_t p = 0; p < job->prompt_count; p++) {
        sums.prompt += job->prompts[p].count;
        sums.cached += generation->prompts[p].cached_tokens;
        sums.tier += generation->prompts[p].tier_tokens;
        for (size_t c = 0; c < job->sampling.n; c++)
            sums.completion += generation->prompts[p].choices[c].generated;
    }
    return sums;
}

void generation_print_usage(struct bytes *out, const struct generation *generation, bool details)
{
    struct token_sums sums = sum_tokens(generation);
    bytes_appendf(out, "{\"prompt_tokens\":%llu,\"completion_tokens\":%llu,\"total_tokens\":%llu",
                  (unsigned long long)sums.prompt, (unsigned long long)sums.completion,
                  (unsigned long long)(sums.prompt + sums.completion));
    if (details)
        bytes_appendf(out, ",\"prompt_tokens_details\":{\"cached_tokens\":%llu}",
                      (unsigned long long)sums.cached);
    bytes_append_char(out, '}');
}

/* ---- choices ---- */

static void print_text(struct bytes *out, const struct bytes *text)
{
    json_append_string(out, text->data ? text->data : "", text->count_bytes);
}

static void print_list_or_null(struct bytes *out, bool wanted, const struct bytes *fragment)
{
    if (!wanted) {
        bytes_append_text(out, "null");
        return;
    }
    bytes_append_char(out, '[');
    bytes_append(out, fragment->data, fragment->count_bytes);
    bytes_append_char(out, ']');
}

static void print_prompt_ids(struct bytes *out, const struct job *job, const struct job_prompt *prompt)
{
    if (!job->return_token_ids) {
        bytes_append_text(out, "null");
        return;
    }
    for (size_t i = 0; i < prompt->count; i++)
        bytes_appendf(out, i ? ",%d" : "[%d", prompt->tokens[i]);
    bytes_append_char(out, ']');
}

static void print_prompt_logprobs(struct bytes *out, const struct job *job,
                                  const struct prompt_answer *answer)
{
    if (job->prompt_logprobs && answer->prompt_logprobs.count_bytes == 0)
        bytes_append_text(out, "[null]"); /* a prompt of one token */
    else
        print_list_or_null(out, job->prompt_logprobs, &answer->prompt_logprobs);
}

/* The score is the cumulative log-probability divided by the tokens to the power of length_penalty. */
static void print_rank(struct bytes *out, const struct generation *generation, const struct choice *choice)
{
    const struct job *job = generation->job;
    const char *item;
    double length = choice->generated ? (double)choice->generated : 1;
    bytes_append_text(out, ",\"cumulative_logprob\":");
    json_append_number(out, choice->cumulative_logprob);
    bytes_append_text(out, ",\"score\":");
    json_append_number(out, choice->cumulative_logprob / pow(length, (double)job->sampling.length_penalty));
    if (!job->catalog)
        return;
    bytes_append_text(out, ",\"item_ids\":[");
    for (size_t i = 0; (item = catalog_constraint_item(job->catalog, choice->catalog_state, i)); i++) {
        bytes_append_text(out, i ? "," : "");
        json_append_string(out, item, strlen(item));
    }
    bytes_append_char(out, ']');
}

static void print_choice(struct bytes *out, const struct generation *generation, size_t prompt, size_t index)
{
    const struct job *job = generation->job;
    const struct prompt_answer *answer = &generation->prompts[prompt];
    const struct choice *choice = &answer->choices[index];
    bool chat = job->kind == JOB_CHAT;
    bytes_appendf(out, "{\"index\":%zu,\"%s", prompt * job->sampling.n + index,
                  chat ? "message\":{\"role\":\"assistant\",\"content\":" : "text\":");
    print_text(out, &choice->text);
    bytes_append_text(out, chat ? ",\"refusal\":null},\"logprobs\":" : ",\"logprobs\":");
    if (job->top_logprobs == SAMPLING_NO_LOGPROBS)
        bytes_append_text(out, "null");
    else
        logprob_text_print(out, job, &answer->echoed, &choice->logprobs, from_start);
    bytes_appendf(out, ",\"finish_reason\":\"%s\",\"stop_reason\":", generation_finish_name(choice));
    generation_print_stop_reason(out, generation, choice);
    bytes_append_text(out, ",\"token_ids\":");
    print_list_or_null(out, generation_wants_ids(generation), &choice->token_ids);
    if (generation_is_ranked(generation))
        print_rank(out, generation, choice);
    if (!chat) {
        bytes_append_text(out, ",\"prompt_logprobs\":");
        print_prompt_logprobs(out, job, answer);
        bytes_append_text(out, ",\"prompt_token_ids\":");
        print_prompt_ids(out, job, &job->prompts[prompt]);
    }
    bytes_append_char(out, '}');
}

static void print_choices(struct bytes *out, const struct generation *generation)
{
    bytes_append_char(out, '[');
    for (size_t p = 0; p < generation->job->prompt_count; p++)
        for (size_t c = 0; c < generation->job->sampling.n; c++) {
            if (generation->prompts[p].choices[c].absent)
                continue;
            if (p + c > 0)
                bytes_append_char(out, ',');
            print_choice(out, generation, p, c);
        }
    bytes_append_char(out, ']');
}

/* ---- the line ---- */

static void append_string(struct bytes *out, const char *text)
{
    json_append_string(out, text, strlen(text));
}

/* A catalogue is part of what makes an answer: its digest stands beside the model's. */
static void print_fingerprint(struct bytes *out, const struct generation *generation)
{
    const struct constraint *catalog = generation->job->catalog;
    bytes_appendf(out, "\"%s", generation->context->system_fingerprint);
    if (catalog)
        bytes_appendf(out, "+catalog:%s", catalog_digest(catalog_of(catalog)));
    bytes_append_char(out, '"');
}

static void fill_digest(struct result *result, const struct generation *generation, size_t choices_begin,
                        size_t choices_end)
{
    struct bytes usage;
    struct sha256 sha;
    uint8_t digest[32];
    bytes_init(&usage, MAX_USAGE_BYTES);
    generation_print_usage(&usage, generation, false);
    sha256_init(&sha);
    sha256_update(&sha, result->value.data + choices_begin, choices_end - choices_begin);
    sha256_update(&sha, usage.data, usage.count_bytes);
    sha256_final(&sha, digest);
    sha256_hex(digest, result->digest);
    if (usage.failed)
        result->value.failed = true;
    bytes_release(&usage);
}

/* `code` NULL: it ran to its end. */
static void print_line(struct result *result, const struct generation *generation,
                       const struct job_identity *identity, const char *code, const char *message)
{
    const struct job *job = generation->job;
    struct bytes *out = &result->value;
    bool chat = job->kind == JOB_CHAT, scoring = job->kind == JOB_SCORE;
    static const char *const objects[] = {
        [JOB_CHAT] = "chat.completion", [JOB_COMPLETION] = "text_completion", [JOB_SCORE] = "scoring"};
    result_append_head(out, identity, 200);
    bytes_append_text(out, "{\"id\":");
    generation_print_id(out, job);
    bytes_appendf(out, ",\"object\":\"%s\",\"created\":%lld,\"model\":", objects[job->kind],
                  (long long)job->created_s);
    append_string(out, job->model);
    bytes_append_text(out, scoring ? ",\"scores\":" : ",\"choices\":");
    size_t choices_begin = out->count_bytes;
    if (scoring)
        generation_print_scores(out, generation);
    else
        print_choices(out, generation);
    size_t choices_end = out->count_bytes;
    bytes_append_text(out, ",\"usage\":");
    generation_print_usage(out, generation, true);
    bytes_append_text(out, ",\"system_fingerprint\":");
    print_fingerprint(out, generation);
    if (chat) {
        bytes_append_text(out, ",\"prompt_logprobs\":");
        print_prompt_logprobs(out, job, &generation->prompts[0]);
        bytes_append_text(out, ",\"prompt_token_ids\":");
        print_prompt_ids(out, job, &job->prompts[0]);
    }
    bytes_append_char(out, '}');
    result_append_tail(out, code, message);
    if (!out->failed && !code)
        fill_digest(result, generation, choices_begin, choices_end);
}

/* The answer does not fit a record; what it cost is still said. */
static void print_too_large(struct result *result, const struct generation *generation,
                            const struct job_identity *identity)
{
    struct bytes *out = &result->value;
    bytes_reset(out);
    result->status = "failed";
    result->digest[0] = '\0';
    result_append_head(out, identity, 400);
    bytes_appendf(
        out,
        "{\"error\":{\"message\":\"the result is larger than results.max_bytes (%zu); ask for fewer "
        "tokens, choices or logprobs\",\"type\":\"invalid_request_error\",\"param\":null,"
        "\"code\":\"result_too_large\"},\"usage\":",
        generation->context->max_result_bytes);
    generation_print_usage(out, generation, true);
    bytes_append_char(out, '}');
    result_append_tail(out, NULL, NULL);
}

static int64_t elapsed_ns(int64_t from, int64_t to)
{
    return from > 0 && to >= from ? to - from : -1;
}

static void fill_numbers(const struct generation *generation, struct result *result)
{
    struct token_sums sums = sum_tokens(generation);
    int64_t received = generation->job->received_ns;
    result->prompt_tokens = sums.prompt;
    result->completion_tokens = sums.completion;
    result->cached_tokens = sums.cached;
    result->tier_tokens = sums.tier;
    result->queue_ns = elapsed_ns(received, generation->accepted_ns);
    result->ttft_ns = elapsed_ns(received, generation->first_token_ns);
    result->e2e_ns = elapsed_ns(received, generation->finished_ns);
}

static enum status nothing_found_result(const struct generation *generation, struct result *out,
                                        const struct job_identity *identity, struct error *err)
{
    struct job_fault fault = {.http_status = 400};
    bool catalog = generation->job->catalog != NULL;
    snprintf(fault.type, sizeof fault.type, "invalid_request_error");
    snprintf(fault.param, sizeof fault.param, catalog ? "structured_outputs" : "use_beam_search");
    snprintf(fault.code, sizeof fault.code, catalog ? "no_valid_item" : "no_valid_sequence");
    snprintf(fault.message, sizeof fault.message, "the beam search found no %s within max_tokens",
             catalog ? "item of the catalogue" : "sequence that is allowed");
    return result_from_fault(out, identity, &fault, err);
}

static enum status unfinished_result(const struct generation *generation, struct result *out,
                                     const struct job_identity *identity, struct error *err)
{
    const struct error *failure = &generation->failure;
    struct job_fault fault;
    if (failure->status == STATUS_EXPIRED)
        return result_not_executed(out, identity, "batch_expired",
                                   "the job's deadline passed before it finished", err);
    if (failure->status == STATUS_CANCELLED)
        return result_not_executed(out, identity, "batch_cancelled", "the job was cancelled", err);
    job_fault_from_error(&fault, failure);
    return result_from_fault(out, identity, &fault, err);
}

enum status generation_result(struct generation *generation, struct result *out, struct error *err)
{
    enum { LEAST_LINE_BYTES = 8192 }; /* room for result_too_large under any limit */
    struct job_identity identity;
    CHECK(generation_done(generation));
    result_identity_of(&identity, generation->job);
    if (generation->failure.status != STATUS_OK || generation->nothing_found) {
        enum status status = generation->failure.status != STATUS_OK
                                 ? unfinished_result(generation, out, &identity, err)
                                 : nothing_found_result(generation, out, &identity, err);
        if (status == STATUS_OK)
            fill_numbers(generation, out);
        return status;
    }
    *out = (struct result){.status = "completed",
                           .finish_reason = generation_finish_name(&generation->prompts[0].choices[0])};
    size_t limit = generation->context->max_result_bytes;
    bytes_init(&out->value, limit > LEAST_LINE_BYTES ? limit : LEAST_LINE_BYTES);
    if (!generation->too_large)
        print_line(out, generation, &identity, NULL, NULL);
    if (generation->too_large || out->value.failed || out->value.count_bytes > limit)
        print_too_large(out, generation, &identity);
    fill_numbers(generation, out);
    if (!out->value.failed)
        return STATUS_OK;
    result_release(out);
    return error_set(err, STATUS_NO_MEMORY, "no memory for a result line");
}

enum status generation_partial_result(struct generation *generation, struct result *out, struct error *err)
{
    static const char message[] = "the job's deadline passed while it ran";
    struct job_identity identity;
    size_t limit = generation->context->max_result_bytes;
    result_identity_of(&identity, generation->job);
    for (size_t i = 0; i < generation->job->prompt_count * generation->job->sampling.n; i++) {
        struct choice *choice = &generation->prompts[0].choices[i];
        if (choice->detokenizer && !generation->too_large) /* what it held back */
            generation->too_large = detokenizer_finish(choice->detokenizer, &choice->text) != STATUS_OK;
    }
    *out = (struct result){.status = "expired", .finish_reason = "abort"};
    bytes_init(&out->value, limit);
    bool partial = !generation->too_large && generation->job->kind != JOB_SCORE;
    if (partial)
        print_line(out, generation, &identity, "batch_expired", message);
    if (!partial || out->value.failed) {
        result_release(out);
        return result_not_executed(out, &identity, "batch_expired", message, err);
    }
    fill_numbers(generation, out);
    return STATUS_OK;
}
