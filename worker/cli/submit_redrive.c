// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/submit_redrive.h"

#include <stdio.h>
#include <string.h>

#include "base/monotime.h"
#include "worker/emit/dead_letter.h"
#include "worker/emit/result_txn.h"
#include "worker/intake/job_source.h"

enum {
    ASSIGN_WAIT_MS = 60000,
    QUIET_MS = 3000, /* nothing came for so long: there is no more */
    POLL_MS = 100,
    MOST_TOGETHER = 200,
    MOST_PARTITIONS = 256,
    MOST_REPEATS = 5
};

struct redrive {
    const struct config *config;
    struct job_source *source;
    struct result_txn *txn;
    struct finished_result *letters[MOST_TOGETHER];
    size_t count;
    struct job_source_partition next[MOST_PARTITIONS]; /* offsets to commit */
    size_t partitions;
    bool assigned, dry_run;
    int sent;
};

static void take_assigned(void *context, const struct job_source_partition *partition, size_t count)
{
    struct redrive *redrive = context;
    (void)partition;
    (void)count;
    redrive->assigned = true;
}

static void take_revoked(void *context, const struct job_source_partition *partition, bool lost)
{
    (void)context;
    (void)partition;
    (void)lost;
}

static void take_commit_answer(void *context, const struct job_source_partition *partition, bool failed)
{
    (void)context;
    (void)partition;
    (void)failed;
}

static void note_offset(struct redrive *redrive, const struct job_record *record)
{
    size_t i = 0;
    while (i < redrive->partitions && redrive->next[i].partition != record->partition)
        i++;
    if (i == MOST_PARTITIONS)
        return; /* sent again by the next run */
    redrive->partitions += i == redrive->partitions;
    redrive->next[i] = (struct job_source_partition){redrive->config->kafka.dlt_topic, record->partition,
                                                     record->offset + 1, ""};
}

/* The job as it was before it died. */
static enum status take_letter(struct redrive *redrive, const struct job_record *record, struct error *err)
{
    struct job_header headers[JOB_SOURCE_MAX_HEADERS];
    char topic[256];
    struct sink_record sent = {.key = record->key,
                               .key_bytes = record->key_bytes,
                               .value = record->value,
                               .value_bytes = record->value_bytes,
                               .headers = headers,
                               .topic = topic};
    snprintf(topic, sizeof topic, "%s", redrive->config->kafka.topics.items[0].name);
    for (size_t i = 0; i < record->header_count; i++) {
        const struct job_header *header = &record->headers[i];
        if (!dead_letter_owns(header->name))
            headers[sent.header_count++] = *header;
        else if (strcmp(header->name, "__connect.errors.topic") == 0 && header->value)
            snprintf(topic, sizeof topic, "%.*s", (int)header->value_bytes, header->value);
    }
    if (redrive->dry_run)
        printf("%s/%d offset %lld: %.*s\n", record->topic, (int)record->partition, (long long)record->offset,
               (int)(record->key ? record->key_bytes : 1), record->key ? record->key : "-");
    redrive->letters[redrive->count] = finished_result_new(1, &sent);
    if (!redrive->letters[redrive->count])
        return error_set(err, STATUS_NO_MEMORY, "no memory for the dead letters");
    redrive->count++;
    note_offset(redrive, record);
    return STATUS_OK;
}

static enum status send_letters(struct redrive *redrive, struct error *err)
{
    enum status status = redrive->count && !redrive->dry_run ? STATUS_TIMEOUT : STATUS_OK;
    for (int i = 0; status == STATUS_TIMEOUT && i < MOST_REPEATS; i++)
        status = result_txn_commit(redrive->txn, redrive->letters, redrive->count, redrive->source,
                                   redrive->next, redrive->partitions, err);
    if (status == STATUS_OK)
        redrive->sent += (int)redrive->count;
    for (size_t i = 0; i < redrive->count; i++)
        finished_result_free(redrive->letters[i]);
    redrive->count = redrive->partitions = 0;
    return status;
}

static enum status drive(struct redrive *redrive, struct error *err)
{
    struct job_record record;
    struct error fault;
    int64_t end_ms = monotime_ms() + ASSIGN_WAIT_MS;
    bool counting = false; /* the quiet time */
    enum status status = STATUS_OK;
    while (status == STATUS_OK && monotime_ms() < end_ms) {
        bool came = job_source_poll(redrive->source, POLL_MS, &record, &fault);
        if (came)
            status = take_letter(redrive, &record, err);
        if (status == STATUS_OK && (redrive->count == MOST_TOGETHER || !came))
            status = send_letters(redrive, err);
        if (came || (redrive->assigned && !counting))
            end_ms = monotime_ms() + QUIET_MS;
        counting = redrive->assigned;
    }
    if (status == STATUS_OK && !redrive->assigned)
        return error_set(err, STATUS_UNAVAILABLE, "the broker has not given out %s in %d s",
                         redrive->config->kafka.dlt_topic, ASSIGN_WAIT_MS / 1000);
    return status;
}

enum status submit_redrive(const struct config *config, bool dry_run, int *count, struct error *err)
{
    static struct redrive redrive; /* the process's only one: it is large */
    static struct config own;
    struct job_source_callbacks callbacks = {take_assigned, take_revoked, take_commit_answer, &redrive};
    *count = 0;
    if (!*config->kafka.dlt_topic)
        return error_set(err, STATUS_CONFIG, "kafka.dlt_topic is empty: there are no dead letters");
    own = *config;
    struct config_topic topic = {.name = own.kafka.dlt_topic, .weight = 1};
    char group[300];
    snprintf(group, sizeof group, "%s-dlt", config->kafka.group_id);
    own.kafka.topics.items = &topic;
    own.kafka.topics.count = 1;
    own.kafka.group_id = group;
    redrive = (struct redrive){.config = config, .dry_run = dry_run};
    enum status status = result_txn_open(&redrive.txn, &own, "redrive", err);
    if (status == STATUS_OK)
        status = job_source_open(&redrive.source, &own, &callbacks, err);
    if (status == STATUS_OK)
        status = drive(&redrive, err);
    result_txn_close(redrive.txn);
    job_source_close(redrive.source);
    *count = redrive.sent;
    return status;
}
