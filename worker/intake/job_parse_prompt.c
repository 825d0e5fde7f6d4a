// SPDX-License-Identifier: Apache-2.0
// The job's prompt or messages into token ids: the chat template, the tokenizer, truncation.
#include <string.h>

#include "base/monotime.h"
#include "worker/intake/chat_messages.h"
#include "worker/intake/job_parse_internal.h"

enum {
    RENDER_SLACK_BYTES = 1 << 20,
    RENDER_FACTOR = 4
}; /* a template may repeat and surround the messages */

/* ---- tokens ---- */

/* What truncate_prompt_tokens leaves of `count` tokens. */
static size_t kept_tokens(const struct job_parse *parse, size_t count)
{
    const struct job_body *b = &parse->body;
    if (!b->truncate_prompt_tokens.given)
        return count;
    int64_t keep = b->truncate_prompt_tokens.value;
    if (keep < 0) { /* as much as leaves room for what is generated */
        struct job_integer asked = b->max_completion_tokens.given ? b->max_completion_tokens : b->max_tokens;
        int64_t room = asked.given ? asked.value : parse->job->kind == JOB_CHAT ? 1 : 16;
        keep = parse->context->max_context_tokens - room;
        if (keep < 1)
            keep = 1;
    }
    return (size_t)keep < count ? (size_t)keep : count;
}

static enum status add_tokens(struct job_parse *parse, const int32_t *ids, size_t count,
                              struct job_prompt *prompt)
{
    size_t keep = kept_tokens(parse, count);
    bool right = json_is_string(parse->body.truncation_side, "right");
    int32_t *tokens = job_parse_alloc(parse, keep, sizeof *tokens);
    if (!tokens)
        return STATUS_NO_MEMORY;
    if (keep)
        memcpy(tokens, right ? ids : ids + (count - keep), keep * sizeof *tokens);
    prompt->tokens = tokens;
    prompt->count = keep;
    if (keep < count)
        prompt->text = NULL; /* echo shows what is left, decoded */
    return STATUS_OK;
}

static enum status add_text(struct job_parse *parse, const char *text, size_t bytes,
                            struct job_prompt *prompt)
{
    bool chat = parse->job->kind == JOB_CHAT;
    const struct job_flag *special = &parse->body.add_special_tokens;
    struct encode_options options = {.add_special_tokens = special->given ? special->value : !chat};
    struct token_list ids = {0};
    struct error err = {0};
    enum status status = tokenizer_encode(parse->context->tokenizer, text, bytes, &options, &ids, &err);
    if (status == STATUS_OK)
        status = add_tokens(parse, ids.ids, ids.count, prompt);
    token_list_release(&ids);
    if (status_class_of(status) == STATUS_CLASS_REJECT)
        return job_parse_refuse(parse, chat ? "messages" : "prompt", "", "the prompt cannot be tokenized: %s",
                                err.text);
    return status;
}

/* ---- completions ---- */

static enum status add_ids(struct job_parse *parse, const struct json *list, struct job_prompt *prompt)
{
    const int32_t *ids;
    enum status status = job_parse_token_ids(parse, "prompt", list, &ids);
    return status == STATUS_OK ? add_tokens(parse, ids, list->count, prompt) : status;
}

static enum status add_prompt(struct job_parse *parse, const struct json *node, struct job_prompt *prompt)
{
    if (node->type == JSON_ARRAY)
        return add_ids(parse, node, prompt);
    if (node->type != JSON_STRING)
        return job_parse_refuse(parse, "prompt", "",
                                "prompt must be a string, a list of strings, a list of token ids or a list "
                                "of such lists; got %s inside",
                                json_type_name(node->type));
    prompt->text = job_parse_copy(parse, node->as.string);
    if (!prompt->text)
        return STATUS_NO_MEMORY;
    if (strlen(prompt->text) != node->count)
        prompt->text = NULL; /* it holds a NUL: echo decodes the tokens instead */
    return add_text(parse, node->as.string, node->count, prompt);
}

static enum status completion_prompts(struct job_parse *parse)
{
    const struct json *node = parse->body.prompt;
    if (!node)
        return job_parse_refuse(parse, "prompt", "", "a completion needs a prompt");
    if (node->type != JSON_STRING && node->type != JSON_ARRAY)
        return job_parse_refuse(parse, "prompt", "",
                                "prompt must be a string, a list of strings, a list of token ids or a list "
                                "of such lists, got %s",
                                json_type_name(node->type));
    bool is_list = node->type == JSON_ARRAY && node->count > 0 && node->as.items[0].type != JSON_INTEGER;
    size_t count = is_list ? node->count : 1;
    if (node->type == JSON_ARRAY && node->count == 0)
        return job_parse_refuse(parse, "prompt", "", "prompt must not be an empty list");
    if (count > JOB_MAX_PROMPTS)
        return job_parse_refuse(parse, "prompt", "", "prompt takes at most %d prompts, got %zu",
                                JOB_MAX_PROMPTS, count);
    struct job_prompt *prompts = job_parse_alloc(parse, count, sizeof *prompts);
    enum status status = prompts ? STATUS_OK : STATUS_NO_MEMORY;
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = add_prompt(parse, is_list ? &node->as.items[i] : node, &prompts[i]);
    parse->job->prompts = prompts;
    parse->job->prompt_count = count;
    return status;
}

/* ---- chat ---- */

static enum status prepare_messages(struct job_parse *parse, struct json *out)
{
    struct error err = {0};
    if (!parse->body.messages)
        return job_parse_refuse(parse, "messages", "", "a chat job needs messages");
    enum status status =
        chat_messages_prepare(&parse->job->arena, parse->body.messages,
                              chat_template_reads_parts(parse->context->chat_template), out, &err);
    if (status_class_of(status) == STATUS_CLASS_REJECT)
        return job_parse_refuse(parse, "messages",
                                status == STATUS_UNSUPPORTED ? "unsupported_parameter" : "", "%s", err.text);
    return status;
}

/* What echo puts before a chat answer: the last message when it is the assistant's. */
static const char *echoed_message(const struct json *messages)
{
    const struct json *last = &messages->as.items[messages->count - 1];
    if (!json_is_string(json_member(last, "role"), "assistant"))
        return "";
    return json_string_or(json_member(last, "content"), "");
}

static enum status check_chat(struct job_parse *parse)
{
    const struct job_body *b = &parse->body;
    if (!parse->context->chat_template)
        return job_parse_refuse(parse, "messages", "",
                                "this model has no chat template; send a prompt to /v1/completions instead");
    if (b->continue_final_message.value && b->add_generation_prompt.value)
        return job_parse_refuse(parse, "continue_final_message", "",
                                "continue_final_message and add_generation_prompt exclude each other");
    if (b->tools && b->tools->type != JSON_ARRAY)
        return job_parse_refuse(parse, "tools", "", "tools must be a list, got %s",
                                json_type_name(b->tools->type));
    if (b->documents && b->documents->type != JSON_ARRAY)
        return job_parse_refuse(parse, "documents", "", "documents must be a list, got %s",
                                json_type_name(b->documents->type));
    if (b->chat_template_kwargs && b->chat_template_kwargs->type != JSON_OBJECT)
        return job_parse_refuse(parse, "chat_template_kwargs", "",
                                "chat_template_kwargs must be an object, got %s",
                                json_type_name(b->chat_template_kwargs->type));
    return STATUS_OK;
}

static enum status render(struct job_parse *parse, const struct json *messages, struct bytes *out)
{
    const struct job_body *b = &parse->body;
    struct error err = {0};
    struct chat_render_options options = {
        .messages = messages,
        .tools = b->tools && b->tools->count ? b->tools : NULL,
        .documents = b->documents,
        .kwargs = b->chat_template_kwargs,
        .continue_final_message = b->continue_final_message.value,
        .add_generation_prompt = b->add_generation_prompt.given ? b->add_generation_prompt.value
                                                                : !b->continue_final_message.value,
        /* the record's time: a redelivered job renders the same prompt */
        .now_ms = parse->record->timestamp_ms >= 0 ? parse->record->timestamp_ms : walltime_ms()};
    enum status status = chat_template_render(parse->context->chat_template, &options, out, &err);
    if (status_class_of(status) == STATUS_CLASS_REJECT)
        return job_parse_refuse(parse, "messages", "", "the chat template refused the messages: %s",
                                err.text);
    return status;
}

static enum status chat_prompt(struct job_parse *parse)
{
    struct json messages;
    struct bytes text;
    struct job_prompt *prompt = job_parse_alloc(parse, 1, sizeof *prompt);
    enum status status = prompt ? check_chat(parse) : STATUS_NO_MEMORY;
    if (status == STATUS_OK)
        status = prepare_messages(parse, &messages);
    if (status != STATUS_OK)
        return status;
    bytes_init(&text, parse->record->value_bytes * RENDER_FACTOR + RENDER_SLACK_BYTES);
    status = render(parse, &messages, &text);
    if (status == STATUS_OK)
        status = add_text(parse, text.data ? text.data : "", text.count_bytes, prompt);
    bytes_release(&text);
    if (status != STATUS_OK)
        return status;
    prompt->text = job_parse_copy(parse, echoed_message(&messages));
    parse->job->prompts = prompt;
    parse->job->prompt_count = 1;
    return prompt->text ? STATUS_OK : STATUS_NO_MEMORY;
}

enum status job_parse_prompts(struct job_parse *parse)
{
    const struct json *side = parse->body.truncation_side;
    if (parse->body.truncate_prompt_tokens.given && parse->body.truncate_prompt_tokens.value == 0)
        return job_parse_refuse(parse, "truncate_prompt_tokens", "",
                                "truncate_prompt_tokens must be -1 or at least 1, got 0");
    if (side && !json_is_string(side, "left") && !json_is_string(side, "right"))
        return job_parse_refuse(parse, "truncation_side", "", "truncation_side must be left or right");
    return parse->job->kind == JOB_CHAT ? chat_prompt(parse) : completion_prompts(parse);
}
