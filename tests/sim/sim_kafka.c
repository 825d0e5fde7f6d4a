// SPDX-License-Identifier: Apache-2.0
// A Kafka in memory behind the seams of the intake: these definitions take the place of job_source.c,
// result_txn.c, control_reader.c and status_topic.c when the simulation is linked. A transaction is applied
// whole or not at all; a member that the group has expelled cannot commit (KIP-447); partitions move only
// after their owner let go or was expelled. What a committed result says is compared here with the answer of
// a worker that was left alone.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"
#include "worker/intake/checkpoints.h"
#include "worker/emit/result_txn.h"
#include "worker/intake/control_reader.h"
#include "worker/batch_sums.h"
#include "worker/intake/job_source.h"
#include "worker/intake/status_topic.h"

struct job_source {
    int member;
    bool paused;
    int turn; /* which partition is asked first */
    struct job_source_callbacks callbacks;
};

struct result_txn {
    int member;
};

static const char jobs_topic[] = "millrace.jobs";

/* ---- the group ---- */

int sim_join(bool *crashed)
{
    CHECK(sim.member_count < SIM_MOST_MEMBERS);
    sim.joining = sim.member_count++;
    sim.members[sim.joining] =
        (struct sim_member){.used = true, .in_group = true, .seen_ms = sim_now_ms(), .crashed = crashed};
    sim_rebalance();
    return sim.joining;
}

void sim_rebalance(void)
{
    int alive[SIM_MOST_MEMBERS], count = 0;
    for (int i = 0; i < sim.member_count; i++)
        if (sim.members[i].in_group)
            alive[count++] = i;
    uint64_t shift = sim_random(SIM_PARTITIONS);
    for (int p = 0; p < SIM_PARTITIONS; p++)
        sim.partitions[p].target = count ? alive[((uint64_t)p + shift) % (uint64_t)count] : -1;
}

static void expel(int member)
{
    sim.members[member].in_group = false;
    sim.members[member].unaware = (int)sim_random(4);
    for (int p = 0; p < SIM_PARTITIONS; p++)
        if (sim.partitions[p].owner == member)
            sim.partitions[p].owner = -1;
    sim_rebalance();
}

void sim_expel_silent(void)
{
    for (int i = 0; i < sim.member_count; i++) {
        struct sim_member *member = &sim.members[i];
        if (sim_broker_down() && !member->dead)
            member->seen_ms = sim_now_ms(); /* a coordinator that comes back gives everybody a new session */
        else if (member->in_group && sim_now_ms() - member->seen_ms > SIM_SESSION_MS)
            expel(i);
    }
}

/* ---- job_source ---- */

enum status job_source_open(struct job_source **out, const struct config *config,
                            const struct job_source_callbacks *callbacks, struct error *err)
{
    (void)config;
    (void)err;
    *out = calloc(1, sizeof **out);
    CHECK(*out != NULL);
    (*out)->member = sim.joining;
    (*out)->callbacks = *callbacks;
    return STATUS_OK;
}

static void revoke(struct job_source *source, int p, bool lost)
{
    struct sim_member *member = &sim.members[source->member];
    const struct job_source_partition partition = {jobs_topic, p, -1, NULL};
    member->has[p] = false;
    source->callbacks.revoked(source->callbacks.context, &partition, lost);
    if (sim.partitions[p].owner == source->member)
        sim.partitions[p].owner = -1;
}

static void assign(struct job_source *source, int p)
{
    struct sim_member *member = &sim.members[source->member];
    struct sim_partition *partition = &sim.partitions[p];
    const char *metadata = sim.bug == BUG_MAP_DROPPED ? "" : partition->metadata;
    const struct job_source_partition assigned = {jobs_topic, p, partition->committed, metadata};
    partition->owner = source->member;
    member->has[p] = true;
    member->position[p] = partition->committed < 0 ? 0 : partition->committed;
    source->callbacks.assigned(source->callbacks.context, &assigned, 1);
}

void job_source_close(struct job_source *source)
{
    if (!source)
        return;
    struct sim_member *member = &sim.members[source->member];
    for (int p = 0; p < SIM_PARTITIONS && !member->dead; p++)
        if (member->has[p])
            revoke(source, p, !member->in_group);
    if (!member->dead && member->in_group)
        expel(source->member);
    free(source);
}

static void follow_group(struct job_source *source)
{
    struct sim_member *member = &sim.members[source->member];
    for (int p = 0; p < SIM_PARTITIONS; p++)
        if (member->has[p] && !member->in_group)
            revoke(source, p, true);
    if (!member->in_group) {
        member->in_group = true;
        sim_rebalance();
    }
    for (int p = 0; p < SIM_PARTITIONS; p++)
        if (member->has[p] && sim.partitions[p].target != source->member)
            revoke(source, p, false);
    for (int p = 0; p < SIM_PARTITIONS; p++)
        if (!member->has[p] && sim.partitions[p].target == source->member && sim.partitions[p].owner == -1)
            assign(source, p);
}

static bool next_record(struct job_source *source, int p, struct job_record *record)
{
    struct sim_member *member = &sim.members[source->member];
    const struct sim_partition *partition = &sim.partitions[p];
    for (int i = 0; i < partition->count && member->has[p]; i++) {
        const struct sim_job *job = &sim.jobs[partition->jobs[i]];
        if (job->offset < member->position[p])
            continue;
        static struct job_header headers[3];
        size_t count = 0;
        headers[count++] = (struct job_header){"millrace-batch-id", "night", 5};
        if (job->priority[0])
            headers[count++] = (struct job_header){"millrace-priority", job->priority, strlen(job->priority)};
        if (job->deadline[0])
            headers[count++] =
                (struct job_header){"millrace-deadline-ms", job->deadline, strlen(job->deadline)};
        member->position[p] = job->offset + 1;
        *record = (struct job_record){.value = job->value,
                                      .value_bytes = strlen(job->value),
                                      .key = job->name,
                                      .key_bytes = strlen(job->name),
                                      .headers = headers,
                                      .header_count = count,
                                      .cluster_id = "sim",
                                      .topic = jobs_topic,
                                      .partition = p,
                                      .offset = job->offset,
                                      .timestamp_ms = 1};
        return true;
    }
    return false;
}

bool job_source_poll(struct job_source *source, int timeout_ms, struct job_record *record, struct error *err)
{
    struct sim_member *member = &sim.members[source->member];
    (void)timeout_ms;
    err->status = STATUS_OK;
    if (sim_broker_down() || member->dead)
        return false;
    member->seen_ms = sim_now_ms();
    if (!member->in_group && member->unaware-- > 0)
        return false;
    follow_group(source);
    for (int i = 0; i < SIM_PARTITIONS && !source->paused; i++)
        if (next_record(source, (source->turn + i) % SIM_PARTITIONS, record)) {
            source->turn++;
            return true;
        }
    return false;
}

void job_source_wake_on(struct job_source *source, int fd)
{
    (void)source; /* nobody waits */
    (void)fd;
}

void job_source_pause(struct job_source *source, const char *topic, bool paused)
{
    (void)topic;
    source->paused = paused;
}

enum status job_source_commit(struct job_source *source, const struct job_source_partition *partitions,
                              size_t count, bool wait, struct error *err)
{
    (void)source;
    (void)partitions;
    (void)count;
    (void)wait;
    return error_set(err, STATUS_INTERNAL, "the simulation delivers exactly once");
}

int64_t job_source_lag(struct job_source *source, const char *topic, int32_t partition, int64_t next_offset)
{
    int64_t end = sim.partitions[partition].end;
    (void)source;
    (void)topic;
    return end > next_offset ? end - (next_offset < 0 ? 0 : next_offset) : 0;
}

const char *job_source_cluster_id(struct job_source *source)
{
    (void)source;
    return "sim";
}

/* ---- transactions ---- */

enum status result_txn_open(struct result_txn **out, const struct config *config, const char *worker_id,
                            struct error *err)
{
    (void)config;
    (void)worker_id;
    (void)err;
    *out = calloc(1, sizeof **out);
    CHECK(*out != NULL);
    (*out)->member = sim.joining;
    return STATUS_OK;
}

void result_txn_close(struct result_txn *txn)
{
    free(txn);
}

struct sim_job *sim_find_job(const char *name, size_t bytes)
{
    for (int i = 0; i < sim.job_count; i++)
        if (strlen(sim.jobs[i].name) == bytes && memcmp(sim.jobs[i].name, name, bytes) == 0)
            return &sim.jobs[i];
    return NULL;
}

bool sim_committed_says_answered(const struct sim_job *job, unsigned *attempts)
{
    const struct sim_partition *partition = &sim.partitions[job->partition];
    *attempts = 0;
    CHECK(offset_ledger_begin(sim.reader, partition->committed, partition->metadata) == STATUS_OK);
    if (!offset_ledger_take(sim.reader, job->offset))
        return true;
    *attempts = offset_ledger_attempts(sim.reader, job->offset);
    return false;
}

size_t sim_checkpoint_tokens(const struct sim_job *job)
{
    const char *at = strstr(job->checkpoint, "\"tokens\":[");
    size_t count = at ? 1 : 0;
    for (; at && *at && *at != ']'; at++)
        count += *at == ',';
    return count;
}

static bool take_checkpoint(const struct sink_record *record)
{
    char topic[256];
    int32_t partition;
    int64_t offset;
    if (!checkpoint_key_read(record->key, record->key_bytes, topic, &partition, &offset))
        return false;
    for (int i = 0; i < sim.partitions[partition].count; i++) {
        struct sim_job *job = &sim.jobs[sim.partitions[partition].jobs[i]];
        if (job->offset != offset)
            continue;
        if (record->value && job->answers > 0)
            sim_violate("%s is answered and has a checkpoint", job->name);
        CHECK(record->value_bytes < sizeof job->checkpoint);
        if (record->value || sim.bug != BUG_CHECKPOINT_KEPT)
            snprintf(job->checkpoint, sizeof job->checkpoint, "%.*s", (int)record->value_bytes,
                     record->value ? record->value : "");
        char *last = sim.bug == BUG_CHECKPOINT_WRONG ? strchr(job->checkpoint, ']') : NULL;
        if (last)
            last[-1] = last[-1] == '1' ? '2' : '1';
    }
    return true;
}

static void take_progress(const struct sink_record *record)
{
    const char *topic;
    size_t topic_bytes;
    int32_t partition;
    batch_sums_split_key(record->key, record->key_bytes, &topic, &topic_bytes, &partition);
    CHECK(partition >= 0 && partition < SIM_PARTITIONS);
    snprintf(sim.partitions[partition].progress, sizeof sim.partitions[partition].progress, "%.*s",
             (int)record->value_bytes, record->value);
}

enum status status_topic_read(const struct config *config, status_topic_taker *take, void *context,
                              struct error *err)
{
    (void)config;
    (void)err;
    for (int p = 0; p < SIM_PARTITIONS && sim.bug != BUG_PROGRESS_FORGOTTEN; p++) {
        char key[64];
        const char *value = sim.partitions[p].progress;
        snprintf(key, sizeof key, "night/%s/%d", jobs_topic, p);
        const struct job_record record = {
            .key = key, .key_bytes = strlen(key), .value = value, .value_bytes = strlen(value)};
        if (value[0])
            take(context, &record);
    }
    for (int i = 0; i < sim.job_count; i++) {
        char key[64];
        const struct sim_job *job = &sim.jobs[i];
        snprintf(key, sizeof key, "checkpoint:%s:%d:%lld", jobs_topic, job->partition,
                 (long long)job->offset);
        const struct job_record record = {.key = key,
                                          .key_bytes = strlen(key),
                                          .value = job->checkpoint,
                                          .value_bytes = strlen(job->checkpoint)};
        if (job->checkpoint[0])
            take(context, &record);
    }
    return STATUS_OK;
}

/* A partition's progress is committed with the results that it counts. */
static void check_progress(void)
{
    for (int p = 0; p < SIM_PARTITIONS; p++) {
        struct batch_sums sums;
        const struct sim_partition *partition = &sim.partitions[p];
        if (partition->progress[0])
            CHECK(batch_sums_read(&sums, partition->progress, strlen(partition->progress)));
        else
            batch_sums_init(&sums);
        if (batch_sums_answered(&sums) != partition->results)
            sim_violate("partition %d has %d results and its progress says %lld", p, partition->results,
                        (long long)batch_sums_answered(&sums));
        else if (sums.input_tokens != partition->input_tokens ||
                 sums.output_tokens != partition->output_tokens)
            sim_violate("partition %d has used %ld and %ld tokens and its progress says %lld and %lld", p,
                        partition->input_tokens, partition->output_tokens, (long long)sums.input_tokens,
                        (long long)sums.output_tokens);
    }
}

static const char *header_of(const struct sink_record *record, const char *name)
{
    for (size_t i = 0; i < record->header_count; i++)
        if (strcmp(record->headers[i].name, name) == 0)
            return record->headers[i].value;
    return "";
}

static long number_behind(const char *text, const char *words)
{
    const char *at = strstr(text, words);
    return at ? strtol(at + strlen(words), NULL, 10) : 0;
}

/* The same bytes as those of a worker that had nothing else to do. */
static void check_completed(const struct sim_job *job, const struct sink_record *record)
{
    const struct sim_body *body = sim_body(job->body);
    const char *choices = strstr(record->value, "\"choices\":");
    if (strcmp(header_of(record, "millrace-digest"), body->digest) != 0)
        sim_violate("%s (body %d) has the digest %.12s and not %.12s", job->name, job->body,
                    header_of(record, "millrace-digest"), body->digest);
    else if (!choices || strncmp(choices, body->choices, strlen(body->choices)) != 0)
        sim_violate("%s (body %d) is answered \"%.100s\" and not \"%.100s\"", job->name, job->body,
                    choices ? choices : "", body->choices);
}

static void check_answer(struct sim_job *job, const struct sink_record *record)
{
    const char *status = header_of(record, "millrace-status");
    job->completed = strcmp(status, "completed") == 0;
    sim_seen.completed += job->completed;
    sim_seen.cancelled += strcmp(status, "cancelled") == 0;
    sim_seen.expired += strcmp(status, "expired") == 0;
    sim_seen.poisoned += strcmp(status, "failed") == 0;
    if (job->completed)
        check_completed(job, record);
    else if (strcmp(status, "cancelled") == 0 && !job->cancelled)
        sim_violate("%s was not cancelled and is answered so", job->name);
    else if (strcmp(status, "expired") == 0 &&
             (!job->deadline_ms || SIM_EPOCH_MS + sim_now_ms() < job->deadline_ms))
        sim_violate("%s has not expired and is answered so", job->name);
    else if (strcmp(status, "failed") == 0 && !strstr(record->value, "job_poisoned"))
        sim_violate("%s failed: %.150s", job->name, record->value);
}

static void apply_result(const struct finished_result *finished)
{
    const struct sink_record *record = &finished->record;
    if (strcmp(record->topic, "millrace.status") == 0) {
        if (!take_checkpoint(record))
            take_progress(record);
        return;
    }
    struct sim_job *job = sim_find_job(record->key, record->key_bytes);
    CHECK(job != NULL);
    if (strcmp(record->topic, "millrace.jobs-dlt") == 0) {
        job->dead_letters++;
        return;
    }
    sim_trace("committed: the result of %s, %s", job->name, header_of(record, "millrace-status"));
    check_answer(job, record);
    job->answers++;
    sim.partitions[job->partition].results++;
    sim.partitions[job->partition].input_tokens += number_behind(record->value, "\"prompt_tokens\":");
    sim.partitions[job->partition].output_tokens += number_behind(record->value, "\"completion_tokens\":");
    job->poisoned += strstr(record->value, "job_poisoned") != NULL;
    if (job->answers > 1)
        sim_violate("%s (partition %d, offset %lld) has %d results", job->name, job->partition,
                    (long long)job->offset, job->answers);
}

static void apply_offset(const struct job_source_partition *offset)
{
    struct sim_partition *partition = &sim.partitions[offset->partition];
    if (offset->offset < 0)
        return;
    int64_t committed = offset->offset + (sim.bug == BUG_PAST_UNFINISHED && offset->offset < partition->end);
    if (committed < partition->committed)
        sim_violate("the offset of partition %d went back from %lld to %lld", (int)offset->partition,
                    (long long)partition->committed, (long long)committed);
    partition->committed = committed;
    snprintf(partition->metadata, sizeof partition->metadata, "%s", offset->metadata ? offset->metadata : "");
}

static void apply(struct finished_result **results, size_t count, const struct job_source_partition *offsets,
                  size_t offset_count)
{
    for (size_t i = 0; i < count; i++)
        apply_result(results[i]);
    for (size_t i = 0; i < offset_count; i++)
        apply_offset(&offsets[i]);
    check_progress();
    for (int i = 0; i < sim.job_count; i++)
        if (sim.jobs[i].dead_letters != sim.jobs[i].poisoned)
            sim_violate("%s has %d dead letters and %d answers job_poisoned", sim.jobs[i].name,
                        sim.jobs[i].dead_letters, sim.jobs[i].poisoned);
}

static enum status crash(struct sim_member *member, struct error *err)
{
    *member->crashed = true;
    member->dead = true;
    return error_set(err, STATUS_INTERNAL, "crashed");
}

enum status result_txn_commit(struct result_txn *txn, struct finished_result **results, size_t count,
                              struct job_source *source, const struct job_source_partition *offsets,
                              size_t offset_count, struct error *err)
{
    struct sim_member *member = &sim.members[txn->member];
    (void)source;
    if (member->dead)
        return error_set(err, STATUS_INTERNAL, "dead");
    bool expelled = !member->in_group && sim.bug != BUG_LOST_IGNORED;
    if (sim_broker_down() || expelled || sim_chance(sim.faults.abort)) {
        sim_seen.aborts++;
        sim_seen.expelled_commits += !member->in_group;
        if (sim.bug == BUG_COMMIT_EARLY && !expelled)
            apply(results, 0, offsets, offset_count);
        return error_set(err, STATUS_TIMEOUT, "aborted");
    }
    if (sim_chance(sim.faults.crash_before))
        return crash(member, err);
    if (sim.bug == BUG_START_UNRECORDED && count == 0)
        return STATUS_OK; /* said to be written, and is not */
    apply(results, count, offsets, offset_count);
    if (sim_chance(sim.faults.crash_after))
        return crash(member, err);
    return STATUS_OK;
}

/* ---- the control topic ---- */

struct control_reader {
    int member;
};

enum status control_reader_open(struct control_reader **out, const struct config *config, struct error *err)
{
    (void)config;
    (void)err;
    *out = calloc(1, sizeof **out);
    CHECK(*out != NULL);
    (*out)->member = sim.joining;
    return STATUS_OK;
}

void control_reader_close(struct control_reader *reader)
{
    free(reader);
}

bool control_reader_poll(struct control_reader *reader, struct cancellations *cancellations, int wait_ms)
{
    struct sim_member *member = &sim.members[reader->member];
    bool found = false;
    (void)wait_ms;
    for (; member->cancels_read < sim.cancel_count && !sim_broker_down() && !member->dead; found = true) {
        struct cancel_key key;
        struct error err;
        int at = member->cancels_read++;
        CHECK(cancel_read(sim.cancels[at].value, strlen(sim.cancels[at].value), &key, &err) == STATUS_OK);
        cancellations_add(cancellations, &key, sim.cancels[at].at_ms);
    }
    return found;
}
