// SPDX-License-Identifier: Apache-2.0
// `millrace kv stats|lookup|verify|clear`: look into the KV tier, whose address is the configuration's or a
// flag's.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "kvtier/redis_admin.h"
#include "worker/cli/cli.h"
#include "worker/cli/kv_lookup.h"
#include "worker/cli/kv_report.h"
#include "worker/cli/options.h"

static const char help[] =
    "millrace kv - look into the KV tier\n\n"
    "  millrace kv stats                                memory of each server, blocks of each model\n"
    "  millrace kv lookup -m MODEL_DIR -i JOBS.jsonl    how much of each prompt is stored\n"
    "  millrace kv verify [--sample N]                  read N blocks (1000) and check every byte\n"
    "  millrace kv clear  --fingerprint HEX16 | --all   remove blocks; wants --yes\n\n"
    "  --address LIST   redis://HOST:PORT or unix:///PATH, several with commas (kvtier.address)\n"
    "  --cluster        they are entries of a Redis Cluster (kvtier.cluster)\n"
    "  --json           for a machine: an object, of lookup one per prompt (docs/formats/kv_report.md)\n"
    "  -c FILE, --SECTION.KEY=VALUE   configuration, as for the worker\n";

struct kv_options {
    struct options config;
    const char *address, *fingerprint, *input;
    long sample;
    bool all, yes, cluster, json;
};

struct walk { /* what the visitors of one walk share */
    struct redis_admin *admin;
    struct error *err;
    bool json;
    struct kv_report_models models;
    uint64_t removed;
    uint64_t left; /* verify: still to read */
    struct redis_admin_verify tally;
};

static enum status count_key(void *context, const char *key)
{
    struct kv_report_models *models = &((struct walk *)context)->models;
    const char *fingerprint = key + 5; /* after kvt1: */
    size_t i = 0;
    while (i < models->count && strncmp(models->fingerprints[i], fingerprint, 16) != 0)
        i++;
    if (i == KV_REPORT_MODELS)
        return STATUS_OK;
    if (i == models->count)
        snprintf(models->fingerprints[models->count++], KV_REPORT_FINGERPRINT_BYTES, "%.16s", fingerprint);
    models->blocks[i]++;
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
    enum status status = STATUS_OK;
    size_t count = redis_admin_count(walk->admin);
    struct kv_report_server *servers = calloc(count, sizeof *servers);
    if (!servers)
        return error_set(walk->err, STATUS_NO_MEMORY, "no memory for the servers");
    for (size_t i = 0; i < count; i++) {
        servers[i].address = redis_admin_name(walk->admin, i);
        servers[i].up = redis_admin_memory_read(walk->admin, i, &servers[i].memory, walk->err) == STATUS_OK;
        status = servers[i].up ? status : STATUS_UNAVAILABLE;
    }
    enum status walked = redis_admin_walk(walk->admin, NULL, count_key, walk, walk->err);
    kv_report_stats(servers, count, &walk->models, walk->json);
    free(servers);
    return status == STATUS_OK ? walked : status;
}

static enum status run_verify(struct walk *walk, const struct kv_options *options, int *exit_code)
{
    walk->left = (uint64_t)options->sample;
    enum status status = redis_admin_walk(walk->admin, options->fingerprint, verify_key, walk, walk->err);
    if (status != STATUS_OK)
        return status;
    kv_report_verify(&walk->tally, walk->json);
    if (walk->tally.good < walk->tally.read)
        *exit_code = EXIT_SOME_FAILED;
    return STATUS_OK;
}

static enum status run_clear(struct walk *walk, const struct kv_options *options)
{
    if (!options->all == !options->fingerprint)
        return error_set(walk->err, STATUS_USAGE, "kv clear needs a scope: --fingerprint HEX16 or --all");
    if (!options->yes)
        return error_set(walk->err, STATUS_USAGE, "kv clear removes blocks; say --yes when you mean it");
    enum status status = redis_admin_walk(walk->admin, options->fingerprint, remove_key, walk, walk->err);
    kv_report_clear(walk->removed, walk->json);
    return status;
}

/* What is this verb's own. True: taken. */
static bool take_option(struct kv_options *options, int argc, char **argv, int *at)
{
    const char *name = argv[*at], *value = *at + 1 < argc ? argv[*at + 1] : NULL;
    if (strcmp(name, "--all") == 0)
        return options->all = true;
    if (strcmp(name, "--yes") == 0)
        return options->yes = true;
    if (strcmp(name, "--cluster") == 0)
        return options->cluster = true;
    if (strcmp(name, "--json") == 0)
        return options->json = true;
    if (!value)
        return false;
    if (strcmp(name, "--address") == 0)
        options->address = value;
    else if (strcmp(name, "-i") == 0)
        options->input = value;
    else if (strcmp(name, "--fingerprint") == 0 && strlen(value) >= 16)
        options->fingerprint = value;
    else if (strcmp(name, "--sample") != 0 || (options->sample = strtol(value, NULL, 10)) <= 0)
        return false;
    ++*at;
    return true;
}

static enum status parse_options(int argc, char **argv, struct kv_options *options, struct error *err)
{
    for (int i = 2; i < argc; i++) {
        if (take_option(options, argc, argv, &i))
            continue;
        enum status status = options_take(&options->config, argc, argv, &i, err);
        if (status == STATUS_NOT_FOUND)
            return error_set(err, STATUS_USAGE, "kv: %s is unknown or lacks its value; `millrace kv --help`",
                             argv[i]);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status run_walk(const char *what, const struct kv_options *options,
                            const struct redis_store_options *redis, int *exit_code, struct error *err)
{
    struct walk walk = {.json = options->json, .err = err};
    enum status status = redis_admin_open(&walk.admin, redis, err);
    if (status != STATUS_OK)
        return status;
    if (strcmp(what, "stats") == 0)
        status = run_stats(&walk);
    else if (strcmp(what, "verify") == 0)
        status = run_verify(&walk, options, exit_code);
    else
        status = run_clear(&walk, options);
    redis_admin_close(walk.admin);
    return status;
}

static enum status run_verb(const char *what, const struct kv_options *options, int *exit_code,
                            struct error *err)
{
    const struct config *config = NULL;
    enum status status = options_config(&options->config, &config, err);
    if (status != STATUS_OK)
        return status;
    struct redis_store_options redis = {.address =
                                            options->address ? options->address : config->kvtier.address,
                                        .user = config->kvtier.user,
                                        .password = config->kvtier.password,
                                        .ttl_s = config->kvtier.ttl_s,
                                        .cluster = options->cluster || config->kvtier.cluster};
    if (strcmp(what, "lookup") != 0)
        status = run_walk(what, options, &redis, exit_code, err);
    else if (options->input)
        status = kv_lookup(config, &redis, options->input, options->json, err);
    else
        status = error_set(err, STATUS_USAGE, "kv lookup needs jobs: -i JOBS.jsonl, or - for stdin");
    config_close(config);
    return status;
}

int cli_kv(int argc, char **argv)
{
    static const char *const verbs[] = {"stats", "lookup", "verify", "clear"};
    static struct kv_options options = {.sample = 1000}; /* holds every flag's text */
    struct error err = {0};
    int exit_code = EXIT_DONE;
    const char *what = argc > 1 ? argv[1] : "";
    bool known = false;
    if (strcmp(what, "--help") == 0) {
        fputs(help, stdout);
        return EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        known = known || strcmp(what, verbs[i]) == 0;
    if (!known)
        return cli_usage("kv", "say what: stats, lookup, verify or clear; `millrace kv --help`");
    if (parse_options(argc, argv, &options, &err) != STATUS_OK ||
        run_verb(what, &options, &exit_code, &err) != STATUS_OK)
        return cli_fail(&err);
    return exit_code;
}
