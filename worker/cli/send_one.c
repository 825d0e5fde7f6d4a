// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/send_one.h"

#include "worker/emit/result_sink.h"

enum { BROKER_WAIT_MS = 15000 };

struct sent {
    bool done;
    struct error error; /* status OK: stored */
};

static void acked(void *context, void *tag, const struct error *error)
{
    struct sent *sent = context;
    (void)tag;
    sent->done = true;
    if (error)
        sent->error = *error;
}

enum status send_one(const struct config *config, const char *topic, const struct bytes *key,
                     const struct bytes *value, struct error *err)
{
    struct result_sink *sink;
    struct sent sent = {0};
    char cluster_id[64];
    const struct sink_record record = {.topic = topic,
                                       .key = key->data,
                                       .key_bytes = key->count_bytes,
                                       .value = value->data,
                                       .value_bytes = value->count_bytes};
    enum status status = result_sink_open(&sink, config, acked, &sent, err);
    if (status != STATUS_OK)
        return status;
    status = result_sink_check(sink, BROKER_WAIT_MS, cluster_id, sizeof cluster_id, err);
    if (status == STATUS_OK)
        status = result_sink_send(sink, &record, err);
    if (status == STATUS_OK && (!result_sink_flush(sink, BROKER_WAIT_MS) || !sent.done))
        status = error_set(err, STATUS_UNAVAILABLE, "the broker did not store a record on %s in %d s", topic,
                           BROKER_WAIT_MS / 1000);
    else if (status == STATUS_OK && sent.error.status != STATUS_OK)
        status =
            error_set(err, sent.error.status, "a record on %s was not stored: %s", topic, sent.error.text);
    result_sink_close(sink);
    return status;
}
