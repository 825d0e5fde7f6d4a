// SPDX-License-Identifier: Apache-2.0
#include "worker/intake/control_reader.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/monotime.h"
#include "worker/topic_reader.h"

enum { FIRST_WAIT_MS = 3000, WAIT_MS = 500, LOOK_AGAIN_MS = 30000, MOST_AT_ONCE = 256, TURN_MS = 20 };

struct control_reader {
    const struct config *config;
    struct topic_reader *topic; /* NULL: not found yet */
    int64_t next_look_ms;
};

enum status control_reader_open(struct control_reader **out, const struct config *config, struct error *err)
{
    *out = calloc(1, sizeof **out);
    if (!*out)
        return error_set(err, STATUS_NO_MEMORY, "no memory to read the control topic");
    (*out)->config = config;
    return STATUS_OK;
}

void control_reader_close(struct control_reader *reader)
{
    if (reader)
        topic_reader_close(reader->topic);
    free(reader);
}

static bool find_topic(struct control_reader *reader)
{
    struct error err;
    const char *name = reader->config->kafka.control_topic;
    if (reader->topic || !name[0] || monotime_ms() < reader->next_look_ms)
        return reader->topic != NULL;
    int wait_ms = reader->next_look_ms ? WAIT_MS : FIRST_WAIT_MS; /* jobs wait meanwhile */
    if (topic_reader_open(&reader->topic, reader->config, name, NULL, wait_ms, &err) == STATUS_OK)
        return true;
    if (!reader->next_look_ms)
        log_warn("intake", "jobs cannot be cancelled yet: %s", err.text);
    reader->next_look_ms = monotime_ms() + LOOK_AGAIN_MS;
    return false;
}

static bool take(const struct job_record *record, struct cancellations *cancellations)
{
    struct cancel_key key;
    struct error err;
    if (!record->value)
        return false;
    if (cancel_read(record->value, record->value_bytes, &key, &err) != STATUS_OK) {
        log_warn("intake", "%s/%d offset %lld is ignored: %s", record->topic, record->partition,
                 (long long)record->offset, err.text);
        return false;
    }
    cancellations_add(cancellations, &key, record->timestamp_ms >= 0 ? record->timestamp_ms : walltime_ms());
    return true;
}

bool control_reader_poll(struct control_reader *reader, struct cancellations *cancellations, int wait_ms)
{
    bool found = false;
    int64_t end_ms = monotime_ms() + wait_ms;
    struct job_record record;
    if (!find_topic(reader))
        return false;
    do {
        for (int i = 0; i < MOST_AT_ONCE && topic_reader_next(reader->topic, wait_ms ? TURN_MS : 0, &record);
             i++)
            found |= take(&record, cancellations);
    } while (wait_ms && !topic_reader_at_end(reader->topic) && monotime_ms() < end_ms);
    return found;
}
