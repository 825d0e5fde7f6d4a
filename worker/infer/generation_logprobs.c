// SPDX-License-Identifier: Apache-2.0
// Log-probabilities as JSON, in OpenAI's two shapes and in vLLM's prompt_logprobs.
#include <math.h>
#include <string.h>

#include "worker/infer/generation_internal.h"

#define LEAST_LOGPROB (-9999.0f) /* stands for minus infinity, as in vLLM */
enum { TOKENS, VALUES, TOPS, OFFSETS };
enum { MAX_MEMBER_BYTES = 65536 };

void logprob_text_init(struct logprob_text *text, size_t max_bytes)
{
    *text = (struct logprob_text){0};
    for (int i = 0; i < LOGPROB_LISTS; i++)
        bytes_init(&text->lists[i], max_bytes);
}

void logprob_text_release(struct logprob_text *text)
{
    for (int i = 0; i < LOGPROB_LISTS; i++)
        bytes_release(&text->lists[i]);
}

size_t logprob_text_bytes(const struct logprob_text *text)
{
    size_t bytes = 0;
    for (int i = 0; i < LOGPROB_LISTS; i++)
        bytes += text->lists[i].count_bytes;
    return bytes;
}

static void print_value(struct bytes *out, float logprob)
{
    if (!(logprob > LEAST_LOGPROB))
        logprob = LEAST_LOGPROB;
    bytes_appendf(out, "%.9g", (double)logprob);
}

static void print_token(struct bytes *out, const struct generation *generation, int32_t token)
{
    size_t bytes;
    if (generation->job->tokens_as_ids) {
        bytes_appendf(out, "\"token_id:%d\"", token);
        return;
    }
    const char *text = tokenizer_token_bytes(generation->context->tokenizer, token, &bytes);
    json_append_string(out, text ? text : "", text ? bytes : 0);
}

static size_t code_points(const char *text, size_t bytes)
{
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++)
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

size_t logprob_text_points(const struct generation *generation, const struct job_prompt *prompt)
{
    size_t points = 0, bytes;
    for (size_t i = 0; i < prompt->count; i++) {
        const char *text = tokenizer_token_bytes(generation->context->tokenizer, prompt->tokens[i], &bytes);
        points += text ? code_points(text, bytes) : 0;
    }
    return points;
}

static void separate(struct bytes *out)
{
    if (out->count_bytes)
        bytes_append_char(out, ',');
}

/* ---- chat ---- */

static void print_chat_members(struct bytes *out, const struct generation *generation, int32_t token,
                               float logprob)
{
    size_t bytes;
    const char *text = tokenizer_token_bytes(generation->context->tokenizer, token, &bytes);
    bytes_append_text(out, "{\"token\":");
    print_token(out, generation, token);
    bytes_append_text(out, ",\"logprob\":");
    print_value(out, logprob);
    bytes_append_text(out, ",\"bytes\":[");
    for (size_t i = 0; text && i < bytes; i++)
        bytes_appendf(out, i ? ",%u" : "%u", (unsigned char)text[i]);
    bytes_append_char(out, ']');
}

static bool listed_before(const struct engine_event *event, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (event->top[i].token == event->top[index].token)
            return true;
    return false;
}

static void add_chat(struct bytes *out, const struct generation *generation, const struct engine_event *event)
{
    const char *separator = "";
    separate(out);
    print_chat_members(out, generation, event->token, event->logprob);
    bytes_append_text(out, ",\"top_logprobs\":[");
    for (size_t i = 0; i < event->top_count; i++) {
        if (listed_before(event, i))
            continue;
        bytes_append_text(out, separator);
        print_chat_members(out, generation, event->top[i].token, event->top[i].logprob);
        bytes_append_char(out, '}');
        separator = ",";
    }
    bytes_append_text(out, "]}");
}

/* ---- completions ---- */

/* Whether the object that begins at text has the member (a quoted key and its colon) already. */
static bool has_member(const char *text, size_t bytes, const struct bytes *member)
{
    const char *at = text, *end = text + bytes;
    while ((at = memmem(at, (size_t)(end - at), member->data, member->count_bytes))) {
        if (at[-1] == '{' || at[-1] == ',') /* else the end of a longer key */
            return true;
        at++;
    }
    return false;
}

/* One member of a top_logprobs object. Tokens whose texts are equal share a key: the first (likelier) stays,
 * because a key must not be there twice. */
static void add_top(struct bytes *out, const struct generation *generation, size_t object, int32_t token,
                    float logprob)
{
    struct bytes member;
    bytes_init(&member, MAX_MEMBER_BYTES);
    print_token(&member, generation, token);
    bytes_append_char(&member, ':');
    size_t begin = object + 1; /* behind the bracket */
    if (!member.failed && !has_member(out->data + begin, out->count_bytes - begin, &member)) {
        if (out->count_bytes > begin)
            bytes_append_char(out, ',');
        bytes_append(out, member.data, member.count_bytes);
        print_value(out, logprob);
    }
    bytes_release(&member);
}

/* The `top` likeliest, the ids asked for (behind the `computed` likeliest) and always the token itself. */
static void add_tops(struct bytes *out, const struct generation *generation, const struct engine_event *event,
                     int32_t top)
{
    size_t wanted = generation->job->sampling.logprob_token_count;
    size_t computed = event->top_count > wanted ? event->top_count - wanted : 0;
    size_t object = out->count_bytes;
    bytes_append_char(out, '{');
    for (size_t i = 0; i < event->top_count && !out->failed; i++)
        if (i < (size_t)top || i >= computed)
            add_top(out, generation, object, event->top[i].token, event->top[i].logprob);
    if (!out->failed)
        add_top(out, generation, object, event->token, event->logprob);
    bytes_append_char(out, '}');
}

static void add_completion(struct logprob_text *text, const struct generation *generation,
                           const struct engine_event *event, int32_t top)
{
    size_t bytes;
    const char *token = tokenizer_token_bytes(generation->context->tokenizer, event->token, &bytes);
    for (int i = 0; i < LOGPROB_LISTS; i++)
        separate(&text->lists[i]);
    print_token(&text->lists[TOKENS], generation, event->token);
    if (event->top) {
        print_value(&text->lists[VALUES], event->logprob);
        add_tops(&text->lists[TOPS], generation, event, top);
    } else {
        bytes_append_text(&text->lists[VALUES], "null");
        bytes_append_text(&text->lists[TOPS], "null");
    }
    bytes_appendf(&text->lists[OFFSETS], "%zu", text->text_offset);
    text->text_offset += token ? code_points(token, bytes) : 0;
}

void logprob_text_add(struct logprob_text *text, const struct generation *generation,
                      const struct engine_event *event, int32_t top)
{
    if (generation->job->kind == JOB_CHAT)
        add_chat(&text->lists[0], generation, event);
    else
        add_completion(text, generation, event, top);
}

static void print_list(struct bytes *out, const struct bytes *before, const struct bytes *list, size_t from)
{
    const char *text = list->data ? list->data + from : "";
    size_t bytes = list->count_bytes - from;
    if (from > 0 && bytes && *text == ',') { /* a list continued in another chunk */
        text++;
        bytes--;
    }
    bytes_append_char(out, '[');
    if (before && before->count_bytes) {
        bytes_append(out, before->data, before->count_bytes);
        if (bytes)
            bytes_append_char(out, ',');
    }
    bytes_append(out, text, bytes);
    bytes_append_char(out, ']');
}

void logprob_text_print(struct bytes *out, const struct job *job, const struct logprob_text *before,
                        const struct logprob_text *text, const size_t from[LOGPROB_LISTS])
{
    static const char *const names[] = {
        "{\"tokens\":", ",\"token_logprobs\":", ",\"top_logprobs\":", ",\"text_offset\":"};
    if (job->kind == JOB_CHAT) {
        bytes_append_text(out, "{\"content\":");
        print_list(out, NULL, &text->lists[0], from[0]);
        bytes_append_text(out, ",\"refusal\":null}");
        return;
    }
    for (int i = 0; i < LOGPROB_LISTS; i++) {
        bytes_append_text(out, names[i]);
        print_list(out, before ? &before->lists[i] : NULL, &text->lists[i], from[i]);
    }
    bytes_append_char(out, '}');
}

/* ---- prompt_logprobs ---- */

static void print_ranked(struct bytes *out, const struct generation *generation,
                         const struct engine_logprob *entry)
{
    size_t bytes;
    const char *text = tokenizer_token_bytes(generation->context->tokenizer, entry->token, &bytes);
    bytes_appendf(out, "\"%d\":{\"logprob\":", entry->token);
    print_value(out, entry->logprob);
    bytes_appendf(out, ",\"rank\":%d,\"decoded_token\":", entry->rank);
    json_append_string(out, text ? text : "", text ? bytes : 0);
    bytes_append_char(out, '}');
}

void prompt_logprobs_add(struct bytes *out, const struct generation *generation,
                         const struct engine_event *event)
{
    struct engine_logprob own = {.token = event->token, .logprob = event->logprob, .rank = event->rank};
    separate(out);
    bytes_append_char(out, '{');
    print_ranked(out, generation, &own);
    for (size_t i = 0; i < event->top_count; i++)
        if (event->top[i].token != event->token && !listed_before(event, i)) {
            bytes_append_char(out, ',');
            print_ranked(out, generation, &event->top[i]);
        }
    bytes_append_char(out, '}');
}
