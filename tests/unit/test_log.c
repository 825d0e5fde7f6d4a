// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/monotime.h"

static char captured[8192];
static int kept_stderr, ends[2];

static void begin_capture(void)
{
    fflush(stderr);
    kept_stderr = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
}

static const char *end_capture(void)
{
    dup2(kept_stderr, STDERR_FILENO);
    close(kept_stderr);
    close(ends[1]);
    ssize_t got = read(ends[0], captured, sizeof captured - 1);
    close(ends[0]);
    captured[got > 0 ? got : 0] = '\0';
    return captured;
}

static int64_t fixed_wall(void *context)
{
    (void)context;
    return 1700000000042;
}

static int64_t fixed_monotonic(void *context)
{
    (void)context;
    return 5;
}

static void a_line_is_one_json_object(void **state)
{
    (void)state;
    const struct monotime_source fixed = {.monotonic_ns = fixed_monotonic, .wall_ms = fixed_wall};
    monotime_replace(&fixed);
    begin_capture();
    log_write_members(LOG_WARN, "intake", "\"job\":\"a\"", "bad \"%s\"\n", "quote");
    const char *line = end_capture();
    monotime_replace(NULL);
    struct json_document *document;
    assert_int_equal(line[strlen(line) - 1], '\n');
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    assert_int_equal(json_parse(&document, line, strlen(line), NULL, NULL), STATUS_OK);
    const struct json *root = json_root(document);
    assert_true(json_is_string(json_member(root, "level"), "warn"));
    assert_true(json_is_string(json_member(root, "module"), "intake"));
    assert_true(json_is_string(json_member(root, "msg"), "bad \"quote\"\n"));
    assert_true(json_is_string(json_member(root, "job"), "a"));
    assert_true(json_number_or(json_member(root, "ts"), 0) == 1700000000.042);
    json_close(document);
}

static void the_threshold_drops_what_is_less_severe(void **state)
{
    (void)state;
    log_set_level(LOG_WARN);
    begin_capture();
    log_info("m", "not this");
    log_error("m", "but this");
    const char *lines = end_capture();
    log_set_level(LOG_INFO);
    assert_null(strstr(lines, "not this"));
    assert_non_null(strstr(lines, "but this"));
}

static void verbs_write_plain_sentences(void **state)
{
    (void)state;
    log_set_plain(1);
    begin_capture();
    log_warn("batch", "line %d", 7);
    const char *line = end_capture();
    log_set_plain(0);
    assert_string_equal(line, "millrace: warn: batch: line 7\n");
}

static void a_message_that_is_too_long_is_cut_to_a_whole_line(void **state)
{
    (void)state;
    char text[6000];
    memset(text, '\x01', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    begin_capture();
    log_error("m", "%s", text);
    const char *line = end_capture();
    struct json_document *document;
    assert_int_equal(json_parse(&document, line, strlen(line), NULL, NULL), STATUS_OK);
    json_close(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_one_json_object),
        cmocka_unit_test(the_threshold_drops_what_is_less_severe),
        cmocka_unit_test(verbs_write_plain_sentences),
        cmocka_unit_test(a_message_that_is_too_long_is_cut_to_a_whole_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
