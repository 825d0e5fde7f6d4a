// SPDX-License-Identifier: Apache-2.0
#include "engine/beam.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/constrain/constraint.h"
#include "engine/scheduler.h"

enum { GROUP_TOKENS = 64 };

/* ---- life ---- */

int64_t beam_most_blocks(const struct engine_request *request, uint32_t max_tokens, int32_t block_tokens)
{
    int64_t shared = (int64_t)request->prompt_tokens / block_tokens;
    int64_t each = ((int64_t)max_tokens + block_tokens - 1) / block_tokens - shared;
    return shared + each * (int64_t)request->sampling->n;
}

static uint32_t kept_candidates(const struct beam_options *options)
{
    const struct sampling_params *s = options->request->sampling;
    uint32_t ends = (uint32_t)s->stop_token_count + (s->ignore_eos ? 0 : (uint32_t)options->eos_count);
    return (ends > 1 ? 1 + ends : 2) * s->n;
}

static bool open_members(struct beam_group *group, const struct beam_options *options, struct error *err)
{
    for (uint32_t i = 0; i < group->width; i++) {
        struct sequence_options member = {.request = options->request,
                                          .max_tokens = options->max_tokens,
                                          .block_tokens = options->block_tokens,
                                          .keyed = options->keyed && i == 0,
                                          .fingerprint = options->fingerprint,
                                          .group = group};
        if (sequence_open(&group->members[i], &member, err) != STATUS_OK)
            return false;
    }
    return true;
}

static bool open_results(struct beam_group *group)
{
    for (uint32_t i = 0; i < group->width; i++) {
        group->results[i].tokens = malloc(group->max_new * sizeof(int32_t));
        group->results[i].logprobs = malloc(group->max_new * sizeof(float));
        if (!group->results[i].tokens || !group->results[i].logprobs)
            return false;
    }
    return true;
}

enum status beam_group_open(struct beam_group **out, const struct beam_options *options, struct error *err)
{
    const struct engine_request *request = options->request;
    *out = NULL;
    struct beam_group *group = calloc(1, sizeof *group);
    if (!group)
        return error_set(err, STATUS_NO_MEMORY, "no memory for a beam search");
    *group = (struct beam_group){
        .request_id = request->id,
        .sampling = request->sampling,
        .eos = options->eos,
        .eos_count = request->sampling->ignore_eos ? 0 : options->eos_count,
        .width = request->sampling->n,
        .max_new = options->max_tokens - (uint32_t)request->prompt_tokens,
        .live = 1,
        .prompt_blocks = (int32_t)request->prompt_tokens / options->block_tokens,
        .most_blocks = (int32_t)beam_most_blocks(request, options->max_tokens, options->block_tokens),
        .heap_capacity = kept_candidates(options),
        .prompt_tokens = (uint32_t)request->prompt_tokens};
    group->members = calloc(group->width, sizeof *group->members);
    group->placed = calloc(group->width, sizeof *group->placed);
    group->sums = calloc(group->width, sizeof *group->sums);
    group->heap = calloc(group->heap_capacity, sizeof *group->heap);
    group->next = calloc(group->width, sizeof *group->next);
    group->results = calloc(group->width, sizeof *group->results);
    bool room = group->members && group->placed && group->sums && group->heap && group->next &&
                group->results && open_results(group);
    if (!room || !open_members(group, options, err)) {
        beam_group_close(group);
        return error_set(err, STATUS_NO_MEMORY, "no memory for a beam search");
    }
    *out = group;
    return STATUS_OK;
}

void beam_group_close(struct beam_group *group)
{
    if (!group)
        return;
    for (uint32_t i = 0; i < group->width; i++) {
        if (group->members)
            sequence_close(group->members[i]);
        if (group->results) {
            free(group->results[i].tokens);
            free(group->results[i].logprobs);
        }
    }
    free(group->results);
    free(group->next);
    free(group->heap);
    free(group->sums);
    free(group->placed);
    free(group->members);
    free(group);
}

/* ---- candidates ---- */

static bool is_better(const struct beam_candidate *a, const struct beam_candidate *b)
{
    if (a->sum != b->sum)
        return a->sum > b->sum;
    return a->parent != b->parent ? a->parent < b->parent : a->token < b->token;
}

/* The heap's root is the worst of those kept; a better one takes its place. */
static void sift_down(struct beam_group *group, uint32_t at)
{
    struct beam_candidate moved = group->heap[at];
    for (uint32_t child; (child = 2 * at + 1) < group->heap_count; at = child) {
        if (child + 1 < group->heap_count && is_better(&group->heap[child], &group->heap[child + 1]))
            child++;
        if (!is_better(&moved, &group->heap[child]))
            break;
        group->heap[at] = group->heap[child];
    }
    group->heap[at] = moved;
}

static void keep(struct beam_group *group, struct beam_candidate candidate)
{
    if (group->heap_count == group->heap_capacity) {
        if (!is_better(&candidate, &group->heap[0]))
            return;
        group->heap[0] = candidate;
        sift_down(group, 0);
        return;
    }
    uint32_t at = group->heap_count++;
    for (; at > 0 && is_better(&group->heap[(at - 1) / 2], &candidate); at = (at - 1) / 2)
        group->heap[at] = group->heap[(at - 1) / 2];
    group->heap[at] = candidate;
}

/* The greatest of a group of scores; lanes, so that the compiler may use vectors. */
static float greatest(const float *scores)
{
    enum { LANES = 16 };
    float lanes[LANES], best = -INFINITY;
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] = -INFINITY;
    for (int i = 0; i < GROUP_TOKENS; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] = scores[i + lane] > lanes[lane] ? scores[i + lane] : lanes[lane];
    for (int lane = 0; lane < LANES; lane++)
        best = lanes[lane] > best ? lanes[lane] : best;
    return best;
}

static void offer_one(struct beam_group *group, uint32_t parent, int32_t token, float score, double norm)
{
    struct beam_candidate candidate = {.parent = parent, .token = token};
    if (!(score > -INFINITY))
        return;
    candidate.logprob = (float)((double)score - norm);
    candidate.sum = group->sums[parent] + (double)candidate.logprob;
    keep(group, candidate);
}

void beam_group_offer(struct beam_group *group, uint32_t parent, const float *scores, int32_t vocab,
                      double norm)
{
    CHECK(parent < group->live);
    group->stepped = true;
    for (int32_t first = 0; first < vocab; first += GROUP_TOKENS) {
        int32_t end = vocab - first < GROUP_TOKENS ? vocab : first + GROUP_TOKENS;
        if (end - first == GROUP_TOKENS && group->heap_count == group->heap_capacity) {
            float best = (float)((double)greatest(scores + first) - norm);
            if (group->sums[parent] + (double)best < group->heap[0].sum)
                continue; /* none of them can be among the best */
        }
        for (int32_t i = first; i < end; i++)
            offer_one(group, parent, i, scores[i], norm);
    }
}

/* ---- choosing ---- */

static int compare_candidates(const void *a, const void *b)
{
    return is_better(a, b) ? -1 : is_better(b, a) ? 1 : 0;
}

static bool is_stop(const struct beam_group *group, int32_t token)
{
    for (int32_t i = 0; i < group->eos_count; i++)
        if (group->eos[i] == token)
            return true;
    for (size_t i = 0; i < group->sampling->stop_token_count; i++)
        if (group->sampling->stop_tokens[i] == token)
            return true;
    return false;
}

static double score_of(const struct beam_group *group, double sum, uint32_t count)
{
    return sum / pow((double)count, (double)group->sampling->length_penalty);
}

static bool ranks_before(const struct beam_result *a, const struct beam_result *b)
{
    return a->whole != b->whole ? a->whole : a->score > b->score;
}

/* Into its place among the results, behind equals; the last one falls off. */
static void add_result(struct beam_group *group, const struct beam_candidate *candidate,
                       struct beam_result result)
{
    if (group->result_count == group->width && !ranks_before(&result, &group->results[group->width - 1]))
        return;
    const struct sequence *parent = group->members[candidate->parent];
    uint32_t at = group->result_count < group->width ? group->result_count++ : group->width - 1;
    struct beam_result spare = group->results[at];
    for (; at > 0 && ranks_before(&result, &group->results[at - 1]); at--)
        group->results[at] = group->results[at - 1];
    result.tokens = spare.tokens;
    result.logprobs = spare.logprobs;
    memcpy(result.tokens, parent->tokens + parent->prompt_tokens, group->generated * sizeof(int32_t));
    memcpy(result.logprobs, parent->logprobs, group->generated * sizeof(float));
    result.tokens[group->generated] = candidate->token;
    result.logprobs[group->generated] = candidate->logprob;
    group->results[at] = result;
}

/* Follows the constraint. False: the token ends the text. */
static bool follow(const struct beam_group *group, struct beam_candidate *candidate)
{
    struct constraint *constraint = group->sampling->constraint;
    if (is_stop(group, candidate->token))
        return false;
    if (!constraint)
        return true;
    candidate->constraint_state = constraint->ops->next(
        constraint, group->members[candidate->parent]->constraint_state, candidate->token);
    return candidate->constraint_state != CONSTRAINT_DEAD;
}

static void consider(struct beam_group *group, struct beam_candidate *candidate, uint32_t rank)
{
    struct constraint *constraint = group->sampling->constraint;
    uint32_t count = group->generated + 1;
    bool goes_on = follow(group, candidate);
    if (goes_on && count < group->max_new) {
        if (group->next_count < group->width)
            group->next[group->next_count++] = *candidate;
        return;
    }
    bool whole = !goes_on || !constraint || constraint->ops->accepts(constraint, candidate->constraint_state);
    if (rank < group->width && (whole || !group->sampling->whole_only))
        add_result(group, candidate,
                   (struct beam_result){.score = score_of(group, candidate->sum, count),
                                        .whole = whole,
                                        .end = goes_on ? -1 : candidate->token,
                                        .count = count});
}

/* No live beam can come among the results any more, as far as its score so far tells. */
static bool is_settled(const struct beam_group *group)
{
    if (group->next_count == 0)
        return true;
    if (group->result_count < group->width || !group->results[group->width - 1].whole)
        return false;
    return group->sampling->early_stopping ||
           score_of(group, group->next[0].sum, group->generated) <= group->results[group->width - 1].score;
}

void beam_group_choose(struct beam_group *group)
{
    qsort(group->heap, group->heap_count, sizeof *group->heap, compare_candidates);
    group->next_count = 0;
    for (uint32_t rank = 0; rank < group->heap_count; rank++)
        consider(group, &group->heap[rank], rank);
    group->heap_count = 0;
    group->stepped = false;
    group->generated++;
    if (is_settled(group))
        group->state = BEAM_DONE;
}

/* ---- going on ---- */

static void append(struct sequence *member, const struct beam_candidate *candidate)
{
    member->logprobs[sequence_generated(member)] = candidate->logprob;
    member->tokens[member->token_count++] = candidate->token;
    member->constraint_state = candidate->constraint_state;
}

static void fork_member(const struct sequence *from, struct sequence *into, struct scheduler *scheduler)
{
    uint32_t generated = sequence_generated(from);
    memcpy(into->tokens + from->prompt_tokens, from->tokens + from->prompt_tokens,
           generated * sizeof(int32_t));
    memcpy(into->logprobs, from->logprobs, generated * sizeof(float));
    into->token_count = from->token_count;
    scheduler_fork(scheduler, from, into);
}

/* First children into their parents' places, then the places of the childless and the unused ones behind. */
static void place(struct beam_group *group, struct scheduler *scheduler)
{
    uint32_t spare = group->next_count;
    memset(group->placed, 0, group->width * sizeof(struct sequence *));
    for (uint32_t parent = 0; parent < group->live; parent++) {
        uint32_t child = 0;
        while (child < group->next_count && group->next[child].parent != parent)
            child++;
        if (child < group->next_count)
            group->placed[child] = group->members[parent];
        else
            scheduler_drop(scheduler, group->members[parent]);
    }
    for (uint32_t i = 0; i < group->width; i++) { /* who runs on has a place already */
        struct sequence *member = group->members[i];
        if (i < group->live && member->running)
            continue;
        uint32_t at = 0;
        while (at < group->next_count && group->placed[at])
            at++;
        group->placed[at < group->next_count ? at : spare++] = member;
    }
}

void beam_group_advance(struct beam_group *group, struct scheduler *scheduler)
{
    if (!group->forked)
        group->cached_tokens = group->members[0]->cached_tokens;
    group->forked = true;
    place(group, scheduler);
    for (uint32_t i = 0; i < group->next_count; i++)
        if (!group->placed[i]->running)
            fork_member(group->members[group->next[i].parent], group->placed[i], scheduler);
    for (uint32_t i = 0; i < group->next_count; i++) {
        append(group->placed[i], &group->next[i]);
        group->sums[i] = group->next[i].sum;
    }
    memcpy(group->members, group->placed, group->width * sizeof(struct sequence *));
    for (uint32_t i = 0; i < group->width; i++)
        group->members[i]->choice = i;
    group->live = group->next_count;
}

void beam_group_stop(struct beam_group *group, struct scheduler *scheduler)
{
    if (!group->forked)
        group->cached_tokens = group->members[0]->cached_tokens;
    scheduler_remove_group(scheduler, group);
}

/* ---- reporting ---- */

static struct engine_event end_of(const struct beam_group *group, uint32_t choice)
{
    struct engine_event event = {.type = ENGINE_EVENT_FINISHED,
                                 .request_id = group->request_id,
                                 .choice = choice,
                                 .stop_token = -1,
                                 .stop_string = -1,
                                 .prompt_tokens = group->prompt_tokens,
                                 .cached_tokens = group->cached_tokens};
    const struct beam_result *result = &group->results[choice];
    if (group->state == BEAM_CANCELLED) {
        event.finish = ENGINE_FINISH_CANCELLED;
    } else if (group->state == BEAM_FAILED) {
        event.finish = ENGINE_FINISH_ERROR;
    } else if (choice >= group->result_count) {
        event.finish = ENGINE_FINISH_ABSENT;
    } else {
        event.finish = result->end >= 0 ? ENGINE_FINISH_STOP : ENGINE_FINISH_LENGTH;
        event.stop_token = result->end;
        event.generated = result->count;
    }
    return event;
}

size_t beam_group_report(struct beam_group *group, struct engine_event *events, size_t most)
{
    size_t made = 0;
    while (made < most && group->report_choice < group->width) {
        const struct beam_result *result = &group->results[group->report_choice];
        bool spoken = group->state == BEAM_DONE && group->report_choice < group->result_count;
        uint32_t at = group->report_token;
        if (!spoken || at == result->count) {
            events[made++] = end_of(group, group->report_choice++);
            group->report_token = 0;
            continue;
        }
        events[made++] = (struct engine_event){.type = ENGINE_EVENT_TOKEN,
                                               .request_id = group->request_id,
                                               .choice = group->report_choice,
                                               .token = result->tokens[at],
                                               .position = at,
                                               .logprob = result->logprobs[at],
                                               .stop_token = -1,
                                               .stop_string = -1};
        group->report_token++;
    }
    return made;
}
