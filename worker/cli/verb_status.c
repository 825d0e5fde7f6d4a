// SPDX-License-Identifier: Apache-2.0
// `millrace status`: how far a batch is and what it cost, from the status and the results topic.
#include <stdio.h>
#include <string.h>

#include "base/monotime.h"
#include "worker/cli/batch_status.h"
#include "worker/cli/cli.h"
#include "worker/cli/options.h"
#include "worker/topic_reader.h"

enum { BROKER_WAIT_MS = 15000, STATUS_TOPIC_WAIT_MS = 10000, MAX_BYTES = 65536 };

static const char help[] =
    "millrace status - how far a batch is, and what it cost\n\n"
    "usage: millrace status BATCH_ID [--json] [-c FILE] [--kafka.bootstrap_servers=…]\n\n"
    "Reads the results (read_committed) and counts each once; the total is what `submit` wrote. --json "
    "prints\n"
    "OpenAI's Batch object with usage.\n\n"
    "exit codes: 0 all answered, 1 not yet or some failed, 69 no broker answers\n";

struct status_options {
    struct options common;
    const char *batch_id;
    bool json;
};

/* A status topic that is not there only means that the total is unknown. */
static void read_total(const struct config *config, struct batch_status *batch)
{
    struct topic_reader *reader;
    struct job_record record;
    size_t id_bytes = strlen(batch->batch_id);
    if (topic_reader_open(&reader, config, config->kafka.status_topic, NULL, STATUS_TOPIC_WAIT_MS, NULL) !=
        STATUS_OK)
        return;
    do {
        while (topic_reader_next(reader, 100, &record))
            if (record.value && record.key_bytes == id_bytes &&
                memcmp(record.key, batch->batch_id, id_bytes) == 0)
                batch_status_take_total(batch, record.value, record.value_bytes);
    } while (!topic_reader_at_end(reader));
    topic_reader_close(reader);
}

static enum status read_results(const struct config *config, struct batch_status *batch, struct error *err)
{
    struct topic_reader *reader;
    struct job_record record;
    enum status status =
        topic_reader_open(&reader, config, config->kafka.results_topic, NULL, BROKER_WAIT_MS, err);
    if (status != STATUS_OK)
        return status;
    do {
        while (status == STATUS_OK && topic_reader_next(reader, 100, &record))
            status = batch_status_take_result(batch, &record);
    } while (status == STATUS_OK && !topic_reader_at_end(reader));
    topic_reader_close(reader);
    return status == STATUS_OK ? status : error_set(err, status, "no memory to count the results");
}

static void print_text(const struct batch_status *s)
{
    int64_t answered = batch_status_answered(s);
    double seconds =
        s->created_ms >= 0 && s->last_ms > s->created_ms ? (double)(s->last_ms - s->created_ms) / 1e3 : 0;
    printf("batch      %s: %s\n", s->batch_id, batch_status_word(s));
    if (s->total >= 0)
        printf("jobs       %lld of %lld answered", (long long)answered, (long long)s->total);
    else
        printf("jobs       %lld answered (how many were submitted is not known)", (long long)answered);
    printf(": %lld completed, %lld failed, %lld cancelled, %lld expired\n", (long long)s->completed,
           (long long)s->failed, (long long)s->cancelled, (long long)s->expired);
    printf("tokens     %lld in (%lld of them cached), %lld out\n", (long long)s->input_tokens,
           (long long)s->cached_tokens, (long long)s->output_tokens);
    if (seconds <= 0)
        return;
    printf("time       %.1f s from submit to the latest answer, %.1f output tok/s", seconds,
           (double)s->output_tokens / seconds);
    if (answered > 0 && s->total > answered)
        printf(", about %.0f s to go", seconds / (double)answered * (double)(s->total - answered));
    putchar('\n');
}

static enum status run(const struct status_options *options, const struct config *config, int *exit_code,
                       struct error *err)
{
    struct batch_status batch;
    struct bytes out;
    batch_status_init(&batch, options->batch_id);
    bytes_init(&out, MAX_BYTES);
    enum status status = read_results(config, &batch, err);
    if (status == STATUS_OK) {
        read_total(config, &batch);
        if (options->json) {
            batch_status_write(&batch, &out);
            printf("%s\n", out.data ? out.data : "");
        } else {
            print_text(&batch);
        }
        bool all = batch.total >= 0 && batch.completed >= batch.total;
        *exit_code = all ? EXIT_DONE : EXIT_SOME_FAILED;
    }
    bytes_release(&out);
    batch_status_release(&batch);
    return status;
}

static enum status parse_options(int argc, char **argv, struct status_options *options, struct error *err)
{
    for (int i = 1; i < argc; i++) {
        enum status status = options_take(&options->common, argc, argv, &i, err);
        if (status == STATUS_OK)
            continue;
        if (status != STATUS_NOT_FOUND)
            return status;
        if (strcmp(argv[i], "--json") == 0)
            options->json = true;
        else if (argv[i][0] != '-' && !options->batch_id)
            options->batch_id = argv[i];
        else
            return error_set(err, STATUS_USAGE, "option \"%.80s\" is unknown or lacks its value", argv[i]);
    }
    return options->batch_id ? STATUS_OK : error_set(err, STATUS_USAGE, "which batch? give its name");
}

int cli_status(int argc, char **argv)
{
    static struct status_options options;
    const struct config *config = NULL;
    struct error err = {0};
    int exit_code = EXIT_DONE;
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return EXIT_DONE;
    }
    if (parse_options(argc, argv, &options, &err) != STATUS_OK)
        return cli_usage("status", "%s", err.text);
    enum status status = options_config(&options.common, &config, &err);
    if (status == STATUS_OK)
        status = run(&options, config, &exit_code, &err);
    config_close(config);
    return status == STATUS_OK ? exit_code : cli_fail(&err);
}
