// SPDX-License-Identifier: Apache-2.0
// A chain of processors wraps from the inside out, so each one's ids go around what is there.
#include "engine/text/post_processor.h"

#include <string.h>

#include "engine/text/vocab.h"

static enum status push(int32_t *ids, size_t *count, const struct json *id, struct error *err)
{
    const int64_t value = json_integer_or(id, -1);
    if (value < 0 || value >= VOCAB_MAX_ID)
        return error_set(err, STATUS_INVALID, "post_processor: a token id is not in [0, %d)", VOCAB_MAX_ID);
    if (*count == POST_PROCESSOR_MAX_IDS)
        return error_set(err, STATUS_TOO_LARGE, "post_processor: more than %d tokens",
                         POST_PROCESSOR_MAX_IDS);
    ids[(*count)++] = (int32_t)value;
    return STATUS_OK;
}

/* Puts what `outer` adds around what `p` has. */
static enum status wrap(struct post_processor *p, const struct post_processor *outer, struct error *err)
{
    if (p->before_count + outer->before_count > POST_PROCESSOR_MAX_IDS ||
        p->after_count + outer->after_count > POST_PROCESSOR_MAX_IDS)
        return error_set(err, STATUS_TOO_LARGE, "post_processor: more than %d tokens",
                         POST_PROCESSOR_MAX_IDS);
    memmove(p->before + outer->before_count, p->before, p->before_count * sizeof *p->before);
    memcpy(p->before, outer->before, outer->before_count * sizeof *p->before);
    p->before_count += outer->before_count;
    memcpy(p->after + p->after_count, outer->after, outer->after_count * sizeof *p->after);
    p->after_count += outer->after_count;
    return STATUS_OK;
}

static enum status add_special(struct post_processor *p, const struct json *node, const struct json *token,
                               bool after, struct error *err)
{
    const char *name = json_string_or(json_member(token, "id"), "");
    const struct json *ids = json_member(json_member(json_member(node, "special_tokens"), name), "ids");
    if (!ids || ids->type != JSON_ARRAY)
        return error_set(err, STATUS_INVALID, "post_processor: special token %.60s has no ids", name);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < ids->count && status == STATUS_OK; i++)
        status = after ? push(p->after, &p->after_count, &ids->as.items[i], err)
                       : push(p->before, &p->before_count, &ids->as.items[i], err);
    return status;
}

static enum status read_template(struct post_processor *p, const struct json *node, struct error *err)
{
    const struct json *single = json_member(node, "single");
    bool after = false;
    enum status status = STATUS_OK;
    if (!single || single->type != JSON_ARRAY)
        return error_set(err, STATUS_INVALID, "post_processor TemplateProcessing has no list \"single\"");
    for (size_t i = 0; i < single->count && status == STATUS_OK; i++) {
        const struct json *special = json_member(&single->as.items[i], "SpecialToken");
        if (special) {
            status = add_special(p, node, special, after, err);
        } else if (!json_member(&single->as.items[i], "Sequence") || after) {
            return error_set(err, STATUS_UNSUPPORTED,
                             "post_processor: \"single\" must hold its sequence once");
        } else {
            after = true;
        }
    }
    if (status == STATUS_OK && !after)
        return error_set(err, STATUS_UNSUPPORTED, "post_processor: \"single\" must hold its sequence once");
    return status;
}

static enum status read_pair(struct post_processor *p, const struct json *node, struct error *err)
{
    const struct json *cls = json_member(node, "cls"), *sep = json_member(node, "sep");
    if (!cls || cls->type != JSON_ARRAY || cls->count != 2 || !sep || sep->type != JSON_ARRAY ||
        sep->count != 2)
        return error_set(err, STATUS_INVALID, "post_processor: cls and sep must be [text, id]");
    enum status status = push(p->before, &p->before_count, &cls->as.items[1], err);
    return status == STATUS_OK ? push(p->after, &p->after_count, &sep->as.items[1], err) : status;
}

static enum status add_node(struct post_processor *p, const struct json *node, int depth, struct error *err)
{
    const char *type = json_string_or(json_member(node, "type"), NULL);
    const struct json *list = json_member(node, "processors");
    struct post_processor own = {0};
    enum status status = STATUS_OK;
    if (!type || depth > 8)
        return error_set(err, STATUS_INVALID, "a post_processor has no type or is nested too deep");
    if (strcmp(type, "ByteLevel") == 0)
        return STATUS_OK; /* it moves offsets only */
    if (strcmp(type, "Sequence") == 0 && list && list->type == JSON_ARRAY) {
        for (size_t i = 0; i < list->count && status == STATUS_OK; i++)
            status = add_node(p, &list->as.items[i], depth + 1, err);
        return status;
    }
    if (strcmp(type, "TemplateProcessing") == 0)
        status = read_template(&own, node, err);
    else if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)
        status = read_pair(&own, node, err);
    else
        return error_set(err, STATUS_UNSUPPORTED, "post_processor type %.60s is not supported", type);
    return status == STATUS_OK ? wrap(p, &own, err) : status;
}

enum status post_processor_init(struct post_processor *processor, const struct json *node, struct error *err)
{
    *processor = (struct post_processor){0};
    return !node || node->type == JSON_NULL ? STATUS_OK : add_node(processor, node, 0, err);
}
