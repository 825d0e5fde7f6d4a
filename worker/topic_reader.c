// SPDX-License-Identifier: Apache-2.0
#include "worker/topic_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/monotime.h"
#include "worker/kafka_client.h"

enum { QUERY_MS = 5000, ENDS_WAIT_MS = 15000, RETRY_US = 100000 };

struct topic_reader {
    rd_kafka_t *client;
    rd_kafka_message_t *message;
    char topic[256], cluster_id[64];
    int32_t partitions;
    bool ended[TOPIC_READER_MAX_PARTITIONS];       /* end of partition was seen since its last record */
    int64_t position[TOPIC_READER_MAX_PARTITIONS]; /* next offset, once known; else 0 */
    int64_t
        first_high[TOPIC_READER_MAX_PARTITIONS]; /* high watermark of the first fetch, plus 1; 0: unknown */
    struct job_header headers[TOPIC_READER_MAX_HEADERS];
};

/* Partition count of the topic, asking until the broker answers or the time is up. */
static enum status count_partitions(struct topic_reader *reader, int timeout_ms, struct error *err)
{
    int64_t end_ms = monotime_ms() + timeout_ms;
    do {
        const struct rd_kafka_metadata *metadata;
        rd_kafka_topic_t *topic = rd_kafka_topic_new(reader->client, reader->topic, NULL);
        rd_kafka_resp_err_t code = rd_kafka_metadata(reader->client, 0, topic, &metadata, 1000);
        rd_kafka_topic_destroy(topic);
        if (code)
            continue;
        bool found = metadata->topic_cnt == 1 && !metadata->topics[0].err;
        reader->partitions = found ? metadata->topics[0].partition_cnt : 0;
        rd_kafka_metadata_destroy(metadata);
        if (reader->partitions > 0 && reader->partitions <= TOPIC_READER_MAX_PARTITIONS)
            return STATUS_OK;
    } while (monotime_ms() < end_ms);
    return error_set(err, STATUS_UNAVAILABLE,
                     "topic %s cannot be read: no broker answers or it does not exist", reader->topic);
}

static enum status assign(struct topic_reader *reader, const struct topic_offsets *from, struct error *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(reader->partitions);
    for (int32_t i = 0; i < reader->partitions; i++)
        rd_kafka_topic_partition_list_add(list, reader->topic, i)->offset =
            from && i < from->count ? from->offsets[i] : RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_resp_err_t code = rd_kafka_assign(reader->client, list);
    rd_kafka_topic_partition_list_destroy(list);
    return code ? error_set(err, STATUS_UNAVAILABLE, "topic %s cannot be read: %s", reader->topic,
                            rd_kafka_err2str(code))
                : STATUS_OK;
}

static enum status start(struct topic_reader *reader, const struct config *config, struct error *err)
{
    const struct kafka_property properties[] = {
        {"group.id", config->kafka.group_id}, /* never joined; for committed() */
        {"enable.auto.commit", "false"},       {"auto.offset.reset", "earliest"},
        {"isolation.level", "read_committed"}, {"enable.partition.eof", "true"},
        {"fetch.wait.max.ms", "100"},          {NULL, NULL}};
    rd_kafka_conf_t *conf;
    enum status status = kafka_client_conf(&conf, config, properties, err);
    if (status != STATUS_OK)
        return status;
    status = kafka_client_new(&reader->client, RD_KAFKA_CONSUMER, conf, err);
    if (status == STATUS_OK)
        rd_kafka_poll_set_consumer(reader->client);
    return status;
}

enum status topic_reader_open(struct topic_reader **out, const struct config *config, const char *topic,
                              const struct topic_offsets *from, int timeout_ms, struct error *err)
{
    *out = NULL;
    struct topic_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return error_set(err, STATUS_NO_MEMORY, "no memory to read a topic");
    snprintf(reader->topic, sizeof reader->topic, "%s", topic);
    enum status status = start(reader, config, err);
    if (status == STATUS_OK)
        status = kafka_client_cluster_id(reader->client, timeout_ms, reader->cluster_id,
                                         sizeof reader->cluster_id, err);
    if (status == STATUS_OK)
        status = count_partitions(reader, timeout_ms, err);
    if (status == STATUS_OK)
        status = assign(reader, from, err);
    if (status != STATUS_OK) {
        topic_reader_close(reader);
        return status;
    }
    *out = reader;
    return STATUS_OK;
}

void topic_reader_close(struct topic_reader *reader)
{
    if (!reader)
        return;
    if (reader->message)
        rd_kafka_message_destroy(reader->message);
    if (reader->client)
        rd_kafka_destroy_flags(reader->client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    free(reader);
}

static void describe(struct topic_reader *reader, struct job_record *record)
{
    const rd_kafka_message_t *message = reader->message;
    rd_kafka_timestamp_type_t type;
    rd_kafka_headers_t *headers;
    const char *name;
    const void *value;
    size_t bytes;
    *record = (struct job_record){.value = message->payload,
                                  .value_bytes = message->len,
                                  .key = message->key,
                                  .key_bytes = message->key_len,
                                  .headers = reader->headers,
                                  .cluster_id = reader->cluster_id,
                                  .topic = reader->topic,
                                  .partition = message->partition,
                                  .offset = message->offset};
    record->timestamp_ms = rd_kafka_message_timestamp(message, &type);
    if (rd_kafka_message_headers(message, &headers))
        return;
    while (record->header_count < TOPIC_READER_MAX_HEADERS &&
           !rd_kafka_header_get_all(headers, record->header_count, &name, &value, &bytes))
        reader->headers[record->header_count++] = (struct job_header){name, value, bytes};
}

bool topic_reader_next(struct topic_reader *reader, int timeout_ms, struct job_record *record)
{
    if (reader->message)
        rd_kafka_message_destroy(reader->message);
    reader->message = rd_kafka_consumer_poll(reader->client, timeout_ms);
    if (!reader->message)
        return false;
    int32_t partition = reader->message->partition;
    if (reader->message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF && partition < reader->partitions) {
        reader->ended[partition] = true;
        reader->position[partition] = reader->message->offset;
    }
    if (reader->message->err)
        return false;
    reader->ended[partition] = false;
    reader->position[partition] = reader->message->offset + 1;
    describe(reader, record);
    return true;
}

bool topic_reader_at_end(const struct topic_reader *reader)
{
    for (int32_t i = 0; i < reader->partitions; i++)
        if (!reader->ended[i])
            return false;
    return true;
}

bool topic_reader_passed_all(struct topic_reader *reader)
{
    for (int32_t i = 0; i < reader->partitions; i++) {
        int64_t low, high;
        if (reader->first_high[i] == 0 &&
            !rd_kafka_get_watermark_offsets(reader->client, reader->topic, i, &low, &high) && high >= 0)
            reader->first_high[i] = high + 1;
        if (reader->first_high[i] == 0 || reader->position[i] + 1 < reader->first_high[i])
            return false;
    }
    return true;
}

/* A topic that has just been made has no leaders for a moment: asks again until the time is up. */
static rd_kafka_resp_err_t query_end(struct topic_reader *reader, int32_t partition, int64_t *end)
{
    int64_t low, end_ms = monotime_ms() + ENDS_WAIT_MS;
    rd_kafka_resp_err_t code;
    while ((code = rd_kafka_query_watermark_offsets(reader->client, reader->topic, partition, &low, end,
                                                    QUERY_MS)) &&
           monotime_ms() < end_ms)
        usleep(RETRY_US);
    return code;
}

enum status topic_reader_ends(struct topic_reader *reader, struct topic_offsets *out, struct error *err)
{
    out->count = reader->partitions;
    for (int32_t i = 0; i < reader->partitions; i++) {
        rd_kafka_resp_err_t code = query_end(reader, i, &out->offsets[i]);
        if (code)
            return error_set(err, STATUS_UNAVAILABLE, "the end of %s/%d cannot be read: %s", reader->topic, i,
                             rd_kafka_err2str(code));
    }
    return STATUS_OK;
}

const char *topic_reader_cluster_id(const struct topic_reader *reader)
{
    return reader->cluster_id;
}

int64_t topic_reader_group_backlog(struct topic_reader *reader)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(reader->partitions);
    int64_t backlog = 0;
    for (int32_t i = 0; i < reader->partitions; i++)
        rd_kafka_topic_partition_list_add(list, reader->topic, i);
    if (rd_kafka_committed(reader->client, list, QUERY_MS))
        backlog = -1;
    for (int32_t i = 0; i < reader->partitions && backlog >= 0; i++) {
        int64_t low, high;
        if (rd_kafka_query_watermark_offsets(reader->client, reader->topic, i, &low, &high, QUERY_MS)) {
            backlog = -1;
            break;
        }
        int64_t done = list->elems[i].offset >= 0 ? list->elems[i].offset : low;
        backlog += high > done ? high - done : 0;
    }
    rd_kafka_topic_partition_list_destroy(list);
    return backlog;
}
