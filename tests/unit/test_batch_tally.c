// SPDX-License-Identifier: Apache-2.0
// Progress of batches: keys, values that read back, and sums that go on from where the last owner left them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "worker/intake/batch_tally.h"

enum { MOST = 512 };

static struct batch_sums one(int64_t tokens)
{
    struct batch_sums sums;
    batch_sums_init(&sums);
    sums.completed = 1;
    sums.input_tokens = tokens;
    sums.core_us = 1500001;
    sums.first_ms = sums.last_ms = 1700000000000 + tokens;
    return sums;
}

static void keys_are_split_at_their_last_slashes(void **state)
{
    static const struct {
        const char *key;
        size_t batch_bytes;
        const char *topic;
        int32_t partition;
    } cases[] = {{"night", 5, NULL, -1},
                 {"night/jobs/3", 5, "jobs", 3},
                 {"a/b/jobs/12", 3, "jobs", 12},
                 {"a/b", 3, NULL, -1},
                 {"a/b/c", 5, NULL, -1},
                 {"a//7", 4, NULL, -1},
                 {"a/jobs/", 7, NULL, -1},
                 {"", 0, NULL, -1},
                 {"a/j/99999999999", 15, NULL, -1},
                 {"x/millrace.jobs/0", 1, "millrace.jobs", 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *topic;
        size_t topic_bytes;
        int32_t partition;
        size_t bytes =
            batch_sums_split_key(cases[i].key, strlen(cases[i].key), &topic, &topic_bytes, &partition);
        assert_int_equal(bytes, cases[i].batch_bytes);
        assert_int_equal(partition, cases[i].partition);
        assert_int_equal(topic != NULL, cases[i].topic != NULL);
        if (topic) {
            assert_int_equal(topic_bytes, strlen(cases[i].topic));
            assert_memory_equal(topic, cases[i].topic, topic_bytes);
        }
    }
}

static void values_read_back(void **state)
{
    struct batch_sums sums = one(7), back;
    struct bytes text;
    (void)state;
    sums.failed = 2;
    sums.cancelled = 3;
    sums.expired = 4;
    sums.cached_tokens = 5;
    sums.output_tokens = 1LL << 40;
    sums.total = 10;
    sums.created_ms = 1700000000000;
    bytes_init(&text, 4096);
    batch_sums_write(&sums, "a \"b\"", &text);
    assert_true(batch_sums_read(&back, text.data, text.count_bytes));
    assert_memory_equal(&back, &sums, sizeof sums);
    for (size_t cut = 0; cut < text.count_bytes; cut++)
        assert_false(batch_sums_read(&back, text.data, cut));
    assert_false(batch_sums_read(&back, "{}", 2));
    char *version = strstr(text.data, "\"version\":1");
    assert_non_null(version);
    version[10] = '2'; /* never misread */
    assert_false(batch_sums_read(&back, text.data, text.count_bytes));
    assert_int_equal(back.completed, 0);
    bytes_release(&text);
}

static size_t write_all(struct batch_tally *tally, struct finished_result **out)
{
    size_t count = batch_tally_changed(tally, "status", out, MOST);
    batch_tally_written(tally);
    return count;
}

static void give(struct batch_tally *tally, const struct finished_result *written)
{
    const struct job_record record = {.key = written->record.key,
                                      .key_bytes = written->record.key_bytes,
                                      .value = written->record.value,
                                      .value_bytes = written->record.value_bytes};
    batch_tally_restore(tally, &record);
}

static void the_next_owner_goes_on(void **state)
{
    struct batch_tally *tally;
    struct finished_result *written[MOST], *again[MOST];
    struct batch_sums part = one(10), sums;
    char name[32];
    (void)state;
    assert_int_equal(batch_tally_open(&tally, NULL), STATUS_OK);
    batch_tally_begin(tally, "jobs", 3);
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "batch/%d", i % 150);
        batch_tally_add(tally, name, &part);
    }
    batch_tally_add(tally, "", &part);
    assert_int_equal(write_all(tally, written), 150);
    assert_int_equal(write_all(tally, again), 0);

    batch_tally_begin(tally, "jobs", 3);
    for (int i = 0; i < 150; i++)
        give(tally, written[i]);
    assert_int_equal(write_all(tally, again), 0); /* what was read need not be written */
    batch_tally_add(tally, "batch/7", &part);
    assert_int_equal(write_all(tally, again), 1);
    assert_int_equal(again[0]->record.key_bytes, strlen("batch/7/jobs/3"));
    assert_memory_equal(again[0]->record.key, "batch/7/jobs/3", strlen("batch/7/jobs/3"));
    assert_true(batch_sums_read(&sums, again[0]->record.value, again[0]->record.value_bytes));
    assert_int_equal(sums.completed, 3);
    assert_int_equal(sums.input_tokens, 30);
    assert_int_equal(sums.core_us, 4500003);
    finished_result_free(again[0]);

    batch_tally_begin(tally, "jobs", 4); /* another partition: nothing of it counts */
    for (int i = 0; i < 150; i++)
        give(tally, written[i]);
    batch_tally_add(tally, "batch/7", &part);
    assert_int_equal(write_all(tally, again), 1);
    assert_true(batch_sums_read(&sums, again[0]->record.value, again[0]->record.value_bytes));
    assert_int_equal(sums.completed, 1);
    finished_result_free(again[0]);
    for (int i = 0; i < 150; i++)
        finished_result_free(written[i]);
    batch_tally_close(tally);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_split_at_their_last_slashes),
        cmocka_unit_test(values_read_back),
        cmocka_unit_test(the_next_owner_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
