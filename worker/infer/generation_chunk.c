// SPDX-License-Identifier: Apache-2.0
// Streamed chunks: OpenAI's chat.completion.chunk and text_completion. Each is framed as u32le length + JSON.
#include <string.h>

#include "worker/infer/generation_internal.h"

/* Starts a frame; returns where its length goes. */
static size_t begin_chunk(struct bytes *out, const struct generation *generation)
{
    const struct job *job = generation->job;
    size_t frame = out->count_bytes;
    bytes_append(out, "\0\0\0\0", 4);
    bytes_append_text(out, "{\"id\":");
    generation_print_id(out, job);
    bytes_appendf(out, ",\"object\":\"%s\",\"created\":%lld,\"model\":",
                  job->kind == JOB_CHAT ? "chat.completion.chunk" : "text_completion",
                  (long long)job->created_s);
    json_append_string(out, job->model, strlen(job->model));
    bytes_append_text(out, ",\"system_fingerprint\":");
    json_append_string(out, generation->context->system_fingerprint,
                       strlen(generation->context->system_fingerprint));
    bytes_append_text(out, ",\"choices\":[");
    return frame;
}

static void end_chunk(struct bytes *out, size_t frame, const struct generation *usage)
{
    bytes_append_text(out, "],\"usage\":");
    if (usage)
        generation_print_usage(out, usage, true);
    else
        bytes_append_text(out, "null");
    bytes_append_char(out, '}');
    if (out->failed)
        return;
    size_t bytes = out->count_bytes - frame - 4;
    for (int i = 0; i < 4; i++)
        out->data[frame + (size_t)i] = (char)(unsigned char)(bytes >> 8 * i & 0xFF);
}

static bool has_new_logprobs(const struct choice *choice)
{
    return choice->logprobs.lists[0].count_bytes > choice->streamed_logprobs[0];
}

static void print_new_logprobs(struct bytes *out, const struct generation *generation, struct choice *choice)
{
    if (generation->job->top_logprobs == SAMPLING_NO_LOGPROBS || !has_new_logprobs(choice)) {
        bytes_append_text(out, "null");
        return;
    }
    /* Those of an echoed prompt are in the result only: another choice may have computed them later. */
    logprob_text_print(out, generation->job, NULL, &choice->logprobs, choice->streamed_logprobs);
    for (int i = 0; i < LOGPROB_LISTS; i++)
        choice->streamed_logprobs[i] = choice->logprobs.lists[i].count_bytes;
}

/* The choice with `text` (chat: as delta, NULL for an empty one). */
static void print_choice(struct bytes *out, struct generation *generation, uint32_t prompt, uint32_t index,
                         const char *text)
{
    struct choice *choice = &generation->prompts[prompt].choices[index];
    bool chat = generation->job->kind == JOB_CHAT, ended = text == NULL;
    bytes_appendf(out, "{\"index\":%u,", prompt * generation->job->sampling.n + index);
    if (chat && ended)
        bytes_append_text(out, "\"delta\":{}");
    else if (chat && !choice->role_streamed)
        bytes_append_text(out, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}");
    else {
        bytes_append_text(out, chat ? "\"delta\":{\"content\":" : "\"text\":");
        json_append_string(out, ended ? "" : text,
                           ended ? 0 : choice->text.count_bytes - choice->streamed_bytes);
        if (chat)
            bytes_append_char(out, '}');
        choice->streamed_bytes = choice->text.count_bytes;
    }
    bytes_append_text(out, ",\"logprobs\":");
    if (chat && !ended && !choice->role_streamed)
        bytes_append_text(out, "null");
    else
        print_new_logprobs(out, generation, choice);
    choice->role_streamed = true;
    if (!ended) {
        bytes_append_text(out, ",\"finish_reason\":null,\"stop_reason\":null}");
        return;
    }
    bytes_appendf(out, ",\"finish_reason\":\"%s\",\"stop_reason\":", generation_finish_name(choice));
    generation_print_stop_reason(out, generation, choice);
    bytes_append_char(out, '}');
}

static void stream_choice(struct bytes *out, struct generation *generation, uint32_t prompt, uint32_t index,
                          const char *text)
{
    size_t frame = begin_chunk(out, generation);
    print_choice(out, generation, prompt, index, text);
    end_chunk(out, frame, NULL);
}

/* What no chunk has carried yet of one choice. */
static void stream_new(struct generation *generation, uint32_t prompt, uint32_t index, struct bytes *chunks)
{
    struct choice *choice = &generation->prompts[prompt].choices[index];
    if (generation->job->kind == JOB_CHAT && !choice->role_streamed && !choice->absent)
        stream_choice(chunks, generation, prompt, index, "");
    if (choice->text.count_bytes > choice->streamed_bytes)
        stream_choice(chunks, generation, prompt, index, choice->text.data + choice->streamed_bytes);
    if (choice->finished && !choice->absent)
        stream_choice(chunks, generation, prompt, index, NULL);
}

/* Formatting begins: choices that have ended before it will have no item of their own. */
static void catch_up(struct generation *generation, uint32_t prompt, uint32_t index, struct bytes *chunks)
{
    for (uint32_t p = 0; p < generation->job->prompt_count; p++)
        for (uint32_t c = 0; c < generation->job->sampling.n; c++)
            if (generation->prompts[p].choices[c].finished && (p != prompt || c != index))
                stream_new(generation, p, c, chunks);
    generation->streaming = true;
}

enum status generation_stream(struct generation *generation, uint32_t prompt, uint32_t index,
                              struct bytes *chunks)
{
    if (generation->too_large || generation->failure.status != STATUS_OK ||
        generation->job->kind == JOB_SCORE)
        return STATUS_OK; /* there is no text to stream: the result says it all */
    if (!generation->streaming)
        catch_up(generation, prompt, index, chunks);
    stream_new(generation, prompt, index, chunks);
    if (generation_done(generation) && generation->job->stream_usage) {
        size_t frame = begin_chunk(chunks, generation);
        end_chunk(chunks, frame, generation);
    }
    return chunks->failed ? STATUS_TOO_LARGE : STATUS_OK;
}
