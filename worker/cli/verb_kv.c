// SPDX-License-Identifier: Apache-2.0
// `millrace kv stats|verify|clear`: look into the KV tier. Reads the address from the configuration or a
// flag.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "kvtier/redis_admin.h"
#include "worker/cli/cli.h"

enum { MAX_MODELS = 64 };

static const char help[] = "millrace kv - look into the KV tier\n\n"
                           "  millrace kv stats  [-c FILE] [--address redis://HOST:PORT]   memory, and "
                           "blocks per model fingerprint\n"
                           "  millrace kv verify [--sample N]                              read N blocks "
                           "(1000) and check every byte\n"
                           "  millrace kv clear  --fingerprint HEX16 | --all   --yes       remove blocks\n";

struct kv_options {
    const char *config_path, *address, *fingerprint;
    long sample;
    bool all, yes;
};

struct walk { /* what the visitors of one walk share */
    struct redis_admin *admin;
    struct error *err;
    char models[MAX_MODELS][17];
    uint64_t blocks[MAX_MODELS];
    size_t model_count;
    uint64_t removed;
    uint64_t left; /* verify: still to read */
    struct redis_admin_verify tally;
};

static enum status count_key(void *context, const char *key)
{
    struct walk *walk = context;
    const char *fingerprint = key + 5; /* after kvt1: */
    size_t i = 0;
    while (i < walk->model_count && strncmp(walk->models[i], fingerprint, 16) != 0)
        i++;
    if (i == MAX_MODELS)
        return STATUS_OK; /* only the first models are listed */
    if (i == walk->model_count)
        snprintf(walk->models[walk->model_count++], 17, "%.16s", fingerprint);
    walk->blocks[i]++;
    return STATUS_OK;
}

static enum status remove_key(void *context, const char *key)
{
    struct walk *walk = context;
    return redis_admin_unlink(walk->admin, key, &walk->removed, walk->err);
}

static enum status verify_key(void *context, const char *key)
{
    struct walk *walk = context;
    if (walk->left == 0)
        return STATUS_OK;
    walk->left--;
    return redis_admin_verify_key(walk->admin, key, &walk->tally, walk->err);
}

static enum status run_stats(struct walk *walk)
{
    struct redis_admin_memory memory = {0};
    enum status status = redis_admin_memory_read(walk->admin, &memory, walk->err);
    if (status == STATUS_OK)
        status = redis_admin_walk(walk->admin, NULL, count_key, walk, walk->err);
    if (status != STATUS_OK)
        return status;
    printf("memory   %s of %s bytes, policy %s, evicted keys %s\n", memory.used_bytes, memory.max_bytes,
           memory.policy, memory.evicted_keys);
    for (size_t i = 0; i < walk->model_count; i++)
        printf("model    %s   %llu blocks\n", walk->models[i], (unsigned long long)walk->blocks[i]);
    if (walk->model_count == 0)
        printf("model    none: no block is stored\n");
    return STATUS_OK;
}

static enum status run_verify(struct walk *walk, const struct kv_options *options, int *exit_code)
{
    walk->left = (uint64_t)options->sample;
    enum status status = redis_admin_walk(walk->admin, options->fingerprint, verify_key, walk, walk->err);
    if (status != STATUS_OK)
        return status;
    printf("verify   %llu blocks read, %llu good, %llu vanished\n", (unsigned long long)walk->tally.read,
           (unsigned long long)walk->tally.good, (unsigned long long)walk->tally.vanished);
    for (int i = 0; i < BLOCK_VERDICT_COUNT; i++)
        if (walk->tally.bad[i]) {
            printf("bad      %llu blocks: %s\n", (unsigned long long)walk->tally.bad[i],
                   block_verdict_name((enum block_verdict)i));
            *exit_code = EXIT_SOME_FAILED;
        }
    return STATUS_OK;
}

static enum status run_clear(struct walk *walk, const struct kv_options *options)
{
    if (!options->all == !options->fingerprint)
        return error_set(walk->err, STATUS_USAGE, "kv clear needs a scope: --fingerprint HEX16 or --all");
    if (!options->yes)
        return error_set(walk->err, STATUS_USAGE, "kv clear removes blocks; say --yes when you mean it");
    enum status status = redis_admin_walk(walk->admin, options->fingerprint, remove_key, walk, walk->err);
    printf("clear    %llu blocks removed\n", (unsigned long long)walk->removed);
    return status;
}

static bool parse_options(int argc, char **argv, struct kv_options *options)
{
    for (int i = 2; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--all") == 0)
            options->all = true;
        else if (strcmp(argv[i], "--yes") == 0)
            options->yes = true;
        else if (!value)
            return false;
        else if (strcmp(argv[i], "-c") == 0 && ++i)
            options->config_path = value;
        else if (strcmp(argv[i], "--address") == 0 && ++i)
            options->address = value;
        else if (strcmp(argv[i], "--fingerprint") == 0 && strlen(value) >= 16 && ++i)
            options->fingerprint = value;
        else if (strcmp(argv[i], "--sample") == 0 && (options->sample = strtol(value, NULL, 10)) > 0 && ++i)
            continue;
        else
            return false;
    }
    return true;
}

static enum status run_verb(const char *what, const struct kv_options *options, int *exit_code,
                            struct error *err)
{
    const struct config *config = NULL;
    struct walk walk = {.err = err};
    struct config_source source = {.path = options->config_path};
    enum status status = config_open(&config, &source, err);
    if (status == STATUS_OK)
        status = redis_admin_open(&walk.admin, options->address ? options->address : config->kvtier.address,
                                  config->kvtier.user, config->kvtier.password, err);
    if (status == STATUS_OK) {
        if (strcmp(what, "stats") == 0)
            status = run_stats(&walk);
        else if (strcmp(what, "verify") == 0)
            status = run_verify(&walk, options, exit_code);
        else
            status = run_clear(&walk, options);
    }
    redis_admin_close(walk.admin);
    config_close(config);
    return status;
}

int cli_kv(int argc, char **argv)
{
    struct kv_options options = {.sample = 1000};
    struct error err = {0};
    int exit_code = EXIT_DONE;
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "--help") == 0) {
        fputs(help, stdout);
        return EXIT_DONE;
    }
    if (strcmp(what, "stats") != 0 && strcmp(what, "verify") != 0 && strcmp(what, "clear") != 0)
        return cli_usage("kv", "say what: stats, verify or clear; `millrace kv --help`");
    if (!parse_options(argc, argv, &options))
        return cli_usage("kv", "an option is unknown or lacks its value; `millrace kv --help`");
    return run_verb(what, &options, &exit_code, &err) == STATUS_OK ? exit_code : cli_fail(&err);
}
