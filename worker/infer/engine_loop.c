// SPDX-License-Identifier: Apache-2.0
// DESIGN: a job becomes one engine request per prompt. The loop keeps the number of choices in the engine
// within max_choices, so the engine's waiting list is never full and a taken command can always be carried
// out. A job that does not fit yet waits in a short list, in order; when that is full, everything else waits
// in the channel: that is the back-pressure. Cancellations overtake waiting jobs.
#include "worker/infer/engine_loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "base/snapshot.h"
#include "base/trace.h"
#include "worker/infer/kv_bridge.h"

enum { HELD_WAIT_MS = 2, FIRST_ITEMS = 64, MAX_WAITING_JOBS = 1024, MAP_LETTERS = 512 };

struct live_job {
    uint64_t handle;
    const struct job *job; /* owned by the receiver of the reports, alive until the job's last one */
    size_t open_requests;
    bool refused;
    struct error error;
};

struct live_request { /* a prompt in the engine or held by the bridge; its index is the engine's request id */
    struct live_job *owner; /* NULL: free slot, unless it is held: abandoned */
    uint32_t prompt_index, open_choices, tier_tokens;
    bool held, cancelled;
    enum status reason; /* of the cancellation */
};

struct stats_cell { /* struct engine_stats, readable from any thread */
    _Atomic int32_t running, waiting, blocks_total, blocks_used, blocks_cached, experts;
    _Atomic uint64_t steps, prompt_tokens, generated_tokens, cached_tokens, preemptions, queries, hits;
    _Atomic uint64_t drafts, drafted_tokens, accepted_tokens;
    _Atomic uint64_t step_ns, gap_ns;
    _Atomic uint64_t expert_layer_steps, expert_rows, experts_touched, hottest_rows;
};

struct engine_loop {
    struct engine_loop_options options;
    pthread_t thread;
    struct live_request *requests; /* [max_choices] */
    size_t open_choices;
    struct engine_command *waiting,
        **waiting_end;            /* jobs taken from `in` that do not fit yet, oldest first */
    size_t waiting_count;         /* at most MAX_WAITING_JOBS */
    struct engine_report *report; /* being built */
    size_t item_capacity, logprob_count, logprob_capacity;
    uint64_t prompt_tokens_before;
    int64_t busy_since_ns;         /* end of the last step, when it left work; 0: the engine was idle */
    _Atomic int64_t step_began_ms; /* 0: between steps */
    struct stats_cell stats;
};

/* ---- reports ---- */

void engine_report_free(struct engine_report *report)
{
    if (!report)
        return;
    free(report->logprobs);
    for (size_t i = 0; i < report->count; i++)
        free(report->items[i].so_far);
    free(report->items);
    free(report);
}

static struct engine_report_item *add_item(struct engine_loop *loop, enum engine_report_item_type type,
                                           const struct live_job *owner)
{
    if (!loop->report) {
        loop->report = calloc(1, sizeof *loop->report);
        loop->item_capacity = loop->logprob_count = loop->logprob_capacity = 0;
    }
    if (loop->report && loop->report->count == loop->item_capacity) {
        size_t capacity = loop->item_capacity ? loop->item_capacity * 2 : FIRST_ITEMS;
        struct engine_report_item *items = realloc(loop->report->items, capacity * sizeof *items);
        CHECK(items != NULL); /* an answer would be lost; the jobs are taken again after the restart */
        loop->report->items = items;
        loop->item_capacity = capacity;
    }
    CHECK(loop->report != NULL);
    struct engine_report_item *item = &loop->report->items[loop->report->count++];
    memset(item, 0, sizeof *item);
    item->type = type;
    item->job_handle = owner->handle;
    return item;
}

static struct engine_report_item *add_cancelled(struct engine_loop *loop, const struct live_job *owner,
                                                uint32_t prompt, uint32_t choice)
{
    struct engine_report_item *item = add_item(loop, REPORT_FINISHED, owner);
    item->prompt_index = prompt;
    item->event = (struct engine_event){.type = ENGINE_EVENT_FINISHED,
                                        .choice = choice,
                                        .stop_token = -1,
                                        .stop_string = -1,
                                        .finish = ENGINE_FINISH_CANCELLED};
    return item;
}

/* The top list is copied; items hold its index until the report is complete, because the storage may move. */
static void copy_logprobs(struct engine_loop *loop, struct engine_report_item *item)
{
    size_t count = item->event.top_count;
    struct engine_report *report = loop->report;
    if (count == 0)
        return;
    if (loop->logprob_count + count > loop->logprob_capacity) {
        size_t capacity = (loop->logprob_count + count) * 2;
        struct engine_logprob *logprobs = realloc(report->logprobs, capacity * sizeof *logprobs);
        CHECK(logprobs != NULL);
        report->logprobs = logprobs;
        loop->logprob_capacity = capacity;
    }
    memcpy(report->logprobs + loop->logprob_count, item->event.top, count * sizeof *item->event.top);
    loop->logprob_count += count;
}

static void send_report(struct engine_loop *loop)
{
    struct engine_report *report = loop->report;
    if (!report)
        return;
    size_t at = 0;
    for (size_t i = 0; i < report->count; i++)
        if (report->items[i].event.top_count > 0) {
            report->items[i].event.top = report->logprobs + at;
            at += report->items[i].event.top_count;
        }
    report->step_end_ns = monotime_ns();
    loop->report = NULL;
    if (!channel_send(loop->options.out, report, -1)) /* waits for room: the emit stage sets the pace */
        engine_report_free(report);
}

/* ---- jobs ---- */

static void end_request(struct engine_loop *loop, struct live_request *request)
{
    struct live_job *owner = request->owner;
    *request = (struct live_request){0};
    if (--owner->open_requests > 0)
        return;
    if (owner->refused) {
        add_item(loop, REPORT_REFUSED, owner)->error = owner->error;
    }
    free(owner);
}

static struct live_request *free_slot(struct engine_loop *loop)
{
    for (size_t i = 0; i < loop->options.max_choices; i++)
        if (!loop->requests[i].owner && !loop->requests[i].held)
            return &loop->requests[i];
    UNREACHABLE(); /* every request has a choice, and choices are counted */
}

static struct engine_request describe(const struct engine_loop *loop, const struct live_request *request,
                                      const struct job *job)
{
    const struct job_prompt *prompt = &job->prompts[request->prompt_index];
    return (struct engine_request){.id = (uint64_t)(request - loop->requests),
                                   .prompt = prompt->tokens,
                                   .prompt_tokens = prompt->count,
                                   .resumed_tokens = job->resumed_tokens,
                                   .sampling = &job->sampling,
                                   .priority = job->priority,
                                   .deadline = job->deadline_ms,
                                   .salt = job->salt,
                                   .salt_bytes = job->salt_bytes};
}

static void cancel_request(struct engine_loop *loop, struct live_request *request)
{
    request->cancelled = true;
    if (request->held)
        kv_bridge_cancel(loop->options.bridge, request);
    engine_cancel(loop->options.engine, (uint64_t)(request - loop->requests));
}

/* The job's other requests end too; when all have, the refusal is reported. */
static void refuse(struct engine_loop *loop, struct live_job *owner, const struct error *error)
{
    owner->error = *error;
    owner->refused = true;
    for (size_t i = 0; i < loop->options.max_choices; i++)
        if (loop->requests[i].owner == owner)
            cancel_request(loop, &loop->requests[i]);
}

/* What another worker generated is said again: the answer is made from all of it. */
static void repeat_resumed(struct engine_loop *loop, const struct live_request *request,
                           const struct engine_request *described)
{
    for (size_t i = 0; i < described->resumed_tokens; i++) {
        struct engine_report_item *item = add_item(loop, REPORT_TOKEN, request->owner);
        item->prompt_index = request->prompt_index;
        item->event = (struct engine_event){.type = ENGINE_EVENT_TOKEN,
                                            .token = described->prompt[described->prompt_tokens + i],
                                            .position = (uint32_t)i};
    }
}

static enum status submit_described(struct engine_loop *loop, const struct live_request *request,
                                    struct engine_request *described, struct error *err)
{
    enum status status = engine_submit(loop->options.engine, described, err);
    if (status == STATUS_INVALID && described->resumed_tokens > 0) {
        described->resumed_tokens = 0; /* then from the beginning: the bytes are the same */
        status = engine_submit(loop->options.engine, described, err);
    }
    if (status == STATUS_OK)
        repeat_resumed(loop, request, described);
    return status;
}

static void submit(struct engine_loop *loop, struct live_request *request, const struct job *job)
{
    struct error err = {0};
    struct engine_request described = describe(loop, request, job);
    struct live_job *owner = request->owner;
    if (!owner->refused && submit_described(loop, request, &described, &err) == STATUS_OK)
        return;
    loop->open_choices -= request->open_choices;
    if (!owner->refused)
        refuse(loop, owner, &err);
    end_request(loop, request);
}

/* Accepted is said before anything else of a job: the receiver owns it from then on. */
static void start_job(struct engine_loop *loop, struct job *job, uint64_t handle)
{
    struct live_job *owner = calloc(1, sizeof *owner);
    CHECK(owner != NULL);
    owner->handle = handle;
    owner->job = job;
    owner->open_requests = job->prompt_count;
    add_item(loop, REPORT_ACCEPTED, owner)->job = job;
    size_t prompts = job->prompt_count;
    for (size_t i = 0; i < prompts; i++) { /* all slots first: a refusal must find them */
        struct live_request *request = free_slot(loop);
        *request = (struct live_request){
            .owner = owner, .prompt_index = (uint32_t)i, .open_choices = job->sampling.n};
        loop->open_choices += job->sampling.n;
    }
    for (size_t i = 0, left = prompts; i < loop->options.max_choices && left > 0; i++) {
        struct live_request *request = &loop->requests[i];
        if (request->owner != owner)
            continue;
        left--;
        struct engine_request described = describe(loop, request, job);
        request->held = !owner->refused && loop->options.bridge &&
                        kv_bridge_hold(loop->options.bridge, &described, request, &request->tier_tokens);
        if (!request->held)
            submit(loop, request, job);
    }
}

static void end_held(struct engine_loop *loop, struct live_request *request)
{
    for (uint32_t choice = 0; choice < request->open_choices && !request->owner->refused; choice++)
        add_cancelled(loop, request->owner, request->prompt_index, choice)->error.status = request->reason;
    loop->open_choices -= request->open_choices;
    end_request(loop, request);
}

/* Its blocks are on their way: it ends now, and its place is free when they have come. */
static void abandon(struct engine_loop *loop, struct live_request *request)
{
    end_held(loop, request);
    request->held = true;
    loop->open_choices++;
}

static void cancel_job(struct engine_loop *loop, uint64_t handle, enum status reason)
{
    for (size_t i = 0; i < loop->options.max_choices; i++) {
        struct live_request *request = &loop->requests[i];
        if (!request->owner || request->owner->handle != handle)
            continue;
        request->reason = reason;
        cancel_request(loop, request);
        if (request->held)
            abandon(loop, request);
    }
}

static size_t choices_of(const struct job *job)
{
    return job->prompt_count * job->sampling.n;
}

static void refuse_at_once(struct engine_loop *loop, struct engine_command *command)
{
    struct live_job owner = {.handle = command->job_handle};
    add_item(loop, REPORT_ACCEPTED, &owner)->job = command->job;
    error_set(&add_item(loop, REPORT_REFUSED, &owner)->error, STATUS_INVALID,
              "prompts times n is %zu, over the engine's limit of %zu choices", choices_of(command->job),
              loop->options.max_choices);
}

static void append_waiting(struct engine_loop *loop, struct engine_command *command)
{
    command->next = NULL;
    *loop->waiting_end = command;
    loop->waiting_end = &command->next;
    loop->waiting_count++;
}

static struct engine_command *remove_waiting(struct engine_loop *loop, struct engine_command **link)
{
    struct engine_command *command = *link;
    *link = command->next;
    if (!*link)
        loop->waiting_end = link;
    loop->waiting_count--;
    return command;
}

/* A job that never reached the engine ends like one that did. */
static void end_waiting(struct engine_loop *loop, struct engine_command *command, enum status reason)
{
    const struct job *job = command->job;
    struct live_job owner = {.handle = command->job_handle};
    add_item(loop, REPORT_ACCEPTED, &owner)->job = command->job;
    for (uint32_t prompt = 0; prompt < job->prompt_count; prompt++)
        for (uint32_t choice = 0; choice < job->sampling.n; choice++)
            add_cancelled(loop, &owner, prompt, choice)->error.status = reason;
    free(command);
}

static void cancel(struct engine_loop *loop, uint64_t handle, enum status reason)
{
    for (struct engine_command **link = &loop->waiting; *link; link = &(*link)->next)
        if ((*link)->job_handle == handle) {
            end_waiting(loop, remove_waiting(loop, link), reason);
            return;
        }
    cancel_job(loop, handle, reason);
}

static void start_waiting(struct engine_loop *loop)
{
    while (loop->waiting) {
        size_t choices = choices_of(loop->waiting->job);
        if (choices <= loop->options.max_choices && loop->open_choices + choices > loop->options.max_choices)
            return;
        struct engine_command *command = remove_waiting(loop, &loop->waiting);
        if (choices > loop->options.max_choices)
            refuse_at_once(loop, command);
        else
            start_job(loop, command->job, command->job_handle);
        free(command);
    }
}

/* Waits for a command only when there is nothing else to do. */
static void take_commands(struct engine_loop *loop, bool may_wait)
{
    while (loop->waiting_count < MAX_WAITING_JOBS) {
        bool idle = engine_idle(loop->options.engine) && !loop->report;
        bool held = loop->options.bridge && kv_bridge_held(loop->options.bridge) > 0;
        struct engine_command *command = channel_receive(loop->options.in, !idle || !may_wait ? 0
                                                                           : held             ? HELD_WAIT_MS
                                                                                              : -1);
        if (!command)
            break;
        if (command->type == ENGINE_COMMAND_JOB) {
            append_waiting(loop, command);
            start_waiting(loop);
            continue;
        }
        cancel(loop, command->job_handle, command->reason);
        free(command);
    }
    start_waiting(loop);
}

/* ---- held requests ---- */

static void take_loaded(struct engine_loop *loop)
{
    struct kv_bridge_ready ready;
    while (loop->options.bridge && kv_bridge_receive(loop->options.bridge, 0, &ready)) {
        struct live_request *request = ready.context;
        request->held = false;
        if (!request->owner) { /* abandoned */
            loop->open_choices--;
            continue;
        }
        request->tier_tokens = ready.tier_tokens;
        if (request->cancelled)
            end_held(loop, request);
        else
            submit(loop, request, request->owner->job);
    }
}

/* ---- steps ---- */

/* The job goes to another worker: its tokens so far go with it, and its blocks to the tier. */
static void keep_so_far(struct engine_loop *loop, const struct live_request *request,
                        const struct engine_event *event, struct engine_report_item *item)
{
    const struct job *job = request->owner->job;
    if (request->reason != STATUS_CLOSED || event->generated == 0 || !job_is_resumable(job))
        return;
    item->so_far = malloc(event->generated * sizeof *item->so_far);
    if (!item->so_far)
        return;
    item->so_far_count = event->generated;
    memcpy(item->so_far, event->tokens + event->prompt_tokens, event->generated * sizeof *item->so_far);
    if (!loop->options.bridge)
        return;
    struct engine_request whole = describe(loop, request, job);
    whole.prompt = event->tokens;
    whole.resumed_tokens = event->generated;
    kv_bridge_keep(loop->options.bridge, &whole);
}

static void take_event(struct engine_loop *loop, const struct engine_event *event)
{
    if (event->type == ENGINE_EVENT_BLOCK_STORED || event->type == ENGINE_EVENT_BLOCK_EVICTED)
        return;
    struct live_request *request = &loop->requests[event->request_id];
    CHECK(request->owner != NULL);
    if (!request->owner->refused) {
        enum engine_report_item_type type = event->type == ENGINE_EVENT_TOKEN          ? REPORT_TOKEN
                                            : event->type == ENGINE_EVENT_PROMPT_TOKEN ? REPORT_PROMPT_TOKEN
                                                                                       : REPORT_FINISHED;
        struct engine_report_item *item = add_item(loop, type, request->owner);
        item->prompt_index = request->prompt_index;
        item->event = *event;
        item->error.status = request->reason;
        item->tier_tokens =
            event->cached_tokens < request->tier_tokens ? event->cached_tokens : request->tier_tokens;
        copy_logprobs(loop, item);
        if (event->type == ENGINE_EVENT_FINISHED && event->finish == ENGINE_FINISH_CANCELLED)
            keep_so_far(loop, request, event, item);
    }
    if (event->type != ENGINE_EVENT_FINISHED)
        return;
    loop->open_choices--;
    if (--request->open_choices == 0)
        end_request(loop, request);
}

static void publish_stats(struct engine_loop *loop, const struct engine_stats *s)
{
    struct stats_cell *cell = &loop->stats;
    cell->running = s->running;
    cell->waiting = s->waiting;
    cell->blocks_total = s->blocks_total;
    cell->blocks_used = s->blocks_used;
    cell->blocks_cached = s->blocks_cached;
    cell->steps = s->steps;
    cell->prompt_tokens = s->prompt_tokens;
    cell->generated_tokens = s->generated_tokens;
    cell->cached_tokens = s->cached_tokens;
    cell->preemptions = s->preemptions;
    cell->drafts = s->drafts;
    cell->drafted_tokens = s->drafted_tokens;
    cell->accepted_tokens = s->accepted_tokens;
    cell->queries = s->prefix_queries_tokens;
    cell->hits = s->prefix_hits_tokens;
    cell->experts = s->experts;
    cell->expert_layer_steps = s->expert_load.layer_steps;
    cell->expert_rows = s->expert_load.rows;
    cell->experts_touched = s->expert_load.touched;
    cell->hottest_rows = s->expert_load.hottest_rows;
}

/* While somebody looks, and when the engine falls idle: then the last map stays true. */
static void publish_map(struct engine_loop *loop)
{
    char letters[MAP_LETTERS];
    struct bytes text;
    int64_t now_ms = monotime_ms();
    struct snapshot *map = loop->options.block_map;
    bool idle = engine_idle(loop->options.engine);
    if (!map || !(snapshot_wanted(map, now_ms) || idle))
        return;
    size_t count = engine_block_map(loop->options.engine, letters, MAP_LETTERS);
    bytes_init(&text, MAP_LETTERS + 8);
    bytes_append_char(&text, '"');
    bytes_append(&text, letters, count);
    bytes_append_char(&text, '"');
    snapshot_post(map, &text, idle ? 0 : now_ms); /* the first step after it is news */
    bytes_release(&text);
}

/* The engine's clock: how long a step took, and the time that it stood still with work left. */
static int64_t timed_step(struct engine_loop *loop, const struct engine_event **events, size_t *count)
{
    struct error err;
    int64_t begin_ns = monotime_ns();
    if (loop->busy_since_ns > 0)
        loop->stats.gap_ns += (uint64_t)(begin_ns - loop->busy_since_ns);
    CHECK(engine_step(loop->options.engine, events, count, &err) == STATUS_OK);
    int64_t end_ns = monotime_ns();
    engine_note_step(loop->options.engine, end_ns - begin_ns);
    loop->stats.step_ns += (uint64_t)(end_ns - begin_ns);
    loop->busy_since_ns = engine_idle(loop->options.engine) ? 0 : end_ns;
    trace_span(TRACE_ENGINE, "step", begin_ns, "events", (int64_t)*count);
    return end_ns - begin_ns;
}

static void step(struct engine_loop *loop)
{
    const struct engine_event *events;
    size_t count;
    struct engine_stats stats;
    int64_t took_ns = timed_step(loop, &events, &count);
    engine_stats_read(loop->options.engine, &stats);
    if (loop->options.bridge) {
        kv_bridge_note_prefill(loop->options.bridge, stats.prompt_tokens - loop->prompt_tokens_before,
                               took_ns);
        kv_bridge_spill(loop->options.bridge, events, count);
    }
    loop->prompt_tokens_before = stats.prompt_tokens;
    for (size_t i = 0; i < count; i++)
        take_event(loop, &events[i]);
    publish_stats(loop, &stats);
    publish_map(loop);
}

/* False: everything has ended and nothing will come. */
static bool turn(struct engine_loop *loop, bool may_wait)
{
    take_commands(loop, may_wait);
    take_loaded(loop);
    if (!engine_idle(loop->options.engine)) {
        loop->step_began_ms = monotime_ms();
        step(loop);
        loop->step_began_ms = 0;
    }
    send_report(loop);
    bool held = loop->options.bridge && kv_bridge_held(loop->options.bridge) > 0;
    if (!engine_idle(loop->options.engine) || held || loop->waiting || !channel_is_shut(loop->options.in) ||
        channel_count(loop->options.in) > 0)
        return true;
    channel_shut(loop->options.out);
    return false;
}

static void *run(void *context)
{
    struct engine_loop *loop = context;
    while (turn(loop, true))
        ;
    return NULL;
}

bool engine_loop_turn(struct engine_loop *loop)
{
    return turn(loop, false);
}

enum status engine_loop_open(struct engine_loop **out, const struct engine_loop_options *options,
                             struct error *err)
{
    *out = NULL;
    struct engine_loop *loop = calloc(1, sizeof *loop);
    if (loop) {
        loop->options = *options;
        loop->waiting_end = &loop->waiting;
        loop->requests = calloc(options->max_choices, sizeof *loop->requests);
    }
    if (!loop || !loop->requests) {
        engine_loop_close(loop);
        return error_set(err, STATUS_NO_MEMORY, "no memory for the engine loop");
    }
    publish_map(loop);
    *out = loop;
    return STATUS_OK;
}

bool engine_loop_runs(const struct engine_loop *loop, uint64_t job_handle)
{
    for (size_t i = 0; i < loop->options.max_choices; i++) {
        const struct live_request *request = &loop->requests[i];
        if (request->owner && !request->held && request->owner->handle == job_handle)
            return true;
    }
    return false;
}

void engine_loop_close(struct engine_loop *loop)
{
    if (loop)
        free(loop->requests);
    free(loop);
}

enum status engine_loop_start(struct engine_loop **out, const struct engine_loop_options *options,
                              struct error *err)
{
    struct engine_loop *loop;
    *out = NULL;
    enum status status = engine_loop_open(&loop, options, err);
    if (status != STATUS_OK)
        return status;
    if (pthread_create(&loop->thread, NULL, run, loop) != 0) {
        engine_loop_close(loop);
        return error_set(err, STATUS_NO_MEMORY, "cannot start the engine thread");
    }
    *out = loop;
    return STATUS_OK;
}

void engine_loop_join(struct engine_loop *loop)
{
    if (!loop)
        return;
    pthread_join(loop->thread, NULL);
    engine_loop_close(loop);
}

int64_t engine_loop_step_began_ms(const struct engine_loop *loop)
{
    return loop->step_began_ms;
}

void engine_loop_stats(struct engine_loop *loop, struct engine_stats *out)
{
    const struct stats_cell *cell = &loop->stats;
    *out = (struct engine_stats){.running = cell->running,
                                 .waiting = cell->waiting,
                                 .blocks_total = cell->blocks_total,
                                 .blocks_used = cell->blocks_used,
                                 .blocks_cached = cell->blocks_cached,
                                 .steps = cell->steps,
                                 .prompt_tokens = cell->prompt_tokens,
                                 .generated_tokens = cell->generated_tokens,
                                 .cached_tokens = cell->cached_tokens,
                                 .preemptions = cell->preemptions,
                                 .drafts = cell->drafts,
                                 .drafted_tokens = cell->drafted_tokens,
                                 .accepted_tokens = cell->accepted_tokens,
                                 .prefix_queries_tokens = cell->queries,
                                 .prefix_hits_tokens = cell->hits,
                                 .step_ns = cell->step_ns,
                                 .gap_ns = cell->gap_ns,
                                 .experts = cell->experts,
                                 .expert_load = {.layer_steps = cell->expert_layer_steps,
                                                 .rows = cell->expert_rows,
                                                 .touched = cell->experts_touched,
                                                 .hottest_rows = cell->hottest_rows}};
}
