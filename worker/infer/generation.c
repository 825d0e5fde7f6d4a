// SPDX-License-Identifier: Apache-2.0
// DESIGN: every choice keeps its text and, where asked for, its log-probabilities as JSON fragments. A token
// costs its own text only; nothing is formatted twice. What all choices hold together is bounded by the
// largest result that may be published: beyond it everything is let go and the answer says so.
#include "worker/infer/generation.h"

#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "engine/constrain/constraint.h"
#include "worker/infer/generation_internal.h"

enum { PRIME_TOKENS = 8 }; /* of the prompt's end, for the detokenizer */

/* ---- life ---- */

static struct choice *find_choice(struct generation *generation, uint32_t prompt, uint32_t choice)
{
    CHECK(prompt < generation->job->prompt_count && choice < generation->job->sampling.n);
    return &generation->prompts[prompt].choices[choice];
}

static void open_choice(struct choice *choice, size_t max_bytes)
{
    bytes_init(&choice->text, max_bytes);
    bytes_init(&choice->token_ids, max_bytes);
    logprob_text_init(&choice->logprobs, max_bytes);
}

static bool echoes_logprobs(const struct job *job)
{
    return job->kind == JOB_COMPLETION && job->echo && job->top_logprobs != SAMPLING_NO_LOGPROBS;
}

/* The first token of a prompt has no log-probability. */
static void begin_echo(struct generation *generation)
{
    const struct job *job = generation->job;
    for (size_t p = 0; p < job->prompt_count && echoes_logprobs(job); p++) {
        struct engine_event first = {.token = job->prompts[p].tokens[0]};
        logprob_text_add(&generation->prompts[p].echoed, generation, &first, 0);
    }
}

enum status generation_open(struct generation **out, const struct generation_context *context,
                            struct job *job, struct error *err)
{
    *out = NULL;
    size_t n = job->sampling.n;
    struct generation *generation = calloc(1, sizeof *generation);
    struct prompt_answer *prompts = generation ? calloc(job->prompt_count, sizeof *prompts) : NULL;
    struct choice *choices = prompts ? calloc(job->prompt_count * n, sizeof *choices) : NULL;
    if (!choices) {
        free(prompts);
        free(generation);
        return error_set(err, STATUS_NO_MEMORY, "no memory for a job's answer");
    }
    *generation = (struct generation){.context = context,
                                      .job = job,
                                      .prompts = prompts,
                                      .open_choices = job->prompt_count * n,
                                      .accepted_ns = monotime_ns()};
    for (size_t p = 0; p < job->prompt_count; p++) {
        prompts[p].choices = choices + p * n;
        logprob_text_init(&prompts[p].echoed, context->max_result_bytes);
        bytes_init(&prompts[p].prompt_logprobs, context->max_result_bytes);
        bytes_init(&prompts[p].labels, context->max_result_bytes);
        for (size_t c = 0; c < n; c++)
            open_choice(&prompts[p].choices[c], context->max_result_bytes);
    }
    begin_echo(generation);
    *out = generation;
    return STATUS_OK;
}

static void release_choice(struct choice *choice)
{
    detokenizer_close(choice->detokenizer);
    choice->detokenizer = NULL;
    bytes_release(&choice->text);
    bytes_release(&choice->token_ids);
    logprob_text_release(&choice->logprobs);
}

static void release_text(struct generation *generation)
{
    for (size_t p = 0; p < generation->job->prompt_count; p++) {
        logprob_text_release(&generation->prompts[p].echoed);
        bytes_release(&generation->prompts[p].prompt_logprobs);
        bytes_release(&generation->prompts[p].labels);
        for (size_t c = 0; c < generation->job->sampling.n; c++)
            release_choice(&generation->prompts[p].choices[c]);
    }
}

void generation_close(struct generation *generation)
{
    if (!generation)
        return;
    release_text(generation);
    free(generation->prompts[0].choices);
    free(generation->prompts);
    job_close(generation->job);
    free(generation);
}

const struct job *generation_job(const struct generation *generation)
{
    return generation->job;
}

void generation_progress_read(const struct generation *generation, struct generation_progress *out)
{
    const struct job *job = generation->job;
    const struct choice *first = &generation->prompts[0].choices[0];
    *out = (struct generation_progress){.age_ns = monotime_ns() - generation->accepted_ns,
                                        .text = first->text.data,
                                        .text_bytes = first->text.count_bytes};
    for (size_t p = 0; p < job->prompt_count; p++) {
        out->prompt_tokens += job->prompts[p].count;
        out->most_tokens += (uint64_t)job->sampling.max_tokens * job->sampling.n;
        for (size_t c = 0; c < job->sampling.n; c++)
            out->tokens += generation->prompts[p].choices[c].generated;
    }
}

bool generation_done(const struct generation *generation)
{
    return generation->open_choices == 0;
}

/* ---- text ---- */

static enum status append_echo(struct generation *generation, const struct job_prompt *prompt,
                               struct bytes *out, struct error *err)
{
    if (prompt->text)
        return bytes_append_text(out, prompt->text);
    return tokenizer_decode(generation->context->tokenizer, prompt->tokens, prompt->count,
                            generation->job->sampling.skip_special_tokens, out, err);
}

/* The first thing that happens to a choice. Detokenizers live only while their sequence runs. */
static enum status begin_choice(struct generation *generation, uint32_t prompt, struct choice *choice,
                                struct error *err)
{
    const struct sampling_params *s = &generation->job->sampling;
    const struct job_prompt *source = &generation->job->prompts[prompt];
    struct detokenizer_options options = {.stops = s->stops,
                                          .stop_count = s->stop_count,
                                          .include_stop = s->include_stop,
                                          .skip_special_tokens = s->skip_special_tokens,
                                          .min_tokens = s->min_tokens};
    choice->begun = true;
    enum status status =
        detokenizer_open(&choice->detokenizer, generation->context->tokenizer, &options, err);
    if (status != STATUS_OK)
        return status;
    size_t prime = source->count < PRIME_TOKENS ? source->count : PRIME_TOKENS;
    detokenizer_prime(choice->detokenizer, source->tokens + (source->count - prime), prime);
    if (generation->job->echo)
        status = append_echo(generation, source, &choice->text, err);
    if (echoes_logprobs(generation->job))
        choice->logprobs.text_offset = logprob_text_points(generation, source);
    return status == STATUS_TOO_LARGE ? STATUS_OK : status; /* check_size sees it */
}

/* Whether the token ends its sequence; such a token has no text, unless include_stop_str_in_output. */
static bool ends_sequence(const struct generation *generation, int32_t token)
{
    const struct sampling_params *s = &generation->job->sampling;
    const struct hparams *model = generation->context->hparams;
    for (int32_t i = 0; i < model->eos_count && !s->ignore_eos; i++)
        if (model->eos[i] == token)
            return true;
    for (size_t i = 0; i < s->stop_token_count; i++)
        if (s->stop_tokens[i] == token)
            return true;
    return false;
}

static size_t choice_bytes(const struct choice *choice)
{
    return choice->text.count_bytes + choice->token_ids.count_bytes + logprob_text_bytes(&choice->logprobs);
}

/* Counts what was added since `before`; over the limit, lets everything go. */
static void check_size(struct generation *generation, size_t before, size_t now)
{
    generation->held_bytes += now - before;
    if (generation->held_bytes <= generation->context->max_result_bytes)
        return;
    generation->too_large = true;
    release_text(generation);
}

static bool any_failed(const struct choice *choice)
{
    bool failed = choice->text.failed || choice->token_ids.failed;
    for (int i = 0; i < LOGPROB_LISTS; i++)
        failed = failed || choice->logprobs.lists[i].failed;
    return failed;
}

/* A buffer that is full counts as the whole limit; a failed allocation is an error. */
static enum status settle_choice(struct generation *generation, const struct choice *choice, size_t before,
                                 struct error *err)
{
    size_t now = choice_bytes(choice), limit = generation->context->max_result_bytes;
    if (any_failed(choice)) {
        if (now + choice->text.capacity_bytes < limit / 4)
            return error_set(err, STATUS_NO_MEMORY, "no memory for a job's answer");
        now = before + limit + 1;
    }
    check_size(generation, before, now);
    return STATUS_OK;
}

/* ---- events ---- */

/* What the choice's tokens weigh, and where in its catalogue it is. */
static void follow_ranked(const struct generation *generation, struct choice *choice,
                          const struct engine_event *event)
{
    struct constraint *constraint = generation->job->sampling.constraint;
    if (!generation_is_ranked(generation))
        return;
    choice->cumulative_logprob += (double)event->logprob;
    if (!generation->job->catalog || ends_sequence(generation, event->token))
        return;
    uint32_t next = constraint->ops->next(constraint, choice->catalog_state, event->token);
    if (next != CONSTRAINT_DEAD)
        choice->catalog_state = next;
}

static enum status apply_token(struct generation *generation, const struct engine_report_item *item,
                               struct error *err)
{
    const struct job *job = generation->job;
    struct choice *choice = find_choice(generation, item->prompt_index, item->event.choice);
    enum status status = STATUS_OK;
    int stop = -1;
    if (generation->first_token_ns == 0)
        generation->first_token_ns = monotime_ns();
    if (job->kind == JOB_SCORE) {
        generation_score_token(generation, item->prompt_index, &item->event);
        return STATUS_OK;
    }
    choice->generated++;
    follow_ranked(generation, choice, &item->event);
    if (generation->too_large)
        return STATUS_OK;
    size_t before = choice_bytes(choice);
    if (!choice->begun)
        status = begin_choice(generation, item->prompt_index, choice, err);
    if (status == STATUS_OK && (job->sampling.include_stop || !ends_sequence(generation, item->event.token)))
        status = detokenizer_push(choice->detokenizer, item->event.token, &choice->text, &stop);
    if (status != STATUS_OK && status != STATUS_TOO_LARGE)
        return status;
    if (generation_wants_ids(generation))
        bytes_appendf(&choice->token_ids, choice->token_ids.count_bytes ? ",%d" : "%d", item->event.token);
    if (job->top_logprobs != SAMPLING_NO_LOGPROBS)
        logprob_text_add(&choice->logprobs, generation, &item->event, job->top_logprobs);
    return settle_choice(generation, choice, before, err);
}

static void apply_prompt_token(struct generation *generation, const struct engine_report_item *item)
{
    const struct job *job = generation->job;
    struct prompt_answer *answer = &generation->prompts[item->prompt_index];
    if (job->kind == JOB_SCORE)
        generation_score_token(generation, item->prompt_index, &item->event);
    if (generation->too_large || job->kind == JOB_SCORE)
        return;
    size_t before = logprob_text_bytes(&answer->echoed) + answer->prompt_logprobs.count_bytes;
    if (job->prompt_logprobs) {
        if (answer->prompt_logprobs.count_bytes == 0)
            bytes_append_text(&answer->prompt_logprobs, "null");
        prompt_logprobs_add(&answer->prompt_logprobs, generation, &item->event);
    }
    if (echoes_logprobs(job))
        logprob_text_add(&answer->echoed, generation, &item->event, job->top_logprobs);
    check_size(generation, before, logprob_text_bytes(&answer->echoed) + answer->prompt_logprobs.count_bytes);
}

/* Cancelled, expired or failed: the job gives no answer of its own, whatever the other choices do. */
static void end_unfinished(struct generation *generation, const struct engine_report_item *item)
{
    if (item->event.finish == ENGINE_FINISH_ERROR)
        error_set(&generation->failure, STATUS_INTERNAL,
                  "the form that the answer shall have became too large to follow");
    else
        error_set(&generation->failure,
                  item->error.status == STATUS_EXPIRED ? STATUS_EXPIRED : STATUS_CANCELLED,
                  "the job was cancelled before it finished");
}

static enum status apply_finished(struct generation *generation, const struct engine_report_item *item,
                                  struct error *err)
{
    struct choice *choice = find_choice(generation, item->prompt_index, item->event.choice);
    struct prompt_answer *answer = &generation->prompts[item->prompt_index];
    enum status status = STATUS_OK;
    CHECK(!choice->finished);
    choice->finished = true;
    choice->finish = item->event.finish;
    choice->stop_token = item->event.stop_token;
    choice->stop_string = item->event.stop_string;
    generation->open_choices--;
    if (generation->open_choices == 0)
        generation->finished_ns = monotime_ns();
    if (item->event.choice == 0) {
        answer->cached_tokens = item->event.cached_tokens;
        answer->tier_tokens = item->tier_tokens;
    }
    if (item->event.finish == ENGINE_FINISH_CANCELLED || item->event.finish == ENGINE_FINISH_ERROR) {
        end_unfinished(generation, item);
        return STATUS_OK;
    }
    if (item->event.finish == ENGINE_FINISH_ABSENT) {
        choice->absent = true;
        generation->nothing_found = generation->nothing_found || item->event.choice == 0;
        return STATUS_OK;
    }
    if (generation->too_large || generation->job->kind == JOB_SCORE)
        return STATUS_OK;
    size_t before = choice_bytes(choice);
    if (!choice->begun) /* echo alone */
        status = begin_choice(generation, item->prompt_index, choice, err);
    if (status == STATUS_OK && choice->stop_string < 0)
        status = detokenizer_finish(choice->detokenizer, &choice->text);
    detokenizer_close(choice->detokenizer);
    choice->detokenizer = NULL;
    if (status != STATUS_OK && status != STATUS_TOO_LARGE)
        return status;
    return settle_choice(generation, choice, before, err);
}

enum status generation_apply(struct generation *generation, const struct engine_report_item *item,
                             struct bytes *chunks, struct error *err)
{
    enum status status = STATUS_OK;
    switch (item->type) {
    case REPORT_ACCEPTED:
        return STATUS_OK;
    case REPORT_PROMPT_TOKEN:
        apply_prompt_token(generation, item);
        return STATUS_OK;
    case REPORT_TOKEN:
        status = apply_token(generation, item, err);
        break;
    case REPORT_FINISHED:
        status = apply_finished(generation, item, err);
        break;
    case REPORT_REFUSED: /* nothing of the job runs any more */
        generation->failure = item->error;
        generation->open_choices = 0;
        generation->finished_ns = monotime_ns();
        return STATUS_OK;
    }
    if (status == STATUS_OK && chunks)
        status = generation_stream(generation, item->prompt_index, item->event.choice, chunks);
    return status;
}
