// SPDX-License-Identifier: Apache-2.0
// `millrace top`: all workers, a line each, from their /metrics. On a terminal the screen is redrawn every
// second; elsewhere, or with --once, it is printed once.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/monotime.h"
#include "worker/cli/cli.h"
#include "worker/cli/http_get.h"
#include "worker/cli/options.h"
#include "worker/cli/top_group.h"
#include "worker/cli/top_sample.h"

enum {
    ROUND_MS = 1000,
    FIND_EVERY_MS = 5000,
    ANSWER_MS = 500,
    METRICS_BYTES = 1 << 20,
    SCREEN_BYTES = 1 << 18
};

static const char help[] =
    "millrace top - all workers, live\n\n"
    "usage: millrace top [HOST:PORT …] [--once] [--json] [-c FILE] [--kafka.bootstrap_servers=…]\n\n"
    "Without addresses, the workers are those of the consumer group (kafka.group_id), where they were seen "
    "by "
    "the\n"
    "broker, at their http.port; where the broker cannot say, the one of this machine.\n\n"
    "  --once    print one table and end (also where the output is no terminal)\n"
    "  --json    the same as JSON, one object\n\n"
    "exit codes: 0, 69 no worker answers\n";

struct row {
    struct top_address at;
    struct top_sample now, before;
};

struct top {
    struct options common;
    bool once, json;
    int given; /* addresses of the command line */
    struct row rows[TOP_MOST_WORKERS];
    int count;
    int64_t next_find_ms;
};

static volatile sig_atomic_t ended;

static void take_signal(int number)
{
    (void)number;
    ended = 1;
}

/* ---- looking ---- */

static bool same(const struct top_address *a, const struct top_address *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* Keeps what is known of those that are still there. */
static void take_found(struct top *top, const struct top_address *found, int count)
{
    static struct row old[TOP_MOST_WORKERS];
    int old_count = top->count;
    memcpy(old, top->rows, sizeof old);
    top->count = count;
    for (int i = 0; i < count; i++) {
        top->rows[i] = (struct row){.at = found[i]};
        for (int k = 0; k < old_count; k++)
            if (same(&old[k].at, &found[i]))
                top->rows[i] = old[k];
    }
}

static void find_workers(struct top *top, const struct config *config)
{
    static struct top_address found[TOP_MOST_WORKERS];
    if (top->given > 0 || monotime_ms() < top->next_find_ms)
        return;
    int count = top_group_find(config, found);
    if (count < 0) {
        count = 1;
        snprintf(found[0].host, sizeof found[0].host, "%s", config->http.bind);
        found[0].port = (int)config->http.port;
    }
    take_found(top, found, count);
    top->next_find_ms = monotime_ms() + FIND_EVERY_MS;
}

static int look(struct top *top)
{
    int answered = 0;
    for (int i = 0; i < top->count; i++) {
        struct row *row = &top->rows[i];
        struct bytes text;
        bytes_init(&text, METRICS_BYTES);
        row->before = row->now;
        row->now = (struct top_sample){0};
        if (row->at.port > 0 && http_get(row->at.host, row->at.port, "/metrics", ANSWER_MS, &text) == 200) {
            row->now.taken_ms = monotime_ms();
            top_sample_read(&row->now, text.data, text.count_bytes);
            answered++;
        }
        bytes_release(&text);
    }
    return answered;
}

/* ---- showing ---- */

static double rate(const struct row *row, double now, double before)
{
    bool both = row->now.taken_ms > 0 && row->before.taken_ms > 0;
    return both ? top_rate(now, before, row->now.taken_ms - row->before.taken_ms) : 0;
}

static double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

static void print_row(struct bytes *out, const char *name, const struct top_sample *s, double jobs,
                      double tokens, double kv)
{
    bytes_appendf(out, "%-24s %5.0f %5.0f %6.0f %8.1f %8.0f %5.0f %6.0f %5.0f %8.0f %8.0f %6.0f\n", name,
                  s->running, s->waiting, s->inflight, jobs, tokens, kv, percent(s->hits, s->queries),
                  percent(s->tier_hits, s->tier_lookups), s->lag, s->oldest_s, s->dead_letters);
}

static void print_table(const struct top *top, struct bytes *out)
{
    struct top_sample sum = {0};
    double jobs = 0, tokens = 0, kv = 0;
    int answered = 0;
    bytes_append_text(out,
                      "WORKER                     RUN  WAIT FLIGHT   JOBS/S    TOK/S   KV% CACHE% TIER%      "
                      "LAG OLDEST_S   DEAD\n");
    for (int i = 0; i < top->count; i++) {
        const struct row *row = &top->rows[i];
        char name[96];
        snprintf(name, sizeof name, "%s:%d", row->at.host, row->at.port);
        if (!row->now.taken_ms) {
            bytes_appendf(out, "%-24s %s\n", name,
                          row->at.port ? "does not answer" : "has no fixed http.port");
            continue;
        }
        double own_jobs = rate(row, row->now.results, row->before.results);
        double own_tokens = rate(row, row->now.tokens, row->before.tokens);
        print_row(out, name, &row->now, own_jobs, own_tokens, 100 * row->now.kv_share);
        top_sample_add(&sum, &row->now);
        jobs += own_jobs;
        tokens += own_tokens;
        kv += 100 * row->now.kv_share;
        answered++;
    }
    if (answered > 1)
        print_row(out, "all", &sum, jobs, tokens, kv / answered);
}

static void print_json(const struct top *top, struct bytes *out)
{
    bytes_append_text(out, "{\"workers\":[");
    for (int i = 0; i < top->count; i++) {
        const struct row *row = &top->rows[i];
        const struct top_sample *s = &row->now;
        bytes_appendf(out, "%s{\"address\":\"%s:%d\",\"answers\":%s", i ? "," : "", row->at.host,
                      row->at.port, s->taken_ms ? "true" : "false");
#define TOP_MEMBER(name, metric)               \
    bytes_append_text(out, ",\"" #name "\":"); \
    json_append_number(out, s->name);
        TOP_VALUES(TOP_MEMBER)
#undef TOP_MEMBER
        bytes_append_text(out, ",\"jobs_per_second\":");
        json_append_number(out, rate(row, s->results, row->before.results));
        bytes_append_text(out, ",\"tokens_per_second\":");
        json_append_number(out, rate(row, s->tokens, row->before.tokens));
        bytes_append_char(out, '}');
    }
    bytes_append_text(out, "]}\n");
}

/* Lines are cut at the terminal's width, so that a narrow one does not wrap. */
static void draw(const struct top *top, const struct config *config)
{
    struct winsize size = {.ws_col = 120, .ws_row = 40};
    struct bytes text;
    char now[32];
    time_t seconds = (time_t)(walltime_ms() / 1000);
    struct tm local;
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    strftime(now, sizeof now, "%H:%M:%S", localtime_r(&seconds, &local));
    bytes_init(&text, SCREEN_BYTES);
    bytes_appendf(&text, "millrace top  %s  group %s on %s  (Ctrl-C ends)\n\n", now, config->kafka.group_id,
                  config->kafka.bootstrap_servers);
    print_table(top, &text);
    printf("\033[H");
    int rows = 0;
    for (const char *at = text.data; at && *at && rows < size.ws_row - 1; rows++) {
        size_t length = strcspn(at, "\n"), shown = length < size.ws_col ? length : size.ws_col;
        printf("%.*s\033[K\n", (int)shown, at);
        at += length + (at[length] == '\n');
    }
    printf("\033[J");
    fflush(stdout);
    bytes_release(&text);
}

static void pause_ms(int ms)
{
    struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&wait, NULL);
}

static int show_once(struct top *top, const struct config *config)
{
    struct bytes text;
    find_workers(top, config);
    look(top);
    pause_ms(ROUND_MS); /* rates need two looks */
    int answered = look(top);
    bytes_init(&text, SCREEN_BYTES);
    if (top->json)
        print_json(top, &text);
    else
        print_table(top, &text);
    fwrite(text.data, 1, text.count_bytes, stdout);
    bytes_release(&text);
    return answered > 0 ? EXIT_DONE : EXIT_PEER;
}

static int show_live(struct top *top, const struct config *config)
{
    struct sigaction action = {.sa_handler = take_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    printf("\033[?1049h\033[?25l\033[2J"); /* another screen, without a cursor */
    while (!ended) {
        find_workers(top, config);
        look(top);
        draw(top, config);
        pause_ms(ROUND_MS);
    }
    printf("\033[?25h\033[?1049l");
    fflush(stdout);
    return EXIT_DONE;
}

/* ---- the command line ---- */

static bool take_address(struct top *top, const char *word)
{
    const char *colon = strrchr(word, ':');
    struct top_address *at = &top->rows[top->given].at;
    char *end;
    if (!colon || colon == word || top->given == TOP_MOST_WORKERS ||
        (size_t)(colon - word) >= sizeof at->host)
        return false;
    long port = strtol(colon + 1, &end, 10);
    snprintf(at->host, sizeof at->host, "%.*s", (int)(colon - word), word);
    if (strcmp(at->host, "localhost") == 0)
        snprintf(at->host, sizeof at->host, "127.0.0.1");
    at->port = (int)port;
    top->count = ++top->given;
    return !*end && port > 0 && port < 65536;
}

int cli_top(int argc, char **argv)
{
    static struct top top;
    const struct config *config = NULL;
    struct error err = {0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return EXIT_DONE;
        }
        if (strcmp(argv[i], "--once") == 0)
            top.once = true;
        else if (strcmp(argv[i], "--json") == 0)
            top.json = true;
        else if (argv[i][0] != '-' && take_address(&top, argv[i]))
            continue;
        else if (options_take(&top.common, argc, argv, &i, &err) != STATUS_OK)
            return cli_usage("top", "\"%s\" is no HOST:PORT and no option, or lacks its value",
                             argv[i < argc ? i : argc - 1]);
    }
    if (options_config(&top.common, &config, &err) != STATUS_OK)
        return cli_fail(&err);
    bool live = !top.once && !top.json && isatty(STDOUT_FILENO) == 1;
    int code = live ? show_live(&top, config) : show_once(&top, config);
    if (code == EXIT_PEER)
        fprintf(stderr,
                "millrace: no worker answers; name their addresses, or start them with http.bind reachable "
                "from here\n");
    config_close(config);
    return code;
}
