// SPDX-License-Identifier: Apache-2.0
// The engine thread with the bundled model: every job taken is accepted and ends exactly once, whatever is
// cancelled, refused or too much.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "worker/cli/setup.h"
#include "worker/infer/engine_loop.h"
#include "worker/infer/kv_bridge.h"

#define LONG_PROMPT                                                                                         \
    "Bought: a kettle, a mug, a lamp, a chair, a scarf, a drill, a novel, a puzzle, a tea towel, a spoon, " \
    "a "                                                                                                    \
    "chopping board, a bread knife, loose-leaf tea, a teapot, a tray and a tablecloth for the garden."

enum { CAPACITY = 512, MAX_JOBS = 64 };

static const struct config *config;
static struct setup *setup;

struct loop { /* a running loop and what it said of each handle */
    struct engine_loop *loop;
    struct channel *in, *out;
    struct job *jobs[MAX_JOBS];
    size_t wanted[MAX_JOBS], finished[MAX_JOBS], refused[MAX_JOBS], cancelled[MAX_JOBS], tokens[MAX_JOBS];
    enum status reason[MAX_JOBS];
};

static int open_setup(void **state)
{
    (void)state;
    struct error err = {0};
    static const char *const flags[] = {"model.path=" MILLRACE_SOURCE_DIR "/examples/models/shop-qwen3",
                                        "engine.threads=1", "engine.max_sequences=4", "engine.max_waiting=16",
                                        "engine.kv_memory_mb=16"};
    struct config_source source = {.flags = flags, .flag_count = 5, .ignore_environment = true};
    if (config_open(&config, &source, &err) == STATUS_OK) {
        struct setup_options options = {.config = config, .with_engine = true};
        if (setup_open(&setup, &options, &err) == STATUS_OK)
            return 0;
    }
    print_error("%s\n", err.text);
    return -1;
}

static int close_setup(void **state)
{
    (void)state;
    setup_close(setup);
    config_close(config);
    return 0;
}

static void start(struct loop *loop)
{
    struct error err = {0};
    *loop = (struct loop){0};
    assert_int_equal(channel_open(&loop->in, CAPACITY, &err), STATUS_OK);
    assert_int_equal(channel_open(&loop->out, 4, &err), STATUS_OK);
    struct engine_loop_options options = {
        .engine = setup->engine, .in = loop->in, .out = loop->out, .max_choices = 16};
    assert_int_equal(engine_loop_start(&loop->loop, &options, &err), STATUS_OK);
}

static void send(struct loop *loop, enum engine_command_type type, uint64_t handle, enum status reason)
{
    struct engine_command *command = calloc(1, sizeof *command);
    assert_non_null(command);
    *command = (struct engine_command){.type = type, .job_handle = handle, .reason = reason};
    if (type == ENGINE_COMMAND_JOB) {
        command->job = loop->jobs[handle];
        loop->wanted[handle] = command->job->prompt_count * command->job->sampling.n;
    }
    assert_true(channel_send(loop->in, command, -1));
}

static struct job *make_job(const char *body)
{
    char line[1024];
    struct job *job;
    struct job_fault fault;
    snprintf(line, sizeof line,
             "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{%s}}", body);
    struct job_record record = {
        .value = line, .value_bytes = strlen(line), .cluster_id = "", .topic = "t", .timestamp_ms = 1};
    if (job_parse(&job, &setup->parse, &record, &fault) != STATUS_OK)
        fail_msg("%s", fault.message);
    return job;
}

static void send_job(struct loop *loop, uint64_t handle, const char *body)
{
    loop->jobs[handle] = make_job(body);
    send(loop, ENGINE_COMMAND_JOB, handle, STATUS_OK);
}

static void take(struct loop *loop, const struct engine_report *report, bool *accepted)
{
    for (size_t i = 0; i < report->count; i++) {
        const struct engine_report_item *item = &report->items[i];
        uint64_t handle = item->job_handle;
        if (item->type == REPORT_ACCEPTED) {
            assert_ptr_equal(item->job, loop->jobs[handle]);
            assert_false(accepted[handle]);
            accepted[handle] = true;
            continue;
        }
        assert_true(accepted[handle]);
        assert_true(loop->finished[handle] < loop->wanted[handle]); /* nothing after the end */
        loop->tokens[handle] += item->type == REPORT_TOKEN;
        loop->finished[handle] += item->type == REPORT_FINISHED;
        loop->refused[handle] += item->type == REPORT_REFUSED;
        if (item->type == REPORT_FINISHED && item->event.finish == ENGINE_FINISH_CANCELLED) {
            loop->cancelled[handle]++;
            loop->reason[handle] = item->error.status;
        }
    }
}

/* Reads to the end; then every job is closed. */
static void drain_behind(struct loop *loop, bool *accepted)
{
    struct engine_report *report;
    channel_shut(loop->in);
    while ((report = channel_receive(loop->out, -1))) {
        take(loop, report, accepted);
        engine_report_free(report);
    }
    engine_loop_join(loop->loop);
    for (size_t i = 0; i < MAX_JOBS; i++) {
        assert_int_equal(accepted[i], loop->jobs[i] != NULL);
        if (loop->jobs[i] && !loop->refused[i])
            assert_int_equal(loop->finished[i], loop->wanted[i]);
        job_close(loop->jobs[i]);
    }
    channel_close(loop->in);
    channel_close(loop->out);
    struct engine_stats stats;
    engine_stats_read(setup->engine, &stats);
    assert_int_equal(stats.running + stats.waiting, 0);
    assert_int_equal(stats.blocks_used, 0);
}

static void drain(struct loop *loop)
{
    bool accepted[MAX_JOBS] = {0};
    drain_behind(loop, accepted);
}

static void more_jobs_than_fit_all_end(void **state)
{
    (void)state;
    struct loop loop;
    start(&loop);
    for (uint64_t i = 0; i < 40; i++) /* 120 choices through a window of 16 */
        send_job(&loop, i, "\"prompt\":\"Bought: kettle\",\"n\":3,\"max_tokens\":4,\"ignore_eos\":true");
    drain(&loop);
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(loop.tokens[i], 12);
}

static void a_list_of_prompts_is_one_job(void **state)
{
    (void)state;
    struct loop loop;
    start(&loop);
    send_job(&loop, 0,
             "\"prompt\":[\"a\",\"b\",\"c\"],\"n\":2,\"temperature\":1,\"max_tokens\":3,\"ignore_eos\":true");
    drain(&loop);
    assert_int_equal(loop.finished[0], 6);
    assert_int_equal(loop.tokens[0], 18);
}

static void a_cancelled_job_ends_soon_and_says_why(void **state)
{
    (void)state;
    struct loop loop;
    start(&loop);
    send_job(&loop, 0, "\"prompt\":\"a\",\"max_tokens\":1500,\"ignore_eos\":true,\"n\":2");
    send_job(&loop, 1, "\"prompt\":\"b\",\"max_tokens\":5,\"ignore_eos\":true");
    send_job(&loop, 2, "\"prompt\":[\"b\",\"c\"],\"max_tokens\":1500,\"ignore_eos\":true");
    send(&loop, ENGINE_COMMAND_CANCEL, 0, STATUS_EXPIRED);
    send(&loop, ENGINE_COMMAND_CANCEL, 2, STATUS_CANCELLED);
    send(&loop, ENGINE_COMMAND_CANCEL, 63, STATUS_CANCELLED); /* nobody */
    drain(&loop);
    assert_int_equal(loop.cancelled[0], 2);
    assert_int_equal(loop.reason[0], STATUS_EXPIRED);
    assert_int_equal(loop.cancelled[2], 2);
    assert_int_equal(loop.reason[2], STATUS_CANCELLED);
    assert_int_equal(loop.cancelled[1], 0);
    assert_int_equal(loop.tokens[1], 5);
    assert_true(loop.tokens[0] < 3000);
}

static void cancelling_overtakes_jobs_that_wait(void **state)
{
    (void)state;
    struct loop loop;
    start(&loop);
    send_job(&loop, 0,
             "\"prompt\":\"a\",\"max_tokens\":1500,\"ignore_eos\":true,\"n\":16"); /* all the room */
    send_job(&loop, 1, "\"prompt\":\"b\",\"max_tokens\":5,\"n\":2");
    send_job(&loop, 2, "\"prompt\":\"b\",\"max_tokens\":5,\"ignore_eos\":true");
    send(&loop, ENGINE_COMMAND_CANCEL, 1, STATUS_EXPIRED);
    send(&loop, ENGINE_COMMAND_CANCEL, 0, STATUS_CANCELLED);
    drain(&loop);
    assert_int_equal(loop.cancelled[0], 16); /* also though others wait */
    assert_true(loop.tokens[0] < 24000);
    assert_int_equal(loop.cancelled[1], 2);
    assert_int_equal(loop.reason[1], STATUS_EXPIRED);
    assert_int_equal(loop.tokens[1], 0);
    assert_int_equal(loop.tokens[2], 5);
}

/* ---- a job whose blocks are on their way ---- */

static _Atomic int gets;       /* begun */
static _Atomic bool gets_wait; /* the store keeps them waiting */

static enum tier_fault slow_get(struct tier_store *store, struct tier_get *get, struct error *err)
{
    (void)store;
    (void)err;
    gets++;
    while (gets_wait)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    get->loaded = 0;
    get->miss = TIER_MISS_absent;
    return TIER_FAULT_NONE;
}

static enum tier_fault no_put(struct tier_store *store, const struct block_identity *block,
                              const void *payload, int64_t deadline_ns, struct error *err)
{
    (void)store;
    (void)block;
    (void)payload;
    (void)deadline_ns;
    (void)err;
    return TIER_FAULT_NONE;
}

static enum tier_fault no_touch(struct tier_store *store, const struct block_identity *blocks, size_t count,
                                int64_t deadline_ns, struct error *err)
{
    (void)store;
    (void)blocks;
    (void)count;
    (void)deadline_ns;
    (void)err;
    return TIER_FAULT_NONE;
}

static void no_close(struct tier_store *store)
{
    (void)store;
}

static void read_report(struct loop *loop, bool *accepted)
{
    struct engine_report *report = channel_receive(loop->out, 10000);
    assert_non_null(report);
    take(loop, report, accepted);
    engine_report_free(report);
}

/* Reads reports until the handle has ended. */
static void wait_for_end(struct loop *loop, uint64_t handle, bool *accepted)
{
    while (loop->finished[handle] < loop->wanted[handle])
        read_report(loop, accepted);
}

static uint64_t preemptions(struct loop *loop)
{
    struct engine_stats stats;
    engine_loop_stats(loop->loop, &stats);
    return stats.preemptions;
}

/* Urgent jobs have the seats of two others. Those end at once when they are cancelled or too late, and say
 * which; they do not wait for a seat. */
static void jobs_that_gave_their_seats_end_and_say_why(void **state)
{
    (void)state;
    struct loop loop;
    bool accepted[MAX_JOBS] = {0};
    start(&loop);
    for (uint64_t i = 0; i < 4; i++)
        send_job(&loop, i, "\"prompt\":\"a\",\"max_tokens\":1000,\"ignore_eos\":true");
    while (loop.tokens[0] == 0 || loop.tokens[1] == 0 || loop.tokens[2] == 0 || loop.tokens[3] == 0)
        read_report(&loop, accepted);
    const uint64_t before = preemptions(&loop);
    for (uint64_t i = 4; i < 6; i++)
        send_job(&loop, i, "\"prompt\":\"b\",\"max_tokens\":1000,\"ignore_eos\":true,\"priority\":-1");
    while (preemptions(&loop) < before + 2)
        read_report(&loop, accepted);
    send(&loop, ENGINE_COMMAND_CANCEL, 2, STATUS_EXPIRED);
    send(&loop, ENGINE_COMMAND_CANCEL, 3, STATUS_CANCELLED);
    wait_for_end(&loop, 2, accepted);
    wait_for_end(&loop, 3, accepted);
    assert_int_equal(loop.reason[2], STATUS_EXPIRED);
    assert_int_equal(loop.reason[3], STATUS_CANCELLED);
    for (uint64_t i = 0; i < 6; i++) {
        assert_int_equal(loop.finished[i], i == 2 || i == 3); /* the others still have their seats */
        assert_int_equal(loop.cancelled[i], i == 2 || i == 3);
    }
    drain_behind(&loop, accepted);
    assert_int_equal(loop.tokens[4] + loop.tokens[5], 2000);
}

/* The store does not answer: the job ends all the same, and its place is not given away before it does. */
static void a_job_that_loads_ends_at_once(void **state)
{
    (void)state;
    struct loop loop = {0};
    struct channel *done;
    struct kvtier *tier;
    struct kv_bridge *bridge;
    bool accepted[MAX_JOBS] = {0};
    struct error err = {0};
    static struct tier_store stores[2];
    for (int i = 0; i < 2; i++)
        stores[i] = (struct tier_store){.get = slow_get, .put = no_put, .touch = no_touch, .close = no_close};
    gets = 0;
    gets_wait = true;
    assert_int_equal(channel_open(&done, 16, &err), STATUS_OK);
    struct kvtier_options options = {.reader = &stores[0],
                                     .writer = &stores[1],
                                     .max_put_bytes = 1 << 20,
                                     .max_fetch_bytes = 64 << 20,
                                     .max_fetches = 16,
                                     .done = done};
    assert_int_equal(kvtier_open(&tier, &options, &err), STATUS_OK);
    struct kv_bridge_options about = {
        .engine = setup->engine, .tier = tier, .done = done, .block_tokens = 16, .max_context_tokens = 2048};
    assert_int_equal(kv_bridge_open(&bridge, &about, &err), STATUS_OK);
    assert_int_equal(channel_open(&loop.in, CAPACITY, &err), STATUS_OK);
    assert_int_equal(channel_open(&loop.out, 4, &err), STATUS_OK);
    struct engine_loop_options run = {
        .engine = setup->engine, .in = loop.in, .out = loop.out, .bridge = bridge, .max_choices = 16};
    assert_int_equal(engine_loop_start(&loop.loop, &run, &err), STATUS_OK);
    send_job(&loop, 0, "\"prompt\":[\"" LONG_PROMPT "\"],\"n\":3,\"max_tokens\":9,\"ignore_eos\":true");
    while (gets == 0)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    send(&loop, ENGINE_COMMAND_CANCEL, 0, STATUS_EXPIRED);
    wait_for_end(&loop, 0, accepted);
    assert_int_equal(loop.cancelled[0], 3);
    assert_int_equal(loop.reason[0], STATUS_EXPIRED);
    for (uint64_t handle = 1; handle < 20; handle++) /* others run, in every place but that one */
        send_job(&loop, handle, "\"prompt\":\"b\",\"max_tokens\":2,\"ignore_eos\":true");
    for (uint64_t handle = 1; handle < 20; handle++)
        wait_for_end(&loop, handle, accepted);
    gets_wait = false;
    channel_shut(loop.in);
    for (struct engine_report *report; (report = channel_receive(loop.out, -1)); engine_report_free(report))
        take(&loop, report, accepted);
    engine_loop_join(loop.loop);
    kv_bridge_close(bridge);
    kvtier_close(tier, 1000);
    for (uint64_t handle = 0; handle < 20; handle++)
        job_close(loop.jobs[handle]);
    channel_close(loop.in);
    channel_close(loop.out);
    channel_close(done);
}

static void what_can_never_run_is_refused(void **state)
{
    (void)state;
    struct loop loop;
    start(&loop);
    send_job(&loop, 0,
             "\"prompt\":\"a\",\"n\":17,\"temperature\":1"); /* more choices than the engine holds */
    send_job(&loop, 1, "\"prompt\":\"b\",\"max_tokens\":5,\"ignore_eos\":true");
    drain(&loop);
    assert_int_equal(loop.refused[0], 1);
    assert_int_equal(loop.tokens[1], 5);
}

/* Whichever prompt the engine refuses, the job's other prompts cost nothing more. */
static void a_refused_prompt_ends_the_others(void **state)
{
    (void)state;
    for (size_t bad = 0; bad < 3; bad++) {
        struct loop loop;
        struct engine_stats before, after;
        engine_stats_read(setup->engine, &before);
        start(&loop);
        loop.jobs[0] = make_job("\"prompt\":[[300,301],[302],[303]],\"max_tokens\":100,\"ignore_eos\":true");
        ((int32_t *)(uintptr_t)loop.jobs[0]->prompts[bad].tokens)[0] =
            INT32_MAX; /* as no parser lets through */
        send(&loop, ENGINE_COMMAND_JOB, 0, STATUS_OK);
        drain(&loop);
        engine_stats_read(setup->engine, &after);
        assert_int_equal(loop.refused[0], 1);
        assert_int_equal(loop.finished[0], 0);
        assert_int_equal(after.generated_tokens, before.generated_tokens);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_jobs_than_fit_all_end),
        cmocka_unit_test(a_list_of_prompts_is_one_job),
        cmocka_unit_test(a_cancelled_job_ends_soon_and_says_why),
        cmocka_unit_test(cancelling_overtakes_jobs_that_wait),
        cmocka_unit_test(a_job_that_loads_ends_at_once),
        cmocka_unit_test(jobs_that_gave_their_seats_end_and_say_why),
        cmocka_unit_test(what_can_never_run_is_refused),
        cmocka_unit_test(a_refused_prompt_ends_the_others),
    };
    return cmocka_run_group_tests(tests, open_setup, close_setup);
}
