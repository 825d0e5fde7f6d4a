// SPDX-License-Identifier: Apache-2.0
// The intake thread's commits: of offsets alone, or of results and offsets in one transaction. Every commit
// carries the partition's map and a reservation for what may start next.
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/monotime.h"
#include "base/trace.h"
#include "worker/intake/intake_internal.h"

void intake_remove_flight(struct intake *intake, struct flight *flight)
{
    intake_partition_of(intake, flight)->lane->count--;
    flights_remove(intake->flights, flight);
    intake->shared->metrics->inflight_jobs = (int64_t)flights_count(intake->flights);
}

void intake_note_answer(struct intake *intake, struct flight *flight)
{
    struct partition *partition = intake_partition_of(intake, flight);
    offset_ledger_answer(partition->ledger, flight->offset);
    partition->dirty = true;
    if (partition->lane->answered_ms == 0)
        partition->lane->answered_ms = monotime_ms();
    intake_remove_flight(intake, flight);
}

struct partition *intake_partition_of(struct intake *intake, const struct flight *flight)
{
    return &intake->partitions[(const struct partition *)flight->partition - intake->partitions];
}

struct partition *intake_find_partition(struct intake *intake, const char *topic, int32_t number)
{
    for (int i = 0; i < intake->partition_end; i++)
        if (intake->partitions[i].used && intake->partitions[i].number == number &&
            strcmp(intake->partitions[i].topic, topic) == 0)
            return &intake->partitions[i];
    return NULL;
}

/* What is known to be in the log may start soon; what is not there yet could not be told from it later. */
static void reserve_ahead(struct intake *intake, struct partition *partition)
{
    int64_t next = offset_ledger_next(partition->ledger);
    int64_t more = job_source_lag(intake->source, partition->topic, partition->number, next);
    more = more < 0 ? 0 : more > RESERVE_OFFSETS ? RESERVE_OFFSETS : more;
    if (!partition->left)
        offset_ledger_reserve(partition->ledger, next + more);
    partition->sent_until = offset_ledger_reserved(partition->ledger);
}

static size_t gather_commits(struct intake *intake, const struct partition *only,
                             struct job_source_partition *out, char (*metadata)[OFFSET_MAP_MAX_BYTES])
{
    size_t count = 0;
    for (int i = 0; i < intake->partition_end; i++) {
        struct partition *partition = &intake->partitions[i];
        if (!partition->used || !partition->dirty || (only && only != partition))
            continue;
        reserve_ahead(intake, partition);
        offset_ledger_metadata(partition->ledger, metadata[count]);
        out[count] =
            (struct job_source_partition){partition->topic, partition->number,
                                          offset_ledger_commit_offset(partition->ledger), metadata[count]};
        partition->dirty = false;
        partition->lane->answered_ms = 0;
        count++;
    }
    return count;
}

static struct job_source_partition commit_list[MAX_PARTITIONS]; /* the intake thread's only */
static char commit_metadata[MAX_PARTITIONS][OFFSET_MAP_MAX_BYTES];

static void mark_committed(struct intake *intake, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct partition *partition =
            intake_find_partition(intake, commit_list[i].topic, commit_list[i].partition);
        partition->safe_until = partition->sent_until;
    }
    intake->shared->metrics->commits++;
}

static void mark_uncommitted(struct intake *intake, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct partition *partition =
            intake_find_partition(intake, commit_list[i].topic, commit_list[i].partition);
        partition->dirty = true;
    }
    intake->shared->metrics->commit_failures++;
}

/* librdkafka may send a commit that waited for the coordinator behind a later one: then the older one
 * holds. */
static void note_sent(struct intake *intake, size_t count, bool wait)
{
    for (size_t i = 0; i < count; i++) {
        struct partition *partition =
            intake_find_partition(intake, commit_list[i].topic, commit_list[i].partition);
        partition->commits_crossed |= partition->commits_sent > 0;
        partition->commits_sent += wait ? 0 : 1;
    }
}

/* Without new answers nothing else would commit again, and a restart would repeat jobs. */
void intake_take_commit_answer(void *context, const struct job_source_partition *answered, bool failed)
{
    struct intake *intake = context;
    struct partition *partition = intake_find_partition(intake, answered->topic, answered->partition);
    intake->shared->metrics->commit_failures += failed;
    if (!partition)
        return;
    partition->dirty |= failed;
    if (partition->commits_sent > 0 && --partition->commits_sent == 0 && partition->commits_crossed) {
        partition->commits_crossed = false;
        partition->dirty = true;
    }
}

static bool commit_offsets(struct intake *intake, const struct partition *only, bool wait)
{
    struct error err;
    size_t count = gather_commits(intake, only, commit_list, commit_metadata);
    if (count == 0)
        return true;
    if (job_source_commit(intake->source, commit_list, count, wait, &err) == STATUS_OK) {
        note_sent(intake, count, wait);
        mark_committed(intake, wait ? count : 0);
        return true;
    }
    log_warn("intake", "%s", err.text);
    mark_uncommitted(intake, count);
    return false;
}

/* ---- exactly once ---- */

static struct batch_sums count_result(const struct finished_result *result)
{
    struct batch_sums part;
    batch_sums_init(&part);
    part.completed = result->status == METRICS_COMPLETED;
    part.failed = result->status == METRICS_FAILED;
    part.cancelled = result->status == METRICS_CANCELLED;
    part.expired = result->status == METRICS_EXPIRED;
    part.input_tokens = (int64_t)result->cost.prompt_tokens;
    part.cached_tokens = (int64_t)result->cost.cached_tokens;
    part.output_tokens = (int64_t)result->cost.completion_tokens;
    part.first_ms = part.last_ms = walltime_ms();
    return part;
}

static void tally(const struct partition *partition, const struct finished_result *result)
{
    if (!partition->tallied)
        return;
    struct batch_sums part = count_result(result);
    batch_tally_add(partition->tally, result->identity.batch_id, &part);
}

/* Tokens that were computed for it, and one for the rest of the work. */
static int64_t weight_of(const struct finished_result *result)
{
    const struct result_cost *cost = &result->cost;
    return result->job_handle && !result->charged
               ? (int64_t)(cost->prompt_tokens - cost->cached_tokens + cost->completion_tokens) + 1
               : 0;
}

/* This worker's processor time since the last transaction, shared out among the jobs that have ended. */
static void charge_ready(struct intake *intake)
{
    int64_t weights = 0, now_ns = monotime_core_ns(), spent_us = (now_ns - intake->core_ns) / 1000;
    for (size_t i = 0; i < intake->ready_count; i++)
        weights += weight_of(intake->ready[i]);
    if (weights == 0)
        return;
    intake->core_ns = now_ns;
    for (size_t i = 0; i < intake->ready_count; i++) {
        struct finished_result *result = intake->ready[i];
        const struct partition *partition = result->partition;
        struct batch_sums part;
        batch_sums_init(&part);
        part.core_us = (int64_t)((double)spent_us * (double)weight_of(result) / (double)weights);
        if (partition->tallied && weight_of(result) > 0)
            batch_tally_add(partition->tally, result->identity.batch_id, &part);
        result->charged = true;
    }
}

/* The job is another worker's from the next commit on; what that one needs to go on is part of the commit. */
static void take_given_back(struct intake *intake, struct flight *flight, struct finished_result *finished)
{
    struct partition *partition = intake_partition_of(intake, flight);
    intake_forgive(intake, flight);
    partition->dirty = true;
    intake_remove_flight(intake, flight);
    finished->job_handle = 0;
    finished->partition = partition;
    if (finished->record.topic)
        intake->ready[intake->ready_count++] = finished;
    else
        finished_result_free(finished);
}

/* Its checkpoint, if it had one, goes when its result comes. */
static void end_checkpoint(struct intake *intake, const struct partition *partition, int64_t offset)
{
    struct finished_result *end = checkpoints_remove(intake->checkpoints, partition->topic, partition->number,
                                                     offset, intake->shared->config->kafka.status_topic);
    if (!end)
        return;
    end->partition = partition;
    intake->ready[intake->ready_count++] = end;
}

/* A result becomes part of the next transaction, behind its dead letter. */
static void take_result(struct intake *intake, struct flight *flight, struct finished_result *finished)
{
    struct finished_result *result = finished->after ? finished->after : finished;
    struct partition *partition = intake_partition_of(intake, flight);
    end_checkpoint(intake, partition, flight->offset);
    intake_note_answer(intake, flight);
    tally(partition, result);
    for (; finished; finished = result == finished ? NULL : result) {
        finished->partition = partition;
        finished->after = NULL;
        intake->ready[intake->ready_count++] = finished;
    }
}

/* What is of a job that is no longer ours is dropped. */
void intake_take_finished(struct intake *intake)
{
    struct finished_result *finished;
    while (intake->ready_count + MOST_PER_JOB <= MOST_IN_TXN &&
           (finished = channel_receive(intake->shared->finished, 0))) {
        const struct finished_result *result = finished->after ? finished->after : finished;
        struct flight *flight = flights_find(intake->flights, result->job_handle);
        if (!flight)
            finished_result_free(finished);
        else if (finished->kind == FINISHED_GIVEN_BACK)
            take_given_back(intake, flight, finished);
        else
            take_result(intake, flight, finished);
    }
}

static void replace_too_large(struct intake *intake)
{
    for (size_t i = 0; i < intake->ready_count; i++)
        if (intake->ready[i]->too_large)
            intake->ready[i] = finished_result_shrink(intake->ready[i]);
}

void intake_drop_ready(struct intake *intake, bool committed)
{
    for (size_t i = 0; i < intake->ready_count; i++) {
        enum finished_kind kind = intake->ready[i]->kind;
        if (committed && kind == FINISHED_DEAD_LETTER)
            intake->shared->metrics->dead_letters++;
        else if (committed && kind == FINISHED_RESULT)
            intake->shared->metrics->results[intake->ready[i]->status]++;
        finished_result_free(intake->ready[i]);
    }
    intake->ready_count = 0;
}

static struct finished_result *txn_records[2 * MOST_IN_TXN]; /* the intake thread's only */

/* The ready results, and behind them the progress of the batches that they belong to. */
static size_t gather_records(struct intake *intake)
{
    size_t count = intake->ready_count;
    memcpy(txn_records, intake->ready, count * sizeof *txn_records);
    for (int i = 0; i < intake->partition_end; i++) {
        struct partition *partition = &intake->partitions[i];
        if (partition->used && partition->tallied)
            count += batch_tally_changed(partition->tally, intake->shared->config->kafka.status_topic,
                                         txn_records + count, 2 * MOST_IN_TXN - count);
    }
    return count;
}

static void drop_progress(struct intake *intake, size_t record_count, bool committed)
{
    for (size_t i = intake->ready_count; i < record_count; i++)
        finished_result_free(txn_records[i]);
    for (int i = 0; i < intake->partition_end && committed; i++)
        if (intake->partitions[i].used && intake->partitions[i].tallied)
            batch_tally_written(intake->partitions[i].tally);
}

/* Results and offsets in one transaction. What was aborted is kept and goes with the next one. */
static bool commit_transaction(struct intake *intake)
{
    struct error err;
    intake_take_finished(intake);
    replace_too_large(intake);
    size_t count = gather_commits(intake, NULL, commit_list, commit_metadata);
    if (count == 0 && intake->ready_count == 0)
        return true;
    charge_ready(intake);
    size_t records = gather_records(intake);
    int64_t begin_ns = monotime_ns();
    enum status status =
        result_txn_commit(intake->txn, txn_records, records, intake->source, commit_list, count, &err);
    drop_progress(intake, records, status == STATUS_OK);
    trace_span(TRACE_INTAKE, "transaction", begin_ns, "results", (int64_t)intake->ready_count);
    if (status == STATUS_OK) {
        mark_committed(intake, count);
        intake_drop_ready(intake, true);
        return true;
    }
    mark_uncommitted(intake, count);
    intake->retry_ms = monotime_ms() + TXN_RETRY_MS;
    if (status != STATUS_TIMEOUT) {
        err.status = status == STATUS_UNAVAILABLE ? STATUS_INTERNAL : status;
        intake_take_fault(intake, &err); /* the producer cannot go on: end, and start anew */
    }
    return false;
}

/* False: it has to be made again. */
bool intake_commit(struct intake *intake, const struct partition *only, bool wait)
{
    return intake->txn ? commit_transaction(intake) : commit_offsets(intake, only, wait);
}

void intake_drop_results_of(struct intake *intake, const struct partition *partition)
{
    size_t kept = 0;
    for (size_t i = 0; i < intake->ready_count; i++) {
        if (intake->ready[i]->partition == partition)
            finished_result_free(intake->ready[i]);
        else
            intake->ready[kept++] = intake->ready[i];
    }
    intake->ready_count = kept;
}
