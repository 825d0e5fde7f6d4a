// SPDX-License-Identifier: Apache-2.0
#include "worker/intake/status_topic.h"

#include "base/monotime.h"
#include "worker/topic_reader.h"

/* An open transaction of a dead worker ends with its timeout of ten seconds. */
enum { OPEN_WAIT_MS = 3000, READ_WAIT_MS = 15000, TURN_MS = 20 };

enum status status_topic_read(const struct config *config, status_topic_taker *take, void *context,
                              struct error *err)
{
    struct topic_reader *reader;
    struct job_record record;
    enum status status =
        topic_reader_open(&reader, config, config->kafka.status_topic, NULL, OPEN_WAIT_MS, err);
    if (status != STATUS_OK)
        return status;
    int64_t end_ms = monotime_ms() + READ_WAIT_MS;
    while (!topic_reader_passed_all(reader) && monotime_ms() < end_ms)
        while (topic_reader_next(reader, TURN_MS, &record))
            take(context, &record);
    if (!topic_reader_passed_all(reader))
        status = error_set(err, STATUS_UNAVAILABLE, "topic %s has a transaction that does not end",
                           config->kafka.status_topic);
    topic_reader_close(reader);
    return status;
}
