// SPDX-License-Identifier: Apache-2.0
// What a scoring job answers: for each item the probabilities of the labels behind it, or how likely its own
// tokens are.
#include <math.h>

#include "base/json.h"
#include "worker/infer/generation_internal.h"

/* The labels' log-probabilities are all that the event's list holds. */
static void print_labels(struct bytes *out, const struct engine_event *event, bool softmax)
{
    double best = -INFINITY, sum = 0;
    for (size_t i = 0; i < event->top_count; i++)
        best = (double)event->top[i].logprob > best ? (double)event->top[i].logprob : best;
    for (size_t i = 0; i < event->top_count; i++)
        sum += exp((double)event->top[i].logprob - best);
    for (size_t i = 0; i < event->top_count; i++) {
        double logprob = (double)event->top[i].logprob;
        bytes_append_text(out, i ? "," : "");
        json_append_number(out, softmax ? exp(logprob - best) / sum : exp(logprob));
    }
}

void generation_score_token(struct generation *generation, uint32_t prompt, const struct engine_event *event)
{
    const struct job *job = generation->job;
    struct prompt_answer *answer = &generation->prompts[prompt];
    if (job->sampling.logprob_token_count > 0) {
        print_labels(&answer->labels, event, job->score_softmax);
        generation->held_bytes += answer->labels.count_bytes;
        generation->too_large = generation->too_large || answer->labels.failed;
        return;
    }
    answer->logprob_sum += (double)event->logprob;
    answer->logprob_count++;
}

void generation_print_scores(struct bytes *out, const struct generation *generation)
{
    const struct job *job = generation->job;
    bytes_append_char(out, '[');
    for (size_t p = 0; p < job->prompt_count; p++) {
        const struct prompt_answer *answer = &generation->prompts[p];
        bytes_append_text(out, p ? "," : "");
        if (job->sampling.logprob_token_count > 0) {
            bytes_append_char(out, '[');
            bytes_append(out, answer->labels.data, answer->labels.count_bytes);
            bytes_append_char(out, ']');
        } else {
            uint32_t tokens = job->score_mean && answer->logprob_count > 0 ? answer->logprob_count : 1;
            json_append_number(out, answer->logprob_sum / tokens);
        }
    }
    bytes_append_char(out, ']');
}
