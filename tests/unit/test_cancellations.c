// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "worker/intake/cancellations.h"

static struct cancel_names names(const char *batch_id, const char *custom_id)
{
    return (struct cancel_names){.batch = cancel_key(batch_id, NULL), .job = cancel_key(batch_id, custom_id)};
}

static bool covered(const struct cancellations *c, const char *batch_id, const char *custom_id, int64_t at_ms)
{
    struct cancel_names of = names(batch_id, custom_id);
    return cancellations_cover(c, &of, at_ms);
}

static void batches_and_jobs_until_their_moment(void **state)
{
    struct cancellations *c;
    struct cancel_key key;
    (void)state;
    assert_int_equal(cancellations_open(&c, NULL), STATUS_OK);
    assert_false(covered(c, "b", "1", 0));
    key = cancel_key("b", NULL);
    cancellations_add(c, &key, 100);
    key = cancel_key("other", "2");
    cancellations_add(c, &key, 200);
    assert_true(covered(c, "b", "1", 100));
    assert_true(covered(c, "b", "1", -1));
    assert_false(covered(c, "b", "1", 101)); /* submitted again afterwards */
    assert_true(covered(c, "other", "2", 150));
    assert_false(covered(c, "other", "3", 150));
    assert_false(covered(c, "bb", "1", 50));
    assert_false(covered(c, "", "b", 50)); /* names do not run into each other */
    key = cancel_key("b", NULL);
    cancellations_add(c, &key, 50); /* an older word changes nothing */
    assert_true(covered(c, "b", "1", 100));
    cancellations_close(c);
}

static void the_oldest_is_forgotten_beyond_the_bound(void **state)
{
    struct cancellations *c;
    enum { COUNT = CANCEL_MAX_ENTRIES * 2 + 77 };
    (void)state;
    assert_int_equal(cancellations_open(&c, NULL), STATUS_OK);
    for (int i = 0; i < COUNT; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", i);
        struct cancel_key key = cancel_key("b", id);
        cancellations_add(c, &key, 1);
    }
    for (int i = 0; i < COUNT; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", i);
        assert_int_equal(covered(c, "b", id, 1), i >= COUNT - CANCEL_MAX_ENTRIES);
    }
    cancellations_close(c);
}

static bool reads(const char *value, const char *batch_id, const char *custom_id)
{
    struct cancel_key key, wanted = cancel_key(batch_id, custom_id);
    struct error err = {0};
    if (cancel_read(value, strlen(value), &key, &err) == STATUS_OK)
        return memcmp(&key, &wanted, sizeof key) == 0;
    assert_true(err.text[0]);
    return false;
}

static void records_are_read_with_care(void **state)
{
    (void)state;
    assert_true(reads("{\"batch_id\":\"b\"}", "b", NULL));
    assert_true(reads("{\"custom_id\":\"x\",\"batch_id\":\"b\",\"by\":\"cli\"}", "b", "x"));
    assert_false(reads("{\"custom_id\":\"x\"}", "", "x"));
    assert_false(reads("{\"batch_id\":7}", "7", NULL));
    assert_false(reads("{\"batch_id\":\"b\",\"custom_id\":null}", "b", NULL));
    assert_false(reads("[]", "b", NULL));
    assert_false(reads("", "b", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_and_jobs_until_their_moment),
        cmocka_unit_test(the_oldest_is_forgotten_beyond_the_bound),
        cmocka_unit_test(records_are_read_with_care),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
