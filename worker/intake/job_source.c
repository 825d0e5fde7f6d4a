// SPDX-License-Identifier: Apache-2.0
// DESIGN: every topic has a queue of its own, and records are taken from them in turn: none stands behind
// what was fetched of another. A paused topic's queue is left alone; librdkafka stops fetching what feeds it
// when it is full, and nothing that was fetched is thrown away. (librdkafka looks at a full queue again only
// a second later: with one queue for all, a backlog held up the fetching of every other topic that long.)
#include "worker/intake/job_source.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/monotime.h"
#include "worker/kafka_client.h"

enum { COMMITTED_WAIT_MS = 10000, CLOSE_WAIT_MS = 10000, CLUSTER_WAIT_MS = 1000 };

struct topic_state { /* of one subscribed topic */
    const char *name;
    bool paused;
    rd_kafka_queue_t *queue; /* of its fetched records */
};

struct job_source {
    rd_kafka_t *client;
    struct job_source_callbacks callbacks;
    rd_kafka_message_t *message; /* of the last poll */
    struct job_header headers[JOB_SOURCE_MAX_HEADERS];
    char cluster_id[64];
    struct topic_state *topics; /* [topic_count] */
    size_t topic_count, turn;   /* whose record comes next */
    rd_kafka_queue_t *events;   /* assignments, errors */
    int news_fd;                /* eventfd: something came into an empty queue */
    int other_fd;               /* ends a wait too; -1: none */
    bool was_assigned; /* closing a cooperative consumer that never was aborts in librdkafka 2.0.2 (issue
                          4312) */
};

/* ---- assignment ---- */

static void tell_assigned(struct job_source *source, rd_kafka_topic_partition_list_t *partitions)
{
    size_t count = (size_t)partitions->cnt;
    struct job_source_partition *told = calloc(count + 1, sizeof *told);
    char **metadata = calloc(count + 1, sizeof *metadata);
    rd_kafka_resp_err_t code = rd_kafka_committed(source->client, partitions, COMMITTED_WAIT_MS);
    CHECK(told && metadata);
    if (code)
        log_warn("intake", "committed offsets cannot be read: %s", rd_kafka_err2str(code));
    for (size_t i = 0; i < count; i++) {
        const rd_kafka_topic_partition_t *at = &partitions->elems[i];
        metadata[i] = strndup(at->metadata ? at->metadata : "", at->metadata ? at->metadata_size : 0);
        told[i] = (struct job_source_partition){at->topic, at->partition, at->offset >= 0 ? at->offset : -1,
                                                metadata[i] ? metadata[i] : ""};
        log_info("intake", "assigned %s/%d from offset %lld", at->topic, at->partition,
                 (long long)told[i].offset);
    }
    source->callbacks.assigned(source->callbacks.context, told, count);
    for (size_t i = 0; i < count; i++)
        free(metadata[i]);
    free(metadata);
    free(told);
}

static struct topic_state *state_of(struct job_source *source, const char *topic)
{
    for (size_t i = 0; i < source->topic_count; i++)
        if (strcmp(source->topics[i].name, topic) == 0)
            return &source->topics[i];
    UNREACHABLE(); /* only what was subscribed to is assigned */
}

/* What is fetched of a partition goes to its topic's queue, from before the first fetch on. */
static void join_queues(struct job_source *source, const rd_kafka_topic_partition_list_t *partitions)
{
    for (int i = 0; i < partitions->cnt; i++) {
        const rd_kafka_topic_partition_t *at = &partitions->elems[i];
        rd_kafka_queue_t *own = rd_kafka_queue_get_partition(source->client, at->topic, at->partition);
        if (!own)
            continue; /* then it comes with the events */
        rd_kafka_queue_forward(own, state_of(source, at->topic)->queue);
        rd_kafka_queue_destroy(own);
    }
}

static void take_assigned(struct job_source *source, rd_kafka_topic_partition_list_t *partitions)
{
    tell_assigned(source, partitions);
    join_queues(source, partitions);
    rd_kafka_error_t *error = rd_kafka_incremental_assign(source->client, partitions);
    if (error) {
        log_error("intake", "assignment failed: %s", rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
        return;
    }
    source->was_assigned = source->was_assigned || partitions->cnt > 0;
}

static void take_revoked(struct job_source *source, rd_kafka_topic_partition_list_t *partitions)
{
    bool lost = rd_kafka_assignment_lost(source->client);
    for (int i = 0; i < partitions->cnt; i++) {
        rd_kafka_topic_partition_t *at = &partitions->elems[i];
        struct job_source_partition partition = {at->topic, at->partition, -1, NULL};
        source->callbacks.revoked(source->callbacks.context, &partition, lost);
        log_info("intake", "%s %s/%d", lost ? "lost" : "revoked", at->topic, at->partition);
    }
    rd_kafka_error_t *error = rd_kafka_incremental_unassign(source->client, partitions);
    if (error) {
        log_error("intake", "unassignment failed: %s", rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
    }
}

static void take_rebalance(rd_kafka_t *client, rd_kafka_resp_err_t code,
                           rd_kafka_topic_partition_list_t *partitions, void *opaque)
{
    struct job_source *source = opaque;
    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        take_assigned(source, partitions);
    } else if (code == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS) {
        take_revoked(source, partitions);
    } else {
        log_warn("intake", "rebalance failed: %s", rd_kafka_err2str(code));
        rd_kafka_assign(client, NULL);
    }
}

static void take_commit_answer(rd_kafka_t *client, rd_kafka_resp_err_t code,
                               rd_kafka_topic_partition_list_t *partitions, void *opaque)
{
    struct job_source *source = opaque;
    (void)client;
    for (int i = 0; partitions && i < partitions->cnt; i++) {
        rd_kafka_topic_partition_t *at = &partitions->elems[i];
        struct job_source_partition partition = {at->topic, at->partition, at->offset, NULL};
        source->callbacks.commit_answered(source->callbacks.context, &partition, code || at->err);
    }
}

/* ---- life ---- */

static enum status subscribe(struct job_source *source, const struct config *config, struct error *err)
{
    rd_kafka_topic_partition_list_t *topics =
        rd_kafka_topic_partition_list_new((int)config->kafka.topics.count);
    for (size_t i = 0; i < config->kafka.topics.count; i++) {
        source->topics[i].name = config->kafka.topics.items[i].name;
        rd_kafka_topic_partition_list_add(topics, source->topics[i].name, RD_KAFKA_PARTITION_UA);
    }
    rd_kafka_resp_err_t code = rd_kafka_subscribe(source->client, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    return code ? error_set(err, STATUS_CONFIG, "cannot subscribe to the job topics: %s",
                            rd_kafka_err2str(code))
                : STATUS_OK;
}

/* What fills an empty queue is told to news_fd. */
static void open_queues(struct job_source *source)
{
    static const uint64_t one = 1;
    source->events = rd_kafka_queue_get_consumer(source->client);
    rd_kafka_queue_io_event_enable(source->events, source->news_fd, &one, sizeof one);
    for (size_t i = 0; i < source->topic_count; i++) {
        source->topics[i].queue = rd_kafka_queue_new(source->client);
        rd_kafka_queue_io_event_enable(source->topics[i].queue, source->news_fd, &one, sizeof one);
    }
}

static void close_queues(struct job_source *source)
{
    for (size_t i = 0; source->topics && i < source->topic_count; i++)
        if (source->topics[i].queue)
            rd_kafka_queue_destroy(source->topics[i].queue);
    if (source->events)
        rd_kafka_queue_destroy(source->events);
}

static enum status start(struct job_source *source, const struct config *config, struct error *err)
{
    bool is_static = config->kafka.static_membership;
    if (is_static && !config->worker.id[0])
        return error_set(err, STATUS_CONFIG,
                         "kafka.static_membership needs a worker.id of its own for each worker");
    char session[24], poll[24], heartbeat[24], ahead[24];
    snprintf(session, sizeof session, "%lld", (long long)config->kafka.session_timeout_ms);
    snprintf(heartbeat, sizeof heartbeat, "%lld", (long long)config->kafka.session_timeout_ms / 6);
    snprintf(poll, sizeof poll, "%lld", (long long)config->kafka.max_poll_interval_ms);
    snprintf(ahead, sizeof ahead, "%lld", (long long)config->limits.max_inflight_jobs);
    char client[32];
    snprintf(client, sizeof client, "millrace:%lld", (long long)config->http.port); /* for `millrace top` */
    const struct kafka_property properties[] = {{"group.id", config->kafka.group_id},
                                                {"client.id", client},
                                                {"enable.auto.commit", "false"},
                                                {"enable.auto.offset.store", "false"},
                                                {"auto.offset.reset", "earliest"},
                                                {"isolation.level", "read_committed"},
                                                {"partition.assignment.strategy", "cooperative-sticky"},
                                                {"session.timeout.ms", session},
                                                {"heartbeat.interval.ms", heartbeat},
                                                {"max.poll.interval.ms", poll},
                                                {"queued.min.messages", ahead},
                                                {"queued.max.messages.kbytes", "16384"},
                                                /* little at a time: one answer carries all topics; a
                                                 * larger record comes all the same (KIP-74) */
                                                {"fetch.message.max.bytes", "65536"},
                                                {"fetch.wait.max.ms", "50"},
                                                {"fetch.error.backoff.ms", "100"},
                                                {"allow.auto.create.topics", "true"},
                                                {is_static ? "group.instance.id" : NULL, config->worker.id},
                                                {NULL, NULL}};
    rd_kafka_conf_t *conf;
    enum status status = kafka_client_conf(&conf, config, properties, err);
    if (status != STATUS_OK)
        return status;
    rd_kafka_conf_set_rebalance_cb(conf, take_rebalance);
    rd_kafka_conf_set_offset_commit_cb(conf, take_commit_answer);
    rd_kafka_conf_set_opaque(conf, source);
    status = kafka_client_new(&source->client, RD_KAFKA_CONSUMER, conf, err);
    if (status != STATUS_OK)
        return status;
    rd_kafka_poll_set_consumer(source->client);
    open_queues(source);
    return subscribe(source, config, err);
}

enum status job_source_open(struct job_source **out, const struct config *config,
                            const struct job_source_callbacks *callbacks, struct error *err)
{
    *out = NULL;
    struct job_source *source = calloc(1, sizeof *source);
    if (!source)
        return error_set(err, STATUS_NO_MEMORY, "no memory for the Kafka consumer");
    source->callbacks = *callbacks;
    source->topic_count = config->kafka.topics.count;
    source->topics = calloc(source->topic_count, sizeof *source->topics);
    source->news_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    source->other_fd = -1;
    enum status status = source->topics && source->news_fd >= 0
                             ? start(source, config, err)
                             : error_set(err, STATUS_NO_MEMORY, "no memory for the Kafka consumer");
    if (status != STATUS_OK) {
        job_source_close(source);
        return status;
    }
    *out = source;
    return STATUS_OK;
}

static void drop_message(struct job_source *source)
{
    if (source->message)
        rd_kafka_message_destroy(source->message);
    source->message = NULL;
}

/* Unsubscribing first and waiting for the revocation keeps librdkafka 2.0.2 from hanging in close (issue
 * 4527). */
static void leave_group(struct job_source *source)
{
    int64_t end_ms = monotime_ms() + CLOSE_WAIT_MS;
    rd_kafka_unsubscribe(source->client);
    while (monotime_ms() < end_ms) {
        rd_kafka_topic_partition_list_t *assigned = NULL;
        bool empty = rd_kafka_assignment(source->client, &assigned) == 0 && assigned && assigned->cnt == 0;
        if (assigned)
            rd_kafka_topic_partition_list_destroy(assigned);
        if (empty)
            break;
        rd_kafka_message_t *message = rd_kafka_consumer_poll(source->client, 50);
        if (message)
            rd_kafka_message_destroy(message);
    }
    rd_kafka_consumer_close(source->client);
}

void job_source_close(struct job_source *source)
{
    if (!source)
        return;
    drop_message(source);
    if (source->client) {
        if (source->was_assigned)
            leave_group(source);
        close_queues(source);
        if (source->was_assigned)
            rd_kafka_destroy(source->client);
        else
            rd_kafka_destroy_flags(source->client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    }
    if (source->news_fd >= 0)
        close(source->news_fd);
    free(source->topics);
    free(source);
}

/* ---- records ---- */

static void read_headers(struct job_source *source, struct job_record *record)
{
    rd_kafka_headers_t *headers;
    record->headers = source->headers;
    if (rd_kafka_message_headers(source->message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    const char *name;
    const void *value;
    size_t bytes;
    for (size_t i = 0;
         i < JOB_SOURCE_MAX_HEADERS &&
         rd_kafka_header_get_all(headers, i, &name, &value, &bytes) == RD_KAFKA_RESP_ERR_NO_ERROR;
         i++)
        source->headers[record->header_count++] = (struct job_header){name, value, bytes};
}

static void describe(struct job_source *source, struct job_record *record)
{
    const rd_kafka_message_t *message = source->message;
    rd_kafka_timestamp_type_t type;
    *record = (struct job_record){.value = message->payload,
                                  .value_bytes = message->len,
                                  .key = message->key,
                                  .key_bytes = message->key_len,
                                  .cluster_id = job_source_cluster_id(source),
                                  .topic = rd_kafka_topic_name(message->rkt),
                                  .partition = message->partition,
                                  .offset = message->offset};
    record->timestamp_ms = rd_kafka_message_timestamp(message, &type);
    read_headers(source, record);
}

static enum status fault_of(const rd_kafka_message_t *message, rd_kafka_t *client, struct error *err)
{
    char fatal[256];
    if (message->err == RD_KAFKA_RESP_ERR__FATAL || rd_kafka_fatal_error(client, NULL, 0)) {
        rd_kafka_resp_err_t code = rd_kafka_fatal_error(client, fatal, sizeof fatal);
        return error_set(err, kafka_client_status(code) == STATUS_FENCED ? STATUS_FENCED : STATUS_INTERNAL,
                         "Kafka consumer cannot go on: %s", fatal);
    }
    if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
        message->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE)
        return error_set(err, STATUS_UNAVAILABLE,
                         "offset out of range: records were deleted before they were taken: %s",
                         rd_kafka_message_errstr(message));
    return error_set(err, STATUS_UNAVAILABLE, "Kafka consumer: %s", rd_kafka_message_errstr(message));
}

/* Without waiting: events first, which may call back, then a record of each topic in turn. */
static rd_kafka_message_t *next_message(struct job_source *source)
{
    rd_kafka_message_t *message = rd_kafka_consumer_poll(source->client, 0);
    for (size_t i = 0; !message && i < source->topic_count; i++) {
        const struct topic_state *topic = &source->topics[source->turn++ % source->topic_count];
        message = topic->paused ? NULL : rd_kafka_consume_queue(topic->queue, 0);
    }
    return message;
}

/* All queues that count were seen to be empty: whatever comes since makes news_fd readable. */
static rd_kafka_message_t *wait_for_message(struct job_source *source, int timeout_ms)
{
    uint64_t news;
    struct pollfd fds[] = {{.fd = source->news_fd, .events = POLLIN},
                           {.fd = source->other_fd, .events = POLLIN}};
    if (poll(fds, 2, timeout_ms) <= 0 || !fds[0].revents)
        return NULL;
    ssize_t got = read(source->news_fd, &news, sizeof news); /* before the queues are looked into again */
    (void)got;
    return next_message(source);
}

bool job_source_poll(struct job_source *source, int timeout_ms, struct job_record *record, struct error *err)
{
    err->status = STATUS_OK;
    drop_message(source);
    source->message = next_message(source);
    if (!source->message && timeout_ms > 0)
        source->message = wait_for_message(source, timeout_ms);
    if (!source->message)
        return false;
    if (source->message->err) {
        if (source->message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
            fault_of(source->message, source->client, err);
        return false;
    }
    describe(source, record);
    return true;
}

void job_source_wake_on(struct job_source *source, int fd)
{
    source->other_fd = fd;
}

void job_source_pause(struct job_source *source, const char *topic, bool paused)
{
    state_of(source, topic)->paused = paused;
}

struct rd_kafka_s *job_source_client(struct job_source *source)
{
    return source->client;
}

struct rd_kafka_topic_partition_list_s *job_source_list(const struct job_source_partition *partitions,
                                                        size_t count)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
    for (size_t i = 0; i < count; i++) {
        rd_kafka_topic_partition_t *at =
            rd_kafka_topic_partition_list_add(list, partitions[i].topic, partitions[i].partition);
        at->offset = partitions[i].offset;
        if (!partitions[i].metadata || !*partitions[i].metadata)
            continue;
        at->metadata =
            strdup(partitions[i].metadata); /* freed with the list; without memory the map is left out */
        at->metadata_size = at->metadata ? strlen(partitions[i].metadata) : 0;
    }
    return list;
}

enum status job_source_commit(struct job_source *source, const struct job_source_partition *partitions,
                              size_t count, bool wait, struct error *err)
{
    if (count == 0)
        return STATUS_OK;
    rd_kafka_topic_partition_list_t *list = job_source_list(partitions, count);
    rd_kafka_resp_err_t code = rd_kafka_commit(source->client, list, !wait);
    rd_kafka_topic_partition_list_destroy(list);
    if (code && code != RD_KAFKA_RESP_ERR__NO_OFFSET)
        return error_set(err, kafka_client_status(code), "offsets cannot be committed: %s",
                         rd_kafka_err2str(code));
    return STATUS_OK;
}

int64_t job_source_lag(struct job_source *source, const char *topic, int32_t partition, int64_t next_offset)
{
    int64_t low, high;
    if (rd_kafka_get_watermark_offsets(source->client, topic, partition, &low, &high) || high < 0)
        return -1;
    if (next_offset < 0) /* nothing was committed: consumption starts at the earliest */
        next_offset = low < 0 ? 0 : low;
    return high > next_offset ? high - next_offset : 0;
}

const char *job_source_cluster_id(struct job_source *source)
{
    if (!source->cluster_id[0]) {
        struct error err;
        if (kafka_client_cluster_id(source->client, CLUSTER_WAIT_MS, source->cluster_id,
                                    sizeof source->cluster_id, &err) != STATUS_OK)
            log_warn("intake", "%s", err.text);
    }
    return source->cluster_id;
}
