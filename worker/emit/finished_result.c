// SPDX-License-Identifier: Apache-2.0
#include "worker/emit/finished_result.h"

#include <stdlib.h>
#include <string.h>

#include "worker/infer/result.h"
#include "worker/metrics.h"

static char *put(char **at, const char *text, size_t bytes)
{
    char *begin = *at;
    if (!text)
        return NULL;
    memcpy(begin, text, bytes);
    begin[bytes] = '\0';
    *at += bytes + 1;
    return begin;
}

static size_t storage_of(const struct sink_record *record)
{
    size_t bytes = record->key_bytes + record->value_bytes + strlen(record->topic) + 3;
    for (size_t i = 0; i < record->header_count; i++)
        bytes += strlen(record->headers[i].name) + record->headers[i].value_bytes + 2;
    return bytes + record->header_count * sizeof(struct job_header);
}

struct finished_result *finished_result_new(uint64_t job_handle, const struct sink_record *record)
{
    struct finished_result *finished = malloc(sizeof *finished + storage_of(record));
    if (!finished)
        return NULL;
    struct job_header *headers = (struct job_header *)(void *)(finished + 1);
    char *at = (char *)(headers + record->header_count);
    *finished = (struct finished_result){.job_handle = job_handle, .record = *record};
    finished->record.headers = headers;
    finished->record.tag = finished;
    finished->record.topic = put(&at, record->topic, strlen(record->topic));
    finished->record.key = put(&at, record->key, record->key_bytes);
    finished->record.value = put(&at, record->value, record->value_bytes);
    for (size_t i = 0; i < record->header_count; i++) {
        const struct job_header *from = &record->headers[i];
        headers[i].name = put(&at, from->name, strlen(from->name));
        headers[i].value = put(&at, from->value, from->value_bytes);
        headers[i].value_bytes = from->value_bytes;
    }
    return finished;
}

void finished_result_free(struct finished_result *finished)
{
    free(finished);
}

struct finished_result *finished_result_shrink(struct finished_result *finished)
{
    struct result result;
    struct error err;
    CHECK(result_not_executed(&result, &finished->identity, "result_too_large",
                              "the broker does not take a record of this size", &err) == STATUS_OK);
    struct sink_record record = finished->record;
    record.value = result.value.data;
    record.value_bytes = result.value.count_bytes;
    struct finished_result *smaller = finished_result_new(finished->job_handle, &record);
    CHECK(smaller != NULL);
    smaller->status = METRICS_FAILED;
    smaller->identity = finished->identity;
    smaller->partition = finished->partition;
    result_release(&result);
    finished_result_free(finished);
    return smaller;
}
