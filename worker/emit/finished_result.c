// SPDX-License-Identifier: Apache-2.0
#include "worker/emit/finished_result.h"

#include <stdlib.h>

#include "worker/infer/result.h"
#include "worker/intake/record_copy.h"
#include "worker/metrics.h"

struct finished_result *finished_result_new(uint64_t job_handle, const struct sink_record *record)
{
    const struct job_record content = {.topic = record->topic,
                                       .key = record->key,
                                       .key_bytes = record->key_bytes,
                                       .value = record->value,
                                       .value_bytes = record->value_bytes,
                                       .headers = record->headers,
                                       .header_count = record->header_count};
    struct finished_result *finished = calloc(1, sizeof *finished);
    struct job_record *storage = finished ? record_copy(&content) : NULL;
    if (!storage) {
        free(finished);
        return NULL;
    }
    finished->job_handle = job_handle;
    finished->storage = storage;
    finished->record = (struct sink_record){.topic = storage->topic,
                                            .key = storage->key,
                                            .key_bytes = storage->key_bytes,
                                            .value = storage->value,
                                            .value_bytes = storage->value_bytes,
                                            .headers = storage->headers,
                                            .header_count = storage->header_count,
                                            .tag = finished};
    return finished;
}

void finished_result_free(struct finished_result *finished)
{
    if (!finished)
        return;
    finished_result_free(finished->after);
    free(finished->storage);
    free(finished);
}

static struct finished_result *replace(struct finished_result *finished, const char *value,
                                       size_t value_bytes)
{
    struct sink_record record = finished->record;
    record.value = value;
    record.value_bytes = value_bytes;
    struct finished_result *smaller = finished_result_new(finished->job_handle, &record);
    CHECK(smaller != NULL);
    smaller->kind = finished->kind;
    smaller->status = finished->status;
    smaller->identity = finished->identity;
    smaller->partition = finished->partition;
    smaller->after = finished->after;
    finished->after = NULL;
    finished_result_free(finished);
    return smaller;
}

struct finished_result *finished_result_shrink(struct finished_result *finished)
{
    struct result result;
    struct error err;
    if (finished->kind != FINISHED_RESULT) /* a dead letter's headers say where the record is */
        return replace(finished, "", 0);
    CHECK(result_not_executed(&result, &finished->identity, "result_too_large",
                              "the broker does not take a record of this size", &err) == STATUS_OK);
    struct finished_result *smaller = replace(finished, result.value.data, result.value.count_bytes);
    smaller->status = METRICS_FAILED;
    result_release(&result);
    return smaller;
}
