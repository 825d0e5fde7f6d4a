// SPDX-License-Identifier: Apache-2.0
#include "worker/emit/result_txn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "worker/kafka_client.h"

enum { INIT_WAIT_MS = 30000, QUEUE_WAIT_MS = 50, CALL_WAIT_MS = 10000, ID_BYTES = 256, MOST_REPEATS = 20 };

struct result_txn {
    rd_kafka_t *client;
};

/* ---- life ---- */

static void take_report(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    struct finished_result *finished = message->_private;
    (void)client;
    (void)opaque;
    if (message->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
        finished->too_large = true;
}

static enum status start(struct result_txn *txn, const struct config *config, const char *worker_id,
                         struct error *err)
{
    char id[ID_BYTES], most[24];
    snprintf(id, sizeof id, "millrace-%s-%s", config->kafka.group_id, worker_id);
    snprintf(most, sizeof most, "%lld", (long long)config->results.max_bytes + 65536);
    const struct kafka_property properties[] = {{"transactional.id", id},
                                                {"transaction.timeout.ms", "10000"},
                                                {"partitioner", "murmur2_random"},
                                                {"linger.ms", "1"},
                                                /* a transaction that begins while the broker still ends the
                                                 * one before is told to try again: soon, not after 100 ms */
                                                {"retry.backoff.ms", "10"},
                                                {"compression.codec", "lz4"},
                                                {"message.max.bytes", most},
                                                {NULL, NULL}};
    rd_kafka_conf_t *conf;
    enum status status = kafka_client_conf(&conf, config, properties, err);
    if (status != STATUS_OK)
        return status;
    rd_kafka_conf_set_dr_msg_cb(conf, take_report);
    return kafka_client_new(&txn->client, RD_KAFKA_PRODUCER, conf, err);
}

static enum status fail(rd_kafka_error_t *error, const char *what, struct error *err)
{
    enum status status = kafka_client_status(rd_kafka_error_code(error));
    if (status != STATUS_FENCED)
        status = rd_kafka_error_is_fatal(error) ? STATUS_INTERNAL : STATUS_UNAVAILABLE;
    error_set(err, status, "%s: %s", what, rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    return status;
}

static enum status take_over(struct result_txn *txn, struct error *err)
{
    for (int i = 0;; i++) {
        rd_kafka_error_t *error = rd_kafka_init_transactions(txn->client, INIT_WAIT_MS);
        if (!error)
            return STATUS_OK;
        if (!rd_kafka_error_is_retriable(error) || i == 1)
            return fail(error, "exactly-once delivery cannot start", err);
        rd_kafka_error_destroy(error);
    }
}

enum status result_txn_open(struct result_txn **out, const struct config *config, const char *worker_id,
                            struct error *err)
{
    char cluster_id[64];
    *out = NULL;
    struct result_txn *txn = calloc(1, sizeof *txn);
    if (!txn)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the Kafka producer");
    enum status status = start(txn, config, worker_id, err);
    if (status == STATUS_OK)
        status = kafka_client_cluster_id(txn->client, INIT_WAIT_MS, cluster_id, sizeof cluster_id, err);
    if (status == STATUS_OK && strncmp(cluster_id, "mockCluster", 11) == 0)
        status = error_set(
            err, STATUS_UNAVAILABLE,
            "the embedded broker has no transactions: use a real Kafka, or kafka.delivery at-least-once");
    if (status == STATUS_OK)
        status = take_over(txn, err);
    if (status != STATUS_OK) {
        result_txn_close(txn);
        return status;
    }
    *out = txn;
    return STATUS_OK;
}

void result_txn_close(struct result_txn *txn)
{
    if (!txn)
        return;
    if (txn->client)
        rd_kafka_destroy(txn->client);
    free(txn);
}

/* ---- one transaction ---- */

static rd_kafka_headers_t *headers_of(const struct sink_record *record)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(record->header_count);
    for (size_t i = 0; i < record->header_count; i++)
        rd_kafka_header_add(headers, record->headers[i].name, -1, record->headers[i].value,
                            (ssize_t)record->headers[i].value_bytes);
    return headers;
}

static rd_kafka_resp_err_t produce(struct result_txn *txn, struct finished_result *finished)
{
    const struct sink_record *record = &finished->record;
    union { /* librdkafka copies, but its interface has no const */
        const char *in;
        char *out;
    } key = {record->key}, value = {record->value};
    for (;;) {
        rd_kafka_headers_t *headers = headers_of(record);
        rd_kafka_resp_err_t code = rd_kafka_producev(
            txn->client, RD_KAFKA_V_TOPIC(record->topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
            RD_KAFKA_V_KEY(key.out, record->key_bytes), RD_KAFKA_V_VALUE(value.out, record->value_bytes),
            RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_OPAQUE(finished), RD_KAFKA_V_END);
        if (!code)
            return code;
        rd_kafka_headers_destroy(headers);
        finished->too_large = code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
        if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            return code;
        rd_kafka_poll(txn->client, QUEUE_WAIT_MS);
    }
}

static rd_kafka_error_t *send_offsets(struct result_txn *txn, struct job_source *source,
                                      const struct job_source_partition *offsets, size_t count)
{
    rd_kafka_t *consumer = job_source_client(source);
    rd_kafka_consumer_group_metadata_t *group =
        rd_kafka_consumer_group_metadata(consumer); /* fresh: KIP-447 */
    rd_kafka_topic_partition_list_t *list = job_source_list(offsets, count);
    rd_kafka_error_t *error = rd_kafka_send_offsets_to_transaction(txn->client, list, group, CALL_WAIT_MS);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_consumer_group_metadata_destroy(group);
    return error;
}

/* Takes back what the transaction did. TIMEOUT: done, try again. */
static enum status take_back(struct result_txn *txn, const char *reason, struct error *err)
{
    log_warn("emit", "transaction aborted, its results are kept and sent again: %s", reason);
    for (int i = 0; i < MOST_REPEATS; i++) {
        rd_kafka_error_t *error = rd_kafka_abort_transaction(txn->client, CALL_WAIT_MS);
        if (!error)
            return error_set(err, STATUS_TIMEOUT, "transaction aborted");
        if (!rd_kafka_error_is_retriable(error))
            return fail(error, "a transaction cannot be aborted", err);
        rd_kafka_error_destroy(error);
    }
    return error_set(err, STATUS_INTERNAL, "a transaction cannot be aborted: the broker does not answer");
}

/* What an error of a transactional call means: repeat the call (OK), aborted (TIMEOUT) or the end. */
static enum status weigh(struct result_txn *txn, rd_kafka_error_t *error, const char *what, struct error *err)
{
    if (rd_kafka_error_is_retriable(error)) {
        rd_kafka_error_destroy(error);
        return STATUS_OK;
    }
    if (!rd_kafka_error_txn_requires_abort(error))
        return fail(error, what, err);
    char reason[256];
    snprintf(reason, sizeof reason, "%s: %s", what, rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    return take_back(txn, reason, err);
}

static enum status produce_all(struct result_txn *txn, struct finished_result **results, size_t count,
                               struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        rd_kafka_resp_err_t code = produce(txn, results[i]);
        if (code)
            return take_back(txn, rd_kafka_err2str(code), err);
    }
    return STATUS_OK;
}

enum status result_txn_commit(struct result_txn *txn, struct finished_result **results, size_t count,
                              struct job_source *source, const struct job_source_partition *offsets,
                              size_t offset_count, struct error *err)
{
    rd_kafka_error_t *error = rd_kafka_begin_transaction(txn->client);
    if (error)
        return fail(error, "a transaction cannot begin", err);
    enum status status = produce_all(txn, results, count, err);
    for (int i = 0; status == STATUS_OK && offset_count > 0; i++) {
        error = send_offsets(txn, source, offsets, offset_count);
        if (!error)
            break;
        status = i < MOST_REPEATS ? weigh(txn, error, "offsets cannot be sent", err)
                                  : take_back(txn, "the broker does not take the offsets", err);
    }
    while (status == STATUS_OK) {
        error = rd_kafka_commit_transaction(txn->client, -1);
        if (!error)
            return STATUS_OK;
        status = weigh(txn, error, "a transaction cannot be committed", err);
    }
    return status;
}
