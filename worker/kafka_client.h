// SPDX-License-Identifier: Apache-2.0
// What every Kafka client of the program has in common: configuration from struct config, errors in our
// terms, log lines in ours. The other users of librdkafka are job_source, result_sink and the verbs that talk
// to Kafka.
#ifndef WORKER_KAFKA_CLIENT_H
#define WORKER_KAFKA_CLIENT_H

#include <librdkafka/rdkafka.h>

#include "base/error.h"
#include "config/config.h"

struct kafka_property {
    const char *name, *value;
};

/* A configuration with bootstrap servers, kafka.properties and `properties` (NULL-terminated by name) on top.
 * Ownership passes to kafka_client_new. Statuses: CONFIG (librdkafka's own sentence), NO_MEMORY. */
MUST_CHECK enum status kafka_client_conf(rd_kafka_conf_t **out, const struct config *config,
                                         const struct kafka_property *properties, struct error *err);
/* A client; conf is its or gone. Statuses: CONFIG (librdkafka's own sentence). */
MUST_CHECK enum status kafka_client_new(rd_kafka_t **out, rd_kafka_type_t type, rd_kafka_conf_t *conf,
                                        struct error *err);
/* Our status for a librdkafka error. */
enum status kafka_client_status(rd_kafka_resp_err_t code);
/* The broker's cluster id into out; waits at most timeout_ms. Statuses: UNAVAILABLE. */
MUST_CHECK enum status kafka_client_cluster_id(rd_kafka_t *client, int timeout_ms, char *out, size_t capacity,
                                               struct error *err);

#endif
