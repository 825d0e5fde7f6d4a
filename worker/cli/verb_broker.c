// SPDX-License-Identifier: Apache-2.0
// `millrace broker`: librdkafka's mock cluster as a development broker for people without Kafka. It keeps
// nothing and forgets: 5 MB or 100,000 records per partition, oldest first.
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "worker/cli/cli.h"

enum { DEFAULT_PORT = 19092, DEFAULT_PARTITIONS = 4, MAX_TOPICS = 32 };

static const char help[] =
    "millrace broker - development broker inside the binary: keeps nothing, loses everything when it ends\n\n"
    "usage: millrace broker [--port 19092] [--topic NAME:PARTITIONS]... [--ready-file PATH]\n\n"
    "Without --topic: millrace.jobs, millrace.results, millrace.status, millrace.control, millrace.jobs-dlt, "
    "4\n"
    "partitions each. A partition holds 5 MB or 100,000 records; older ones are dropped. Transactions mean "
    "nothing on\n"
    "it: exactly-once needs a real Kafka.\n";

static int wanted_port; /* of the next listening socket; 0: leave it alone */

/* The mock cluster listens on a random port: this stands before libc's bind() and gives it the wanted one. */
__attribute__((visibility("default"))) int broker_bind(int fd, const struct sockaddr *address,
                                                       socklen_t bytes) __asm__("bind");

int broker_bind(int fd, const struct sockaddr *address, socklen_t bytes)
{
    static int (*real_bind)(int, const struct sockaddr *, socklen_t);
    struct sockaddr_in fixed;
    if (!real_bind) {
        void *found = dlsym(RTLD_NEXT, "bind");
        memcpy(&real_bind, &found, sizeof real_bind);
    }
    if (wanted_port && address->sa_family == AF_INET && bytes >= sizeof fixed) {
        int on = 1;
        memcpy(&fixed, address, sizeof fixed);
        fixed.sin_port = htons((uint16_t)wanted_port);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        wanted_port = 0;
        return real_bind(fd, (struct sockaddr *)&fixed, sizeof fixed);
    }
    return real_bind(fd, address, bytes);
}

struct broker_options {
    int port;
    const char *ready_file;
    const char *topics[MAX_TOPICS];
    size_t topic_count;
};

static bool create_topic(rd_kafka_mock_cluster_t *cluster, const char *spec)
{
    char name[256];
    const char *colon = strrchr(spec, ':');
    long partitions = colon ? strtol(colon + 1, NULL, 10) : DEFAULT_PARTITIONS;
    size_t bytes = colon ? (size_t)(colon - spec) : strlen(spec);
    if (bytes == 0 || bytes >= sizeof name || partitions < 1 || partitions > 1024)
        return false;
    memcpy(name, spec, bytes);
    name[bytes] = '\0';
    return rd_kafka_mock_topic_create(cluster, name, (int)partitions, 1) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool create_topics(rd_kafka_mock_cluster_t *cluster, const struct broker_options *options)
{
    static const char *const defaults[] = {"millrace.jobs", "millrace.results", "millrace.status",
                                           "millrace.control", "millrace.jobs-dlt"};
    for (size_t i = 0; i < options->topic_count; i++)
        if (!create_topic(cluster, options->topics[i]))
            return false;
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0] && options->topic_count == 0; i++)
        if (!create_topic(cluster, defaults[i]))
            return false;
    return true;
}

static bool announce(const char *bootstraps, const char *ready_file)
{
    fprintf(stderr, "millrace broker: %s, keeps nothing: everything is lost when it ends\n", bootstraps);
    FILE *file = ready_file ? fopen(ready_file, "w") : NULL;
    if (ready_file && !file)
        return false;
    if (file) {
        fprintf(file, "%s\n", bootstraps);
        fclose(file);
    }
    return true;
}

static int serve(rd_kafka_t *client, const struct broker_options *options, const sigset_t *signals)
{
    int signal_number;
    wanted_port = options->port;
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(client, 1);
    bool taken = wanted_port == 0;
    wanted_port = 0;
    char expected[32];
    snprintf(expected, sizeof expected, ":%d", options->port);
    if (!cluster || !taken || !strstr(rd_kafka_mock_cluster_bootstraps(cluster), expected)) {
        if (cluster)
            rd_kafka_mock_cluster_destroy(cluster);
        struct error err;
        error_set(&err, STATUS_UNAVAILABLE, "cannot listen on 127.0.0.1:%d; is another broker running?",
                  options->port);
        return cli_fail(&err);
    }
    int exit_code = EXIT_DONE;
    if (!create_topics(cluster, options))
        exit_code = cli_usage("broker", "a topic must be NAME:PARTITIONS with 1 to 1024 partitions");
    else if (!announce(rd_kafka_mock_cluster_bootstraps(cluster), options->ready_file))
        exit_code = cli_usage("broker", "cannot write %s: %s", options->ready_file, strerror(errno));
    else
        sigwait(signals, &signal_number);
    rd_kafka_mock_cluster_destroy(cluster);
    return exit_code;
}

static bool parse_options(int argc, char **argv, struct broker_options *options)
{
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value)
            return false;
        if (strcmp(argv[i], "--port") == 0)
            options->port = (int)strtol(value, NULL, 10);
        else if (strcmp(argv[i], "--ready-file") == 0)
            options->ready_file = value;
        else if (strcmp(argv[i], "--topic") == 0 && options->topic_count < MAX_TOPICS)
            options->topics[options->topic_count++] = value;
        else
            return false;
    }
    return options->port > 0 && options->port < 65536;
}

int cli_broker(int argc, char **argv)
{
    struct broker_options options = {.port = DEFAULT_PORT};
    char text[256];
    sigset_t signals;
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return EXIT_DONE;
    }
    if (!parse_options(argc, argv, &options))
        return cli_usage("broker", "an option is unknown or lacks its value; `millrace broker --help`");
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "log_level", "2", text,
                      sizeof text); /* it has no brokers of its own to complain about */
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (!client) {
        struct error err;
        error_set(&err, STATUS_INTERNAL, "librdkafka: %s", text);
        return cli_fail(&err);
    }
    int exit_code = serve(client, &options, &signals);
    rd_kafka_destroy(client);
    return exit_code;
}
