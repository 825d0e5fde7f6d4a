// SPDX-License-Identifier: Apache-2.0
// `millrace watch`: tokens live from ZeroMQ. A gap in a job's sequence numbers is repaired from the replay
// socket, or said; never shown silently.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/monotime.h"
#include "worker/cli/cli.h"
#include "worker/cli/options.h"
#include "worker/cli/stream_client.h"

enum { TURN_MS = 100 };

static const char help[] =
    "millrace watch - tokens as they are generated\n\n"
    "usage: millrace watch [CUSTOM_ID] [-c FILE] [--stream.bind=tcp://…] [--stream.replay_bind=tcp://…]\n"
    "                      [--batch-id B] [--json] [--jobs N] [--idle SECONDS]\n\n"
    "  CUSTOM_ID         only this job; without it, every job\n"
    "  --batch-id B      only this batch\n"
    "  --json            one line per chunk: {\"topic\",\"seq\",\"epoch\",\"attempt\",\"chunk\"}\n"
    "  --jobs N          end after N jobs are done\n"
    "  --idle SECONDS    end when nothing has come for so long\n\n"
    "An encrypted stream needs the server key: MILLRACE_STREAM_CURVE_SERVER_KEY or …_KEY_FILE.\n";

struct watch_options {
    struct options common;
    const char *custom_id, *batch_id;
    bool json;
    long jobs, idle_s;
};

struct watch { /* what the callback shares */
    const struct watch_options *options;
    long done;
    int64_t last_ms;
    char current[1024]; /* topic whose text was printed last */
};

/* The text that one chunk adds, of choice 0. */
static const struct json *delta_of(const struct json *root)
{
    const struct json *choices = json_member(root, "choices");
    if (!choices || choices->type != JSON_ARRAY || choices->count == 0)
        return NULL;
    const struct json *choice = &choices->as.items[0];
    const struct json *text = json_member(choice, "text");
    return text ? text : json_member(json_member(choice, "delta"), "content");
}

static void print_text(struct watch *watch, const struct stream_chunk *chunk)
{
    struct json_document *document;
    if (strcmp(watch->current, chunk->topic) != 0) {
        printf("%s%s │ ", *watch->current ? "\n" : "", chunk->topic + strcspn(chunk->topic + 4, ".") + 5);
        snprintf(watch->current, sizeof watch->current, "%s", chunk->topic);
    }
    if (chunk->missed)
        printf("[%llu chunks missing]", (unsigned long long)chunk->missed);
    if (chunk->bytes == 6 && memcmp(chunk->data, "[DONE]", 6) == 0) {
        printf(" ▌");
        return;
    }
    if (json_parse(&document, chunk->data, chunk->bytes, NULL, NULL) != STATUS_OK)
        return;
    const struct json *delta = delta_of(json_root(document));
    if (delta && delta->type == JSON_STRING)
        fwrite(delta->as.string, 1, delta->count, stdout);
    json_close(document);
}

static void print_json(const struct stream_chunk *chunk)
{
    struct bytes line;
    bool done = chunk->bytes == 6 && memcmp(chunk->data, "[DONE]", 6) == 0;
    bytes_init(&line, (16 << 20) + 4096);
    bytes_append_text(&line, "{\"topic\":");
    json_append_string(&line, chunk->topic, strlen(chunk->topic));
    bytes_appendf(&line, ",\"seq\":%llu,\"epoch\":%llu,\"attempt\":%u,\"missed\":%llu,\"chunk\":",
                  (unsigned long long)chunk->seq, (unsigned long long)chunk->epoch, chunk->attempt,
                  (unsigned long long)chunk->missed);
    if (done)
        bytes_append_text(&line, "\"[DONE]\"");
    else
        bytes_append(&line, chunk->data, chunk->bytes);
    bytes_append_text(&line, "}\n");
    fwrite(line.data, 1, line.count_bytes, stdout);
    bytes_release(&line);
}

/* A custom_id may contain dots, a batch_id too: without a batch any topic that ends in ".<custom_id>" counts.
 */
static bool is_wanted(const struct watch_options *options, const char *topic)
{
    if (!options->custom_id)
        return true;
    size_t bytes = strlen(topic), id_bytes = strlen(options->custom_id);
    return bytes > id_bytes && topic[bytes - id_bytes - 1] == '.' &&
           strcmp(topic + bytes - id_bytes, options->custom_id) == 0;
}

static void take_chunk(void *context, const struct stream_chunk *chunk)
{
    struct watch *watch = context;
    if (!is_wanted(watch->options, chunk->topic))
        return;
    watch->last_ms = monotime_ms();
    if (watch->options->json)
        print_json(chunk);
    else
        print_text(watch, chunk);
    watch->done += chunk->bytes == 6 && memcmp(chunk->data, "[DONE]", 6) == 0;
}

/* Subscribes to the most exact prefix that the options allow; the NUL ends a full topic. */
static void make_prefix(const struct watch_options *options, struct bytes *prefix)
{
    bytes_append_text(prefix, "job.");
    if (options->batch_id)
        bytes_appendf(prefix, "%s.%s", options->batch_id, options->custom_id ? options->custom_id : "");
    if (options->batch_id && options->custom_id)
        bytes_append_char(prefix, '\0');
}

static enum status run(const struct watch_options *options, const struct config *config, struct error *err)
{
    struct watch watch = {.options = options, .last_ms = monotime_ms()};
    struct stream_client *client;
    struct bytes prefix;
    bytes_init(&prefix, 1024);
    make_prefix(options, &prefix);
    enum status status = stream_client_open(&client, config, prefix.data, prefix.count_bytes, err);
    bytes_release(&prefix);
    if (status != STATUS_OK)
        return status;
    while ((options->jobs == 0 || watch.done < options->jobs) &&
           (options->idle_s == 0 || monotime_ms() - watch.last_ms < options->idle_s * 1000)) {
        stream_client_receive(client, TURN_MS, take_chunk, &watch);
        if (fflush(stdout) != 0) /* the reader of a pipe has gone */
            break;
    }
    if (!options->json)
        putchar(0x0A);
    stream_client_close(client);
    return STATUS_OK;
}

static enum status parse_options(int argc, char **argv, struct watch_options *options, struct error *err)
{
    for (int i = 1; i < argc; i++) {
        enum status status = options_take(&options->common, argc, argv, &i, err);
        if (status == STATUS_OK)
            continue;
        if (status != STATUS_NOT_FOUND)
            return status;
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--json") == 0)
            options->json = true;
        else if (strcmp(argv[i], "--batch-id") == 0 && value && ++i)
            options->batch_id = value;
        else if (strcmp(argv[i], "--jobs") == 0 && value && ++i)
            options->jobs = strtol(value, NULL, 10);
        else if (strcmp(argv[i], "--idle") == 0 && value && ++i)
            options->idle_s = strtol(value, NULL, 10);
        else if (argv[i][0] != '-' && !options->custom_id)
            options->custom_id = argv[i];
        else
            return error_set(err, STATUS_USAGE, "option \"%.80s\" is unknown or lacks its value", argv[i]);
    }
    return STATUS_OK;
}

int cli_watch(int argc, char **argv)
{
    static struct watch_options options;
    const struct config *config;
    struct error err = {0};
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return EXIT_DONE;
    }
    if (parse_options(argc, argv, &options, &err) != STATUS_OK)
        return cli_usage("watch", "%s", err.text);
    if (options_config(&options.common, &config, &err) != STATUS_OK)
        return cli_fail(&err);
    enum status status = run(&options, config, &err);
    config_close(config);
    return status == STATUS_OK ? EXIT_DONE : cli_fail(&err);
}
