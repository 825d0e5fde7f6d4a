// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

static enum status fails(struct error *err)
{
    return error_set(err, STATUS_NOT_FOUND, "no file %s", "x");
}

static void a_failure_is_a_status_and_a_sentence(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(fails(&err), STATUS_NOT_FOUND);
    assert_int_equal(err.status, STATUS_NOT_FOUND);
    assert_string_equal(err.text, "no file x");
    assert_int_equal(error_prefix(&err, "model %d", 7), STATUS_NOT_FOUND);
    assert_string_equal(err.text, "model 7: no file x");
    assert_int_equal(fails(NULL), STATUS_NOT_FOUND);
}

static void long_sentences_are_cut_never_overrun(void **state)
{
    (void)state;
    struct error err;
    char text[3 * ERROR_TEXT_BYTES];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(error_set(&err, STATUS_IO, "%s", text), STATUS_IO);
    assert_int_equal(strlen(err.text), ERROR_TEXT_BYTES - 1);
    assert_int_equal(error_prefix(&err, "%s", text), STATUS_IO);
    assert_true(strlen(err.text) < ERROR_TEXT_BYTES);
}

static void every_status_has_a_name_a_text_and_a_class(void **state)
{
    (void)state;
    for (int s = STATUS_OK; s <= STATUS_INTERNAL; s++) {
        assert_true(strlen(status_name((enum status)s)) > 0);
        assert_true(strlen(status_text((enum status)s)) > 0);
    }
    assert_string_equal(status_name(STATUS_NO_MEMORY), "NO_MEMORY");
    assert_int_equal(status_class_of(STATUS_OK), STATUS_CLASS_OK);
    assert_int_equal(status_class_of(STATUS_INVALID), STATUS_CLASS_REJECT);
    assert_int_equal(status_class_of(STATUS_UNAVAILABLE), STATUS_CLASS_RETRY);
    assert_int_equal(status_class_of(STATUS_CONFIG), STATUS_CLASS_FATAL);
}

/* The assertion itself works in this build: a false CHECK ends the process, a true one costs nothing. */
static void a_false_check_aborts(void **state)
{
    (void)state;
    CHECK(1 + 1 == 2);
    pid_t child = fork();
    if (child == 0) {
        close(STDERR_FILENO);
        CHECK(1 + 1 == 3);
        _exit(0);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_is_a_status_and_a_sentence),
        cmocka_unit_test(long_sentences_are_cut_never_overrun),
        cmocka_unit_test(every_status_has_a_name_a_text_and_a_class),
        cmocka_unit_test(a_false_check_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
