// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/beam.h"
#include "engine/kv/kv_cache.h"
#include "engine/kv/kv_windows.h"
#include "engine/speculate/draft_gate.h"
#include "engine/step_cost.h"

enum {
    MOST_OVERTAKEN = 1024,  /* by later arrivals, whatever their priority: nothing starves */
    LEAST_PROMPT_ROWS = 8,  /* of the first prompt of a step, whatever they take: it goes on */
    LEAST_PROMPT_SHARE = 4, /* of the target: so much of it is left to prompts beside slow decodes */
    MOST_STEPS_APART = 8,   /* in a row, of the most urgent alone */
    KEPT_LOGIT_ROWS = 8     /* from guesses, for prompts whose log-probabilities are asked for */
};
#define DOUBT 0.98 /* of the price of guesses, with each step in which it turned away a likely one */
#define LIKELY 0.5

struct scheduler {
    struct scheduler_options options;
    struct sequence **running; /* [max_sequences] in order of admission */
    int32_t running_count;
    int32_t seats; /* of max_sequences: one for a sequence, one for each beam that a group may have */
    struct sequence **waiting; /* [max_waiting + max_sequences] in order; preempted ones come back */
    int32_t waiting_count;
    /* the step being built */
    struct batch batch;
    int32_t *tokens, *positions;            /* [max_batch_tokens] */
    struct batch_sequence *batch_sequences; /* [max_sequences] */
    struct sequence **batched;              /* [max_sequences] */
    int32_t *logit_rows;                    /* [max_logit_rows] */
    struct step_work work, urgent_work;     /* what the step has to do, and of it for the most urgent */
    double prompt_seconds;                  /* that prompts may still take in it */
    int64_t urgent;                         /* the best priority that runs */
    int32_t steps_apart;                    /* that follow, of the most urgent alone */
    bool apart;                             /* this is one of them */
    struct step_cost cost;
    double draft_doubt;               /* what is believed of the price that was learnt for a guess */
    struct draft_place *draft_places; /* [max_sequences] of the sequences that generate */
    uint64_t window_rows;
};

enum status scheduler_open(struct scheduler **out, const struct scheduler_options *options, struct error *err)
{
    *out = NULL;
    CHECK(options->max_batch_tokens >= options->max_sequences);
    struct scheduler *s = calloc(1, sizeof *s);
    if (s) {
        size_t sequences = (size_t)options->max_sequences, rows = (size_t)options->max_batch_tokens;
        s->options = *options;
        s->running = calloc(sequences, sizeof *s->running);
        s->waiting = calloc((size_t)options->max_waiting + sequences, sizeof *s->waiting);
        s->tokens = calloc(rows, sizeof *s->tokens);
        s->positions = calloc(rows, sizeof *s->positions);
        s->batch_sequences = calloc(sequences, sizeof *s->batch_sequences);
        s->batched = calloc(sequences, sizeof *s->batched);
        s->logit_rows = calloc((size_t)options->max_logit_rows, sizeof *s->logit_rows);
        s->draft_places = calloc(sequences, sizeof *s->draft_places);
        s->draft_doubt = 1;
    }
    if (!s || !s->running || !s->waiting || !s->tokens || !s->positions || !s->batch_sequences ||
        !s->batched || !s->logit_rows || !s->draft_places) {
        scheduler_close(s);
        return error_set(err, STATUS_NO_MEMORY, "no memory for the scheduler");
    }
    s->batch = (struct batch){.tokens = s->tokens,
                              .positions = s->positions,
                              .sequences = s->batch_sequences,
                              .logit_rows = s->logit_rows};
    *out = s;
    return STATUS_OK;
}

static void close_own(struct sequence *sequence)
{
    if (!sequence->group)
        sequence_close(sequence);
}

void scheduler_close(struct scheduler *s)
{
    if (!s)
        return;
    for (int32_t i = 0; i < s->running_count; i++)
        close_own(s->running[i]);
    for (int32_t i = 0; i < s->waiting_count; i++)
        close_own(s->waiting[i]);
    free(s->draft_places);
    free(s->logit_rows);
    free(s->batched);
    free(s->batch_sequences);
    free(s->positions);
    free(s->tokens);
    free(s->waiting);
    free(s->running);
    free(s);
}

/* ---- queues ---- */

static bool goes_before(const struct sequence *a, const struct sequence *b)
{
    if (a->priority != b->priority)
        return a->priority < b->priority;
    return a->deadline != b->deadline ? a->deadline < b->deadline : a->arrival < b->arrival;
}

static bool may_overtake(const struct sequence *a, const struct sequence *b)
{
    return goes_before(a, b) && (a->arrival < b->arrival || b->overtaken < MOST_OVERTAKEN);
}

static void insert_waiting(struct scheduler *s, struct sequence *sequence)
{
    int32_t at = s->waiting_count++;
    for (; at > 0 && may_overtake(sequence, s->waiting[at - 1]); at--) {
        s->waiting[at] = s->waiting[at - 1];
        s->waiting[at]->overtaken += sequence->arrival > s->waiting[at]->arrival;
    }
    s->waiting[at] = sequence;
}

static void remove_from(struct sequence **list, int32_t *count, const struct sequence *sequence)
{
    int32_t at = 0;
    while (at < *count && list[at] != sequence)
        at++;
    CHECK(at < *count);
    memmove(list + at, list + at + 1, (size_t)(--*count - at) * sizeof *list);
}

bool scheduler_add(struct scheduler *s, struct sequence *sequence)
{
    if (s->waiting_count >= s->options.max_waiting)
        return false;
    insert_waiting(s, sequence);
    return true;
}

size_t scheduler_room(const struct scheduler *s)
{
    return s->waiting_count < s->options.max_waiting ? (size_t)(s->options.max_waiting - s->waiting_count)
                                                     : 0;
}

static void grow_table(struct scheduler *s, struct sequence *sequence, uint32_t tokens)
{
    while ((uint32_t)(sequence->block_count * s->options.block_tokens) < tokens) {
        int32_t block = block_pool_take(s->options.pool);
        CHECK(block != BLOCK_NONE &&
              sequence->block_count < sequence->max_blocks); /* admission reserved it */
        sequence->table[sequence->block_count++] = block;
        if (sequence->group)
            sequence->group->blocks_held++;
    }
}

/* Tail first, so that within a chain the leaf is evicted before its parent. A group keeps the prompt's blocks
 * through its other members. */
static void release_blocks(struct scheduler *s, struct sequence *sequence)
{
    struct beam_group *group = sequence->group;
    while (sequence->block_count > 0) {
        int32_t block = sequence->table[--sequence->block_count];
        block_pool_release(s->options.pool, block);
        if (group && sequence->block_count >= group->prompt_blocks)
            group->blocks_held -= block_pool_references(s->options.pool, block) == 0;
    }
    sequence->computed = 0;
    sequence->stored = 0;
    sequence->drafted = 0;
    if (sequence->window)
        kv_windows_give(s->options.windows, sequence->window);
    sequence->window = NULL;
}

void scheduler_remove(struct scheduler *s, struct sequence *sequence)
{
    CHECK(!sequence->group);
    if (sequence->running)
        remove_from(s->running, &s->running_count, sequence);
    else
        remove_from(s->waiting, &s->waiting_count, sequence);
    s->seats -= sequence->running;
    release_blocks(s, sequence);
    sequence->running = false;
}

void scheduler_drop(struct scheduler *s, struct sequence *member)
{
    CHECK(member->group && member->running);
    remove_from(s->running, &s->running_count, member);
    release_blocks(s, member);
    member->running = false;
}

void scheduler_remove_group(struct scheduler *s, struct beam_group *group)
{
    if (!group->members[0]->running) {
        remove_from(s->waiting, &s->waiting_count, group->members[0]);
        return;
    }
    for (uint32_t i = 0; i < group->live; i++)
        scheduler_drop(s, group->members[i]);
    s->seats -= (int32_t)group->width;
    group->blocks_held = 0;
}

static void copy_block(struct scheduler *s, int32_t from, int32_t to)
{
    struct kv_cache *kv = s->options.kv;
    memcpy(kv_cache_block(kv, to), kv_cache_block(kv, from), kv->block_bytes);
}

void scheduler_fork(struct scheduler *s, const struct sequence *from, struct sequence *into)
{
    int32_t full = (int32_t)from->computed / s->options.block_tokens;
    CHECK(into->group && into->group == from->group && !into->running && into->block_count == 0);
    for (int32_t i = 0; i < full; i++) {
        into->table[i] = from->table[i];
        block_pool_reference(s->options.pool, from->table[i]);
    }
    into->block_count = full;
    into->computed = from->computed;
    into->running = true;
    s->running[s->running_count++] = into;
    grow_table(s, into, into->computed);
    if (full < into->block_count)
        copy_block(s, from->table[full], into->table[full]);
}

bool scheduler_preempt_youngest(struct scheduler *s)
{
    for (int32_t i = s->running_count - 1; i >= 0; i--) {
        struct sequence *sequence = s->running[i];
        if (sequence->group || sequence->token_count == sequence->generated_at_start)
            continue; /* beams stay; made no progress yet: preempting it again could go on for ever */
        scheduler_remove(s, sequence);
        insert_waiting(s, sequence);
        return true;
    }
    return false;
}

static int32_t seats_of(const struct sequence *sequence)
{
    return sequence->group ? (int32_t)sequence->group->width : 1;
}

bool scheduler_preempt_for_urgent(struct scheduler *s)
{
    const struct sequence *first = s->waiting_count > 0 ? s->waiting[0] : NULL;
    if (!first || !s->options.prefix_cache || s->seats + seats_of(first) <= s->options.max_sequences)
        return false;
    for (int32_t i = s->running_count - 1; i >= 0; i--) {
        struct sequence *sequence = s->running[i];
        if (sequence->group || sequence->priority <= first->priority ||
            sequence->token_count == sequence->generated_at_start || sequence->overtaken >= MOST_OVERTAKEN)
            continue;
        sequence->overtaken++;
        scheduler_remove(s, sequence);
        insert_waiting(s, sequence);
        return true;
    }
    return false;
}

/* ---- admission ---- */

/* Leading tokens that need not be computed when they are in the cache: all but the last, and but those whose
 * logits say how likely the next prompt token is. */
static uint32_t reusable_tokens(const struct sequence *sequence)
{
    uint32_t most = sequence->token_count - 1;
    bool pending = sequence->wants_prompt_logprobs && sequence->next_prompt_logprob < sequence->prompt_tokens;
    return pending && sequence->next_prompt_logprob - 1 < most ? sequence->next_prompt_logprob - 1 : most;
}

/* Blocks of the prefix cache that can stand for the sequence's first ones. */
static int32_t match_prefix(const struct scheduler *s, struct sequence *sequence)
{
    int32_t matched = 0;
    while (matched < sequence->key_count &&
           (uint32_t)((matched + 1) * s->options.block_tokens) <= reusable_tokens(sequence)) {
        int32_t block = block_pool_find(s->options.pool, &sequence->keys[matched]);
        if (block == BLOCK_NONE)
            break;
        sequence->table[matched++] = block;
    }
    return matched;
}

/* Is there something of use in the block that comes after the matched ones? */
static bool is_of_use(const struct scheduler *s, const struct sequence *sequence, int32_t matched)
{
    return matched < sequence->key_count &&
           (uint32_t)(matched * s->options.block_tokens) < reusable_tokens(sequence);
}

/* Is that block being computed by a running sequence? */
static bool computed_elsewhere(const struct scheduler *s, const struct sequence *sequence, int32_t matched)
{
    if (!is_of_use(s, sequence, matched))
        return false;
    for (int32_t i = 0; i < s->running_count; i++) {
        const struct sequence *other = s->running[i];
        if (matched < other->key_count &&
            other->computed < (uint32_t)((matched + 1) * s->options.block_tokens) &&
            block_key_equal(&other->keys[matched], &sequence->keys[matched]))
            return true;
    }
    return false;
}

int32_t scheduler_promised(const struct scheduler *s)
{
    int32_t promised = 0;
    for (int32_t i = 0; i < s->running_count; i++) {
        const struct sequence *sequence = s->running[i];
        const struct beam_group *group = sequence->group;
        if (!group)
            promised += sequence->max_blocks - sequence->block_count;
        else if (sequence == group->members[0])
            promised += group->most_blocks - group->blocks_held;
    }
    return promised;
}

static bool fits(const struct scheduler *s, const struct sequence *sequence, int32_t matched)
{
    int32_t need = (sequence->group ? sequence->group->most_blocks : sequence->max_blocks) - matched;
    for (int32_t i = 0; i < matched; i++)
        need += block_pool_references(s->options.pool, sequence->table[i]) == 0;
    return need + scheduler_promised(s) <= block_pool_available(s->options.pool);
}

/* The block after the matched ones is in the cache, but not all of it may be used: what may is copied. */
static void copy_cached_part(struct scheduler *s, struct sequence *sequence)
{
    struct block_pool *pool = s->options.pool;
    int32_t at = sequence->block_count;
    int32_t source = is_of_use(s, sequence, at) ? block_pool_find(pool, &sequence->keys[at]) : BLOCK_NONE;
    bool evictable = source != BLOCK_NONE && block_pool_references(pool, source) == 0;
    if (source == BLOCK_NONE || block_pool_available(pool) < 1 + evictable)
        return;
    block_pool_reference(pool, source); /* it must not be the one that is taken */
    sequence->table[at] = block_pool_take(pool);
    copy_block(s, source, sequence->table[at]);
    block_pool_release(pool, source);
    sequence->block_count++;
    sequence->computed = reusable_tokens(sequence);
}

static void admit(struct scheduler *s, struct sequence *sequence, int32_t matched)
{
    for (int32_t i = 0; i < matched; i++)
        block_pool_reference(s->options.pool, sequence->table[i]);
    sequence->block_count = matched;
    sequence->stored = matched;
    sequence->computed = (uint32_t)(matched * s->options.block_tokens);
    copy_cached_part(s, sequence);
    if (!sequence->ran_before)
        sequence->cached_tokens =
            sequence->computed < sequence->prompt_tokens ? sequence->computed : sequence->prompt_tokens;
    sequence->ran_before = true;
    sequence->running = true;
    sequence->generated_at_start = sequence->token_count;
    s->running[s->running_count++] = sequence;
    s->seats += seats_of(sequence);
    if (sequence->group)
        sequence->group->blocks_held = sequence->block_count;
    else if (s->options.windows)
        sequence->window = kv_windows_take(s->options.windows);
}

/* ---- building the step ---- */

/* Logits rows that `rows` more tokens of the sequence ask for. */
static bool wants_logits(const struct sequence *sequence, uint32_t position)
{
    if (position + 1 >= sequence->token_count)
        return sequence->max_tokens > sequence->prompt_tokens; /* something is to be sampled */
    return sequence->wants_prompt_logprobs && position + 1 >= sequence->next_prompt_logprob &&
           position + 1 < sequence->prompt_tokens;
}

static bool is_decoding(const struct sequence *sequence)
{
    return sequence->token_count - sequence->computed == 1;
}

static void add_work(struct step_work *work, const struct sequence *sequence, uint32_t rows)
{
    if (is_decoding(sequence))
        step_work_add_decode(work, sequence->computed, rows - 1);
    else
        step_work_add_prefill(work, sequence->computed, rows);
}

static void count_work(struct scheduler *s, const struct sequence *sequence, uint32_t rows)
{
    const double before = step_cost_seconds(&s->cost, &s->work);
    add_work(&s->work, sequence, rows);
    if (sequence->priority <= s->urgent)
        add_work(&s->urgent_work, sequence, rows);
    if (!is_decoding(sequence))
        s->prompt_seconds -= step_cost_seconds(&s->cost, &s->work) - before;
}

/* Where the sequence's blocks follow one another, once `rows` more are computed; NULL: not mapped yet. Blocks
 * are taken a step ahead, so that the mapper has that long. */
static const uint8_t *window_of(struct scheduler *s, struct sequence *sequence, uint32_t rows)
{
    if (!sequence->window)
        return NULL;
    const uint32_t block_tokens = (uint32_t)s->options.block_tokens;
    const uint32_t used = sequence->computed + rows;
    uint32_t ahead = used + (is_decoding(sequence) ? block_tokens : (uint32_t)s->options.max_chunk_tokens);
    grow_table(s, sequence, ahead < sequence->max_tokens ? ahead : sequence->max_tokens);
    const uint8_t *window =
        kv_windows_follow(s->options.windows, sequence->window, sequence->table, sequence->block_count,
                          (int32_t)((used + block_tokens - 1) / block_tokens));
    s->window_rows += window ? rows : 0;
    return window;
}

static void add_rows(struct scheduler *s, struct sequence *sequence, uint32_t rows)
{
    struct batch *batch = &s->batch;
    count_work(s, sequence, rows);
    grow_table(s, sequence, sequence->computed + rows);
    s->batch_sequences[batch->sequence_count] =
        (struct batch_sequence){.first_row = batch->row_count,
                                .rows = (int32_t)rows,
                                .context_tokens = (int32_t)sequence->computed,
                                .block_table = sequence->table,
                                .window = window_of(s, sequence, rows)};
    s->batched[batch->sequence_count++] = sequence;
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t position = sequence->computed + i;
        if (wants_logits(sequence, position)) {
            CHECK(batch->logit_count < s->options.max_logit_rows);
            s->logit_rows[batch->logit_count++] = batch->row_count;
        }
        s->tokens[batch->row_count] = sequence->tokens[position];
        s->positions[batch->row_count++] = (int32_t)position;
    }
    sequence->scheduled = rows;
}

/* Only a step that holds up decodes is bounded in time. */
static void start_prompts(struct scheduler *s)
{
    const double target = (double)s->options.step_target_ns * 1e-9;
    const double left = target - step_cost_seconds(&s->cost, &s->work);
    s->prompt_seconds = left > target / LEAST_PROMPT_SHARE ? left : target / LEAST_PROMPT_SHARE;
    if (s->options.step_target_ns == 0 || (s->work.amount[STEP_DECODE_ROWS] == 0 && !s->apart))
        s->prompt_seconds = INFINITY;
}

/* At most `rows`, as many as the step has time for. */
static uint32_t rows_in_time(const struct scheduler *s, uint32_t context_tokens, uint32_t rows)
{
    if (isinf(s->prompt_seconds))
        return rows;
    uint32_t in_time = step_cost_rows(&s->cost, &s->work, context_tokens, s->prompt_seconds, rows);
    uint32_t least = s->work.amount[STEP_PREFILL_ROWS] > 0 ? 0 : LEAST_PROMPT_ROWS;
    least = least < rows ? least : rows;
    return in_time > least ? in_time : least;
}

/* Every sequence that may still join the step keeps one row of logits to itself. */
static int32_t logit_rows_of_others(const struct scheduler *s)
{
    const int32_t seats = s->options.max_sequences - s->seats;
    return s->running_count - s->batch.sequence_count + (s->waiting_count < seats ? s->waiting_count : seats);
}

/* Rows of a prompt that this step can take. */
static uint32_t chunk_of(const struct scheduler *s, const struct sequence *sequence)
{
    uint32_t rows = sequence->token_count - sequence->computed;
    uint32_t budget = (uint32_t)(s->options.max_batch_tokens - s->batch.row_count);
    if (rows > (uint32_t)s->options.max_chunk_tokens)
        rows = (uint32_t)s->options.max_chunk_tokens;
    if (rows > budget)
        rows = budget;
    rows = rows_in_time(s, sequence->computed, rows);
    if (sequence->wants_prompt_logprobs) {
        int32_t others = logit_rows_of_others(s) - (sequence->scheduled == 0);
        uint32_t limit = (uint32_t)(s->options.max_logit_rows - s->batch.logit_count - others);
        uint32_t before = sequence->next_prompt_logprob - 1; /* rows up to there have no logits */
        limit += before > sequence->computed ? before - sequence->computed : 0;
        if (rows > limit)
            rows = limit;
    }
    return rows;
}

/* ---- urgent ones ---- */

/* Half of the time is theirs: behind a step of all come so many of their own as take about as long. None
 * where a step of their own is hardly shorter: it would gain them nothing. */
static int32_t steps_apart(const struct scheduler *s)
{
    const double all = step_cost_seconds(&s->cost, &s->work);
    const double own = step_cost_seconds(&s->cost, &s->urgent_work);
    if (all < 2 * own || all == 0)
        return 0;
    return all < MOST_STEPS_APART * own ? (int32_t)(all / own) : MOST_STEPS_APART;
}

static void begin_step(struct scheduler *s)
{
    s->batch.row_count = s->batch.sequence_count = s->batch.logit_count = 0;
    s->work = s->urgent_work = (struct step_work){0};
    s->urgent = INT64_MAX;
    for (int32_t i = 0; i < s->running_count; i++) {
        s->running[i]->scheduled = s->running[i]->drafted = 0;
        s->urgent = s->running[i]->priority < s->urgent ? s->running[i]->priority : s->urgent;
    }
    s->apart = s->steps_apart > 0 && s->running_count > 0;
}

static bool takes_part(const struct scheduler *s, const struct sequence *sequence)
{
    return !s->apart || sequence->priority <= s->urgent;
}

/* ---- guesses ---- */

/* Of a sequence that generates, beside its next token; within what it may become, so its blocks are promised
 * to it. Beams move by what all of them say together. */
static uint32_t most_drafts(const struct scheduler *s, const struct sequence *sequence)
{
    if (sequence->group || sequence->token_count + 1 >= sequence->max_tokens)
        return 0;
    const uint32_t left = sequence->max_tokens - 1 - sequence->token_count;
    return left < (uint32_t)s->options.max_drafts ? left : (uint32_t)s->options.max_drafts;
}

/* What the other rows of the step, which all come before guesses, leave to them. */
static uint32_t draft_rows(const struct scheduler *s, int32_t decodes)
{
    const int32_t rows = s->options.max_batch_tokens - decodes;
    const int32_t logits = s->options.max_logit_rows - KEPT_LOGIT_ROWS - logit_rows_of_others(s);
    const int32_t most = rows < logits ? rows : logits;
    return most > 0 ? (uint32_t)most : 0;
}

/* The sequences that generate, into the batch's list, which begins with them. */
static int32_t list_decodes(struct scheduler *s)
{
    int32_t decodes = 0;
    for (int32_t i = 0; i < s->running_count; i++)
        if (is_decoding(s->running[i]) && takes_part(s, s->running[i]))
            s->batched[decodes++] = s->running[i];
    return decodes;
}

/* A price that turns likely guesses away is doubted more and more, until they are tried again. */
static void choose_drafts(struct scheduler *s, int32_t decodes, const struct step_work *work)
{
    const struct draft_step step = {.sequences = decodes,
                                    .seconds = step_cost_seconds(&s->cost, work),
                                    .row_price = s->draft_doubt * s->cost.price[STEP_DRAFT_ROWS],
                                    .rows = draft_rows(s, decodes)};
    const double turned_away = draft_gate_choose(s->draft_places, decodes, &step);
    if (turned_away > LIKELY)
        s->draft_doubt *= DOUBT;
}

/* Prompts are not looked at: guesses must pay among sequences that generate, and prompts get what time is
 * left, as beside other rows. */
static void draft(struct scheduler *s, int32_t decodes)
{
    struct step_work work = {0};
    for (int32_t i = 0; i < decodes; i++) {
        struct sequence *sequence = s->batched[i];
        step_work_add_decode(&work, sequence->computed, 0);
        prompt_lookup_follow(&sequence->lookup, sequence->tokens, sequence->token_count);
        s->draft_places[i] =
            (struct draft_place){.lookup = &sequence->lookup, .most = most_drafts(s, sequence)};
    }
    choose_drafts(s, decodes, &work);
    for (int32_t i = 0; i < decodes; i++) {
        struct sequence *sequence = s->batched[i];
        sequence->drafted = s->draft_places[i].drafts;
        if (sequence->drafted == 0)
            continue;
        prompt_lookup_guess(&sequence->lookup, sequence->tokens, sequence->drafted);
        s->draft_doubt = 1; /* the step will tell */
    }
}

/* ---- who runs ---- */

static void schedule_running(struct scheduler *s)
{
    const int32_t decodes = list_decodes(s);
    if (s->options.max_drafts > 0)
        draft(s, decodes);
    for (int32_t i = 0; i < decodes; i++)
        add_rows(s, s->batched[i], 1 + s->batched[i]->drafted);
    start_prompts(s);
    for (int32_t i = 0; i < s->running_count; i++) {
        struct sequence *sequence = s->running[i];
        if (sequence->scheduled > 0 || !takes_part(s, sequence))
            continue;
        uint32_t rows = chunk_of(s, sequence);
        if (rows > 0)
            add_rows(s, sequence, rows);
    }
}

/* In their order. One that does not fit stops the rest, so that it cannot be starved by smaller ones; one
 * that waits for a neighbour's prefix is passed over. */
static void schedule_waiting(struct scheduler *s)
{
    for (int32_t i = 0; i < s->waiting_count;) {
        struct sequence *sequence = s->waiting[i];
        if (s->seats + seats_of(sequence) > s->options.max_sequences ||
            s->batch.row_count >= s->options.max_batch_tokens || !takes_part(s, sequence) ||
            rows_in_time(s, sequence->token_count, 1) == 0)
            return;
        int32_t matched = match_prefix(s, sequence);
        if (computed_elsewhere(s, sequence, matched)) {
            i++;
            continue;
        }
        if (!fits(s, sequence, matched))
            return;
        remove_from(s->waiting, &s->waiting_count, sequence);
        admit(s, sequence, matched);
        uint32_t rows = chunk_of(s, sequence);
        add_rows(s, sequence, rows);
    }
}

const struct batch *scheduler_next(struct scheduler *s)
{
    begin_step(s);
    schedule_running(s);
    schedule_waiting(s);
    s->steps_apart = s->apart ? s->steps_apart - 1 : steps_apart(s);
    return &s->batch;
}

void scheduler_note_step(struct scheduler *s, int64_t took_ns)
{
    if (s->batch.row_count > 0)
        step_cost_note(&s->cost, &s->work, (double)took_ns * 1e-9);
}

struct sequence *scheduler_batch_sequence(const struct scheduler *s, int32_t index)
{
    CHECK(index >= 0 && index < s->batch.sequence_count);
    return s->batched[index];
}

struct sequence *scheduler_sequence(const struct scheduler *s, size_t index)
{
    if (index < (size_t)s->running_count)
        return s->running[index];
    index -= (size_t)s->running_count;
    return index < (size_t)s->waiting_count ? s->waiting[index] : NULL;
}

int32_t scheduler_running(const struct scheduler *s)
{
    return s->running_count;
}

int32_t scheduler_waiting(const struct scheduler *s)
{
    return s->waiting_count;
}

uint64_t scheduler_window_rows(const struct scheduler *s)
{
    return s->window_rows;
}

void scheduler_check_invariants(const struct scheduler *s)
{
    int32_t referenced = 0;
    block_pool_check_invariants(s->options.pool);
    for (int32_t i = 0; i < s->running_count; i++) {
        const struct sequence *sequence = s->running[i];
        CHECK(sequence->running && sequence->block_count <= sequence->max_blocks);
        CHECK(sequence->computed <= (uint32_t)(sequence->block_count * s->options.block_tokens));
        CHECK(sequence->computed < sequence->token_count && sequence->stored <= sequence->block_count);
        referenced += sequence->block_count;
    }
    for (int32_t i = 0; i < s->waiting_count; i++) {
        CHECK(!s->waiting[i]->running && s->waiting[i]->block_count == 0);
        CHECK(s->waiting[i]->overtaken <= MOST_OVERTAKEN);
    }
    int32_t references = 0;
    for (int32_t i = 0; i < block_pool_size(s->options.pool); i++)
        references += block_pool_references(s->options.pool, i);
    CHECK(references == referenced);
    CHECK(scheduler_promised(s) <= block_pool_available(s->options.pool));
}
