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
    "usage: millrace status BATCH_ID [--json] [--recount] [-c FILE] [--kafka.bootstrap_servers=…]\n\n"
    "The total is what `submit` wrote; the sums are those that workers write with their results. --recount, "
    "or where\n"
    "workers deliver at least once, counts the result lines themselves, each once. --json prints OpenAI's "
    "Batch\n"
    "object with usage.\n\n"
    "exit codes: 0 all answered, 1 not yet or some failed, 69 no broker answers\n";

struct status_options {
    struct options common;
    const char *batch_id;
    bool json, recount;
};

typedef enum status taker(struct batch_status *batch, const struct job_record *record);

static enum status read_topic(const struct config *config, const char *topic, int wait_ms, taker *take,
                              struct batch_status *batch, struct error *err)
{
    struct topic_reader *reader;
    struct job_record record;
    enum status status = topic_reader_open(&reader, config, topic, NULL, wait_ms, err);
    if (status != STATUS_OK)
        return status;
    do {
        while (status == STATUS_OK && topic_reader_next(reader, 100, &record))
            status = take(batch, &record);
    } while (status == STATUS_OK && !topic_reader_at_end(reader));
    topic_reader_close(reader);
    return status == STATUS_OK ? status : error_set(err, status, "no memory to count a batch");
}

/* A status topic that is not there only means that nobody has counted yet. */
static enum status read_sums(const struct status_options *options, const struct config *config,
                             struct batch_status *batch, struct error *err)
{
    enum status status = STATUS_OK;
    if (config->kafka.status_topic[0])
        status = read_topic(config, config->kafka.status_topic, STATUS_TOPIC_WAIT_MS,
                            batch_status_take_status, batch, err);
    if (status != STATUS_OK && status != STATUS_UNAVAILABLE)
        return status;
    if (!options->recount && batch_status_sum_parts(batch))
        return STATUS_OK;
    return read_topic(config, config->kafka.results_topic, BROKER_WAIT_MS, batch_status_take_result, batch,
                      err);
}

static void print_text(const char *batch_id, const struct batch_sums *s)
{
    int64_t answered = batch_sums_answered(s);
    double seconds =
        s->created_ms >= 0 && s->last_ms > s->created_ms ? (double)(s->last_ms - s->created_ms) / 1e3 : 0;
    printf("batch      %s: %s\n", batch_id, batch_sums_word(s));
    if (s->total >= 0)
        printf("jobs       %lld of %lld answered", (long long)answered, (long long)s->total);
    else
        printf("jobs       %lld answered (how many were submitted is not known)", (long long)answered);
    printf(": %lld completed, %lld failed, %lld cancelled, %lld expired\n", (long long)s->completed,
           (long long)s->failed, (long long)s->cancelled, (long long)s->expired);
    printf("tokens     %lld in (%lld of them cached), %lld out\n", (long long)s->input_tokens,
           (long long)s->cached_tokens, (long long)s->output_tokens);
    if (s->core_us > 0)
        printf("cost       %.1f core-seconds\n", (double)s->core_us / 1e6);
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
    enum status status = read_sums(options, config, &batch, err);
    if (status == STATUS_OK) {
        if (options->json) {
            batch_sums_write(&batch.sums, options->batch_id, &out);
            printf("%s\n", out.data ? out.data : "");
        } else {
            print_text(options->batch_id, &batch.sums);
        }
        bool all = batch.sums.total >= 0 && batch.sums.completed >= batch.sums.total;
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
        else if (strcmp(argv[i], "--recount") == 0)
            options->recount = true;
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
