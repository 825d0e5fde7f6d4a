// SPDX-License-Identifier: Apache-2.0
// The verbs of the command line: one file per verb, one function per file, listed in worker/main.c.
#ifndef WORKER_CLI_CLI_H
#define WORKER_CLI_CLI_H

#include "base/error.h"

enum exit_code {
    EXIT_DONE = 0,
    EXIT_SOME_FAILED = 1,
    EXIT_USAGE = 64,
    EXIT_PEER = 69,
    EXIT_BUG = 70,
    EXIT_RESTART = 75,
    EXIT_CONFIG = 78
};

struct cli_verb {
    const char *name;
    const char *summary;               /* one line for `millrace --help` */
    int (*run)(int argc, char **argv); /* argv[0] is the verb; returns an exit code */
};

/* One verb per line. */
// clang-format off
#define CLI_VERBS(X)                                                                                           \
    X(worker, "take jobs from Kafka, generate, publish results: the product")                                  \
    X(batch, "run a file of jobs: OpenAI Batch lines in, result lines out, no broker")                         \
    X(submit, "a file of jobs into Kafka, each once; --wait follows the results")                              \
    X(results, "results from Kafka to JSONL, each once; names what is missing")                                \
    X(status, "how far a batch is, and what it cost")                                                         \
    X(top, "all workers, live")                                                                                \
    X(cancel, "stop a batch, or one job of it")                                                                \
    X(watch, "tokens as they are generated, from ZeroMQ")                                                      \
    X(topics, "check the topics of the configuration, or create the missing ones")                             \
    X(proxy, "one stream address for readers, however many workers") \
    X(health, "is the worker on this machine ready? for container health checks")                              \
    X(broker, "development broker inside the binary; keeps nothing")                                           \
    X(bench, "measure engine, tier and text stages against this machine's limits")                             \
    X(inspect, "look at a model directory: sizes, memory plan, defaults, tokens, messages")                    \
    X(kv, "look into the KV tier: stats, lookup, verify, clear")

// clang-format on
#define CLI_DECLARE(name, summary) int cli_##name(int argc, char **argv);
CLI_VERBS(CLI_DECLARE)
#undef CLI_DECLARE

/* "millrace: <sentence>" to stderr; returns the exit code that the status calls for. */
int cli_fail(const struct error *err);
int cli_usage(const char *verb, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
