// SPDX-License-Identifier: Apache-2.0
// `millrace topics`: are the topics of the configuration there, with how many partitions? --create makes the
// missing ones through Kafka's admin API (the embedded broker has none: it makes topics by itself).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "worker/cli/cli.h"
#include "worker/cli/options.h"
#include "worker/kafka_client.h"

enum { WAIT_MS = 15000, LOOK_AGAIN_MS = 100, DEFAULT_PARTITIONS = 6, MAX_TOPICS = 36, MS_PER_HOUR = 3600000 };

static const char help[] =
    "millrace topics - check the topics of the configuration, or create the missing ones\n\n"
    "usage: millrace topics [-c FILE] [--kafka.bootstrap_servers=…] [--create] [--partitions 6] "
    "[--replication 1]\n"
    "                       [--retention-hours N]\n\n"
    "  --retention-hours N   how long the created topics keep jobs, results and dead letters (the broker's "
    "own\n"
    "                        default otherwise); longer than the longest backlog\n\n"
    "exit codes: 0 all there, 1 some are missing, 69 no broker answers\n";

struct topics_options {
    struct options common;
    bool create;
    long partitions, replication, retention_hours; /* 0: the broker's default */
};

struct wanted_topic {
    const char *name;
    bool jobs, compacted;
    int partitions; /* as found; 0: missing */
};

static size_t list_topics(const struct config *config, struct wanted_topic out[MAX_TOPICS])
{
    size_t count = 0;
    for (size_t i = 0; i < config->kafka.topics.count && count < MAX_TOPICS - 4; i++)
        out[count++] = (struct wanted_topic){.name = config->kafka.topics.items[i].name, .jobs = true};
    const struct wanted_topic others[] = {{.name = config->kafka.results_topic},
                                          {.name = config->kafka.dlt_topic},
                                          {.name = config->kafka.status_topic, .compacted = true},
                                          {.name = config->kafka.control_topic}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (*others[i].name) /* empty: it is not used */
            out[count++] = others[i];
    return count;
}

static enum status look(rd_kafka_t *client, struct wanted_topic *topics, size_t count, struct error *err)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t code = rd_kafka_metadata(client, 1, NULL, &metadata, WAIT_MS);
    if (code)
        return error_set(err, STATUS_UNAVAILABLE, "no Kafka broker answers: %s", rd_kafka_err2str(code));
    for (size_t i = 0; i < count; i++)
        for (int t = 0; t < metadata->topic_cnt; t++)
            if (strcmp(metadata->topics[t].topic, topics[i].name) == 0 && !metadata->topics[t].err)
                topics[i].partitions = metadata->topics[t].partition_cnt;
    rd_kafka_metadata_destroy(metadata);
    return STATUS_OK;
}

/* A cluster that has just come up refuses topics until enough of its brokers have registered. */
static bool passes_by_itself(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR || code == RD_KAFKA_RESP_ERR_NOT_CONTROLLER ||
           code == RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE;
}

/* Waits for the answer and turns its first failure into an error; TIMEOUT: worth asking again. A topic that
 * somebody else made meanwhile is a topic. */
static enum status take_answer(rd_kafka_queue_t *queue, struct error *err)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 2 * WAIT_MS);
    if (!event)
        return error_set(err, STATUS_TIMEOUT, "the broker does not answer; has it an admin API?");
    enum status status = STATUS_OK;
    size_t count = 0;
    const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
    const rd_kafka_topic_result_t **topics =
        result ? rd_kafka_CreateTopics_result_topics(result, &count) : NULL;
    if (rd_kafka_event_error(event))
        status = error_set(err, STATUS_UNAVAILABLE, "topics cannot be created: %s",
                           rd_kafka_event_error_string(event));
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        rd_kafka_resp_err_t code = rd_kafka_topic_result_error(topics[i]);
        if (code && code != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
            status = error_set(err, passes_by_itself(code) ? STATUS_TIMEOUT : STATUS_UNAVAILABLE,
                               "topic %s cannot be created: %s", rd_kafka_topic_result_name(topics[i]),
                               rd_kafka_topic_result_error_string(topics[i]));
    }
    rd_kafka_event_destroy(event);
    return status;
}

static enum status create(rd_kafka_t *client, const struct topics_options *options,
                          const struct wanted_topic *topics, size_t count, struct error *err)
{
    rd_kafka_NewTopic_t *fresh[MAX_TOPICS];
    size_t fresh_count = 0;
    char text[256];
    for (size_t i = 0; i < count; i++) {
        if (topics[i].partitions > 0)
            continue;
        long partitions = topics[i].jobs || strstr(topics[i].name, "results") ? options->partitions : 1;
        rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(topics[i].name, (int)partitions,
                                                           (int)options->replication, text, sizeof text);
        if (!topic)
            continue; /* a name Kafka cannot have: the look afterwards says that it is missing */
        snprintf(text, sizeof text, "%lld", (long long)options->retention_hours * MS_PER_HOUR);
        if (topics[i].compacted)
            rd_kafka_NewTopic_set_config(topic, "cleanup.policy", "compact");
        else if (options->retention_hours > 0)
            rd_kafka_NewTopic_set_config(topic, "retention.ms", text);
        fresh[fresh_count++] = topic;
    }
    if (fresh_count == 0)
        return STATUS_OK;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_CreateTopics(client, fresh, fresh_count, NULL, queue);
    enum status status = take_answer(queue, err);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy_array(fresh, fresh_count);
    return status;
}

static bool all_there(const struct wanted_topic *topics, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (topics[i].partitions == 0)
            return false;
    return true;
}

/* Until every topic is seen: the controller's yes comes before the brokers' metadata shows the topic. */
static enum status create_and_see(rd_kafka_t *client, const struct topics_options *options,
                                  struct wanted_topic *topics, size_t count, struct error *err)
{
    int64_t deadline_ns = monotime_ns() + (int64_t)WAIT_MS * 1000000;
    for (;;) {
        enum status status = create(client, options, topics, count, err);
        bool late = monotime_ns() > deadline_ns;
        if (status != STATUS_OK && (late || status != STATUS_TIMEOUT))
            return status;
        status = look(client, topics, count, err);
        if (status != STATUS_OK || late || all_there(topics, count))
            return status;
        rd_kafka_poll(client, LOOK_AGAIN_MS);
    }
}

static enum status run(const struct topics_options *options, const struct config *config, int *exit_code,
                       struct error *err)
{
    struct wanted_topic topics[MAX_TOPICS];
    size_t count = list_topics(config, topics);
    const struct kafka_property none[] = {{NULL, NULL}};
    rd_kafka_conf_t *conf;
    rd_kafka_t *client;
    enum status status = kafka_client_conf(&conf, config, none, err);
    if (status == STATUS_OK)
        status = kafka_client_new(&client, RD_KAFKA_PRODUCER, conf, err);
    if (status != STATUS_OK)
        return status;
    status = look(client, topics, count, err);
    if (status == STATUS_OK && options->create)
        status = create_and_see(client, options, topics, count, err);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        if (topics[i].partitions > 0) {
            printf("%-24s %d partitions\n", topics[i].name, topics[i].partitions);
            continue;
        }
        printf("%-24s missing\n", topics[i].name);
        *exit_code = EXIT_SOME_FAILED;
    }
    rd_kafka_destroy(client);
    return status;
}

static enum status parse_options(int argc, char **argv, struct topics_options *options, struct error *err)
{
    for (int i = 1; i < argc; i++) {
        enum status status = options_take(&options->common, argc, argv, &i, err);
        if (status == STATUS_OK)
            continue;
        if (status != STATUS_NOT_FOUND)
            return status;
        long *number = strcmp(argv[i], "--partitions") == 0        ? &options->partitions
                       : strcmp(argv[i], "--replication") == 0     ? &options->replication
                       : strcmp(argv[i], "--retention-hours") == 0 ? &options->retention_hours
                                                                   : NULL;
        if (strcmp(argv[i], "--create") == 0)
            options->create = true;
        else if (!number || i + 1 >= argc || (*number = strtol(argv[++i], NULL, 10)) < 1 || *number > 10000)
            return error_set(err, STATUS_USAGE, "option \"%.80s\" is unknown or lacks its value", argv[i]);
    }
    return STATUS_OK;
}

int cli_topics(int argc, char **argv)
{
    static struct topics_options options = {.partitions = DEFAULT_PARTITIONS, .replication = 1};
    const struct config *config = NULL;
    struct error err = {0};
    int exit_code = EXIT_DONE;
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return EXIT_DONE;
    }
    if (parse_options(argc, argv, &options, &err) != STATUS_OK)
        return cli_usage("topics", "%s", err.text);
    enum status status = options_config(&options.common, &config, &err);
    if (status == STATUS_OK)
        status = run(&options, config, &exit_code, &err);
    config_close(config);
    return status == STATUS_OK ? exit_code : cli_fail(&err);
}
