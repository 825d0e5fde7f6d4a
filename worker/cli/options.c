// SPDX-License-Identifier: Apache-2.0
#include "worker/cli/options.h"

#include <stdio.h>
#include <string.h>

enum status options_set(struct options *options, const char *key, const char *value, struct error *err)
{
    if (options->flag_count == OPTIONS_MAX_FLAGS)
        return error_set(err, STATUS_USAGE, "more than %d configuration flags", OPTIONS_MAX_FLAGS);
    char *flag = options->storage[options->flag_count];
    int bytes = snprintf(flag, OPTIONS_FLAG_BYTES, "%s=%s", key, value);
    if (bytes < 0 || bytes >= OPTIONS_FLAG_BYTES)
        return error_set(err, STATUS_USAGE, "the value of --%.100s is too long", key);
    options->flags[options->flag_count++] = flag;
    return STATUS_OK;
}

static enum status value_of(int argc, char **argv, int *at, const char **value, struct error *err)
{
    *value = "";
    if (*at + 1 >= argc)
        return error_set(err, STATUS_USAGE, "%.100s needs a value", argv[*at]);
    *value = argv[++*at];
    return STATUS_OK;
}

/* --section.key=value or --section.key value */
static enum status take_flag(struct options *options, int argc, char **argv, int *at, struct error *err)
{
    char key[OPTIONS_FLAG_BYTES];
    const char *word = argv[*at] + 2;
    const char *equals = strchr(word, '=');
    size_t bytes = equals ? (size_t)(equals - word) : strlen(word);
    const char *value = equals ? equals + 1 : NULL;
    if (bytes >= sizeof key)
        return error_set(err, STATUS_USAGE, "an option is too long");
    memcpy(key, word, bytes);
    key[bytes] = '\0';
    enum status status = value ? STATUS_OK : value_of(argc, argv, at, &value, err);
    return status == STATUS_OK ? options_set(options, key, value, err) : status;
}

enum status options_take(struct options *options, int argc, char **argv, int *at, struct error *err)
{
    const char *word = argv[*at], *value;
    enum status status;
    if (strcmp(word, "--print-config") == 0) {
        options->print_config = true;
        return STATUS_OK;
    }
    if (strcmp(word, "-c") == 0 || strcmp(word, "--config") == 0)
        return value_of(argc, argv, at, &options->config_path, err);
    if (strcmp(word, "-m") == 0 || strcmp(word, "--model") == 0) {
        status = value_of(argc, argv, at, &value, err);
        return status == STATUS_OK ? options_set(options, "model.path", value, err) : status;
    }
    if (strcmp(word, "--quantize") == 0) {
        status = value_of(argc, argv, at, &value, err);
        return status == STATUS_OK ? options_set(options, "model.weight_format", value, err) : status;
    }
    if (strncmp(word, "--", 2) == 0 && strchr(word, '.') && strcspn(word, ".") < strcspn(word, "="))
        return take_flag(options, argc, argv, at, err);
    return STATUS_NOT_FOUND;
}

enum status options_config(const struct options *options, const struct config **out, struct error *err)
{
    struct config_source source = {
        .path = options->config_path, .flags = options->flags, .flag_count = options->flag_count};
    return config_open(out, &source, err);
}
