// SPDX-License-Identifier: Apache-2.0
// `millrace submit`: a JSONL file of jobs into Kafka, each once, resumable after a kill.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monotime.h"
#include "base/sha256.h"
#include "worker/cli/batch_status.h"
#include "worker/cli/cli.h"
#include "worker/cli/line_reader.h"
#include "worker/cli/options.h"
#include "worker/cli/progress.h"
#include "worker/cli/result_follow.h"
#include "worker/cli/send_one.h"
#include "worker/cli/submit_check.h"
#include "worker/cli/submit_redrive.h"
#include "worker/cli/submit_state.h"
#include "worker/emit/result_sink.h"

enum {
    BROKER_WAIT_MS = 15000,
    SHOWN_FAULTS = 10,
    FLUSH_MS = 60000,
    MOCK_BACKLOG_BYTES = 8 << 20,
    MOCK_BACKLOG_JOBS = 100000,
    PACE_EVERY_BYTES = 1 << 20,
    PACE_WAIT_MS = 200,
    MOST_LINE_BYTES = 64 << 20,
    STATUS_TOPIC_WAIT_MS = 10000,
    MOST_NAME_BYTES = 8192
};

static const char help[] =
    "millrace submit - jobs from a file into Kafka, each once\n\n"
    "usage: millrace submit jobs.jsonl [-c FILE] [-m MODEL_DIR] [--kafka.bootstrap_servers=…] [--batch-id "
    "B]\n"
    "                       [--topic T] [--allow-unknown] [--dry-run] [--wait -o results.jsonl]\n"
    "       millrace submit --from-dlt [--dry-run]\n\n"
    "  -m MODEL_DIR       check every line with the worker's own parser for this model\n"
    "  --batch-id B       name of the batch (default: the file's name)\n"
    "  --dry-run          check and count, send nothing\n"
    "  --wait             follow the results to the end; -o FILE takes them (standard output)\n"
    "  --priority N       header millrace-priority of every job, lower first\n"
    "  --stream           ask for the tokens on ZeroMQ\n"
    "  --again            submit a file that was submitted before\n"
    "  --from-dlt         no file: the dead letters go back to the topics they came from, each once\n\n"
    "A killed submit is run again with the same words: what the broker has is not sent twice. FILE.submit\n"
    "beside the input remembers it.\n";

struct submit_options {
    struct options common;
    const char *input, *batch_id, *topic, *out, *priority;
    bool allow_unknown, dry_run, wait, stream, again, from_dlt;
};

struct text_line { /* of the input, valid until the next one */
    const char *text;
    size_t bytes;
};

struct submit {
    const struct submit_options *options;
    const struct config *config;
    struct setup *setup; /* NULL without a model */
    struct id_map ids;   /* of the file; value 1: the broker has it */
    uint64_t lines, bad, sent, prompt_tokens, most_tokens, bytes, failed;
    struct submit_state state;
    struct result_sink *sink;
    struct error *err;
};

/* ---- checking ---- */

static void show_fault(struct submit *submit, size_t line, const char *reason)
{
    if (++submit->bad <= SHOWN_FAULTS)
        fprintf(stderr, "line %zu: %s\n", line, reason);
    else if (submit->bad == SHOWN_FAULTS + 1)
        fprintf(stderr, "…\n");
}

static enum status check_line(struct submit *submit, const struct text_line *line, size_t number)
{
    struct submit_verdict verdict;
    bool added = false;
    submit_check(&verdict, submit->setup, line->text, line->bytes, submit->options->allow_unknown);
    submit->lines++;
    submit->bytes += line->bytes;
    submit->prompt_tokens += verdict.prompt_tokens;
    submit->most_tokens += verdict.most_tokens;
    if (!verdict.good) {
        show_fault(submit, number, verdict.reason);
        return STATUS_OK;
    }
    if (!id_map_add(&submit->ids, verdict.custom_id, strlen(verdict.custom_id), &added))
        return error_set(submit->err, STATUS_NO_MEMORY, "no memory for the custom_ids");
    if (!added)
        show_fault(submit, number, "custom_id appears twice in the file");
    return STATUS_OK;
}

static enum status check_file(struct submit *submit)
{
    struct line_reader lines;
    struct text_line line;
    enum status status = line_reader_open(&lines, submit->options->input, MOST_LINE_BYTES, submit->err);
    if (status != STATUS_OK)
        return status;
    struct sha256 sha;
    uint8_t digest[32];
    sha256_init(&sha);
    while ((status = line_reader_wait(&lines, &line.text, &line.bytes, submit->err)) == STATUS_OK &&
           (status = check_line(submit, &line, (size_t)lines.lines)) == STATUS_OK) {
        sha256_update(&sha, line.text, line.bytes);
        sha256_update(&sha, "\n", 1);
    }
    sha256_final(&sha, digest);
    sha256_hex(digest, submit->state.digest);
    line_reader_close(&lines);
    if (status != STATUS_NOT_FOUND)
        return status;
    if (submit->bad)
        return error_set(submit->err, STATUS_INVALID,
                         "%llu of %llu lines are no valid jobs: nothing was sent",
                         (unsigned long long)submit->bad, (unsigned long long)submit->lines);
    return STATUS_OK;
}

static void report_dry_run(const struct submit *submit)
{
    printf("dry run  %llu jobs, %llu bytes", (unsigned long long)submit->lines,
           (unsigned long long)submit->bytes);
    if (submit->setup)
        printf(", %llu prompt tokens, at most %llu generated tokens",
               (unsigned long long)submit->prompt_tokens, (unsigned long long)submit->most_tokens);
    printf("\n");
}

/* ---- sending ---- */

static void take_acked(void *context, void *tag, const struct error *error)
{
    struct submit *submit = context;
    (void)tag;
    if (error) {
        submit->failed++;
        *submit->err = *error;
    }
}

/* Custom_ids of this batch that arrived since the submit began. */
static enum status read_back(struct submit *submit, struct topic_reader *reader)
{
    struct job_record record;
    char id[513];
    size_t bytes;
    while (!topic_reader_at_end(reader)) {
        if (!topic_reader_next(reader, 200, &record) || !record.value ||
            !result_follow_custom_id(record.value, record.value_bytes, id, sizeof id, &bytes))
            continue;
        struct id_map_entry *entry = id_map_find(&submit->ids, id, bytes);
        for (size_t i = 0; entry && i < record.header_count; i++)
            if (strcmp(record.headers[i].name, "millrace-batch-id") == 0 &&
                record.headers[i].value_bytes == strlen(submit->state.batch_id) &&
                memcmp(record.headers[i].value, submit->state.batch_id, record.headers[i].value_bytes) == 0)
                entry->value = 1;
    }
    return STATUS_OK;
}

static enum status begin(struct submit *submit)
{
    struct topic_reader *reader;
    struct submit_state *state = &submit->state;
    enum status status =
        topic_reader_open(&reader, submit->config, state->topic, NULL, BROKER_WAIT_MS, submit->err);
    if (status != STATUS_OK)
        return status;
    snprintf(state->cluster_id, sizeof state->cluster_id, "%s", topic_reader_cluster_id(reader));
    if (submit->options->again)
        submit_state_remove(state);
    status = submit_state_load(state, submit->err);
    if (status == STATUS_OK && !state->resumed) {
        status = topic_reader_ends(reader, &state->begin, submit->err);
        if (status == STATUS_OK)
            status = submit_state_save(state, submit->err);
    }
    topic_reader_close(reader);
    if (status != STATUS_OK || !state->resumed)
        return status;
    status =
        topic_reader_open(&reader, submit->config, state->topic, &state->begin, BROKER_WAIT_MS, submit->err);
    if (status == STATUS_OK) {
        status = read_back(submit, reader);
        topic_reader_close(reader);
    }
    return status;
}

static enum status send_line(struct submit *submit, const struct text_line *line, const char *id)
{
    const struct submit_options *options = submit->options;
    struct job_header headers[3] = {
        {"millrace-batch-id", submit->state.batch_id, strlen(submit->state.batch_id)}};
    struct sink_record record = {.topic = submit->state.topic,
                                 .key = id,
                                 .key_bytes = strlen(id),
                                 .value = line->text,
                                 .value_bytes = line->bytes,
                                 .headers = headers,
                                 .header_count = 1};
    if (options->priority)
        headers[record.header_count++] =
            (struct job_header){"millrace-priority", options->priority, strlen(options->priority)};
    if (options->stream)
        headers[record.header_count++] = (struct job_header){"millrace-stream", "1", 1};
    for (;;) {
        enum status status = result_sink_send(submit->sink, &record, submit->err);
        if (status != STATUS_FULL)
            return status;
        status = result_sink_poll(submit->sink, 50, submit->err);
        if (status != STATUS_OK)
            return status;
    }
}

/* The embedded broker drops its oldest records silently: wait until the workers have taken what is there. */
static enum status pace(struct submit *submit, struct topic_reader *reader, uint64_t *bytes)
{
    if (!reader || *bytes < PACE_EVERY_BYTES)
        return STATUS_OK;
    *bytes = 0;
    result_sink_flush(submit->sink, FLUSH_MS);
    double mean = submit->lines ? (double)submit->bytes / (double)submit->lines : 1;
    for (;;) {
        int64_t backlog = topic_reader_group_backlog(reader);
        if (backlog >= 0 && backlog < MOCK_BACKLOG_JOBS && (double)backlog * mean < MOCK_BACKLOG_BYTES)
            return STATUS_OK;
        enum status status = result_sink_poll(submit->sink, PACE_WAIT_MS, submit->err);
        if (status != STATUS_OK)
            return status;
    }
}

static enum status send_file(struct submit *submit)
{
    struct line_reader lines;
    struct text_line line;
    struct progress progress;
    struct topic_reader *pacer = NULL;
    uint64_t unpaced_bytes = 0;
    char id[513];
    size_t id_bytes;
    bool embedded = strncmp(submit->state.cluster_id, "mockCluster", 11) == 0;
    enum status status = line_reader_open(&lines, submit->options->input, MOST_LINE_BYTES, submit->err);
    if (status == STATUS_OK && embedded)
        status =
            topic_reader_open(&pacer, submit->config, submit->state.topic, NULL, BROKER_WAIT_MS, submit->err);
    progress_begin(&progress, "submit", "jobs", submit->lines);
    while (status == STATUS_OK &&
           line_reader_wait(&lines, &line.text, &line.bytes, submit->err) == STATUS_OK) {
        if (!result_follow_custom_id(line.text, line.bytes, id, sizeof id, &id_bytes))
            continue;
        struct id_map_entry *entry = id_map_find(&submit->ids, id, id_bytes);
        if (entry && entry->value)
            continue; /* the broker has it from an earlier run */
        status = send_line(submit, &line, id);
        submit->sent++;
        unpaced_bytes += line.bytes;
        if (status == STATUS_OK)
            status = pace(submit, pacer, &unpaced_bytes);
        progress_show(&progress, submit->sent, NULL);
        if (status == STATUS_OK)
            status = result_sink_poll(submit->sink, 0, submit->err);
    }
    if (status == STATUS_OK && !result_sink_flush(submit->sink, FLUSH_MS))
        status = error_set(submit->err, STATUS_TIMEOUT,
                           "the broker has not stored everything; run the same submit again");
    if (status == STATUS_OK && submit->failed)
        status = error_prefix(submit->err, "%llu jobs were not stored", (unsigned long long)submit->failed);
    progress_end(&progress, submit->sent, status == STATUS_OK ? "stored" : NULL);
    topic_reader_close(pacer);
    line_reader_close(&lines);
    return status;
}

/* ---- waiting ---- */

static enum status mark_expected(struct submit *submit, struct result_follow *follow)
{
    struct line_reader lines;
    struct text_line line;
    char id[513];
    size_t bytes;
    bool added;
    enum status status = line_reader_open(&lines, submit->options->input, MOST_LINE_BYTES, submit->err);
    while (status == STATUS_OK && line_reader_wait(&lines, &line.text, &line.bytes, submit->err) == STATUS_OK)
        if (result_follow_custom_id(line.text, line.bytes, id, sizeof id, &bytes) &&
            !id_map_add(&follow->expected, id, bytes, &added))
            status = error_set(submit->err, STATUS_NO_MEMORY, "no memory for the expected jobs");
    line_reader_close(&lines);
    return status;
}

static enum status follow_results(struct submit *submit, struct topic_reader *reader,
                                  struct result_follow *follow)
{
    struct progress progress;
    struct job_record record;
    char note[64];
    enum status status = STATUS_OK;
    int64_t begin_ms = monotime_ms();
    progress_begin(&progress, "results", "jobs", follow->expected.count);
    while (status == STATUS_OK && !result_follow_complete(follow)) {
        if (topic_reader_next(reader, 100, &record))
            status = result_follow_take(follow, &record, submit->err);
        double seconds = (double)(monotime_ms() - begin_ms) / 1e3;
        snprintf(note, sizeof note, "%.0f tok/s",
                 seconds > 0 ? (double)follow->completion_tokens / seconds : 0);
        progress_show(&progress, follow->answered_expected, note);
    }
    progress_end(&progress, follow->answered_expected, note);
    return status;
}

static enum status wait_for_results(struct submit *submit, struct topic_reader *reader,
                                    struct result_follow *follow)
{
    const char *path = submit->options->out;
    follow->batch_id = submit->state.batch_id;
    follow->out = !path || strcmp(path, "-") == 0 ? stdout : fopen(path, "w");
    if (!follow->out)
        return error_set(submit->err, STATUS_IO, "cannot write %.200s: %s", path, strerror(errno));
    enum status status = mark_expected(submit, follow);
    if (status == STATUS_OK)
        status = follow_results(submit, reader, follow);
    if (fflush(follow->out) != 0 && status == STATUS_OK)
        status = error_set(submit->err, STATUS_IO, "results cannot be written: %s", strerror(errno));
    if (follow->out != stdout)
        fclose(follow->out);
    fprintf(
        stderr,
        "done     %llu answered, %llu failed, %llu duplicates dropped, %llu prompt and %llu output tokens\n",
        (unsigned long long)follow->answered_expected, (unsigned long long)follow->failed,
        (unsigned long long)follow->duplicates, (unsigned long long)follow->prompt_tokens,
        (unsigned long long)follow->completion_tokens);
    return status;
}

/* ---- the verb ---- */

static void name_batch(struct submit *submit)
{
    const char *input = submit->options->input;
    const char *slash = strrchr(input, '/');
    const char *name = slash ? slash + 1 : input;
    size_t bytes = strcspn(name, ".");
    if (submit->options->batch_id)
        snprintf(submit->state.batch_id, sizeof submit->state.batch_id, "%s", submit->options->batch_id);
    else
        snprintf(submit->state.batch_id, sizeof submit->state.batch_id, "%.*s", (int)bytes, name);
    snprintf(submit->state.topic, sizeof submit->state.topic, "%s",
             submit->options->topic ? submit->options->topic : submit->config->kafka.topics.items[0].name);
    snprintf(submit->state.path, sizeof submit->state.path, "%s.submit", input);
}

/* How many jobs the batch has, for `millrace status`. Without a status topic the jobs go all the same. */
static void tell_total(struct submit *submit)
{
    struct topic_reader *reader;
    struct bytes key, value;
    const char *topic = submit->config->kafka.status_topic;
    if (topic_reader_open(&reader, submit->config, topic, NULL, STATUS_TOPIC_WAIT_MS, NULL) != STATUS_OK)
        return;
    topic_reader_close(reader);
    bytes_init(&key, MOST_NAME_BYTES);
    bytes_init(&value, MOST_NAME_BYTES);
    bytes_append(&key, submit->state.batch_id, strlen(submit->state.batch_id));
    batch_status_write_total(submit->state.batch_id, (int64_t)submit->lines, walltime_ms(), &value);
    struct error err;
    if (send_one(submit->config, topic, &key, &value, &err) != STATUS_OK)
        fprintf(stderr, "submit   `millrace status` will not know the total: %s\n", err.text);
    bytes_release(&key);
    bytes_release(&value);
}

static enum status send_and_wait(struct submit *submit, int *exit_code)
{
    struct result_follow follow;
    struct topic_reader *results = NULL;
    result_follow_init(&follow);
    enum status status = begin(submit);
    if (status == STATUS_OK &&
        submit->options->wait) /* from the beginning: a resumed batch has answers already */
        status = topic_reader_open(&results, submit->config, submit->config->kafka.results_topic, NULL,
                                   BROKER_WAIT_MS, submit->err);
    if (status == STATUS_OK)
        status = result_sink_open(&submit->sink, submit->config, take_acked, submit, submit->err);
    if (status == STATUS_OK && submit->state.complete)
        fprintf(stderr, "submit   everything was stored by an earlier run; --again submits it anew\n");
    else if (status == STATUS_OK) {
        tell_total(submit);
        status = send_file(submit);
    }
    if (status == STATUS_OK && !submit->state.complete) {
        submit->state.complete = true;
        status = submit_state_save(&submit->state, submit->err);
    }
    if (status == STATUS_OK && submit->options->wait) {
        status = wait_for_results(submit, results, &follow);
        *exit_code = follow.failed ? EXIT_SOME_FAILED : EXIT_DONE;
    }
    result_sink_close(submit->sink);
    topic_reader_close(results);
    result_follow_release(&follow);
    return status;
}

static enum status redrive(const struct submit_options *options, const struct config *config,
                           struct error *err)
{
    int count;
    enum status status = submit_redrive(config, options->dry_run, &count, err);
    if (status == STATUS_OK)
        printf("%d dead letter%s %s\n", count, count == 1 ? "" : "s",
               options->dry_run ? "would be sent again" : "sent again");
    return status;
}

static enum status run(const struct submit_options *options, const struct config *config, int *exit_code,
                       struct error *err)
{
    struct submit *submit = calloc(1, sizeof *submit);
    if (!submit)
        return error_set(err, STATUS_NO_MEMORY, "no memory to submit");
    *submit = (struct submit){.options = options, .config = config, .err = err};
    id_map_init(&submit->ids);
    name_batch(submit);
    struct setup_options setup = {.config = config};
    enum status status = *config->model.path ? setup_open(&submit->setup, &setup, err) : STATUS_OK;
    if (status == STATUS_OK)
        status = check_file(submit);
    if (status == STATUS_OK && options->dry_run)
        report_dry_run(submit);
    else if (status == STATUS_OK)
        status = send_and_wait(submit, exit_code);
    setup_close(submit->setup);
    id_map_release(&submit->ids);
    free(submit);
    return status;
}

static enum status take_own(struct submit_options *options, int argc, char **argv, int *at, struct error *err)
{
    const char *word = argv[*at];
    const char *value = *at + 1 < argc ? argv[*at + 1] : NULL;
    bool *flag = strcmp(word, "--allow-unknown") == 0 ? &options->allow_unknown
                 : strcmp(word, "--dry-run") == 0     ? &options->dry_run
                 : strcmp(word, "--wait") == 0        ? &options->wait
                 : strcmp(word, "--stream") == 0      ? &options->stream
                 : strcmp(word, "--again") == 0       ? &options->again
                 : strcmp(word, "--from-dlt") == 0    ? &options->from_dlt
                                                      : NULL;
    const char **target = strcmp(word, "--batch-id") == 0   ? &options->batch_id
                          : strcmp(word, "--topic") == 0    ? &options->topic
                          : strcmp(word, "-o") == 0         ? &options->out
                          : strcmp(word, "--priority") == 0 ? &options->priority
                                                            : NULL;
    if (flag) {
        *flag = true;
    } else if (target && value) {
        *target = value;
        (*at)++;
    } else if ((word[0] != '-' || !word[1]) && !options->input) {
        options->input = word;
    } else {
        return error_set(err, STATUS_USAGE, "option \"%.80s\" is unknown or lacks its value", word);
    }
    return STATUS_OK;
}

static enum status parse_options(int argc, char **argv, struct submit_options *options, struct error *err)
{
    for (int i = 1; i < argc; i++) {
        enum status status = options_take(&options->common, argc, argv, &i, err);
        if (status == STATUS_NOT_FOUND)
            status = take_own(options, argc, argv, &i, err);
        if (status != STATUS_OK)
            return status;
    }
    if (options->from_dlt)
        return options->input ? error_set(err, STATUS_USAGE, "--from-dlt takes no file") : STATUS_OK;
    if (!options->input)
        return error_set(err, STATUS_USAGE, "which file of jobs? `millrace submit --help`");
    if (strcmp(options->input, "-") == 0)
        return error_set(err, STATUS_USAGE,
                         "submit reads its input twice, to check before it sends: name a file");
    return STATUS_OK;
}

int cli_submit(int argc, char **argv)
{
    static struct submit_options options;
    const struct config *config = NULL;
    struct error err = {0};
    int exit_code = EXIT_DONE;
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return EXIT_DONE;
    }
    if (parse_options(argc, argv, &options, &err) != STATUS_OK)
        return cli_usage("submit", "%s", err.text);
    enum status status = options_config(&options.common, &config, &err);
    if (status == STATUS_OK)
        status = options.from_dlt ? redrive(&options, config, &err) : run(&options, config, &exit_code, &err);
    config_close(config);
    return status == STATUS_OK ? exit_code : cli_fail(&err);
}
