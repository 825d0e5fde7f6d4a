// SPDX-License-Identifier: Apache-2.0
// DESIGN: the scheduler owns the queues and builds the step, the model computes it, the logit reader picks
// tokens, this file takes them in and says what happened. All memory of a step (events, logits,
// log-probabilities) is allocated at open.
#include "engine/engine_internal.h"

#include <stdlib.h>
#include <string.h>

#include "engine/beam.h"
#include "engine/constrain/constraint.h"
#include "engine/constrain/mask_ahead.h"
#include "engine/kernels/huge_memory.h"
#include "engine/kv/kv_cache.h"
#include "engine/kv/kv_windows.h"
#include "engine/logit_reader.h"
#include "engine/model/model.h"

enum {
    MAX_WANTED_LOGPROBS = 128,
    SCRATCH_TEXT_BYTES = 65536,
    BEAM_EVENTS = 1024 /* of searches that are over, in one step */
};
#define LOGPROBS_PER_ROW ((size_t)SAMPLING_MAX_LOGPROBS + MAX_WANTED_LOGPROBS)

/* ---- events ---- */

static struct engine_event *add_event(struct engine *engine, enum engine_event_type type,
                                      const struct sequence *sequence)
{
    CHECK(engine->event_count < engine->event_capacity);
    struct engine_event *event = &engine->events[engine->event_count++];
    *event = (struct engine_event){.type = type, .stop_token = -1, .stop_string = -1};
    if (sequence) {
        event->request_id = sequence->request_id;
        event->choice = sequence->choice;
    }
    return event;
}

/* Blocks may be evicted between steps too (engine_block_write); what does not fit is not reported. */
static void report_eviction(void *context, const struct block_key *key, int32_t block)
{
    struct engine *engine = context;
    if (engine->evicted)
        engine->evicted(engine->evicted_context, key, kv_cache_block(engine->kv, block));
    if (engine->event_count < engine->event_capacity / 2)
        add_event(engine, ENGINE_EVENT_BLOCK_EVICTED, NULL)->key = *key;
}

static void close_ended(struct engine *engine)
{
    while (engine->ended) {
        struct sequence *sequence = engine->ended;
        engine->ended = sequence->next_ended;
        sequence_close(sequence);
    }
}

static void drop_reported_events(struct engine *engine)
{
    close_ended(engine);
    size_t left = engine->event_count - engine->reported;
    memmove(engine->events, engine->events + engine->reported, left * sizeof *engine->events);
    engine->event_count = left;
    engine->reported = 0;
}

/* ---- life ---- */

static enum status no_memory(struct error *err)
{
    return error_set(err, STATUS_NO_MEMORY, "no memory for the engine's buffers");
}

static size_t logits_bytes(int32_t max_sequences, int32_t vocab)
{
    return (size_t)engine_max_logit_rows(max_sequences) * (size_t)vocab * sizeof(float);
}

uint64_t engine_logits_bytes(int32_t max_sequences, int32_t vocab)
{
    return huge_memory_bytes(logits_bytes(max_sequences, vocab));
}

static enum status open_buffers(struct engine *engine, struct error *err)
{
    const struct engine_options *o = &engine->options;
    size_t rows = (size_t)engine->max_logit_rows,
           bytes = logits_bytes(o->max_sequences, engine->hparams->vocab);
    /* A step reports at most: two events per sequence, one per logits row, one per block stored or evicted,
     * one per cancelled sequence, and those of searches; twice that, because evictions may use half. */
    engine->event_capacity = 2 * (BEAM_EVENTS + (size_t)o->max_sequences * 5 + (size_t)o->max_waiting + rows +
                                  2 * ((size_t)o->max_batch_tokens / (size_t)o->block_tokens) + 16);
    engine->events = calloc(engine->event_capacity, sizeof *engine->events);
    engine->logits = huge_memory_map(bytes);
    if (engine->logits)
        huge_memory_touch(engine->logits, bytes);
    bytes_init(&engine->scratch_text, SCRATCH_TEXT_BYTES);
    if (!engine->events || !engine->logits ||
        bytes_reserve(&engine->scratch_text, SCRATCH_TEXT_BYTES - 1) != STATUS_OK)
        return no_memory(err);
    return STATUS_OK;
}

static enum status open_windows(struct engine *engine, struct error *err)
{
    const struct engine_options *o = &engine->options;
    const int32_t longest = (engine->max_context_tokens + o->block_tokens - 1) / o->block_tokens;
    const struct kv_windows_options windows = {.kv = engine->kv,
                                               .windows = o->max_sequences,
                                               .max_blocks = longest < o->kv_blocks ? longest : o->kv_blocks,
                                               .max_mappings = o->max_mappings};
    return kv_windows_open(&engine->windows, &windows, err);
}

static enum status open_kv(struct engine *engine, struct error *err)
{
    const struct engine_options *o = &engine->options;
    const int32_t layers = engine->hparams->layers;
    const size_t layer_bytes = model_block_bytes(o->model, o->block_tokens) / (size_t)layers;
    if (!o->contiguous_kv)
        return kv_cache_open(&engine->kv, o->kv_blocks, layers, o->block_tokens, layer_bytes, err);
    enum status status =
        kv_cache_open_file(&engine->kv, o->kv_blocks, layers, o->block_tokens, layer_bytes, err);
    return status == STATUS_OK ? open_windows(engine, err) : status;
}

static enum status open_parts(struct engine *engine, struct error *err)
{
    const struct engine_options *o = &engine->options;
    enum status status = open_buffers(engine, err);
    if (status == STATUS_OK)
        status = block_pool_open(&engine->pool, o->kv_blocks, err);
    if (status == STATUS_OK)
        status = open_kv(engine, err);
    if (status == STATUS_OK)
        status = logit_reader_open(&engine->reader, model_team(o->model), engine->hparams->vocab,
                                   engine->max_logit_rows, LOGPROBS_PER_ROW, err);
    if (status == STATUS_OK)
        status = mask_ahead_open(&engine->masks, (size_t)o->max_sequences, err);
    if (status != STATUS_OK)
        return status;
    block_pool_on_evict(engine->pool, report_eviction, engine);
    struct scheduler_options scheduler = {.max_sequences = o->max_sequences,
                                          .max_batch_tokens = o->max_batch_tokens,
                                          .max_chunk_tokens = o->max_chunk_tokens,
                                          .max_waiting = o->max_waiting,
                                          .max_logit_rows = engine->max_logit_rows,
                                          .block_tokens = o->block_tokens,
                                          .pool = engine->pool,
                                          .kv = engine->kv,
                                          .windows = engine->windows,
                                          .prefix_cache = o->prefix_cache,
                                          .max_drafts = o->speculative_tokens,
                                          .step_target_ns = o->step_target_ns};
    return scheduler_open(&engine->scheduler, &scheduler, err);
}

static enum status check_options(const struct engine_options *o, struct error *err)
{
    if (o->block_tokens < 16 || o->block_tokens % 16 != 0)
        return error_set(err, STATUS_CONFIG, "engine.block_tokens must be a multiple of 16, got %d",
                         o->block_tokens);
    if (o->kv_blocks < 1 || o->max_sequences < 1 || o->max_chunk_tokens < 1 || o->max_waiting < 1)
        return error_set(err, STATUS_CONFIG,
                         "the engine needs at least one block, sequence, row and waiting place");
    if (o->max_batch_tokens < o->max_sequences)
        return error_set(
            err, STATUS_CONFIG,
            "engine.max_batch_tokens (%d) must be at least engine.max_sequences (%d): every running "
            "sequence takes one row of a step",
            o->max_batch_tokens, o->max_sequences);
    return STATUS_OK;
}

enum status engine_open(struct engine **out, const struct engine_options *options, struct error *err)
{
    *out = NULL;
    enum status status = check_options(options, err);
    if (status != STATUS_OK)
        return status;
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return no_memory(err);
    engine->options = *options;
    engine->hparams = model_hparams(options->model);
    engine->max_logit_rows = engine_max_logit_rows(options->max_sequences);
    engine->max_context_tokens = engine->hparams->max_context_tokens;
    if (options->max_context_tokens > 0 && options->max_context_tokens < engine->max_context_tokens)
        engine->max_context_tokens = options->max_context_tokens;
    status = open_parts(engine, err);
    if (status != STATUS_OK) {
        engine_close(engine);
        return status;
    }
    *out = engine;
    return STATUS_OK;
}

void engine_close(struct engine *engine)
{
    if (!engine)
        return;
    close_ended(engine);
    scheduler_close(engine->scheduler);
    for (struct beam_group *group = engine->searches, *next; group; group = next) {
        next = group->following;
        beam_group_close(group);
    }
    mask_ahead_close(engine->masks);
    logit_reader_close(engine->reader);
    kv_windows_close(engine->windows);
    kv_cache_close(engine->kv);
    block_pool_close(engine->pool);
    bytes_release(&engine->scratch_text);
    huge_memory_unmap(engine->logits, logits_bytes(engine->options.max_sequences, engine->hparams->vocab));
    free(engine->events);
    free(engine);
}

/* ---- submitting ---- */

static bool are_tokens(const struct engine *engine, const int32_t *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= engine->hparams->vocab)
            return false;
    return true;
}

/* The lists that the sampler uses as indices. */
static bool lists_are_tokens(const struct engine *engine, const struct sampling_params *s)
{
    for (size_t i = 0; i < s->logit_bias_count; i++)
        if (!are_tokens(engine, &s->logit_bias[i].token, 1))
            return false;
    return are_tokens(engine, s->allowed_tokens, s->allowed_count) &&
           are_tokens(engine, s->logprob_tokens, s->logprob_token_count);
}

static enum status check_request(const struct engine *engine, const struct engine_request *request,
                                 struct error *err)
{
    const struct sampling_params *s = request->sampling;
    if (request->prompt_tokens == 0)
        return error_set(err, STATUS_INVALID, "the prompt has no tokens");
    if (request->prompt_tokens + (s->max_tokens > 0) > (size_t)engine->max_context_tokens)
        return error_set(err, STATUS_INVALID,
                         "this model's maximum context length is %d tokens, but the prompt has %zu",
                         engine->max_context_tokens, request->prompt_tokens);
    for (size_t i = 0; i < request->prompt_tokens; i++)
        if (!are_tokens(engine, &request->prompt[i], 1))
            return error_set(err, STATUS_INVALID, "token id %d of the prompt is outside the vocabulary of %d",
                             request->prompt[i], engine->hparams->vocab);
    if (s->n < 1 || s->n > (uint32_t)engine->options.max_waiting)
        return error_set(err, STATUS_INVALID, "n must be between 1 and %d", engine->options.max_waiting);
    if (!lists_are_tokens(engine, s))
        return error_set(err, STATUS_INVALID,
                         "a token id of the sampling parameters is outside the vocabulary of %d",
                         engine->hparams->vocab);
    CHECK(s->logprob_token_count <= MAX_WANTED_LOGPROBS && s->logprobs <= SAMPLING_MAX_LOGPROBS &&
          s->prompt_logprobs <= SAMPLING_MAX_LOGPROBS);
    return STATUS_OK;
}

static enum status check_resumed(const struct engine *engine, const struct engine_request *request,
                                 uint32_t tokens, struct error *err)
{
    const struct sampling_params *s = request->sampling;
    if (request->resumed_tokens == 0)
        return STATUS_OK;
    bool plain = s->n == 1 && !s->use_beam_search && s->logprobs == SAMPLING_NO_LOGPROBS &&
                 s->prompt_logprobs == SAMPLING_NO_LOGPROBS;
    if (!plain || request->prompt_tokens + request->resumed_tokens >= tokens ||
        !are_tokens(engine, request->prompt + request->prompt_tokens, request->resumed_tokens))
        return error_set(err, STATUS_INVALID, "this request cannot be resumed with %zu tokens",
                         request->resumed_tokens);
    return STATUS_OK;
}

static uint32_t final_tokens(const struct engine *engine, const struct engine_request *request)
{
    uint64_t tokens = (uint64_t)request->prompt_tokens + request->sampling->max_tokens;
    return tokens < (uint64_t)engine->max_context_tokens ? (uint32_t)tokens
                                                         : (uint32_t)engine->max_context_tokens;
}

static enum status check_search(const struct engine *engine, const struct engine_request *request,
                                uint32_t tokens, struct error *err)
{
    const struct engine_options *o = &engine->options;
    const struct sampling_params *s = request->sampling;
    if (s->n > (uint32_t)o->max_sequences)
        return error_set(err, STATUS_INVALID,
                         "a beam search of width %u needs engine.max_sequences of %u, not %d", s->n, s->n,
                         o->max_sequences);
    if (s->max_tokens == 0 || s->stop_count > 0 || s->logprobs > 0 || s->logprob_token_count > 0)
        return error_set(err, STATUS_INVALID,
                         "a beam search has at least one token, no stop strings and no alternatives");
    int64_t blocks = beam_most_blocks(request, tokens, o->block_tokens);
    if (blocks > o->kv_blocks)
        return error_set(
            err, STATUS_INVALID,
            "a beam search of width %u with this prompt and max_tokens needs %lld KV blocks of %d "
            "tokens, but the pool has %d",
            s->n, (long long)blocks, o->block_tokens, o->kv_blocks);
    return STATUS_OK;
}

static enum status submit_search(struct engine *engine, const struct engine_request *request, uint32_t tokens,
                                 struct error *err)
{
    struct beam_group *group;
    struct beam_options options = {.request = request,
                                   .max_tokens = tokens,
                                   .block_tokens = engine->options.block_tokens,
                                   .keyed = engine->options.prefix_cache,
                                   .fingerprint = model_fingerprint(engine->options.model),
                                   .eos = engine->hparams->eos,
                                   .eos_count = engine->hparams->eos_count};
    enum status status = check_search(engine, request, tokens, err);
    if (status == STATUS_OK && scheduler_room(engine->scheduler) < 1)
        status = error_set(err, STATUS_FULL, "the engine's waiting list is full");
    if (status == STATUS_OK)
        status = beam_group_open(&group, &options, err);
    if (status != STATUS_OK)
        return status;
    group->members[0]->arrival = engine->arrivals++;
    CHECK(scheduler_add(engine->scheduler, group->members[0]));
    struct beam_group **end = &engine->searches;
    while (*end)
        end = &(*end)->following;
    *end = group;
    return STATUS_OK;
}

static void take_back(struct engine *engine, uint64_t request_id)
{
    struct sequence *sequence;
    for (size_t i = 0; (sequence = scheduler_sequence(engine->scheduler, i));)
        if (sequence->request_id == request_id) {
            scheduler_remove(engine->scheduler, sequence);
            sequence_close(sequence);
        } else {
            i++;
        }
}

static enum status submit_choices(struct engine *engine, const struct engine_request *request,
                                  uint32_t tokens, struct error *err)
{
    const struct engine_options *o = &engine->options;
    uint32_t n = request->sampling->n;
    if (scheduler_room(engine->scheduler) < n)
        return error_set(err, STATUS_FULL, "the engine's waiting list is full");
    int64_t arrival = engine->arrivals++;
    for (uint32_t choice = 0; choice < n; choice++) {
        struct sequence *sequence;
        struct sequence_options options = {.request = request,
                                           .choice = choice,
                                           .max_tokens = tokens,
                                           .block_tokens = o->block_tokens,
                                           .keyed = o->prefix_cache,
                                           .fingerprint = model_fingerprint(o->model),
                                           .tokenizer = o->tokenizer};
        enum status status = sequence_open(&sequence, &options, err);
        if (status != STATUS_OK) {
            take_back(engine, request->id);
            return status;
        }
        sequence->arrival = arrival;
        CHECK(scheduler_add(engine->scheduler, sequence));
    }
    return STATUS_OK;
}

enum status engine_submit(struct engine *engine, const struct engine_request *request, struct error *err)
{
    enum status status = check_request(engine, request, err);
    if (status != STATUS_OK)
        return status;
    const struct engine_options *o = &engine->options;
    uint32_t tokens = final_tokens(engine, request);
    uint32_t blocks = (tokens + (uint32_t)o->block_tokens - 1) / (uint32_t)o->block_tokens;
    if (blocks > (uint32_t)o->kv_blocks)
        return error_set(err, STATUS_INVALID,
                         "prompt and max_tokens need %u KV blocks of %d tokens, but the pool has %d", blocks,
                         o->block_tokens, o->kv_blocks);
    status = check_resumed(engine, request, tokens, err);
    if (status != STATUS_OK)
        return status;
    return request->sampling->use_beam_search ? submit_search(engine, request, tokens, err)
                                              : submit_choices(engine, request, tokens, err);
}

void engine_cancel(struct engine *engine, uint64_t request_id)
{
    struct sequence *sequence;
    for (size_t i = 0; (sequence = scheduler_sequence(engine->scheduler, i)); i++)
        if (sequence->request_id == request_id)
            sequence->cancelled = true;
    for (struct beam_group *group = engine->searches; group; group = group->following)
        if (group->request_id == request_id && group->state == BEAM_RUNNING) {
            beam_group_stop(group, engine->scheduler);
            group->state = BEAM_CANCELLED;
        }
}

/* ---- the step ---- */

static void finish(struct engine *engine, struct sequence *sequence, enum engine_finish reason,
                   int32_t stop_token, int32_t stop_string)
{
    struct engine_event *event = add_event(engine, ENGINE_EVENT_FINISHED, sequence);
    event->finish = reason;
    event->stop_token = stop_token;
    event->stop_string = stop_string;
    event->generated = sequence_generated(sequence);
    event->prompt_tokens = sequence->prompt_tokens;
    event->cached_tokens = sequence->cached_tokens;
    event->tokens = sequence->tokens;
    scheduler_remove(engine->scheduler, sequence);
    sequence->next_ended = engine->ended;
    engine->ended = sequence;
}

static void end_cancelled(struct engine *engine)
{
    struct sequence *sequence;
    for (size_t i = 0; (sequence = scheduler_sequence(engine->scheduler, i));)
        if (sequence->cancelled && !sequence->group)
            finish(engine, sequence, ENGINE_FINISH_CANCELLED, -1, -1);
        else
            i++;
}

/* Full blocks whose last token was computed in this step get their identity. */
static void store_blocks(struct engine *engine, struct sequence *sequence)
{
    int32_t block_tokens = engine->options.block_tokens;
    if (!engine->options.prefix_cache || !sequence->keys || (sequence->group && sequence->group->forked))
        return; /* of a search, only the prompt: what its beams say is theirs */
    sequence_extend_keys(sequence, sequence->computed, block_tokens);
    for (; (uint32_t)((sequence->stored + 1) * block_tokens) <= sequence->computed; sequence->stored++) {
        int32_t i = sequence->stored;
        if (!block_pool_set_key(engine->pool, sequence->table[i], &sequence->keys[i]))
            continue; /* another sequence computed the same block: ours goes when we do */
        struct engine_event *event = add_event(engine, ENGINE_EVENT_BLOCK_STORED, sequence);
        event->key = sequence->keys[i];
        event->parent = i ? sequence->keys[i - 1] : sequence->root;
        event->block_tokens = sequence->tokens + i * block_tokens;
        event->position = (uint32_t)(i * block_tokens);
        event->of_prompt = (uint32_t)((i + 1) * block_tokens) <= sequence->prompt_tokens;
    }
}

static void fill_logprobs(struct engine_event *event, const struct logit_reading *reading)
{
    event->logprob = reading->of_token.logprob;
    event->rank = reading->of_token.rank;
    event->top = reading->top;
    event->top_count = reading->top_count;
}

/* True when the sequence ended. */
static bool check_end(struct engine *engine, struct sequence *sequence, int32_t token)
{
    const struct sampling_params *s = sequence->sampling;
    int stop_string = -1;
    if (!s->ignore_eos)
        for (int32_t i = 0; i < engine->hparams->eos_count; i++)
            if (engine->hparams->eos[i] == token) {
                finish(engine, sequence, ENGINE_FINISH_STOP, token, -1);
                return true;
            }
    for (size_t i = 0; i < s->stop_token_count; i++)
        if (s->stop_tokens[i] == token) {
            finish(engine, sequence, ENGINE_FINISH_STOP, token, -1);
            return true;
        }
    if (sequence->detokenizer) {
        bytes_reset(&engine->scratch_text);
        enum status status =
            detokenizer_push(sequence->detokenizer, token, &engine->scratch_text, &stop_string);
        CHECK(status == STATUS_OK || status == STATUS_TOO_LARGE); /* the text itself is not needed here */
    }
    if (stop_string >= 0)
        finish(engine, sequence, ENGINE_FINISH_STOP, -1, stop_string);
    else if (sequence->token_count == sequence->max_tokens)
        finish(engine, sequence, ENGINE_FINISH_LENGTH, -1, -1);
    else
        return false;
    return true;
}

/* A token that the constraint does not follow is one with which it ends. */
static void advance_constraint(struct engine *engine, struct sequence *sequence, int32_t token)
{
    struct constraint *constraint = sequence->sampling->constraint;
    if (!constraint)
        return;
    sequence->constraint_state = constraint->ops->next(constraint, sequence->constraint_state, token);
    if (sequence->constraint_state == CONSTRAINT_DEAD)
        finish(engine, sequence, ENGINE_FINISH_STOP, token, -1);
}

/* The row of logits behind `tokens` of the sequence's tokens; guesses lie behind those said. */
static struct sampler_row row_of(const struct engine *engine, const struct sequence *sequence, int32_t logit,
                                 uint32_t tokens)
{
    return (struct sampler_row){.logits = engine->logits + (size_t)logit * (size_t)engine->hparams->vocab,
                                .sampling = sequence->sampling,
                                .tokens = sequence->tokens,
                                .token_count = tokens,
                                .prompt_tokens = sequence->prompt_tokens,
                                .eos = engine->hparams->eos,
                                .eos_count = engine->hparams->eos_count,
                                .choice = sequence->choice,
                                .constraint_state = sequence->constraint_state};
}

static void offer_beam(struct engine *engine, const struct sequence *sequence, int32_t logit)
{
    double norm;
    struct sampler_row row = row_of(engine, sequence, logit, sequence->token_count);
    const float *scores = sampler_scores(logit_reader_sampler(engine->reader), &row, &norm);
    if (scores)
        beam_group_offer(sequence->group, sequence->choice, scores, engine->hparams->vocab, norm);
    else
        sequence->group->state = BEAM_FAILED;
}

/* What was read of a row whose token is picked. A constraint's state is known only now. */
static const struct logit_reading *reading_of(struct engine *engine, const struct sequence *sequence,
                                              int32_t logit)
{
    if (sequence->sampling->constraint) {
        const struct logit_row row = {.row = row_of(engine, sequence, logit, sequence->token_count),
                                      .token = LOGIT_ROW_PICK,
                                      .top = sequence->sampling->logprobs};
        logit_reader_read(engine->reader, logit, &row);
    }
    return logit_reader_reading(engine->reader, logit);
}

/* False: the sequence ended. */
static bool sample_token(struct engine *engine, struct sequence *sequence, int32_t logit)
{
    const struct logit_reading *reading = reading_of(engine, sequence, logit);
    const int32_t token = reading->token;
    if (token < 0) { /* cut short, or not to be followed any further */
        finish(engine, sequence, token == SAMPLER_DEAD_END ? ENGINE_FINISH_LENGTH : ENGINE_FINISH_ERROR, -1,
               -1);
        return false;
    }
    struct engine_event *event = add_event(engine, ENGINE_EVENT_TOKEN, sequence);
    event->token = token;
    event->position = sequence_generated(sequence);
    fill_logprobs(event, reading);
    sequence->tokens[sequence->token_count++] = token;
    engine->stats.generated_tokens++;
    if (!check_end(engine, sequence, token))
        advance_constraint(engine, sequence, token);
    return sequence->running;
}

static void report_prompt_token(struct engine *engine, struct sequence *sequence, uint32_t position,
                                int32_t logit)
{
    struct engine_event *event = add_event(engine, ENGINE_EVENT_PROMPT_TOKEN, sequence);
    event->position = position;
    event->token = sequence->tokens[position];
    fill_logprobs(event, logit_reader_reading(engine->reader, logit));
    sequence->next_prompt_logprob = position + 1;
}

/* Keys and values of `rows` more tokens are there. */
static void settle_rows(struct engine *engine, struct sequence *sequence, uint32_t rows)
{
    uint32_t first = sequence->computed;
    sequence->computed += rows;
    if (first < sequence->prompt_tokens)
        engine->stats.prompt_tokens +=
            (sequence->computed < sequence->prompt_tokens ? sequence->computed : sequence->prompt_tokens) -
            first;
    store_blocks(engine, sequence);
}

/* Samples row after row while what is sampled is what was guessed: the next row was computed for just that.
 * Behind a guess that was wrong, keys and values are computed anew: `computed` stays before them. */
static void sample_rows(struct engine *engine, struct sequence *sequence, int32_t logit)
{
    const uint32_t drafted = sequence->drafted;
    engine->stats.drafts += drafted > 0;
    engine->stats.drafted_tokens += drafted;
    for (uint32_t i = 0;; i++, logit++) {
        const int32_t guess = i < drafted ? sequence->tokens[sequence->token_count] : -1;
        if (!sample_token(engine, sequence, logit) || sequence->tokens[sequence->token_count - 1] != guess)
            return;
        engine->stats.accepted_tokens++;
        settle_rows(engine, sequence, 1);
    }
}

/* The logits after a token that the prompt goes on behind: they say how likely the next one was. */
static bool is_of_prompt(const struct sequence *sequence, uint32_t position)
{
    return position + 1 < sequence->prompt_tokens && position + 1 < sequence->token_count;
}

/* The sequence's token at whose position this row of logits was computed. */
static uint32_t position_of(const struct batch *batch, int32_t index, int32_t logit, uint32_t first)
{
    return first + (uint32_t)(batch->logit_rows[logit] - batch->sequences[index].first_row);
}

/* The first row of logits behind those of the batch's sequence. */
static int32_t logits_end(const struct batch *batch, int32_t index, int32_t logit)
{
    const struct batch_sequence *rows = &batch->sequences[index];
    while (logit < batch->logit_count && batch->logit_rows[logit] < rows->first_row + rows->rows)
        logit++;
    return logit;
}

/* All rows of logits are read but those of beams, which are offered whole, and those that wait for a
 * constraint. A guess is read as if it were right; where it is not, nobody asks. */
static void read_logits(struct engine *engine, const struct batch *batch)
{
    for (int32_t i = 0, logit = 0; i < batch->sequence_count; i++) {
        const struct sequence *sequence = scheduler_batch_sequence(engine->scheduler, i);
        for (const int32_t end = logits_end(batch, i, logit); logit < end; logit++) {
            const uint32_t position = position_of(batch, i, logit, sequence->computed);
            const bool of_prompt = is_of_prompt(sequence, position);
            if (!of_prompt && (sequence->group || sequence->sampling->constraint))
                continue;
            const struct logit_row row = {
                .row = row_of(engine, sequence, logit, position + 1),
                .token = of_prompt ? sequence->tokens[position + 1] : LOGIT_ROW_PICK,
                .top = of_prompt ? sequence->sampling->prompt_logprobs : sequence->sampling->logprobs};
            logit_reader_note(engine->reader, logit, &row);
        }
    }
    logit_reader_run(engine->reader);
}

/* What one sequence's rows of the step gave. `logit` walks through the batch's logits rows. */
static void settle_sequence(struct engine *engine, const struct batch *batch, int32_t index, int32_t *logit)
{
    struct sequence *sequence = scheduler_batch_sequence(engine->scheduler, index);
    uint32_t first = sequence->computed, drafted = sequence->drafted;
    settle_rows(engine, sequence, (uint32_t)batch->sequences[index].rows - drafted);
    int32_t last = -1;
    for (const int32_t end = logits_end(batch, index, *logit); *logit < end; (*logit)++) {
        uint32_t position = position_of(batch, index, *logit, first);
        if (is_of_prompt(sequence, position))
            report_prompt_token(engine, sequence, position + 1, *logit);
        if (position + 1 == sequence->token_count)
            last = *logit;
    }
    if (last >= 0 && sequence->group)
        offer_beam(engine, sequence, last);
    else if (last >= 0)
        sample_rows(engine, sequence, last);
    else if (sequence->computed == sequence->token_count) /* nothing to generate */
        finish(engine, sequence, ENGINE_FINISH_LENGTH, -1, -1);
}

/* All beams of a search have been offered: it goes on, or it is over and its blocks are free. */
static void advance_searches(struct engine *engine)
{
    for (struct beam_group *group = engine->searches; group; group = group->following) {
        if (group->state == BEAM_RUNNING && group->stepped)
            beam_group_choose(group);
        else if (group->state == BEAM_RUNNING)
            continue;
        if (group->state == BEAM_RUNNING)
            beam_group_advance(group, engine->scheduler);
        else if (group->members[0]->running)
            beam_group_stop(group, engine->scheduler);
    }
}

static void report_searches(struct engine *engine)
{
    size_t left = BEAM_EVENTS;
    for (struct beam_group **link = &engine->searches; *link;) {
        struct beam_group *group = *link;
        if (group->state == BEAM_RUNNING || left == 0) {
            link = &group->following;
            continue;
        }
        size_t made = beam_group_report(group, engine->events + engine->event_count, left);
        for (size_t i = 0; i < made; i++)
            engine->stats.generated_tokens +=
                engine->events[engine->event_count + i].type == ENGINE_EVENT_TOKEN;
        engine->event_count += made;
        left -= made;
        if (group->report_choice < group->width)
            return;
        *link = group->following;
        beam_group_close(group);
    }
}

static void count_cached(struct engine *engine, const struct batch *batch)
{
    for (int32_t i = 0; i < batch->sequence_count; i++) {
        const struct sequence *sequence = scheduler_batch_sequence(engine->scheduler, i);
        bool begins = sequence->token_count == sequence->prompt_tokens &&
                      batch->sequences[i].context_tokens == (int32_t)sequence->cached_tokens;
        if (!begins)
            continue;
        engine->stats.prefix_queries_tokens += sequence->prompt_tokens;
        engine->stats.prefix_hits_tokens += sequence->cached_tokens;
        engine->stats.cached_tokens += sequence->cached_tokens;
    }
}

/* The masks of the rows that will be sampled are made while the model computes them. */
static void forward(struct engine *engine, const struct batch *batch)
{
    for (int32_t i = 0; i < batch->sequence_count; i++) {
        const struct sequence *sequence = scheduler_batch_sequence(engine->scheduler, i);
        bool is_sampled = sequence->computed + (uint32_t)batch->sequences[i].rows ==
                          sequence->token_count + sequence->drafted;
        if (sequence->sampling->constraint && is_sampled)
            mask_ahead_note(engine->masks, sequence->sampling->constraint, sequence->constraint_state);
    }
    mask_ahead_start(engine->masks);
    model_forward(engine->options.model, engine->kv, batch, engine->logits);
    mask_ahead_wait(engine->masks);
}

enum status engine_step(struct engine *engine, const struct engine_event **events, size_t *count,
                        struct error *err)
{
    (void)err;
    drop_reported_events(engine);
    end_cancelled(engine);
    int32_t every = engine->options.force_preempt_every;
    if (every > 0 && engine->stats.steps % (uint64_t)every == (uint64_t)every - 1)
        engine->stats.preemptions += scheduler_preempt_youngest(engine->scheduler);
    engine->stats.preemptions += scheduler_preempt_for_urgent(engine->scheduler);
    const struct batch *batch = scheduler_next(engine->scheduler);
    if (batch->row_count > 0) {
        count_cached(engine, batch);
        forward(engine, batch);
        read_logits(engine, batch);
        int32_t logit = 0;
        for (int32_t i = 0; i < batch->sequence_count; i++)
            settle_sequence(engine, batch, i, &logit);
        CHECK(logit == batch->logit_count);
        advance_searches(engine);
        engine->stats.steps++;
    }
    report_searches(engine);
    *events = engine->events;
    *count = engine->reported = engine->event_count;
    return STATUS_OK;
}

void engine_note_step(struct engine *engine, int64_t took_ns)
{
    scheduler_note_step(engine->scheduler, took_ns);
}

bool engine_idle(const struct engine *engine)
{
    return scheduler_sequence(engine->scheduler, 0) == NULL && !engine->searches;
}

const uint8_t *engine_fingerprint(const struct engine *engine)
{
    return model_fingerprint(engine->options.model);
}

void engine_stats_read(const struct engine *engine, struct engine_stats *out)
{
    *out = engine->stats;
    out->running = scheduler_running(engine->scheduler);
    out->waiting = scheduler_waiting(engine->scheduler);
    out->window_rows = scheduler_window_rows(engine->scheduler);
    out->blocks_total = block_pool_size(engine->pool);
    out->blocks_used = out->blocks_total - block_pool_available(engine->pool);
    out->blocks_cached = block_pool_cached(engine->pool);
    out->experts = model_hparams(engine->options.model)->experts;
    out->expert_load = model_expert_load(engine->options.model);
}

void engine_check_invariants(const struct engine *engine)
{
    scheduler_check_invariants(engine->scheduler);
}
