// SPDX-License-Identifier: Apache-2.0
// `millrace cancel`: one record on the control topic, which every worker reads.
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/json.h"
#include "worker/cli/cli.h"
#include "worker/cli/options.h"
#include "worker/cli/send_one.h"

enum { MAX_BYTES = 4096 };

static const char help[] =
    "millrace cancel - stop a batch, or one job of it\n\n"
    "usage: millrace cancel BATCH_ID [--job CUSTOM_ID] [-c FILE] [--kafka.bootstrap_servers=…]\n\n"
    "Every job of it that was submitted until now and has no answer yet is answered with batch_cancelled; "
    "running\n"
    "ones stop within one step. What is submitted later under the same name runs.\n";

struct cancel_options {
    struct options common;
    const char *batch_id, *custom_id;
};

static void write_record(const struct cancel_options *options, struct bytes *key, struct bytes *value)
{
    bytes_append(key, options->batch_id, strlen(options->batch_id));
    bytes_append(value, "{\"batch_id\":", 12);
    json_append_string(value, options->batch_id, strlen(options->batch_id));
    if (options->custom_id) {
        bytes_append_char(key, '/');
        bytes_append(key, options->custom_id, strlen(options->custom_id));
        bytes_append(value, ",\"custom_id\":", 13);
        json_append_string(value, options->custom_id, strlen(options->custom_id));
    }
    bytes_append_char(value, '}');
}

static enum status run(const struct cancel_options *options, const struct config *config, struct error *err)
{
    struct bytes key, value;
    bytes_init(&key, MAX_BYTES);
    bytes_init(&value, MAX_BYTES);
    write_record(options, &key, &value);
    enum status status = key.failed || value.failed
                             ? error_set(err, STATUS_USAGE, "the name is too long")
                             : send_one(config, config->kafka.control_topic, &key, &value, err);
    if (status == STATUS_OK)
        printf("cancelled %s%s%s: what was submitted until now and has no answer yet\n",
               options->custom_id ? options->custom_id : "batch ", options->custom_id ? " of " : "",
               options->batch_id);
    bytes_release(&key);
    bytes_release(&value);
    return status;
}

static enum status parse_options(int argc, char **argv, struct cancel_options *options, struct error *err)
{
    for (int i = 1; i < argc; i++) {
        enum status status = options_take(&options->common, argc, argv, &i, err);
        if (status == STATUS_OK)
            continue;
        if (status != STATUS_NOT_FOUND)
            return status;
        if (strcmp(argv[i], "--job") == 0 && i + 1 < argc)
            options->custom_id = argv[++i];
        else if (argv[i][0] != '-' && !options->batch_id)
            options->batch_id = argv[i];
        else
            return error_set(err, STATUS_USAGE, "option \"%.80s\" is unknown or lacks its value", argv[i]);
    }
    return options->batch_id ? STATUS_OK : error_set(err, STATUS_USAGE, "which batch? give its name");
}

int cli_cancel(int argc, char **argv)
{
    static struct cancel_options options;
    const struct config *config = NULL;
    struct error err = {0};
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return EXIT_DONE;
    }
    if (parse_options(argc, argv, &options, &err) != STATUS_OK)
        return cli_usage("cancel", "%s", err.text);
    enum status status = options_config(&options.common, &config, &err);
    if (status == STATUS_OK)
        status = run(&options, config, &err);
    config_close(config);
    return status == STATUS_OK ? EXIT_DONE : cli_fail(&err);
}
