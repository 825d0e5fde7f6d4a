// SPDX-License-Identifier: Apache-2.0
// `millrace proxy`: one stream address for readers, however many workers there are. --new-keys makes the
// CURVE keys that encrypt it.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "worker/cli/cli.h"
#include "worker/cli/options.h"
#include "worker/health.h"
#include "worker/stream_proxy.h"
#include "worker/stream_socket.h"

enum { TURN_MS = 200, PATH_BYTES = 4096 };

static const char help[] =
    "millrace proxy - one stream address for all workers\n\n"
    "usage: millrace proxy [-c FILE] [--stream.bind=tcp://…] [--stream.replay_bind=tcp://…]\n"
    "                      [--proxy.workers_bind=tcp://…] [--proxy.workers_replay_bind=tcp://…]\n"
    "       millrace proxy --new-keys DIR\n\n"
    "Readers (`millrace watch`) connect to stream.bind and stream.replay_bind; workers publish to it with\n"
    "stream.proxy and stream.proxy_replay. --new-keys writes stream-secret-key (for workers and proxy) and\n"
    "stream-server-key (for readers, and for workers that publish to a proxy) into DIR, where neither is "
    "yet.\n";

static volatile sig_atomic_t stopping;

static void take_signal(int number)
{
    (void)number;
    stopping = 1;
}

/* ---- keys ---- */

static enum status write_key(const char *directory, const char *name, const char *key, mode_t mode,
                             struct error *err)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    bool written =
        fd >= 0 && write(fd, key, STREAM_KEY_CHARACTERS) == STREAM_KEY_CHARACTERS && fsync(fd) == 0;
    enum status status =
        written ? STATUS_OK
                : error_set(err, STATUS_CONFIG, "%s cannot be written: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    if (written)
        printf("%s\n", path);
    return status;
}

static enum status make_keys(const char *directory, struct error *err)
{
    char server_key[STREAM_KEY_CHARACTERS + 1], secret_key[STREAM_KEY_CHARACTERS + 1];
    enum status status = stream_new_keys(server_key, secret_key, err);
    if (status == STATUS_OK)
        status = write_key(directory, "stream-secret-key", secret_key, 0600, err);
    if (status == STATUS_OK)
        status = write_key(directory, "stream-server-key", server_key, 0600, err);
    return status;
}

/* ---- the proxy ---- */

static void render_metrics(void *context, struct bytes *out)
{
    const struct stream_proxy_stats *stats = stream_proxy_stats(context);
    bytes_appendf(out,
                  "# HELP millrace_proxy_chunks_total Stream chunks carried to readers.\n"
                  "# TYPE millrace_proxy_chunks_total counter\nmillrace_proxy_chunks_total %llu\n"
                  "# HELP millrace_proxy_replays_total Replay requests of readers.\n"
                  "# TYPE millrace_proxy_replays_total counter\nmillrace_proxy_replays_total %llu\n"
                  "# HELP millrace_proxy_workers Workers heard of lately.\n"
                  "# TYPE millrace_proxy_workers gauge\nmillrace_proxy_workers %llu\n",
                  (unsigned long long)stats->chunks, (unsigned long long)stats->replays,
                  (unsigned long long)stats->workers);
}

static bool is_up(void *context)
{
    (void)context;
    return !stopping;
}

static enum status run(const struct config *config, struct error *err)
{
    struct stream_proxy *proxy;
    struct health *health = NULL;
    struct sigaction action = {.sa_handler = take_signal};
    enum status status = stream_proxy_open(&proxy, config, err);
    if (status != STATUS_OK)
        return status;
    const struct health_source source = {
        .metrics = render_metrics, .live = is_up, .ready = is_up, .context = proxy};
    if (config->http.enabled)
        status = health_open(&health, config->http.bind, (int)config->http.port, &source, err);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    if (status == STATUS_OK)
        log_info("proxy", "readers at %s, replay at %s; workers at %s and %s", config->stream.bind,
                 config->stream.replay_bind, config->proxy.workers_bind, config->proxy.workers_replay_bind);
    while (status == STATUS_OK && !stopping && (stream_proxy_turn(proxy, TURN_MS) || !stopping))
        ;
    health_close(health);
    stream_proxy_close(proxy);
    return status;
}

int cli_proxy(int argc, char **argv)
{
    static struct options options;
    const struct config *config;
    const char *keys = NULL;
    struct error err = {0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return EXIT_DONE;
        }
        if (strcmp(argv[i], "--new-keys") == 0 && i + 1 < argc)
            keys = argv[++i];
        else if (options_take(&options, argc, argv, &i, &err) != STATUS_OK)
            return cli_usage("proxy", "option \"%.80s\" is unknown or lacks its value",
                             argv[i < argc ? i : argc - 1]);
    }
    if (keys)
        return make_keys(keys, &err) == STATUS_OK ? EXIT_DONE : cli_fail(&err);
    if (options_config(&options, &config, &err) != STATUS_OK)
        return cli_fail(&err);
    enum status status = run(config, &err);
    config_close(config);
    return status == STATUS_OK ? EXIT_DONE : cli_fail(&err);
}
