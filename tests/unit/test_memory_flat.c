// SPDX-License-Identifier: Apache-2.0
// Memory of a worker's path from the job's line to the result's, without Kafka: mixed requests on the bundled
// model, and what the process has of its own does not grow. `test_memory_flat --requests 100000` is the long
// run (minutes).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_limits.h"
#include "worker/cli/setup.h"
#include "worker/infer/engine_loop.h"

enum { IN_FLIGHT = 64, DEFAULT_REQUESTS = 1500, SAMPLES = 30, LONGEST_PROMPT = 30 };

static int requests = DEFAULT_REQUESTS;

struct run {
    struct setup *setup;
    struct channel *in, *out;
    struct generation *open[IN_FLIGHT];
    int open_count, ended, failed;
    uint64_t random;
};

static uint32_t roll(struct run *run, uint32_t sides)
{
    run->random = run->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(run->random >> 33) % sides;
}

/* What a request asks for besides its prompt. */
static const char *const wishes[] = {
    "\"temperature\":0",
    "\"temperature\":1,\"seed\":7,\"top_p\":0.9",
    "\"logprobs\":5",
    "\"n\":3,\"temperature\":0.8",
    "\"stop\":[\"tea\",\"a\"]",
    "\"echo\":true,\"logprobs\":1",
    "\"structured_outputs\":{\"choice\":[\"yes\",\"no\",\"maybe\"]}",
    "\"structured_outputs\":{\"regex\":\"[a-f]{2,9}\"}",
    "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"x\",\"schema\":{\"type\":"
    "\"object\","
    "\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"],\"additionalProperties\":false}}}",
    "\"use_beam_search\":true,\"n\":2,\"temperature\":0",
};

static struct job *make_job(struct run *run, int number)
{
    char prompt[8 * LONGEST_PROMPT] = "", line[2048];
    const uint32_t shared = roll(run, 4), tokens = 1 + roll(run, LONGEST_PROMPT);
    for (uint32_t i = 0, at = 0; i < tokens; i++) /* half of the prompts begin alike */
        at += (uint32_t)snprintf(prompt + at, sizeof prompt - at, i ? ",%u" : "%u",
                                 shared < 2 && i < 16 ? 100 + i : 10 + roll(run, 4000));
    const char *wish = wishes[roll(run, sizeof wishes / sizeof wishes[0])];
    snprintf(
        line, sizeof line,
        "{\"custom_id\":\"job-%d\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"prompt\":[%s],"
        "\"max_tokens\":%u,%s}}",
        number, prompt, 1 + roll(run, 4), wish);
    struct job_record record = {
        .value = line, .value_bytes = strlen(line), .cluster_id = "", .topic = "t", .timestamp_ms = 1};
    struct job *job;
    struct job_fault fault;
    if (job_parse(&job, &run->setup->parse, &record, &fault) != STATUS_OK)
        fail_msg("%s: %s", line, fault.message);
    return job;
}

static void send(struct run *run, enum engine_command_type type, struct job *job, int slot)
{
    struct engine_command *command = calloc(1, sizeof *command);
    assert_non_null(command);
    *command = (struct engine_command){
        .type = type, .job = job, .job_handle = (uint64_t)slot, .reason = STATUS_CANCELLED};
    assert_true(channel_send(run->in, command, -1));
}

static void start_job(struct run *run, int number)
{
    struct error err;
    int slot = 0;
    while (run->open[slot])
        slot++;
    struct job *job = make_job(run, number);
    assert_int_equal(generation_open(&run->open[slot], &run->setup->generation, job, &err), STATUS_OK);
    run->open_count++;
    send(run, ENGINE_COMMAND_JOB, job, slot);
    if (roll(run, 50) == 0)
        send(run, ENGINE_COMMAND_CANCEL, NULL, slot);
}

static void finish_job(struct run *run, uint64_t slot)
{
    struct result result;
    struct error err;
    assert_int_equal(generation_result(run->open[slot], &result, &err), STATUS_OK);
    run->failed += strcmp(result.status, "failed") == 0;
    result_release(&result);
    generation_close(run->open[slot]);
    run->open[slot] = NULL;
    run->open_count--;
    run->ended++;
}

static void take_report(struct run *run)
{
    struct error err;
    struct engine_report *report = channel_receive(run->out, -1);
    for (size_t i = 0; i < report->count; i++) {
        const struct engine_report_item *item = &report->items[i];
        struct generation *generation = run->open[item->job_handle];
        assert_int_equal(generation_apply(generation, item, NULL, &err), STATUS_OK);
        if (generation_done(generation))
            finish_job(run, item->job_handle);
    }
    engine_report_free(report);
}

/* Answers `count` requests; returns the most that the process had of its own at the end of one. */
static uint64_t answer(struct run *run, int count)
{
    uint64_t most = 0;
    for (int end = run->ended + count, sent = run->ended + run->open_count; run->ended < end;) {
        while (run->open_count < IN_FLIGHT && sent < end)
            start_job(run, sent++);
        const int before = run->ended;
        take_report(run);
        const uint64_t now = run->ended > before ? config_private_bytes() : 0;
        most = now > most ? now : most;
    }
    return most;
}

static void memory_stays_where_it_is(void **state)
{
    (void)state;
    static struct run run = {.random = 1};
    const struct config *config;
    struct error err = {0};
    static const char *const flags[] = {"model.path=" MILLRACE_SOURCE_DIR "/examples/models/shop-qwen3",
                                        "engine.threads=1", "engine.kv_memory_mb=4"};
    struct config_source source = {.flags = flags, .flag_count = 3, .ignore_environment = true};
    assert_int_equal(config_open(&config, &source, &err), STATUS_OK);
    struct setup_options with = {.config = config, .with_engine = true};
    if (setup_open(&run.setup, &with, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    assert_int_equal(channel_open(&run.in, 2 * IN_FLIGHT, &err), STATUS_OK);
    assert_int_equal(channel_open(&run.out, 64, &err), STATUS_OK);
    struct engine_loop *loop;
    struct engine_loop_options options = {.engine = run.setup->engine,
                                          .in = run.in,
                                          .out = run.out,
                                          .max_choices = (size_t)config->engine.max_waiting};
    assert_int_equal(engine_loop_start(&loop, &options, &err), STATUS_OK);
    uint64_t first = 0, last = 0;
    answer(&run, requests / 5); /* the pool fills, grammars are built */
    for (int sample = 0; sample < SAMPLES; sample++) {
        const uint64_t most = answer(&run, requests / SAMPLES);
        if (sample < SAMPLES / 3)
            first = most > first ? most : first;
        else if (sample >= SAMPLES - SAMPLES / 3)
            last = most > last ? most : last;
        if (requests > DEFAULT_REQUESTS)
            print_message("%d answers: %.2f MB, allocated %.2f MB\n", run.ended, (double)most / (1 << 20),
                          (double)mallinfo2().uordblks / (1 << 20));
    }
    print_message("%d answers: at most %.2f MB in the first third, %.2f MB in the last (%+.2f %%)\n",
                  run.ended, (double)first / (1 << 20), (double)last / (1 << 20),
                  100 * ((double)last / (double)first - 1));
    channel_shut(run.in);
    assert_null(channel_receive(run.out, -1));
    engine_loop_join(loop);
    channel_close(run.in);
    channel_close(run.out);
    setup_close(run.setup);
    config_close(config);
    assert_int_equal(run.failed, 0);
    assert_true((double)last <= 1.02 * (double)first);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_stays_where_it_is),
    };
    if (argc == 3 && strcmp(argv[1], "--requests") == 0)
        requests = (int)strtol(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
