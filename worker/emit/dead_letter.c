// SPDX-License-Identifier: Apache-2.0
#include "worker/emit/dead_letter.h"

#include <stdio.h>
#include <string.h>

#include "worker/intake/job_source.h"

#define PREFIX "__connect.errors."

enum { OWN_HEADERS = 9, NUMBER_BYTES = 24 };

struct letter {
    struct job_header headers[JOB_SOURCE_MAX_HEADERS + OWN_HEADERS];
    size_t count;
};

static void add(struct letter *letter, const char *name, const char *value)
{
    letter->headers[letter->count++] = (struct job_header){name, value, strlen(value)};
}

/* A record that is dead for the second time tells of the second time only. */
static void copy_headers(struct letter *letter, const struct job_record *record)
{
    for (size_t i = 0; i < record->header_count && letter->count < JOB_SOURCE_MAX_HEADERS; i++)
        if (!dead_letter_owns(record->headers[i].name))
            letter->headers[letter->count++] = record->headers[i];
}

struct finished_result *dead_letter_new(const struct dead_letter_source *source,
                                        const struct job_record *record)
{
    struct letter letter = {.count = 0};
    char partition[NUMBER_BYTES], offset[NUMBER_BYTES];
    if (!*source->config->kafka.dlt_topic)
        return NULL;
    snprintf(partition, sizeof partition, "%d", (int)record->partition);
    snprintf(offset, sizeof offset, "%lld", (long long)record->offset);
    copy_headers(&letter, record);
    add(&letter, PREFIX "topic", record->topic);
    add(&letter, PREFIX "partition", partition);
    add(&letter, PREFIX "offset", offset);
    add(&letter, PREFIX "connector.name", source->config->kafka.group_id);
    add(&letter, PREFIX "task.id", source->worker_id);
    add(&letter, PREFIX "stage", source->stage);
    add(&letter, PREFIX "class.name", "millrace");
    add(&letter, PREFIX "exception.class.name", source->exception);
    add(&letter, PREFIX "exception.message", source->message);
    const struct sink_record sent = {.topic = source->config->kafka.dlt_topic,
                                     .key = record->key,
                                     .key_bytes = record->key_bytes,
                                     .value = record->value,
                                     .value_bytes = record->value_bytes,
                                     .headers = letter.headers,
                                     .header_count = letter.count};
    struct finished_result *dead = finished_result_new(0, &sent);
    if (dead)
        dead->kind = FINISHED_DEAD_LETTER;
    CHECK(dead != NULL);
    return dead;
}

bool dead_letter_owns(const char *header_name)
{
    return strncmp(header_name, PREFIX, strlen(PREFIX)) == 0;
}
