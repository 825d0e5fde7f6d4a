// SPDX-License-Identifier: Apache-2.0
#include "tests/support/job_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/constrain/grammar_store.h"

#define MODEL MILLRACE_SOURCE_DIR "/examples/models/shop-qwen3"

static const struct config *config;
static struct hparams hparams;
static struct tokenizer *tokenizer;
static struct chat_template *chat_template;
static struct grammar_store *grammars;
static const char *const names[] = {"shop-qwen3", "shop"};
struct job_parse_context job_fixture;

int job_fixture_open(void **state)
{
    (void)state;
    struct error err = {0};
    static const char *const flags[] = {"kafka.reply_topics=replies,others", "limits.default_max_tokens=100"};
    struct config_source source = {.flags = flags, .flag_count = 2, .ignore_environment = true};
    if (config_open(&config, &source, &err) != STATUS_OK ||
        hparams_read(&hparams, MODEL, &err) != STATUS_OK ||
        tokenizer_open(&tokenizer, MODEL, &err) != STATUS_OK ||
        grammar_store_open(&grammars, tokenizer, hparams.vocab, &err) != STATUS_OK ||
        chat_template_open(&chat_template, MODEL, &err) == STATUS_INVALID) {
        print_error("%s\n", err.text);
        return -1;
    }
    job_fixture = (struct job_parse_context){.config = config,
                                             .hparams = &hparams,
                                             .tokenizer = tokenizer,
                                             .chat_template = chat_template,
                                             .grammars = grammars,
                                             .served_names = names,
                                             .served_count = 2,
                                             .max_context_tokens = hparams.max_context_tokens};
    return 0;
}

int job_fixture_close(void **state)
{
    (void)state;
    grammar_store_close(grammars);
    chat_template_close(chat_template);
    tokenizer_close(tokenizer);
    config_close(config);
    return 0;
}

struct job_record job_fixture_record(const char *value, size_t bytes)
{
    return (struct job_record){.value = value,
                               .value_bytes = bytes,
                               .cluster_id = "c",
                               .topic = "t",
                               .partition = 1,
                               .offset = 7,
                               .timestamp_ms = 1700000000123};
}

enum status job_fixture_parse(const char *line, struct job **job, struct job_fault *fault)
{
    struct job_record record = job_fixture_record(line, strlen(line));
    return job_parse(job, &job_fixture, &record, fault);
}

const char *job_fixture_line(const char *url, const char *body)
{
    static char line[65536];
    snprintf(line, sizeof line, "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"%s\",\"body\":{%s}}", url,
             body);
    return line;
}

struct job *accept(const char *url, const char *body)
{
    struct job *job;
    struct job_fault fault;
    if (job_fixture_parse(job_fixture_line(url, body), &job, &fault) != STATUS_OK)
        fail_msg("{%s} refused: %s", body, fault.message);
    return job;
}

void expect_fault(const char *line, int http_status, const char *param, const char *words)
{
    struct job *job;
    struct job_fault fault;
    enum status status = job_fixture_parse(line, &job, &fault);
    if (status == STATUS_OK)
        fail_msg("accepted: %s", line);
    assert_int_equal(status_class_of(status), STATUS_CLASS_REJECT);
    assert_null(job);
    if (fault.http_status != http_status || strcmp(fault.param, param) != 0 || !strstr(fault.message, words))
        fail_msg("%.200s\n  gave %d, param \"%s\": %s\n  wanted %d, \"%s\": …%s…", line, fault.http_status,
                 fault.param, fault.message, http_status, param, words);
    assert_string_equal(fault.type, "invalid_request_error");
}

void refuse(const char *url, const char *body, const char *param, const char *words)
{
    expect_fault(job_fixture_line(url, body), 400, param, words);
}

void refuse_completion(const char *members, const char *param, const char *words)
{
    char body[32768];
    snprintf(body, sizeof body, "\"prompt\":\"x\",%s", members);
    refuse(COMPLETION, body, param, words);
}
