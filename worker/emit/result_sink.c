// SPDX-License-Identifier: Apache-2.0
#include "worker/emit/result_sink.h"

#include <stdio.h>
#include <stdlib.h>

#include "worker/kafka_client.h"

struct result_sink {
    rd_kafka_t *client;
    void (*acked)(void *context, void *tag, const struct error *error);
    void *context;
};

static void take_report(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    struct result_sink *sink = opaque;
    struct error error;
    (void)client;
    if (message->err)
        error_set(&error, kafka_client_status(message->err), "%s", rd_kafka_err2str(message->err));
    sink->acked(sink->context, message->_private, message->err ? &error : NULL);
}

static enum status start(struct result_sink *sink, const struct config *config, struct error *err)
{
    char most[24];
    snprintf(most, sizeof most, "%lld", (long long)config->results.max_bytes + 65536);
    const struct kafka_property properties[] = {
        {"enable.idempotence", "true"},
        {"partitioner", "murmur2_random"},
        {"linger.ms", "5"},
        {"compression.codec", "lz4"},
        {"message.max.bytes", most},
        {"delivery.timeout.ms", "2147483647"}, /* wait for the broker to come back */
        {NULL, NULL}};
    rd_kafka_conf_t *conf;
    enum status status = kafka_client_conf(&conf, config, properties, err);
    if (status != STATUS_OK)
        return status;
    rd_kafka_conf_set_dr_msg_cb(conf, take_report);
    rd_kafka_conf_set_opaque(conf, sink);
    return kafka_client_new(&sink->client, RD_KAFKA_PRODUCER, conf, err);
}

enum status result_sink_open(struct result_sink **out, const struct config *config,
                             void (*acked)(void *context, void *tag, const struct error *error),
                             void *context, struct error *err)
{
    *out = NULL;
    struct result_sink *sink = calloc(1, sizeof *sink);
    if (!sink)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the Kafka producer");
    sink->acked = acked;
    sink->context = context;
    enum status status = start(sink, config, err);
    if (status != STATUS_OK) {
        free(sink);
        return status;
    }
    *out = sink;
    return STATUS_OK;
}

void result_sink_close(struct result_sink *sink)
{
    if (!sink)
        return;
    rd_kafka_purge(sink->client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(sink->client, 1000); /* serves the reports of what was purged */
    rd_kafka_destroy(sink->client);
    free(sink);
}

enum status result_sink_send(struct result_sink *sink, const struct sink_record *record, struct error *err)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(record->header_count);
    for (size_t i = 0; i < record->header_count; i++)
        rd_kafka_header_add(headers, record->headers[i].name, -1, record->headers[i].value,
                            (ssize_t)record->headers[i].value_bytes);
    union { /* librdkafka copies, but its interface has no const */
        const char *in;
        char *out;
    } key = {record->key}, value = {record->value};
    rd_kafka_resp_err_t code = rd_kafka_producev(
        sink->client, RD_KAFKA_V_TOPIC(record->topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_KEY(key.out, record->key_bytes), RD_KAFKA_V_VALUE(value.out, record->value_bytes),
        RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_OPAQUE(record->tag), RD_KAFKA_V_END);
    if (!code)
        return STATUS_OK;
    rd_kafka_headers_destroy(headers);
    return error_set(err, kafka_client_status(code), "a record cannot be sent to %s: %s", record->topic,
                     rd_kafka_err2str(code));
}

enum status result_sink_poll(struct result_sink *sink, int timeout_ms, struct error *err)
{
    char text[256];
    rd_kafka_poll(sink->client, timeout_ms);
    rd_kafka_resp_err_t code = rd_kafka_fatal_error(sink->client, text, sizeof text);
    if (!code)
        return STATUS_OK;
    return error_set(err, kafka_client_status(code) == STATUS_FENCED ? STATUS_FENCED : STATUS_INTERNAL,
                     "Kafka producer cannot go on: %s", text);
}

bool result_sink_flush(struct result_sink *sink, int timeout_ms)
{
    return rd_kafka_flush(sink->client, timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

size_t result_sink_unsent(const struct result_sink *sink)
{
    return (size_t)rd_kafka_outq_len(sink->client);
}

enum status result_sink_check(struct result_sink *sink, int timeout_ms, char *cluster_id, size_t capacity,
                              struct error *err)
{
    return kafka_client_cluster_id(sink->client, timeout_ms, cluster_id, capacity, err);
}
