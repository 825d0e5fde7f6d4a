// SPDX-License-Identifier: Apache-2.0
// `millrace results`: the results topic as JSONL, each result once, and the names of what is missing.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "worker/cli/cli.h"
#include "worker/cli/line_reader.h"
#include "worker/cli/options.h"
#include "worker/cli/result_follow.h"

enum { BROKER_WAIT_MS = 15000, NAMED_MISSING = 20, MOST_LINE_BYTES = 64 << 20 };

static const char help[] =
    "millrace results - results from Kafka to JSONL, each once (read_committed)\n\n"
    "usage: millrace results [-c FILE] [--kafka.bootstrap_servers=…] [--batch-id B] [--expect jobs.jsonl]\n"
    "                        [-o FILE] [--errors FILE] [--wait SECONDS]\n\n"
    "  --batch-id B     only results of this batch\n"
    "  --expect FILE    only these jobs; ends when all are there, names what is missing, exit 1 when "
    "something is\n"
    "  -o FILE          where lines go (standard output)\n"
    "  --errors FILE    lines whose status is not 200 go there\n"
    "  --wait SECONDS   how long to wait for what is expected (0: read what is there)\n";

struct results_options {
    struct options common;
    const char *batch_id, *expect, *out, *errors;
    long wait_s;
};

static enum status read_expected(const char *path, struct id_map *expected, struct error *err)
{
    struct line_reader lines;
    const char *line;
    size_t line_bytes;
    char id[513];
    size_t bytes;
    bool added;
    enum status status = line_reader_open(&lines, path, MOST_LINE_BYTES, err);
    if (status != STATUS_OK)
        return status;
    while ((status = line_reader_wait(&lines, &line, &line_bytes, err)) == STATUS_OK)
        if (result_follow_custom_id(line, line_bytes, id, sizeof id, &bytes) &&
            !id_map_add(expected, id, bytes, &added)) {
            status = error_set(err, STATUS_NO_MEMORY, "no memory for the expected jobs");
            break;
        }
    line_reader_close(&lines);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* Reads the expected file again to name what has no answer. */
static void name_missing(const char *path, const struct result_follow *follow)
{
    struct line_reader lines;
    const char *line;
    size_t line_bytes;
    char id[513];
    size_t bytes, named = 0;
    if (line_reader_open(&lines, path, MOST_LINE_BYTES, NULL) != STATUS_OK)
        return;
    fprintf(stderr, "millrace results: %zu jobs have no result yet:",
            follow->expected.count - (size_t)follow->answered_expected);
    while (named < NAMED_MISSING && line_reader_wait(&lines, &line, &line_bytes, NULL) == STATUS_OK) {
        if (!result_follow_custom_id(line, line_bytes, id, sizeof id, &bytes))
            continue;
        const struct id_map_entry *entry = id_map_find(&follow->expected, id, bytes);
        if (entry && entry->value == 0) {
            fprintf(stderr, " %s", id);
            named++;
        }
    }
    fputs(named == NAMED_MISSING ? " …\n" : "\n", stderr);
    line_reader_close(&lines);
}

static enum status follow_topic(const struct results_options *options, const struct config *config,
                                struct result_follow *follow, struct error *err)
{
    struct topic_reader *reader;
    struct job_record record;
    int64_t end_ms = monotime_ms() + options->wait_s * 1000;
    enum status status =
        topic_reader_open(&reader, config, config->kafka.results_topic, NULL, BROKER_WAIT_MS, err);
    if (status != STATUS_OK)
        return status;
    while (status == STATUS_OK && !result_follow_complete(follow)) {
        if (topic_reader_next(reader, 100, &record))
            status = result_follow_take(follow, &record, err);
        else if (topic_reader_at_end(reader) && monotime_ms() >= end_ms)
            break;
    }
    topic_reader_close(reader);
    return status;
}

static FILE *open_out(const char *path, FILE *fallback, struct error *err)
{
    if (!path || strcmp(path, "-") == 0)
        return fallback;
    FILE *file = fopen(path, "w");
    if (!file)
        error_set(err, STATUS_IO, "cannot write %.200s: %s", path, strerror(errno));
    return file;
}

static enum status run(const struct results_options *options, const struct config *config,
                       struct result_follow *follow, struct error *err)
{
    err->status = STATUS_OK;
    follow->batch_id = options->batch_id;
    follow->out = open_out(options->out, stdout, err);
    follow->errors = follow->out ? open_out(options->errors, NULL, err) : NULL;
    enum status status = err->status;
    if (status == STATUS_OK && options->expect)
        status = read_expected(options->expect, &follow->expected, err);
    if (status == STATUS_OK)
        status = follow_topic(options, config, follow, err);
    if (follow->out && fflush(follow->out) != 0 && status == STATUS_OK)
        status = error_set(err, STATUS_IO, "results cannot be written: %s", strerror(errno));
    if (follow->out && follow->out != stdout)
        fclose(follow->out);
    if (follow->errors)
        fclose(follow->errors);
    return status;
}

static enum status parse_options(int argc, char **argv, struct results_options *options, struct error *err)
{
    for (int i = 1; i < argc; i++) {
        enum status status = options_take(&options->common, argc, argv, &i, err);
        if (status == STATUS_OK)
            continue;
        if (status != STATUS_NOT_FOUND)
            return status;
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        const char **target = strcmp(argv[i], "--batch-id") == 0 ? &options->batch_id
                              : strcmp(argv[i], "--expect") == 0 ? &options->expect
                              : strcmp(argv[i], "-o") == 0       ? &options->out
                              : strcmp(argv[i], "--errors") == 0 ? &options->errors
                                                                 : NULL;
        if (target && value)
            *target = value;
        else if (strcmp(argv[i], "--wait") == 0 && value)
            options->wait_s = strtol(value, NULL, 10);
        else
            return error_set(err, STATUS_USAGE, "option \"%.80s\" is unknown or lacks its value", argv[i]);
        i++;
    }
    return STATUS_OK;
}

int cli_results(int argc, char **argv)
{
    static struct results_options options;
    const struct config *config = NULL;
    struct result_follow follow;
    struct error err = {0};
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return EXIT_DONE;
    }
    if (parse_options(argc, argv, &options, &err) != STATUS_OK)
        return cli_usage("results", "%s", err.text);
    result_follow_init(&follow);
    enum status status = options_config(&options.common, &config, &err);
    if (status == STATUS_OK)
        status = run(&options, config, &follow, &err);
    int exit_code = status == STATUS_OK ? EXIT_DONE : cli_fail(&err);
    if (status == STATUS_OK) {
        fprintf(
            stderr,
            "results  %llu lines, %llu failed, %llu duplicates dropped, %llu prompt and %llu output tokens\n",
            (unsigned long long)follow.written, (unsigned long long)follow.failed,
            (unsigned long long)follow.duplicates, (unsigned long long)follow.prompt_tokens,
            (unsigned long long)follow.completion_tokens);
        if (options.expect && !result_follow_complete(&follow) && follow.expected.count > 0) {
            name_missing(options.expect, &follow);
            exit_code = EXIT_SOME_FAILED;
        }
    }
    result_follow_release(&follow);
    config_close(config);
    return exit_code;
}
