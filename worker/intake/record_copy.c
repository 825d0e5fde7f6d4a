// SPDX-License-Identifier: Apache-2.0
#include "worker/intake/record_copy.h"

#include <stdlib.h>
#include <string.h>

static const char *put(char **at, const char *text, size_t bytes)
{
    char *begin = *at;
    if (!text)
        return NULL;
    memcpy(begin, text, bytes);
    begin[bytes] = '\0';
    *at += bytes + 1;
    return begin;
}

static size_t length_of(const char *text)
{
    return text ? strlen(text) : 0;
}

static size_t storage_of(const struct job_record *record)
{
    size_t bytes = record->key_bytes + record->value_bytes + length_of(record->topic) +
                   length_of(record->cluster_id) + 4;
    for (size_t i = 0; i < record->header_count; i++)
        bytes += strlen(record->headers[i].name) + record->headers[i].value_bytes + 2;
    return bytes + record->header_count * sizeof(struct job_header);
}

struct job_record *record_copy(const struct job_record *record)
{
    struct job_record *copy = malloc(sizeof *copy + storage_of(record));
    if (!copy)
        return NULL;
    struct job_header *headers = (struct job_header *)(void *)(copy + 1);
    char *at = (char *)(headers + record->header_count);
    *copy = *record;
    copy->headers = headers;
    copy->topic = put(&at, record->topic, length_of(record->topic));
    copy->cluster_id = put(&at, record->cluster_id, length_of(record->cluster_id));
    copy->key = put(&at, record->key, record->key_bytes);
    copy->value = put(&at, record->value, record->value_bytes);
    for (size_t i = 0; i < record->header_count; i++) {
        const struct job_header *from = &record->headers[i];
        headers[i] = (struct job_header){put(&at, from->name, strlen(from->name)),
                                         put(&at, from->value, from->value_bytes), from->value_bytes};
    }
    return copy;
}
