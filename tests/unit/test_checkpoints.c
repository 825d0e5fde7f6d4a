// SPDX-License-Identifier: Apache-2.0
// Checkpoints: what is written reads back into the same job and into no other; keys, tombstones, other
// versions, bad values.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tests/support/job_fixture.h"
#include "worker/intake/checkpoints.h"

enum { COUNT = 1500 };

static struct checkpoints *table;
static int32_t tokens[COUNT];

static struct job *parse(const char *body, int64_t offset)
{
    struct job *job;
    struct job_fault fault;
    const char *line = job_fixture_line(COMPLETION, body);
    struct job_record record = job_fixture_record(line, strlen(line));
    record.topic = "shop.jobs";
    record.partition = 4;
    record.offset = offset;
    if (job_parse(&job, &job_fixture, &record, &fault) != STATUS_OK)
        fail_msg("%s", fault.message);
    return job;
}

static const char plain[] = "\"prompt\":\"Bought: mug\",\"max_tokens\":2000,\"seed\":1";

/* The record as the status topic gives it back, changed by `change`. */
static void keep(const struct job *job, void (*change)(struct job_record *record))
{
    struct finished_result *made = checkpoint_new(7, job, "print", "status", tokens, COUNT);
    assert_non_null(made);
    assert_int_equal(made->kind, FINISHED_GIVEN_BACK);
    assert_string_equal(made->record.topic, "status");
    struct job_record record = {.key = made->record.key,
                                .key_bytes = made->record.key_bytes,
                                .value = made->record.value,
                                .value_bytes = made->record.value_bytes};
    if (change)
        change(&record);
    checkpoints_take(table, &record);
    finished_result_free(made);
}

static size_t resumed(struct job *job, const char *fingerprint)
{
    checkpoints_resume(table, job, fingerprint);
    size_t count = job->resumed_tokens;
    if (count > 0)
        assert_memory_equal(job->prompts[0].tokens + job->prompts[0].count, tokens, count * sizeof *tokens);
    job_close(job);
    return count;
}

static int open_table(void **state)
{
    (void)state;
    struct error err;
    for (int i = 0; i < COUNT; i++)
        tokens[i] = (i * 7919) % 4000;
    return checkpoints_open(&table, &err) == STATUS_OK ? 0 : -1;
}

static int close_table(void **state)
{
    (void)state;
    checkpoints_close(table);
    return 0;
}

static void a_job_gets_its_own_tokens(void **state)
{
    (void)state;
    struct job *job = parse(plain, 12);
    keep(job, NULL);
    job_close(job);
    assert_true(checkpoints_has(table, "shop.jobs", 4, 12));
    assert_false(checkpoints_has(table, "shop.jobs", 4, 1));
    assert_false(checkpoints_has(table, "shop.jobs", 1, 12));
    assert_int_equal(resumed(parse(plain, 12), "print"), COUNT);
    assert_int_equal(resumed(parse(plain, 13), "print"), 0);
    assert_int_equal(resumed(parse(plain, 12), "another model"), 0);
    assert_int_equal(resumed(parse("\"prompt\":\"Bought: mug\",\"max_tokens\":2000,\"seed\":2", 12), "print"),
                     0);
    assert_int_equal(
        resumed(parse("\"prompt\":\"Bought: mug\",\"max_tokens\":2000,\"seed\":1,\"n\":2", 12), "print"), 0);
}

static void it_goes_with_its_result_or_its_partition(void **state)
{
    (void)state;
    struct job *job = parse(plain, 12);
    keep(job, NULL);
    struct finished_result *end = checkpoints_remove(table, "shop.jobs", 4, 12, "status");
    assert_non_null(end);
    assert_int_equal(end->kind, FINISHED_STATUS);
    assert_null(end->record.value);
    assert_string_equal(end->record.key, "checkpoint:shop.jobs:4:12");
    finished_result_free(end);
    assert_null(checkpoints_remove(table, "shop.jobs", 4, 12, "status"));
    keep(job, NULL);
    const struct job_record tombstone = {.key = "checkpoint:shop.jobs:4:12", .key_bytes = 25};
    checkpoints_take(table, &tombstone);
    assert_false(checkpoints_has(table, "shop.jobs", 4, 12));
    keep(job, NULL);
    checkpoints_forget(table, "shop.jobs", 3);
    assert_true(checkpoints_has(table, "shop.jobs", 4, 12));
    checkpoints_forget(table, "shop.jobs", 4);
    assert_false(checkpoints_has(table, "shop.jobs", 4, 12));
    job_close(job);
}

static char other[1 << 16];

static void other_version(struct job_record *record)
{
    assert_true(record->value_bytes < sizeof other);
    memcpy(other, record->value, record->value_bytes);
    char *at = memmem(other, record->value_bytes, "\"version\":1", 11);
    assert_non_null(at);
    at[10] = '2';
    record->value = other;
}

static void cut(struct job_record *record)
{
    record->value_bytes -= 1;
}

static void other_token(struct job_record *record)
{
    memcpy(other, record->value, record->value_bytes);
    memcpy(other + record->value_bytes - 5, "-1", 2);
    record->value = other;
}

static void what_is_not_ours_is_ignored(void **state)
{
    void (*const changes[])(struct job_record *) = {other_version, cut, other_token};
    static const char *const keys[] = {"checkpoint:shop.jobs:4",
                                       "checkpoint:shop.jobs:4:12:1",
                                       "checkpoint::4:12",
                                       "checkpoint:shop.jobs:x:12",
                                       "night/shop.jobs/4",
                                       "checkpoint:",
                                       ""};
    (void)state;
    log_set_level((enum log_level) - 1);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct job *job = parse(plain, 12);
        keep(job, changes[i]);
        assert_true(checkpoints_has(table, "shop.jobs", 4, 12));
        assert_int_equal(resumed(job, "print"), 0);
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char topic[256];
        int32_t partition;
        int64_t offset;
        assert_false(checkpoint_key_read(keys[i], strlen(keys[i]), topic, &partition, &offset));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_job_gets_its_own_tokens, open_table, close_table),
        cmocka_unit_test_setup_teardown(it_goes_with_its_result_or_its_partition, open_table, close_table),
        cmocka_unit_test_setup_teardown(what_is_not_ours_is_ignored, open_table, close_table),
    };
    return cmocka_run_group_tests(tests, job_fixture_open, job_fixture_close);
}
