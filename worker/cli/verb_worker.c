// SPDX-License-Identifier: Apache-2.0
// `millrace worker`: the product. SIGTERM or SIGINT drains within worker.drain_grace_ms; a second signal is
// immediate.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/monotime.h"
#include "worker/cli/cli.h"
#include "worker/cli/options.h"
#include "worker/worker.h"

enum {
    TURN_MS = 50,
    CHECKPOINT_MS = 5000, /* for the checkpoints of what runs when the grace is over */
    CLOSE_MS = 30000
};

static const char help[] =
    "millrace worker - take jobs from Kafka, generate, publish results\n\n"
    "usage: millrace worker [-c FILE] [-m MODEL_DIR] [--section.key=value]... [--print-config]\n\n"
    "  -c FILE               configuration (JSON with comments; see config/worker.jsonc)\n"
    "  -m MODEL_DIR          Hugging Face model directory (model.path)\n"
    "  --quantize F          weights as int8 or int4 (model.weight_format); model.weight_cache keeps them\n"
    "  --print-config        print every effective value and its origin, and stop\n\n"
    "examples:\n"
    "  millrace worker -c config/worker.jsonc\n"
    "  millrace worker -m examples/models/shop-qwen3 --kafka.bootstrap_servers=127.0.0.1:19092\n\n"
    "exit codes: 0 drained, 69 peer unavailable or fenced, 70 internal fault, 75 restart me, 78 "
    "configuration\n";

static int print_config(const struct config *config)
{
    struct bytes text;
    bytes_init(&text, 1 << 20);
    enum status status = config_print(config, &text);
    if (status == STATUS_OK)
        fputs(text.data ? text.data : "", stdout);
    bytes_release(&text);
    return status == STATUS_OK ? EXIT_DONE : EXIT_RESTART;
}

static enum log_level level_of(const char *name)
{
    return strcmp(name, "error") == 0   ? LOG_ERROR
           : strcmp(name, "warn") == 0  ? LOG_WARN
           : strcmp(name, "debug") == 0 ? LOG_DEBUG
                                        : LOG_INFO;
}

/* librdkafka 2.0.2 can hang while it leaves a group: the last word is ours. */
static void arm_watchdog(void)
{
    alarm(CLOSE_MS / 1000);
}

/* A step that does not end: no other thread can help, another process can. */
static void check_engine(const struct worker *worker, int64_t stuck_ms)
{
    int64_t step_ms = worker_step_ms(worker);
    if (step_ms < stuck_ms)
        return;
    log_error(
        "worker",
        "the engine thread is stuck: its step has taken %lld ms; the worker ends, its jobs run elsewhere",
        (long long)step_ms);
    _exit(EXIT_RESTART);
}

static void wait_for_end(struct worker *worker, const sigset_t *signals, const struct config *config)
{
    enum { RUNNING, DRAINING, GRACE_OVER, IN_A_HURRY } phase = RUNNING;
    int64_t end_ms = INT64_MAX;
    struct timespec turn = {.tv_nsec = TURN_MS * 1000000L};
    while (worker_running(worker)) {
        bool signalled = sigtimedwait(signals, NULL, &turn) > 0;
        check_engine(worker, config->worker.stuck_ms);
        if (!signalled && monotime_ms() < end_ms)
            continue;
        if (phase == RUNNING) {
            log_info("worker", "draining: no new jobs, %lld ms for the running ones",
                     (long long)config->worker.drain_grace_ms);
            worker_drain(worker);
            end_ms = monotime_ms() + config->worker.drain_grace_ms;
            phase = DRAINING;
        } else if (phase == DRAINING && !signalled) {
            log_info("worker", "the grace is over: giving running jobs back");
            worker_end_grace(worker);
            end_ms = monotime_ms() + CHECKPOINT_MS;
            phase = GRACE_OVER;
        } else {
            log_info("worker", "giving running jobs back as they are");
            worker_hurry(worker);
            arm_watchdog();
            end_ms = INT64_MAX;
            phase = IN_A_HURRY;
        }
    }
}

static int run(const struct config *config)
{
    struct worker *worker;
    struct error err = {0};
    sigset_t signals;
    log_set_level(level_of(config->worker.log_level));
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before any thread starts: all inherit it */
    signal(SIGPIPE, SIG_IGN);
    if (worker_open(&worker, config, &err) != STATUS_OK)
        return cli_fail(&err);
    wait_for_end(worker, &signals, config);
    arm_watchdog();
    enum status status = worker_close(worker, &err);
    log_info("worker", "%s", status == STATUS_OK ? "drained" : err.text);
    return status == STATUS_OK ? EXIT_DONE : cli_fail(&err);
}

int cli_worker(int argc, char **argv)
{
    static struct options options;
    const struct config *config;
    struct error err = {0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return EXIT_DONE;
        }
        enum status status = options_take(&options, argc, argv, &i, &err);
        if (status == STATUS_NOT_FOUND)
            return cli_usage("worker", "there is no option \"%s\"; `millrace worker --help`", argv[i]);
        if (status != STATUS_OK)
            return cli_usage("worker", "%s", err.text);
    }
    if (options_config(&options, &config, &err) != STATUS_OK)
        return cli_fail(&err);
    int exit_code = options.print_config ? print_config(config) : run(config);
    config_close(config);
    return exit_code;
}
