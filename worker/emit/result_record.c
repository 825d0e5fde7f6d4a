// SPDX-License-Identifier: Apache-2.0
#include "worker/emit/result_record.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void add_value(struct result_record *out, const char *name, const char *value, size_t bytes)
{
    if (out->record.header_count < RESULT_RECORD_HEADERS)
        out->headers[out->record.header_count++] = (struct job_header){name, value, bytes};
}

static void add_text(struct result_record *out, const char *name, const char *value)
{
    if (value)
        add_value(out, name, value, strlen(value));
}

static void add_number(struct result_record *out, const char *name, long long value)
{
    size_t left = sizeof out->text - out->text_bytes;
    char *at = out->text + out->text_bytes;
    int bytes = snprintf(at, left, "%lld", value);
    if (bytes < 0 || (size_t)bytes >= left)
        return;
    out->text_bytes += (size_t)bytes + 1;
    add_value(out, name, at, (size_t)bytes);
}

static void add_duration(struct result_record *out, const char *name, int64_t duration_ns)
{
    if (duration_ns >= 0)
        add_number(out, name, duration_ns / 1000000);
}

static bool is_ours(const char *name)
{
    return strncmp(name, "millrace-", 9) == 0 || strcmp(name, "traceparent") == 0;
}

/* The job's own headers travel on to the result, up to a bound. */
static void copy_headers(struct result_record *out, const struct job_record *record)
{
    size_t bytes = 0;
    for (size_t i = 0; i < record->header_count; i++) {
        const struct job_header *header = &record->headers[i];
        bytes += strlen(header->name) + header->value_bytes;
        if (!is_ours(header->name) && bytes <= RESULT_RECORD_COPIED_BYTES)
            add_value(out, header->name, header->value, header->value_bytes);
    }
}

static void add_job_headers(struct result_record *out, const struct result_record_source *source)
{
    const struct job *job = source->job;
    add_text(out, "millrace-model", job->model);
    add_number(out, "millrace-seed", (long long)job->sampling.seed);
    add_text(out, "millrace-warnings", job->warnings);
    add_text(out, "traceparent", job->traceparent);
}

void result_record_fill(struct result_record *out, const struct result_record_source *source)
{
    const struct result *result = source->result;
    const struct job *job = source->job;
    const char *custom_id = job                               ? job->custom_id
                            : source->identity->has_custom_id ? source->identity->custom_id
                                                              : NULL;
    out->text_bytes = 0;
    out->record = (struct sink_record){.topic = job && job->reply_topic ? job->reply_topic
                                                                        : source->config->kafka.results_topic,
                                       .value = result->value.data,
                                       .value_bytes = result->value.count_bytes,
                                       .headers = out->headers};
    bool job_key = strcmp(source->config->results.key, "job_key") == 0;
    out->record.key = job_key ? source->record->key : custom_id;
    out->record.key_bytes = job_key ? source->record->key_bytes : custom_id ? strlen(custom_id) : 0;
    add_text(out, "millrace-schema", "1");
    add_text(out, "millrace-batch-id", job ? job->batch_id : source->identity->batch_id);
    add_text(out, "millrace-status", result->status);
    add_text(out, "millrace-finish-reason", result->finish_reason);
    add_text(out, "millrace-digest", result->digest);
    add_text(out, "millrace-source-topic", source->record->topic);
    add_number(out, "millrace-source-partition", source->record->partition);
    add_number(out, "millrace-source-offset", source->record->offset);
    add_number(out, "millrace-source-timestamp", source->record->timestamp_ms);
    add_number(out, "millrace-attempt", source->attempt);
    add_text(out, "millrace-worker", source->worker_id);
    add_duration(out, "millrace-queue-ms", result->queue_ns);
    add_duration(out, "millrace-ttft-ms", result->ttft_ns);
    add_duration(out, "millrace-e2e-ms", result->e2e_ns);
    uint64_t tier = result->tier_tokens;
    add_number(out, "millrace-cached-tokens-local", (long long)(result->cached_tokens - tier));
    add_number(out, "millrace-cached-tokens-tier", (long long)tier);
    if (job)
        add_job_headers(out, source);
    copy_headers(out, source->record);
}
