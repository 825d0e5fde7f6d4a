// SPDX-License-Identifier: Apache-2.0
// Scoring jobs (docs/formats/score.md): every item becomes a prompt, query and item one after the other, so
// that the prefix cache computes the query once. With labels one token is sampled for its log-probabilities;
// without, the log-probabilities of the item's own tokens are asked for.
#include <string.h>

#include "worker/intake/job_parse_internal.h"

struct text_ids {
    const int32_t *ids;
    size_t count;
};

static enum status encode(struct job_parse *parse, const char *name, const struct json *node, bool special,
                          struct text_ids *out)
{
    const struct encode_options options = {.add_special_tokens = special};
    struct token_list ids = {0};
    struct error err = {0};
    enum status status =
        tokenizer_encode(parse->context->tokenizer, node->as.string, node->count, &options, &ids, &err);
    int32_t *copy = status == STATUS_OK ? job_parse_alloc(parse, ids.count, sizeof *copy) : NULL;
    if (status == STATUS_OK && !copy)
        status = STATUS_NO_MEMORY;
    if (status == STATUS_OK && ids.count)
        memcpy(copy, ids.ids, ids.count * sizeof *copy);
    *out = (struct text_ids){copy, ids.count};
    token_list_release(&ids);
    if (status_class_of(status) == STATUS_CLASS_REJECT)
        return job_parse_refuse(parse, name, "", "%s cannot be tokenized: %s", name, err.text);
    return status;
}

/* A text or a list of token ids. `first`: special tokens of the tokenizer's own may come before it. */
static enum status read_text(struct job_parse *parse, const char *name, const struct json *node, bool first,
                             struct text_ids *out)
{
    const struct job_flag *special = &parse->body.add_special_tokens;
    if (node->type == JSON_STRING)
        return encode(parse, name, node, first && (!special->given || special->value), out);
    if (node->type != JSON_ARRAY)
        return job_parse_refuse(parse, name, "", "%s must be text or a list of token ids, got %s", name,
                                json_type_name(node->type));
    out->count = node->count;
    return job_parse_token_ids(parse, name, node, &out->ids);
}

static enum status read_labels(struct job_parse *parse)
{
    struct sampling_params *s = &parse->job->sampling;
    const struct json *list = parse->body.label_token_ids;
    if (!list)
        return STATUS_OK;
    enum status status = job_parse_token_ids(parse, "label_token_ids", list, &s->logprob_tokens);
    if (status == STATUS_OK && (list->count == 0 || list->count > JOB_MAX_LOGPROB_TOKENS))
        return job_parse_refuse(parse, "label_token_ids", "", "label_token_ids takes 1 to %d ids, got %zu",
                                JOB_MAX_LOGPROB_TOKENS, list->count);
    s->logprob_token_count = list->count;
    return status;
}

static enum status read_options(struct job_parse *parse)
{
    const struct job_body *b = &parse->body;
    struct job *job = parse->job;
    enum status status = read_labels(parse);
    bool labels = job->sampling.logprob_token_count > 0;
    if (status != STATUS_OK)
        return status;
    if (b->normalize && !json_is_string(b->normalize, "sum") && !json_is_string(b->normalize, "mean"))
        return job_parse_refuse(parse, "normalize", "", "normalize must be sum or mean");
    if (b->normalize && labels)
        return job_parse_refuse(parse, "normalize", "", "normalize is for jobs without label_token_ids");
    if (b->apply_softmax.value && !labels)
        return job_parse_refuse(parse, "apply_softmax", "", "apply_softmax needs label_token_ids");
    if (b->item_first.value && !labels)
        return job_parse_refuse(parse, "item_first", "", "item_first needs label_token_ids");
    job->score_softmax = b->apply_softmax.value;
    job->score_mean = json_is_string(b->normalize, "mean");
    job->top_logprobs = SAMPLING_NO_LOGPROBS;
    job->sampling.ignore_eos = true;
    job->sampling.max_tokens = labels ? 1 : 0;
    job->sampling.logprobs = labels ? 0 : SAMPLING_NO_LOGPROBS;
    job->sampling.prompt_logprobs = labels ? SAMPLING_NO_LOGPROBS : 0;
    return STATUS_OK;
}

static enum status join(struct job_parse *parse, struct text_ids first, struct text_ids second,
                        struct job_prompt *out)
{
    size_t count = first.count + second.count;
    int32_t *tokens = job_parse_alloc(parse, count, sizeof *tokens);
    if (count == 0)
        return job_parse_refuse(parse, "items", "", "query and item have no tokens together");
    if (count + parse->job->sampling.max_tokens > (size_t)parse->context->max_context_tokens)
        return job_parse_refuse(
            parse, "items", "context_length_exceeded",
            "this model's maximum context length is %d tokens, but query and item have %zu",
            parse->context->max_context_tokens, count);
    if (!tokens)
        return STATUS_NO_MEMORY;
    if (first.count)
        memcpy(tokens, first.ids, first.count * sizeof *tokens);
    if (second.count)
        memcpy(tokens + first.count, second.ids, second.count * sizeof *tokens);
    *out = (struct job_prompt){.tokens = tokens, .count = count};
    return STATUS_OK;
}

static enum status read_item(struct job_parse *parse, const struct json *node, struct text_ids query,
                             struct job_prompt *out)
{
    bool first = parse->body.item_first.value, labels = parse->job->sampling.logprob_token_count > 0;
    struct text_ids item = {0};
    enum status status = read_text(parse, "items", node, first, &item);
    if (status != STATUS_OK)
        return status;
    if (!labels && item.count == 0)
        return job_parse_refuse(parse, "items", "", "an item without tokens has no log-probability");
    return join(parse, first ? item : query, first ? query : item, out);
}

enum status job_parse_score(struct job_parse *parse)
{
    const struct json *query = parse->body.query, *items = parse->body.items;
    struct job *job = parse->job;
    struct text_ids asked = {0};
    if (!query || !items)
        return job_parse_refuse(parse, query ? "items" : "query", "", "a scoring job needs query and items");
    bool is_list = items->type == JSON_ARRAY;
    size_t count = is_list ? items->count : 1, total = 0;
    if (count == 0 || count > JOB_MAX_PROMPTS)
        return job_parse_refuse(parse, "items", "", "items takes 1 to %d items, got %zu", JOB_MAX_PROMPTS,
                                count);
    enum status status = read_options(parse);
    if (status == STATUS_OK)
        status = read_text(parse, "query", query, !parse->body.item_first.value, &asked);
    if (status != STATUS_OK)
        return status;
    if (job->sampling.logprob_token_count == 0 && asked.count == 0)
        return job_parse_refuse(parse, "query", "", "query has no tokens for the items to follow");
    job->sampling.prompt_logprobs_from = (uint32_t)asked.count;
    struct job_prompt *prompts = job_parse_alloc(parse, count, sizeof *prompts);
    if (!prompts)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = read_item(parse, is_list ? &items->as.items[i] : items, asked, &prompts[i]);
        total += status == STATUS_OK ? prompts[i].count : 0;
        if (total > JOB_MAX_SCORE_TOKENS)
            return job_parse_refuse(parse, "items", "", "query and items have over %d tokens together",
                                    JOB_MAX_SCORE_TOKENS);
    }
    job->prompts = prompts;
    job->prompt_count = count;
    return status;
}
