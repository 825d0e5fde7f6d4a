// SPDX-License-Identifier: Apache-2.0
// `millrace batch`: OpenAI Batch lines from a file, through the engine, to a file; no broker.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "worker/cli/batch_run.h"
#include "worker/cli/cli.h"
#include "worker/intake/job_fields.h"

enum { MAX_FLAGS = 64, MAX_FLAG_BYTES = 1024 };

static const char help[] =
    "millrace batch - run a file of jobs, no broker needed\n\n"
    "  millrace batch -m MODEL_DIR -i jobs.jsonl -o results.jsonl\n"
    "  cat jobs.jsonl | millrace batch -m MODEL_DIR -i - -o - > results.jsonl\n\n"
    "Each line is an OpenAI Batch line for /v1/chat/completions or /v1/completions. Results are appended as "
    "jobs\n"
    "finish; run the same command again after a stop, and it answers what is missing.\n\n"
    "  -m DIR             Hugging Face model directory (model.path)\n"
    "  -i FILE, -o FILE   jobs and results; - is stdin, stdout (a results pipe cannot be resumed)\n"
    "  -c FILE            configuration, as for the worker\n"
    "  --threads N        kernel threads (engine.threads)\n"
    "  --kernels K        kernel set (model.kernels)\n"
    "  --quantize F       weights as int8 or int4 (model.weight_format); model.weight_cache keeps them\n"
    "  --max-batch N      sequences running at once (engine.max_sequences)\n"
    "  --chunk N          prompt tokens of one sequence per step (engine.max_chunk_tokens)\n"
    "  --SECTION.KEY=V    any other configuration key\n"
    "  --preempt-every N  for tests: throw the youngest sequence back every N steps\n"
    "  --json             summary as JSON on stdout (stderr with -o -)\n"
    "  --quiet            no progress, no summary\n"
    "  --print-fields     the body fields that a job may have, as Markdown\n\n"
    "Exit code 0: all completed; 1: some jobs failed (their lines say why); 75: interrupted, run it again.\n";

struct options {
    const char *config_path, *input, *output;
    char flags[MAX_FLAGS][MAX_FLAG_BYTES];
    size_t flag_count;
    int preempt_every;
    bool json, quiet, print_fields;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
    signal(number, SIG_DFL); /* the second one ends the process */
}

/* ---- options ---- */

static const struct {
    const char *flag, *key;
} config_flags[] = {{"-m", "model.path"},
                    {"--model", "model.path"},
                    {"--threads", "engine.threads"},
                    {"--kernels", "model.kernels"},
                    {"--quantize", "model.weight_format"},
                    {"--max-batch", "engine.max_sequences"},
                    {"--chunk", "engine.max_chunk_tokens"}};

static bool add_flag(struct options *options, const char *key, const char *value)
{
    if (options->flag_count == MAX_FLAGS)
        return false;
    char *flag = options->flags[options->flag_count++];
    return snprintf(flag, MAX_FLAG_BYTES, "%s%s%s", key, value ? "=" : "", value ? value : "") <
           MAX_FLAG_BYTES;
}

/* Every running sequence takes a row of a step, so a large batch needs as many rows. */
static bool add_batch_rows(struct options *options, const char *value)
{
    enum { DEFAULT_ROWS = 512 };
    return strtol(value, NULL, 10) <= DEFAULT_ROWS || add_flag(options, "engine.max_batch_tokens", value);
}

/* 1: taken alone, 2: with its value, 0: unknown. */
static int take_option(struct options *options, const char *name, const char *value)
{
    for (size_t i = 0; i < sizeof config_flags / sizeof config_flags[0] && value; i++)
        if (strcmp(name, config_flags[i].flag) == 0) {
            bool batch = strcmp(name, "--max-batch") == 0;
            return add_flag(options, config_flags[i].key, value) && (!batch || add_batch_rows(options, value))
                       ? 2
                       : 0;
        }
    if (strcmp(name, "--json") == 0)
        return options->json = true;
    if (strcmp(name, "--quiet") == 0)
        return options->quiet = true;
    if (strcmp(name, "--print-fields") == 0)
        return options->print_fields = true;
    if (strncmp(name, "--", 2) == 0 && strchr(name, '.') && strchr(name, '='))
        return add_flag(options, name + 2, NULL);
    if (!value)
        return 0;
    if (strcmp(name, "-i") == 0 || strcmp(name, "--input") == 0)
        options->input = value;
    else if (strcmp(name, "-o") == 0 || strcmp(name, "--output") == 0)
        options->output = value;
    else if (strcmp(name, "-c") == 0 || strcmp(name, "--config") == 0)
        options->config_path = value;
    else if (strcmp(name, "--preempt-every") == 0)
        options->preempt_every = (int)strtol(value, NULL, 10);
    else
        return 0;
    return 2;
}

static int parse_options(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc;) {
        int taken = take_option(options, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
        if (taken == 0)
            return cli_usage("batch", "option %s is unknown or lacks its value; `millrace batch --help`",
                             argv[i]);
        i += taken;
    }
    if (options->print_fields)
        return EXIT_DONE;
    if (!options->input || !options->output)
        return cli_usage("batch", "name the jobs with -i FILE and the results with -o FILE");
    return EXIT_DONE;
}

static int print_fields(void)
{
    enum { MAX_TEXT_BYTES = 1 << 20 };
    struct bytes text;
    bytes_init(&text, MAX_TEXT_BYTES);
    job_fields_print(&text);
    fputs(text.data, stdout);
    bytes_release(&text);
    return EXIT_DONE;
}

/* ---- the run ---- */

static enum status open_config(const struct options *options, const struct config **out, struct error *err)
{
    const char *flags[MAX_FLAGS];
    for (size_t i = 0; i < options->flag_count; i++)
        flags[i] = options->flags[i];
    struct config_source source = {
        .path = options->config_path, .flags = flags, .flag_count = options->flag_count};
    return config_open(out, &source, err);
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* a closed results pipe is an error with a sentence */
}

static int report_end(const struct options *options, const struct batch_progress *progress,
                      const struct batch_counts *counts)
{
    if (!options->quiet || options->json)
        batch_progress_summary(progress, counts,
                               options->json && strcmp(options->output, "-") != 0 ? stdout : stderr,
                               options->json);
    if (interrupted) {
        fprintf(stderr, "millrace batch: interrupted; run the same command again to go on\n");
        return EXIT_RESTART;
    }
    return counts->failed > 0 ? EXIT_SOME_FAILED : EXIT_DONE;
}

static enum status run_files(const struct options *options, struct setup *setup, struct line_reader *input,
                             int *exit_code, struct error *err)
{
    struct id_map answered;
    struct batch_results results;
    struct batch_progress progress;
    struct stat info;
    id_map_init(&answered);
    enum status status = batch_results_open(&results, options->output, &answered, err);
    if (status != STATUS_OK) {
        id_map_release(&answered);
        return status;
    }
    batch_progress_init(&progress, options->quiet);
    struct batch_run run = {.setup = setup,
                            .input = input,
                            .results = &results,
                            .answered = &answered,
                            .progress = &progress,
                            .interrupted = &interrupted};
    if (results.regular && fstat(input->fd, &info) == 0 && info.st_dev == results.device &&
        info.st_ino == results.inode)
        status = error_set(err, STATUS_CONFIG, "-i and -o are the same file %s", options->output);
    else
        status = batch_run(&run, err);
    struct error close_error = {0};
    enum status closed = batch_results_close(&results, &close_error);
    if (status == STATUS_OK && closed != STATUS_OK) {
        status = closed;
        *err = close_error;
    }
    id_map_release(&answered);
    if (status == STATUS_OK)
        *exit_code = report_end(options, &progress, &run.counts);
    return status;
}

static void print_memory(const struct setup *setup)
{
    struct bytes text;
    bytes_init(&text, 1024);
    setup_describe_memory(setup, &text);
    fprintf(stderr, "%s\n", text.data ? text.data : "");
    bytes_release(&text);
}

static enum status run_batch(const struct options *options, int *exit_code, struct error *err)
{
    const struct config *config = NULL;
    struct setup *setup = NULL;
    struct line_reader input;
    enum status status = open_config(options, &config, err);
    if (status != STATUS_OK)
        return status;
    status = line_reader_open(&input, options->input, (size_t)config->limits.max_job_bytes, err);
    if (status == STATUS_OK) {
        struct setup_options wanted = {.config = config,
                                       .with_engine = true,
                                       .show_progress = !options->quiet,
                                       .force_preempt_every = options->preempt_every};
        status = setup_open(&setup, &wanted, err);
        if (status == STATUS_OK && !options->quiet)
            print_memory(setup);
        if (status == STATUS_OK)
            status = run_files(options, setup, &input, exit_code, err);
        setup_close(setup);
        line_reader_close(&input);
    }
    config_close(config);
    return status;
}

int cli_batch(int argc, char **argv)
{
    static struct options options;
    struct error err = {0};
    int exit_code = EXIT_DONE;
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(help, stdout);
        return EXIT_DONE;
    }
    int usage = parse_options(argc, argv, &options);
    if (usage != EXIT_DONE)
        return usage;
    if (options.print_fields)
        return print_fields();
    log_set_plain(1);
    log_set_level(LOG_WARN);
    catch_signals();
    return run_batch(&options, &exit_code, &err) == STATUS_OK ? exit_code : cli_fail(&err);
}
