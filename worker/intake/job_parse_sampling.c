// SPDX-License-Identifier: Apache-2.0
// Sampling parameters: the request's value, else generation_config.json's, else vLLM's library default; then
// the rules that tie fields together. Source of defaults and rules: vLLM's SamplingParams.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/intake/job_parse_internal.h"

#define LEAST_TEMPERATURE 0.01 /* vLLM: anything lower but 0 overflows, so it is raised to this */
#define MAX_BIAS 100.0

static float number_or(struct job_number given, bool has, float model, float library)
{
    return given.given ? (float)given.value : has ? model : library;
}

static enum status read_token_id(struct job_parse *parse, const char *name, const struct json *node,
                                 int32_t *out)
{
    int32_t vocab = parse->context->hparams->vocab;
    if (node->type != JSON_INTEGER)
        return job_parse_refuse(parse, name, "", "%s must hold token ids, got %s", name,
                                json_type_name(node->type));
    if (node->as.integer < 0 || node->as.integer >= vocab)
        return job_parse_refuse(parse, name, "", "%s: token id %lld is outside the vocabulary of %d", name,
                                (long long)node->as.integer, vocab);
    *out = (int32_t)node->as.integer;
    return STATUS_OK;
}

enum status job_parse_token_ids(struct job_parse *parse, const char *name, const struct json *list,
                                const int32_t **out)
{
    if (list->type != JSON_ARRAY)
        return job_parse_refuse(parse, name, "", "%s must be a list of token ids, got %s", name,
                                json_type_name(list->type));
    int32_t *ids = job_parse_alloc(parse, list->count, sizeof *ids);
    enum status status = ids ? STATUS_OK : STATUS_NO_MEMORY;
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++)
        status = read_token_id(parse, name, &list->as.items[i], &ids[i]);
    *out = ids;
    return status;
}

static enum status read_token_lists(struct job_parse *parse)
{
    struct sampling_params *s = &parse->job->sampling;
    const struct job_body *body = &parse->body;
    const struct {
        const char *name;
        const struct json *list;
        const int32_t **out;
        size_t *count;
    } lists[] = {{"stop_token_ids", body->stop_token_ids, &s->stop_tokens, &s->stop_token_count},
                 {"allowed_token_ids", body->allowed_token_ids, &s->allowed_tokens, &s->allowed_count},
                 {"logprob_token_ids", body->logprob_token_ids, &s->logprob_tokens, &s->logprob_token_count}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (!lists[i].list)
            continue;
        enum status status = job_parse_token_ids(parse, lists[i].name, lists[i].list, lists[i].out);
        if (status != STATUS_OK)
            return status;
        *lists[i].count = lists[i].list->count;
    }
    if (body->allowed_token_ids && s->allowed_count == 0)
        return job_parse_refuse(parse, "allowed_token_ids", "", "allowed_token_ids must not be empty");
    if (s->logprob_token_count > JOB_MAX_LOGPROB_TOKENS)
        return job_parse_refuse(parse, "logprob_token_ids", "",
                                "logprob_token_ids takes at most %d ids, got %zu", JOB_MAX_LOGPROB_TOKENS,
                                s->logprob_token_count);
    return STATUS_OK;
}

static enum status read_one_stop(struct job_parse *parse, const struct json *node, const char **out)
{
    if (node->type != JSON_STRING)
        return job_parse_refuse(parse, "stop", "", "stop must be a string or a list of strings, got %s",
                                json_type_name(node->type));
    if (node->count == 0 || strlen(node->as.string) != node->count)
        return job_parse_refuse(parse, "stop", "", "stop must not hold an empty string or a NUL");
    *out = job_parse_copy(parse, node->as.string);
    return *out ? STATUS_OK : STATUS_NO_MEMORY;
}

static enum status read_stops(struct job_parse *parse)
{
    const struct json *stop = parse->body.stop;
    if (!stop)
        return STATUS_OK;
    bool is_list = stop->type == JSON_ARRAY;
    size_t count = is_list ? stop->count : 1;
    if (count > JOB_MAX_STOPS)
        return job_parse_refuse(parse, "stop", "", "stop takes at most %d strings, got %zu", JOB_MAX_STOPS,
                                count);
    const char **stops = job_parse_alloc(parse, count, sizeof *stops);
    enum status status = stops ? STATUS_OK : STATUS_NO_MEMORY;
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = read_one_stop(parse, is_list ? &stop->as.items[i] : stop, &stops[i]);
    parse->job->sampling.stops = stops;
    parse->job->sampling.stop_count = count;
    return status;
}

static enum status read_one_bias(struct job_parse *parse, const struct json *node, struct token_bias *out)
{
    char *end;
    errno = 0;
    long long id = strtoll(node->key, &end, 10);
    if (end == node->key || *end || errno || id < 0 || id >= parse->context->hparams->vocab)
        return job_parse_refuse(parse, "logit_bias", "",
                                "logit_bias: \"%.32s\" is no token id of the vocabulary of %d", node->key,
                                parse->context->hparams->vocab);
    if (node->type != JSON_NUMBER && node->type != JSON_INTEGER)
        return job_parse_refuse(parse, "logit_bias", "", "logit_bias of %lld must be a number, got %s", id,
                                json_type_name(node->type));
    double bias = json_number_or(node, 0);
    if (bias > MAX_BIAS || bias < -MAX_BIAS)
        job_parse_warn(parse, "logit_bias of %lld clamped to [-100, 100]", id);
    bias = bias > MAX_BIAS ? MAX_BIAS : bias < -MAX_BIAS ? -MAX_BIAS : bias;
    *out = (struct token_bias){.token = (int32_t)id, .bias = (float)bias};
    return STATUS_OK;
}

static enum status read_logit_bias(struct job_parse *parse)
{
    const struct json *map = parse->body.logit_bias;
    if (!map)
        return STATUS_OK;
    if (map->type != JSON_OBJECT)
        return job_parse_refuse(parse, "logit_bias", "", "logit_bias must be an object of token ids, got %s",
                                json_type_name(map->type));
    struct token_bias *biases = job_parse_alloc(parse, map->count, sizeof *biases);
    enum status status = biases ? STATUS_OK : STATUS_NO_MEMORY;
    for (size_t i = 0; i < map->count && status == STATUS_OK; i++)
        status = read_one_bias(parse, &map->as.items[i], &biases[i]);
    parse->job->sampling.logit_bias = biases;
    parse->job->sampling.logit_bias_count = map->count;
    return status;
}

/* Tokens of the word with or without a space before it, in the job's arena. */
static enum status encode_word(struct job_parse *parse, const char *word, bool space, struct token_run *out)
{
    struct encode_options options = {0};
    struct token_list ids = {0};
    struct error err = {0};
    char *text = job_parse_alloc(parse, strlen(word) + 2, 1);
    if (!text)
        return STATUS_NO_MEMORY;
    snprintf(text, strlen(word) + 2, "%s%s", space ? " " : "", word);
    enum status status =
        tokenizer_encode(parse->context->tokenizer, text, strlen(text), &options, &ids, &err);
    int32_t *tokens = job_parse_alloc(parse, ids.count, sizeof *tokens);
    if (status == STATUS_OK && !tokens)
        status = STATUS_NO_MEMORY;
    if (status == STATUS_OK && ids.count)
        memcpy(tokens, ids.ids, ids.count * sizeof *tokens);
    *out = (struct token_run){.tokens = tokens, .count = ids.count};
    token_list_release(&ids);
    if (status_class_of(status) == STATUS_CLASS_REJECT)
        return job_parse_refuse(parse, "bad_words", "", "bad_words: %s", err.text);
    return status;
}

/* As vLLM: the word at the beginning, and behind a space when that is another first token of equal length. */
static enum status read_bad_word(struct job_parse *parse, const struct json *node, struct token_run *runs,
                                 size_t *count)
{
    if (node->type != JSON_STRING || strlen(node->as.string) != node->count)
        return job_parse_refuse(parse, "bad_words", "", "bad_words must be a list of strings without NUL");
    const char *word = node->as.string + strspn(node->as.string, " ");
    if (!*word)
        return job_parse_refuse(parse, "bad_words", "", "bad_words must not hold an empty string");
    struct token_run plain, spaced;
    enum status status = encode_word(parse, word, false, &plain);
    if (status == STATUS_OK)
        status = encode_word(parse, word, true, &spaced);
    if (status != STATUS_OK)
        return status;
    if (plain.count)
        runs[(*count)++] = plain;
    if (spaced.count && spaced.count == plain.count && spaced.tokens[0] != plain.tokens[0])
        runs[(*count)++] = spaced;
    return STATUS_OK;
}

static enum status read_bad_words(struct job_parse *parse)
{
    const struct json *list = parse->body.bad_words;
    if (!list)
        return STATUS_OK;
    if (list->type != JSON_ARRAY || list->count > JOB_MAX_BAD_WORDS)
        return job_parse_refuse(parse, "bad_words", "", "bad_words must be a list of at most %d strings",
                                JOB_MAX_BAD_WORDS);
    struct token_run *runs = job_parse_alloc(parse, 2 * list->count, sizeof *runs);
    enum status status = runs ? STATUS_OK : STATUS_NO_MEMORY;
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++)
        status = read_bad_word(parse, &list->as.items[i], runs, &parse->job->sampling.bad_word_count);
    parse->job->sampling.bad_words = runs;
    return status;
}

static enum status read_chat_logprobs(struct job_parse *parse)
{
    const struct json *logprobs = parse->body.logprobs;
    struct job_integer top = parse->body.top_logprobs;
    if (logprobs && logprobs->type != JSON_TRUE && logprobs->type != JSON_FALSE)
        return job_parse_refuse(parse, "logprobs", "", "logprobs must be true or false in a chat job, got %s",
                                json_type_name(logprobs->type));
    bool on = logprobs && logprobs->type == JSON_TRUE;
    if (top.given && top.value > 0 && !on)
        return job_parse_refuse(parse, "top_logprobs", "", "top_logprobs needs logprobs to be true");
    if (on)
        parse->job->top_logprobs = top.given ? (int32_t)top.value : 0;
    return STATUS_OK;
}

static enum status read_logprobs(struct job_parse *parse)
{
    struct job *job = parse->job;
    const struct json *logprobs = parse->body.logprobs;
    enum status status = STATUS_OK;
    job->top_logprobs = SAMPLING_NO_LOGPROBS;
    if (job->kind == JOB_CHAT)
        status = read_chat_logprobs(parse);
    else if (logprobs && (logprobs->type != JSON_INTEGER || logprobs->as.integer < 0 ||
                          logprobs->as.integer > SAMPLING_MAX_LOGPROBS))
        status = job_parse_refuse(parse, "logprobs", "", "logprobs must be an integer in [0, %d]",
                                  SAMPLING_MAX_LOGPROBS);
    else if (logprobs)
        job->top_logprobs = (int32_t)logprobs->as.integer;
    if (job->sampling.logprob_token_count && job->top_logprobs == SAMPLING_NO_LOGPROBS)
        job->top_logprobs = 0;
    if (status == STATUS_OK && job->sampling.use_beam_search && job->top_logprobs > 0)
        return job_parse_refuse(parse, job->kind == JOB_CHAT ? "top_logprobs" : "logprobs",
                                "unsupported_parameter",
                                "alternatives of tokens are not supported with use_beam_search");
    job->sampling.logprobs = job->top_logprobs;
    job->prompt_logprobs = parse->body.prompt_logprobs.given;
    if (job->prompt_logprobs)
        job->sampling.prompt_logprobs = (int32_t)parse->body.prompt_logprobs.value;
    else if (job->echo && job->kind == JOB_COMPLETION) /* echoed tokens have log-probabilities too */
        job->sampling.prompt_logprobs = job->top_logprobs;
    return status;
}

/* Greedy is temperature 0 alone; then the filters mean nothing and all choices would be equal. */
static enum status read_temperature(struct job_parse *parse)
{
    struct sampling_params *s = &parse->job->sampling;
    const struct hparams *model = parse->context->hparams;
    s->temperature = number_or(parse->body.temperature, model->has_temperature, model->temperature, 1);
    if (s->temperature > 0 && s->temperature < (float)LEAST_TEMPERATURE) {
        job_parse_warn(parse, "temperature raised to %g, the least above 0", LEAST_TEMPERATURE);
        s->temperature = (float)LEAST_TEMPERATURE;
    }
    if (s->temperature > 0)
        return STATUS_OK;
    s->top_p = 1;
    s->top_k = 0;
    s->min_p = 0;
    if (s->n > 1)
        return job_parse_refuse(parse, "n", "", "n must be 1 when temperature is 0 (greedy), got %u", s->n);
    return STATUS_OK;
}

static void read_numbers(struct job_parse *parse)
{
    struct sampling_params *s = &parse->job->sampling;
    const struct job_body *b = &parse->body;
    const struct hparams *model = parse->context->hparams;
    s->top_p = number_or(b->top_p, model->has_top_p, model->top_p, 1);
    s->min_p = number_or(b->min_p, model->has_min_p, model->min_p, 0);
    s->repetition_penalty =
        number_or(b->repetition_penalty, model->has_repetition_penalty, model->repetition_penalty, 1);
    s->top_k = b->top_k.given ? (int32_t)b->top_k.value : model->has_top_k ? model->top_k : 0;
    if (s->top_k < 0)
        s->top_k = 0;
    s->presence_penalty = (float)b->presence_penalty.value;
    s->frequency_penalty = (float)b->frequency_penalty.value;
    s->n = b->n.given ? (uint32_t)b->n.value : 1;
    s->min_tokens = (uint32_t)b->min_tokens.value;
    s->ignore_eos = b->ignore_eos.value;
    s->length_penalty = b->length_penalty.given ? (float)b->length_penalty.value : 1;
    s->include_stop = b->include_stop_str_in_output.value;
    s->skip_special_tokens = !b->skip_special_tokens.given || b->skip_special_tokens.value;
}

/* A search is deterministic: what shapes a draw has no effect, what changes scores is refused. */
static enum status read_beams(struct job_parse *parse)
{
    struct sampling_params *s = &parse->job->sampling;
    const struct job_body *b = &parse->body;
    int64_t most = parse->context->config->engine.max_sequences;
    const struct {
        const char *name;
        bool given;
    } others[] = {{"presence_penalty", b->presence_penalty.value != 0},
                  {"frequency_penalty", b->frequency_penalty.value != 0},
                  {"repetition_penalty", b->repetition_penalty.given && b->repetition_penalty.value != 1},
                  {"logit_bias", b->logit_bias != NULL},
                  {"stop", b->stop != NULL},
                  {"logprob_token_ids", b->logprob_token_ids != NULL}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (others[i].given)
            return job_parse_refuse(parse, others[i].name, "unsupported_parameter",
                                    "%s is not supported with use_beam_search", others[i].name);
    if (s->n > (uint32_t)most)
        return job_parse_refuse(parse, "n", "",
                                "n is the width of the beam search: at most %lld here, got %u",
                                (long long)most, s->n);
    s->use_beam_search = true;
    s->early_stopping = b->early_stopping.value;
    s->temperature = 0;
    s->top_p = 1;
    s->top_k = 0;
    s->min_p = 0;
    s->repetition_penalty = 1;
    return STATUS_OK;
}

static enum status check_unsupported_values(struct job_parse *parse)
{
    const struct job_body *b = &parse->body;
    const char *tool_choice = json_string_or(b->tool_choice, "");
    if (b->best_of.given && b->best_of.value != parse->job->sampling.n)
        return job_parse_refuse(parse, "best_of", "unsupported_parameter",
                                "best_of is supported only when it equals n");
    if (b->tool_choice && strcmp(tool_choice, "none") != 0 && strcmp(tool_choice, "auto") != 0)
        return job_parse_refuse(parse, "tool_choice", "unsupported_parameter",
                                "tool_choice is supported with \"none\" or \"auto\" only");
    return STATUS_OK;
}

enum status job_parse_sampling(struct job_parse *parse)
{
    int64_t max_choices = parse->context->config->limits.max_choices;
    read_numbers(parse);
    parse->job->echo = parse->body.echo.value;
    if (parse->body.n.value > max_choices)
        return job_parse_refuse(parse, "n", "", "n must be in [1, %lld], got %lld", (long long)max_choices,
                                (long long)parse->body.n.value);
    enum status status = parse->body.use_beam_search.value ? read_beams(parse) : read_temperature(parse);
    if (status == STATUS_OK)
        status = check_unsupported_values(parse);
    if (status == STATUS_OK)
        status = read_token_lists(parse);
    if (status == STATUS_OK)
        status = read_stops(parse);
    if (status == STATUS_OK)
        status = read_logit_bias(parse);
    if (status == STATUS_OK)
        status = read_bad_words(parse);
    return status == STATUS_OK ? read_logprobs(parse) : status;
}

static enum status refuse_context(struct job_parse *parse, size_t prompt_tokens, int64_t max_tokens)
{
    return job_parse_refuse(parse, parse->job->kind == JOB_CHAT ? "messages" : "prompt",
                            "context_length_exceeded",
                            "this model's maximum context length is %d tokens, but the prompt has %zu and "
                            "max_tokens asks for %lld; shorten one of them",
                            parse->context->max_context_tokens, prompt_tokens, (long long)max_tokens);
}

enum status job_parse_lengths(struct job_parse *parse)
{
    struct job *job = parse->job;
    const struct job_body *b = &parse->body;
    struct job_integer asked = b->max_completion_tokens.given ? b->max_completion_tokens : b->max_tokens;
    int64_t tokens = asked.given             ? asked.value
                     : job->kind == JOB_CHAT ? parse->context->config->limits.default_max_tokens
                                             : 16;
    if (tokens == 0 && (job->sampling.use_beam_search || !(job->echo && job->kind == JOB_COMPLETION)))
        return job_parse_refuse(parse, "max_tokens", "",
                                "max_tokens may be 0 only in a completion with echo");
    for (size_t i = 0; i < job->prompt_count; i++) {
        int64_t left = (int64_t)parse->context->max_context_tokens - (int64_t)job->prompts[i].count;
        if (job->prompts[i].count == 0)
            return job_parse_refuse(parse, "prompt", "", "the prompt has no tokens");
        if (left < (tokens > 0) || (asked.given && left < tokens))
            return refuse_context(parse, job->prompts[i].count, tokens);
        if (left < tokens)
            tokens = left;
    }
    job->sampling.max_tokens = (uint32_t)tokens;
    if (job->sampling.min_tokens > job->sampling.max_tokens)
        return job_parse_refuse(parse, "min_tokens", "", "min_tokens (%u) must not be above max_tokens (%u)",
                                job->sampling.min_tokens, job->sampling.max_tokens);
    return STATUS_OK;
}
