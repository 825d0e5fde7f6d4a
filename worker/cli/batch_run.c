// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/batch_run.h"

#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "worker/infer/engine_loop.h"

enum { OUT_CAPACITY = 64, IDLE_WAIT_MS = 100, EXPIRY_CHECK_MS = 250 };

struct open_job {                  /* its index is the handle */
    struct generation *generation; /* NULL: free */
    int64_t deadline_ms;           /* epoch; 0: none */
    bool cancelled;
};

struct batch {
    struct batch_run *run;
    struct engine_loop *loop;
    struct channel *in, *out;
    struct open_job *open; /* [capacity] */
    uint32_t *free_slots;  /* [capacity], [0, free_count) */
    size_t capacity, free_count;
    struct id_map taken; /* of this run's lines */
    bool input_ended, giving_up;
    int64_t expiry_checked_ms;
    const char *source; /* what the records are said to come from */
    int64_t timestamp_ms;
    struct error *err;
};

/* ---- answers ---- */

static enum status write_result(struct batch *batch, struct result *result)
{
    struct batch_counts *counts = &batch->run->counts;
    enum status status = batch_results_append(batch->run->results, &result->value, batch->err);
    if (strcmp(result->status, "completed") == 0)
        counts->completed++;
    else
        counts->failed++;
    counts->prompt_tokens += result->prompt_tokens;
    counts->cached_tokens += result->cached_tokens;
    counts->generated_tokens += result->completion_tokens;
    result_release(result);
    return status;
}

static enum status write_fault(struct batch *batch, const struct job_identity *identity,
                               const struct job_fault *fault)
{
    struct result result;
    enum status status = result_from_fault(&result, identity, fault, batch->err);
    return status == STATUS_OK ? write_result(batch, &result) : status;
}

static enum status write_expired(struct batch *batch, const struct job_identity *identity)
{
    struct result result;
    enum status status = result_not_executed(&result, identity, "batch_expired",
                                             "the job's deadline passed before it was run", batch->err);
    return status == STATUS_OK ? write_result(batch, &result) : status;
}

/* ---- taking jobs ---- */

static bool send_command(struct batch *batch, enum engine_command_type type, uint64_t handle, struct job *job)
{
    struct engine_command *command = malloc(sizeof *command);
    if (!command)
        return false;
    *command =
        (struct engine_command){.type = type, .job = job, .job_handle = handle, .reason = STATUS_CANCELLED};
    CHECK(channel_try_send(batch->in, command)); /* it holds two commands for every open job */
    return true;
}

static enum status start_job(struct batch *batch, struct job *job)
{
    uint32_t slot = batch->free_slots[batch->free_count - 1];
    struct open_job *open = &batch->open[slot];
    *open = (struct open_job){.deadline_ms = job->deadline_ms};
    enum status status = generation_open(&open->generation, &batch->run->setup->generation, job, batch->err);
    if (status != STATUS_OK) {
        job_close(job);
        return status;
    }
    if (!send_command(batch, ENGINE_COMMAND_JOB, slot, job)) {
        generation_close(open->generation);
        open->generation = NULL;
        return error_set(batch->err, STATUS_NO_MEMORY, "no memory for a command to the engine");
    }
    batch->free_count--;
    return STATUS_OK;
}

static void warn_job(struct batch *batch, const char *name, const char *text)
{
    batch_progress_clear(batch->run->progress);
    fprintf(stderr, "millrace batch: line %lld, %s: %s\n", (long long)batch->run->input->lines, name, text);
}

/* *out: the line needs an answer. What an earlier run answered is skipped in silence, what stands twice in
 * this input with a warning. */
static enum status is_new(struct batch *batch, const struct job_identity *identity, bool *out)
{
    struct batch_run *run = batch->run;
    const char *name = identity->has_custom_id ? identity->custom_id : identity->id;
    bool first;
    enum status status = id_map_put(&batch->taken, name, &first, batch->err);
    *out = first && !id_map_find(run->answered, name, strlen(name));
    if (status != STATUS_OK || *out)
        return status;
    if (first) {
        run->counts.resumed++;
        return STATUS_OK;
    }
    run->counts.duplicates++;
    warn_job(batch, name, "this custom_id was seen before; it is answered once");
    return STATUS_OK;
}

static enum status take_line(struct batch *batch, const char *line, size_t bytes)
{
    struct batch_run *run = batch->run;
    struct job_record record = {.value = line,
                                .value_bytes = bytes,
                                .cluster_id = "",
                                .topic = batch->source,
                                .offset = run->input->lines,
                                .timestamp_ms = batch->timestamp_ms};
    struct job_identity identity;
    struct job_fault fault;
    struct job *job;
    bool fresh;
    job_identity_read(&identity, &record);
    enum status status = is_new(batch, &identity, &fresh);
    if (status != STATUS_OK || !fresh)
        return status;
    if (!run->progress->has_first)
        run->progress->first_bytes = run->input->consumed_bytes - bytes;
    run->progress->has_first = true;
    status = job_parse(&job, &run->setup->parse, &record, &fault);
    if (status_class_of(status) == STATUS_CLASS_REJECT)
        return write_fault(batch, &identity, &fault);
    if (status != STATUS_OK)
        return error_set(batch->err, status, "no memory for the job of line %lld",
                         (long long)run->input->lines);
    if (job->warnings)
        warn_job(batch, job->custom_id, job->warnings);
    if (job->deadline_ms > 0 && job->deadline_ms <= walltime_ms()) {
        job_close(job);
        return write_expired(batch, &identity);
    }
    return start_job(batch, job);
}

/* Reads while there is room; waits for a line only when nothing else is going on. */
static enum status take_jobs(struct batch *batch)
{
    while (!batch->input_ended && !batch->giving_up && batch->free_count > 0) {
        const char *line;
        size_t bytes;
        bool idle = batch->free_count == batch->capacity;
        enum line_reader_result got =
            line_reader_next(batch->run->input, idle ? IDLE_WAIT_MS : 0, &line, &bytes, batch->err);
        if (got == LINE_READER_FAILED)
            return batch->err->status;
        batch->input_ended = got == LINE_READER_END;
        if (got != LINE_READER_LINE)
            return STATUS_OK;
        enum status status = take_line(batch, line, bytes);
        if (status != STATUS_OK)
            return status;
        batch->run->counts.read_bytes = batch->run->input->consumed_bytes;
        if (*batch->run->interrupted)
            return STATUS_OK;
    }
    return STATUS_OK;
}

/* ---- reports ---- */

static enum status finish_job(struct batch *batch, uint64_t handle)
{
    struct open_job *open = &batch->open[handle];
    struct result result;
    bool drop = batch->giving_up && open->cancelled;
    enum status status = STATUS_OK;
    if (!drop) {
        status = generation_result(open->generation, &result, batch->err);
        if (status == STATUS_OK)
            status = write_result(batch, &result);
    }
    generation_close(open->generation);
    *open = (struct open_job){0};
    batch->free_slots[batch->free_count++] = (uint32_t)handle;
    return status;
}

static enum status apply_report(struct batch *batch, const struct engine_report *report)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < report->count && status == STATUS_OK; i++) {
        const struct engine_report_item *item = &report->items[i];
        CHECK(item->job_handle < batch->capacity);
        struct generation *generation = batch->open[item->job_handle].generation;
        status = generation_apply(generation, item, NULL, batch->err);
        if (status == STATUS_OK && generation_done(generation))
            status = finish_job(batch, item->job_handle);
    }
    return status;
}

static enum status take_report(struct batch *batch, int timeout_ms)
{
    struct engine_report *report = channel_receive(batch->out, timeout_ms);
    enum status status = report ? apply_report(batch, report) : STATUS_OK;
    engine_report_free(report);
    return status;
}

/* ---- cancelling ---- */

static void cancel(struct batch *batch, uint32_t slot, enum status reason)
{
    struct open_job *open = &batch->open[slot];
    struct engine_command *command = open->generation && !open->cancelled ? malloc(sizeof *command) : NULL;
    if (!command)
        return; /* free already, or no memory: it simply finishes */
    *command = (struct engine_command){.type = ENGINE_COMMAND_CANCEL, .job_handle = slot, .reason = reason};
    CHECK(channel_try_send(batch->in, command));
    open->cancelled = true;
}

static void cancel_expired(struct batch *batch)
{
    int64_t now_ms = walltime_ms();
    if (now_ms - batch->expiry_checked_ms < EXPIRY_CHECK_MS && now_ms >= batch->expiry_checked_ms)
        return;
    batch->expiry_checked_ms = now_ms;
    for (uint32_t slot = 0; slot < batch->capacity; slot++)
        if (batch->open[slot].deadline_ms > 0 && batch->open[slot].deadline_ms <= now_ms)
            cancel(batch, slot, STATUS_EXPIRED);
}

static void give_up(struct batch *batch)
{
    if (batch->giving_up)
        return;
    batch->giving_up = true;
    for (uint32_t slot = 0; slot < batch->capacity; slot++)
        cancel(batch, slot, STATUS_CANCELLED);
}

/* ---- the run ---- */

static enum status turn(struct batch *batch)
{
    if (*batch->run->interrupted)
        give_up(batch);
    enum status status = take_jobs(batch);
    cancel_expired(batch);
    bool busy = batch->free_count < batch->capacity;
    /* With the input waiting for a slow pipe, a short wait keeps both ends served. */
    bool room = !batch->input_ended && !batch->giving_up && batch->free_count > 0;
    if (status == STATUS_OK && busy)
        status = take_report(batch, room ? IDLE_WAIT_MS / 10 : IDLE_WAIT_MS);
    if (status == STATUS_OK)
        status = batch_results_sync(batch->run->results, false, batch->err);
    batch_progress_show(batch->run->progress, &batch->run->counts);
    return status;
}

static bool finished(const struct batch *batch)
{
    return batch->free_count == batch->capacity && (batch->input_ended || *batch->run->interrupted);
}

static enum status open_batch(struct batch *batch)
{
    const struct config *config = batch->run->setup->config;
    batch->capacity = (size_t)config->limits.max_inflight_jobs;
    batch->free_count = batch->capacity;
    batch->open = calloc(batch->capacity, sizeof *batch->open);
    batch->free_slots = calloc(batch->capacity, sizeof *batch->free_slots);
    if (!batch->open || !batch->free_slots)
        return error_set(batch->err, STATUS_NO_MEMORY, "no memory for the table of jobs");
    for (size_t i = 0; i < batch->capacity; i++)
        batch->free_slots[i] = (uint32_t)(batch->capacity - 1 - i);
    enum status status = channel_open(&batch->in, 2 * batch->capacity, batch->err);
    if (status == STATUS_OK)
        status = channel_open(&batch->out, OUT_CAPACITY, batch->err);
    struct engine_loop_options options = {.engine = batch->run->setup->engine,
                                          .in = batch->in,
                                          .out = batch->out,
                                          .max_choices = (size_t)config->engine.max_waiting};
    return status == STATUS_OK ? engine_loop_start(&batch->loop, &options, batch->err) : status;
}

/* Ends the engine thread; after an error, jobs may still be running and are given up. */
static void close_batch(struct batch *batch)
{
    if (batch->loop) {
        give_up(batch);
        channel_shut(batch->in);
        struct engine_report *report;
        while ((report = channel_receive(batch->out, -1))) /* until the loop shuts it */
            engine_report_free(report);
        engine_loop_join(batch->loop);
    }
    for (size_t i = 0; batch->open && i < batch->capacity; i++)
        generation_close(batch->open[i].generation);
    channel_close(batch->in);
    channel_close(batch->out);
    free(batch->open);
    free(batch->free_slots);
    id_map_release(&batch->taken);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

enum status batch_run(struct batch_run *run, struct error *err)
{
    struct line_reader *input = run->input;
    struct batch batch = {.run = run, .err = err, .source = base_name(input->path)};
    /* The time of a file's jobs is the file's: a second run of it gives the same lines. */
    batch.timestamp_ms = input->modified_ms >= 0 ? input->modified_ms : walltime_ms();
    run->counts = (struct batch_counts){.file_bytes = (uint64_t)input->file_bytes};
    enum status status = open_batch(&batch);
    while (status == STATUS_OK && !finished(&batch))
        status = turn(&batch);
    close_batch(&batch);
    batch_progress_clear(run->progress);
    return status;
}
