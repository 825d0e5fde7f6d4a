// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

static void content_grows_and_is_always_terminated(void **state)
{
    (void)state;
    struct bytes b;
    bytes_init(&b, 100000);
    assert_null(b.data);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(bytes_appendf(&b, "%04d", i), STATUS_OK);
        assert_int_equal(strlen(b.data), b.count_bytes);
    }
    assert_int_equal(b.count_bytes, 4000);
    assert_memory_equal(b.data + 3996, "0999", 5);
    bytes_release(&b);
}

static void a_nul_inside_is_content(void **state)
{
    (void)state;
    struct bytes b;
    bytes_init(&b, 10);
    assert_int_equal(bytes_append(&b, "a\0b", 3), STATUS_OK);
    assert_int_equal(bytes_append(&b, NULL, 0), STATUS_OK);
    assert_int_equal(b.count_bytes, 3);
    assert_memory_equal(b.data, "a\0b", 4);
    bytes_release(&b);
}

static void the_maximum_holds_exactly_and_a_refusal_changes_nothing(void **state)
{
    (void)state;
    struct bytes b;
    bytes_init(&b, 8);
    assert_int_equal(bytes_append_text(&b, "12345678"), STATUS_OK);
    assert_false(b.failed);
    assert_int_equal(bytes_append_char(&b, 'x'), STATUS_TOO_LARGE);
    assert_int_equal(bytes_appendf(&b, "%s", "yy"), STATUS_TOO_LARGE);
    assert_int_equal(bytes_reserve(&b, SIZE_MAX), STATUS_TOO_LARGE);
    assert_true(b.failed);
    assert_string_equal(b.data, "12345678");
    bytes_reset(&b);
    assert_false(b.failed);
    assert_string_equal(b.data, "");
    assert_int_equal(bytes_append_text(&b, "again"), STATUS_OK);
    bytes_release(&b);
}

static void what_is_taken_belongs_to_the_taker(void **state)
{
    (void)state;
    struct bytes b;
    bytes_init(&b, 8);
    assert_int_equal(bytes_append_text(&b, "mine"), STATUS_OK);
    char *taken = bytes_take(&b);
    assert_int_equal(bytes_append_text(&b, "other"), STATUS_OK);
    assert_string_equal(taken, "mine");
    free(taken);
    bytes_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_grows_and_is_always_terminated),
        cmocka_unit_test(a_nul_inside_is_content),
        cmocka_unit_test(the_maximum_holds_exactly_and_a_refusal_changes_nothing),
        cmocka_unit_test(what_is_taken_belongs_to_the_taker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
