// SPDX-License-Identifier: Apache-2.0
// Opening and rendering. What a template sees is what transformers' apply_chat_template gives it: messages
// without null members, reasoning under each of its names, tools and documents (None when absent), the
// special tokens of tokenizer_config.json, chat_template_kwargs over them.
#include "engine/text/chat_template.h"

#include <stdlib.h>
#include <string.h>

#include "engine/text/template_node.h"
#include "engine/text/text_file.h"

#define MAX_CONFIG_BYTES ((size_t)16 << 20)
#define TREE_MAX_BYTES ((size_t)256 << 20)
#define MAX_TOKENS 16
#define CONTINUE_TAG "CONTINUE_FINAL_MESSAGE_TAG "

struct chat_template {
    struct arena arena;
    struct template_node *root, *tool_root; /* tool_root: the "tool_use" template, NULL: the same */
    struct {
        char *name, *text;
    } tokens[MAX_TOKENS]; /* special tokens by name, in the arena */
    size_t token_count;
    bool reads_parts;
};

static enum status shortage(struct error *err)
{
    return error_set(err, STATUS_NO_MEMORY, "no memory for the chat template");
}

static enum status parse(struct chat_template *t, const char *text, size_t bytes, struct template_node **root,
                         struct error *err)
{
    struct template_source source = {.arena = &t->arena, .err = err};
    enum status status = template_lex(&source, text, bytes);
    if (status == STATUS_OK)
        status = template_parse(&source, root);
    free(source.tokens);
    return status;
}

static enum status add_token(struct chat_template *t, const char *name, const char *text, struct error *err)
{
    if (!text || t->token_count == MAX_TOKENS)
        return STATUS_OK;
    t->tokens[t->token_count].name = arena_copy(&t->arena, name, strlen(name));
    t->tokens[t->token_count].text = arena_copy(&t->arena, text, strlen(text));
    if (!t->tokens[t->token_count].name || !t->tokens[t->token_count].text)
        return shortage(err);
    t->token_count++;
    return STATUS_OK;
}

/* A template that reads parts prints both texts and none of the words around them; one that takes strings
 * prints the list as Python would, or fails. */
static enum status probe(struct chat_template *t, struct error *err)
{
    static const char message[] = "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"PART-1\"},"
                                  "{\"type\":\"text\",\"text\":\"PART-2\"}]}]";
    struct json_document *document;
    struct bytes shown;
    enum status status = json_parse(&document, message, sizeof message - 1, NULL, err);
    if (status != STATUS_OK)
        return status;
    const struct chat_render_options options = {.messages = json_root(document)};
    bytes_init(&shown, TEMPLATE_MAX_BYTES);
    status = chat_template_render(t, &options, &shown, NULL);
    t->reads_parts = status == STATUS_OK && strstr(shown.data, "PART-1") && strstr(shown.data, "PART-2") &&
                     !strstr(shown.data, "'text'") && !strstr(shown.data, "\"text\"");
    bytes_release(&shown);
    json_close(document);
    return status == STATUS_NO_MEMORY ? shortage(err) : STATUS_OK;
}

bool chat_template_reads_parts(const struct chat_template *chat_template)
{
    return chat_template->reads_parts;
}

static struct chat_template *new_template(void)
{
    struct chat_template *t = calloc(1, sizeof *t);
    if (t)
        arena_init(&t->arena, TREE_MAX_BYTES);
    return t;
}

enum status chat_template_open_text(struct chat_template **out, const char *source, size_t bytes,
                                    const char *bos_token, const char *eos_token, struct error *err)
{
    struct chat_template *t = new_template();
    *out = NULL;
    if (!t)
        return shortage(err);
    enum status status = add_token(t, "bos_token", bos_token, err);
    if (status == STATUS_OK)
        status = add_token(t, "eos_token", eos_token, err);
    if (status == STATUS_OK)
        status = parse(t, source, bytes, &t->root, err);
    if (status == STATUS_OK)
        status = probe(t, err);
    if (status != STATUS_OK) {
        chat_template_close(t);
        return status;
    }
    *out = t;
    return STATUS_OK;
}

void chat_template_close(struct chat_template *chat_template)
{
    if (!chat_template)
        return;
    arena_release(&chat_template->arena);
    free(chat_template);
}

static enum status read_special_tokens(struct chat_template *t, const struct json *config, struct error *err)
{
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && status == STATUS_OK; i++) {
        const struct json *node = json_member(config, names[i]);
        if (node && node->type == JSON_OBJECT)
            node = json_member(node, "content");
        status = add_token(t, names[i], json_string_or(node, NULL), err);
    }
    return status;
}

/* A list of {"name", "template"}: "default", and "tool_use" where tools are given. */
static enum status parse_named(struct chat_template *t, const struct json *list, struct error *err)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < list->count && status == STATUS_OK; i++) {
        const char *name = json_string_or(json_member(&list->as.items[i], "name"), "");
        const struct json *text = json_member(&list->as.items[i], "template");
        if (!text || text->type != JSON_STRING)
            return error_set(err, STATUS_INVALID, "chat_template: a named template has no text");
        if (strcmp(name, "default") == 0)
            status = parse(t, text->as.string, text->count, &t->root, err);
        else if (strcmp(name, "tool_use") == 0)
            status = parse(t, text->as.string, text->count, &t->tool_root, err);
    }
    if (status == STATUS_OK && !t->root)
        return error_set(err, STATUS_INVALID, "chat_template: none of the named templates is \"default\"");
    return status;
}

static enum status load(struct chat_template *t, const struct bytes *file, const struct json *config,
                        struct error *err)
{
    const struct json *node = json_member(config, "chat_template");
    enum status status = read_special_tokens(t, config, err);
    if (status != STATUS_OK)
        return status;
    if (file->data)
        return parse(t, file->data, file->count_bytes, &t->root, err);
    if (node && node->type == JSON_STRING)
        return parse(t, node->as.string, node->count, &t->root, err);
    if (node && node->type == JSON_ARRAY)
        return parse_named(t, node, err);
    return error_set(err, STATUS_NOT_FOUND,
                     "the model has no chat template (chat_template.jinja or "
                     "chat_template in tokenizer_config.json)");
}

static enum status read_optional(struct bytes *out, const char *dir, const char *name, struct error *err)
{
    enum status status = text_file_read(out, dir, name, err);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status chat_template_open(struct chat_template **out, const char *model_dir, struct error *err)
{
    struct bytes file, config;
    struct json_document *document = NULL;
    const struct json_limits limits = {.max_bytes = MAX_CONFIG_BYTES};
    struct chat_template *t = new_template();
    *out = NULL;
    bytes_init(&file, TEMPLATE_MAX_BYTES);
    bytes_init(&config, MAX_CONFIG_BYTES);
    enum status status = t ? read_optional(&file, model_dir, "chat_template.jinja", err) : shortage(err);
    if (status == STATUS_OK)
        status = read_optional(&config, model_dir, "tokenizer_config.json", err);
    if (status == STATUS_OK && config.data)
        status = json_parse(&document, config.data, config.count_bytes, &limits, err);
    if (status == STATUS_OK)
        status = load(t, &file, document ? json_root(document) : NULL, err);
    if (status == STATUS_OK)
        status = probe(t, err);
    json_close(document);
    bytes_release(&file);
    bytes_release(&config);
    if (status != STATUS_OK) {
        chat_template_close(t);
        return status;
    }
    *out = t;
    return STATUS_OK;
}

static const char *const reasoning_names[] = {"reasoning_content", "thinking", "reasoning"};

/* One message as the template sees it: no null members, reasoning under its two usual names. */
static enum status convert_message(struct render *r, const struct json *message, struct value *out)
{
    const struct json *reasoning = NULL;
    if (message->type != JSON_OBJECT)
        return error_set(r->err, STATUS_INVALID, "a message must be an object");
    for (size_t i = 0; i < 3 && !reasoning; i++) {
        reasoning = json_member(message, reasoning_names[i]);
        if (reasoning && reasoning->type == JSON_NULL)
            reasoning = NULL;
    }
    struct value item = value_none();
    enum status status = value_new_dict(r, VALUE_DICT, out);
    if (status == STATUS_OK && reasoning) {
        status = value_from_json(r, reasoning, &item);
        if (status == STATUS_OK)
            status = value_put(r, out->as.dict, value_view("thinking", 8), item);
    }
    const struct value shared = item;
    for (size_t i = 0; i < message->count && status == STATUS_OK; i++) {
        const struct json *member = &message->as.items[i];
        if (member->type == JSON_NULL)
            continue;
        status = value_from_json(r, member, &item);
        if (status == STATUS_OK)
            status = value_put(r, out->as.dict, value_view(member->key, member->key_bytes), item);
    }
    if (status == STATUS_OK && reasoning)
        status = value_put(r, out->as.dict, value_view("reasoning_content", 17), shared);
    return status;
}

static enum status convert_messages(struct render *r, const struct json *messages, struct value *out)
{
    if (!messages || messages->type != JSON_ARRAY || messages->count == 0)
        return error_set(r->err, STATUS_INVALID, "messages must be a list that is not empty");
    enum status status = value_new_list(r, VALUE_LIST, messages->count, out);
    for (size_t i = 0; i < messages->count && status == STATUS_OK; i++) {
        struct value message;
        status = convert_message(r, &messages->as.items[i], &message);
        if (status == STATUS_OK)
            status = value_append(r, out->as.list, message);
    }
    return status;
}

static enum status tag_text(struct render *r, struct value_dict *dict, const char *key,
                            struct value *original)
{
    const struct value tag = value_view(CONTINUE_TAG, sizeof CONTINUE_TAG - 1);
    const struct value *text = value_get(r, dict, key, strlen(key));
    struct value tagged;
    if (!text || text->type != VALUE_STRING)
        return error_set(r->err, STATUS_INVALID,
                         "continue_final_message: the final message has no text to continue");
    *original = *text;
    enum status status = template_operate(r, OP_ADD, original, &tag, &tagged);
    return status == STATUS_OK ? value_put(r, dict, value_view(key, strlen(key)), tagged) : status;
}

/* Marks the end of the final message's text; it is found again in the rendered prompt. */
static enum status tag_final_message(struct render *r, const struct value_list *messages,
                                     struct value *original)
{
    struct value_dict *message = messages->items[messages->count - 1].as.dict;
    const struct value *content = value_get(r, message, "content", 7);
    if (!content || content->type != VALUE_LIST)
        return tag_text(r, message, "content", original);
    for (size_t i = content->as.list->count; i > 0; i--) {
        const struct value *part = &content->as.list->items[i - 1];
        if (part->type == VALUE_DICT && value_get(r, part->as.dict, "text", 4))
            return tag_text(r, part->as.dict, "text", original);
    }
    return error_set(r->err, STATUS_INVALID,
                     "continue_final_message: the final message has no text to continue");
}

/* Cuts the prompt where the tag begins; blanks that the template trimmed go as well. */
static enum status cut_at_tag(struct bytes *out, size_t begin, struct string_view original, struct error *err)
{
    static const char tag[] = CONTINUE_TAG;
    const size_t tag_bytes = sizeof tag - 1, word_bytes = tag_bytes - 1;
    const struct string_view rendered = {out->data + begin, out->count_bytes - begin};
    const struct string_view final = template_strip(original, NULL, true, true);
    size_t at = rendered.bytes >= word_bytes ? rendered.bytes - word_bytes + 1 : 0;
    while (at > 0 && memcmp(rendered.text + at - 1, tag, word_bytes) != 0)
        at--;
    const bool kept = final.bytes == 0 || memmem(rendered.text, rendered.bytes, final.text, final.bytes);
    if (at-- == 0 || !kept)
        return error_set(err, STATUS_INVALID,
                         "continue_final_message: the chat template does not keep the final message");
    struct string_view prompt = {rendered.text, at};
    if (rendered.bytes - at < tag_bytes || memcmp(rendered.text + at, tag, tag_bytes) != 0)
        prompt = template_strip(prompt, NULL, false, true);
    out->count_bytes = begin + prompt.bytes;
    out->data[out->count_bytes] = '\0';
    return STATUS_OK;
}

static enum status bind(struct render *r, const char *name, struct value value)
{
    return template_bind(r, (struct string_view){name, strlen(name)}, value);
}

static enum status bind_json(struct render *r, const char *name, const struct json *json)
{
    struct value value;
    enum status status = value_from_json(r, json, &value);
    return status == STATUS_OK ? bind(r, name, value) : status;
}

static enum status bind_context(struct render *r, const struct chat_render_options *options,
                                struct value messages)
{
    const struct chat_template *t = r->chat_template;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < t->token_count && status == STATUS_OK; i++)
        status = bind(r, t->tokens[i].name, value_view(t->tokens[i].text, strlen(t->tokens[i].text)));
    for (size_t i = 0; options->kwargs && i < options->kwargs->count && status == STATUS_OK; i++)
        status = bind_json(r, options->kwargs->as.items[i].key, &options->kwargs->as.items[i]);
    if (status == STATUS_OK)
        status = bind(r, "messages", messages);
    if (status == STATUS_OK)
        status = bind_json(r, "tools", options->tools);
    if (status == STATUS_OK)
        status = bind_json(r, "documents", options->documents);
    return status == STATUS_OK ? bind(r, "add_generation_prompt", value_bool(options->add_generation_prompt))
                               : status;
}

static enum status render(struct render *r, const struct chat_render_options *options, struct bytes *out)
{
    const struct chat_template *t = r->chat_template;
    const bool with_tools = options->tools && options->tools->type != JSON_NULL;
    const size_t begin = out->count_bytes;
    struct value messages, original = value_none();
    enum status status = convert_messages(r, options->messages, &messages);
    if (status == STATUS_OK && options->continue_final_message)
        status = tag_final_message(r, messages.as.list, &original);
    if (status == STATUS_OK)
        status = bind_context(r, options, messages);
    if (status == STATUS_OK)
        status = template_run(r, (with_tools && t->tool_root ? t->tool_root : t->root)->items);
    if (status == STATUS_OK && options->continue_final_message)
        status = cut_at_tag(out, begin, original.as.string, r->err);
    return status;
}

enum status chat_template_render(const struct chat_template *chat_template,
                                 const struct chat_render_options *options, struct bytes *out,
                                 struct error *err)
{
    struct scope root = {0};
    struct render r = {.out = out,
                       .scope = &root,
                       .chat_template = chat_template,
                       .err = err,
                       .now_ms = options->now_ms,
                       .steps = TEMPLATE_MAX_STEPS};
    if (options->continue_final_message && options->add_generation_prompt)
        return error_set(err, STATUS_INVALID,
                         "continue_final_message and add_generation_prompt exclude each other");
    if (options->kwargs && options->kwargs->type != JSON_OBJECT && options->kwargs->type != JSON_NULL)
        return error_set(err, STATUS_INVALID, "chat_template_kwargs must be an object");
    const size_t begin = out->count_bytes;
    arena_init(&r.arena, TEMPLATE_MAX_MEMORY_BYTES);
    enum status status = bytes_append(out, "", 0);
    if (status == STATUS_OK)
        status = render(&r, options, out);
    arena_release(&r.arena);
    if (status != STATUS_OK && out->data)
        out->data[out->count_bytes = begin] = '\0';
    return status;
}
