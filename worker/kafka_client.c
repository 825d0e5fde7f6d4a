// SPDX-License-Identifier: Apache-2.0
#include "worker/kafka_client.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/log.h"

#define TIMER_SLACK_NS 1000000ul

static void take_log(const rd_kafka_t *client, int level, const char *facility, const char *text)
{
    (void)client;
    log_write(level <= 3 ? LOG_ERROR : level <= 4 ? LOG_WARN : LOG_DEBUG, "kafka", "%s: %s", facility, text);
}

/* Errors between us and the brokers heal by themselves; fatal ones are asked for where they matter. */
static void take_error(rd_kafka_t *client, int code, const char *reason, void *opaque)
{
    (void)client;
    (void)opaque;
    log_warn("kafka", "%s: %s", rd_kafka_err2name((rd_kafka_resp_err_t)code), reason);
}

static enum status set(rd_kafka_conf_t *conf, const char *name, const char *value, struct error *err)
{
    char text[256];
    if (rd_kafka_conf_set(conf, name, value, text, sizeof text) == RD_KAFKA_CONF_OK)
        return STATUS_OK;
    return error_set(err, STATUS_CONFIG, "kafka.properties: %s", text);
}

enum status kafka_client_conf(rd_kafka_conf_t **out, const struct config *config,
                              const struct kafka_property *properties, struct error *err)
{
    *out = NULL;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_log_cb(conf, take_log);
    rd_kafka_conf_set_error_cb(conf, take_error);
    enum status status = set(conf, "bootstrap.servers", config->kafka.bootstrap_servers, err);
    if (status == STATUS_OK)
        status = set(conf, "client.id", "millrace", err);
    if (status == STATUS_OK)
        status = set(conf, "socket.nagle.disable", "true", err);
    if (status == STATUS_OK)
        status = set(conf, "socket.keepalive.enable", "true", err);
    if (status == STATUS_OK)
        status = set(conf, "reconnect.backoff.max.ms", "2000", err);
    for (; properties->name && status == STATUS_OK; properties++)
        status = set(conf, properties->name, properties->value, err);
    for (size_t i = 0; i < config->kafka.properties.count && status == STATUS_OK; i++)
        status =
            set(conf, config->kafka.properties.items[i].key, config->kafka.properties.items[i].value, err);
    if (status == STATUS_OK && *config->kafka.sasl_password)
        status = set(conf, "sasl.password", config->kafka.sasl_password, err);
    if (status != STATUS_OK) {
        rd_kafka_conf_destroy(conf);
        return status;
    }
    *out = conf;
    return STATUS_OK;
}

/* librdkafka 2.0.2 sleeps for whole milliseconds and spins for the rest of the time to a timer (its issue
 * 4684). Where a sleep may end up to a millisecond late, hardly anything is left to spin for. Threads inherit
 * the slack of their creator. */
enum status kafka_client_new(rd_kafka_t **out, rd_kafka_type_t type, rd_kafka_conf_t *conf, struct error *err)
{
    char text[256];
    int slack_ns = prctl(PR_GET_TIMERSLACK);
    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
    *out = rd_kafka_new(type, conf, text, sizeof text);
    prctl(PR_SET_TIMERSLACK, slack_ns > 0 ? (unsigned long)slack_ns : 0ul); /* 0: as it was at first */
    if (*out)
        return STATUS_OK;
    rd_kafka_conf_destroy(conf);
    return error_set(err, STATUS_CONFIG, "Kafka %s: %s", type == RD_KAFKA_PRODUCER ? "producer" : "consumer",
                     text);
}

enum status kafka_client_status(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return STATUS_OK;
    case RD_KAFKA_RESP_ERR__FENCED:
    case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
        return STATUS_FENCED;
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        return STATUS_TOO_LARGE;
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
        return STATUS_FULL;
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
        return STATUS_TIMEOUT;
    case RD_KAFKA_RESP_ERR__FATAL:
        return STATUS_INTERNAL;
    default:
        return STATUS_UNAVAILABLE;
    }
}

enum status kafka_client_cluster_id(rd_kafka_t *client, int timeout_ms, char *out, size_t capacity,
                                    struct error *err)
{
    const struct rd_kafka_metadata
        *metadata; /* asked for at once: clusterid alone waits for the next refresh */
    if (rd_kafka_metadata(client, 0, NULL, &metadata, timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_metadata_destroy(metadata);
    char *id = rd_kafka_clusterid(client, timeout_ms);
    if (!id)
        return error_set(err, STATUS_UNAVAILABLE,
                         "no Kafka broker answers; is it running and is "
                         "kafka.bootstrap_servers right?");
    snprintf(out, capacity, "%s", id);
    rd_kafka_mem_free(client, id);
    return STATUS_OK;
}
