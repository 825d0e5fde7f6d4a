// SPDX-License-Identifier: Apache-2.0
// Lines of files and pipes as `batch` reads them, and the results file it resumes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/cli/batch_results.h"
#include "worker/cli/line_reader.h"

static char path[64];

static void write_file(const char *text, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    fclose(file);
}

static int make_path(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/millrace-lines-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static void expect_line(struct line_reader *reader, const char *wanted, int64_t number)
{
    const char *line;
    size_t bytes;
    struct error err = {0};
    assert_int_equal(line_reader_next(reader, -1, &line, &bytes, &err), LINE_READER_LINE);
    assert_int_equal(bytes, strlen(wanted));
    assert_memory_equal(line, wanted, bytes);
    assert_int_equal(reader->lines, number);
}

static void expect_end(struct line_reader *reader)
{
    const char *line;
    size_t bytes;
    struct error err = {0};
    assert_int_equal(line_reader_next(reader, -1, &line, &bytes, &err), LINE_READER_END);
}

static void lines_are_numbered_and_blank_ones_skipped(void **state)
{
    (void)state;
    static const char text[] = "one\r\n\n  \ntwo\nlast without end";
    struct line_reader reader;
    struct error err = {0};
    write_file(text, sizeof text - 1);
    assert_int_equal(line_reader_open(&reader, path, 100, &err), STATUS_OK);
    expect_line(&reader, "one", 1);
    expect_line(&reader, "two", 4);
    expect_line(&reader, "last without end", 5);
    expect_end(&reader);
    assert_int_equal(reader.consumed_bytes, sizeof text - 1);
    line_reader_close(&reader);
    assert_int_equal(line_reader_open(&reader, "/nowhere/at/all", 100, &err), STATUS_NOT_FOUND);
}

static void a_line_over_the_limit_is_given_cut(void **state)
{
    (void)state;
    enum { LONG_BYTES = 3 << 20, LIMIT_BYTES = 1000 };
    char *text = malloc(LONG_BYTES + 8);
    assert_non_null(text);
    memset(text, 'x', LONG_BYTES);
    memcpy(text + LONG_BYTES, "\nnext\n", 7);
    write_file(text, LONG_BYTES + 6);
    struct line_reader reader;
    struct error err = {0};
    assert_int_equal(line_reader_open(&reader, path, LIMIT_BYTES, &err), STATUS_OK);
    const char *line;
    size_t bytes;
    assert_int_equal(line_reader_next(&reader, -1, &line, &bytes, &err), LINE_READER_LINE);
    assert_int_equal(bytes, LIMIT_BYTES + 1);
    expect_line(&reader, "next", 2);
    expect_end(&reader);
    line_reader_close(&reader);
    free(text);
}

static void results_are_resumed_and_a_half_line_is_cut(void **state)
{
    (void)state;
    static const char text[] =
        "{\"id\":\"i1\",\"custom_id\":\"a\"}\n{\"id\":\"i2\",\"custom_id\":null}\n{\"id\":\"i3\",\"cu";
    struct batch_results results, second;
    struct id_map answered;
    struct error err = {0};
    write_file(text, sizeof text - 1);
    id_map_init(&answered);
    assert_int_equal(batch_results_open(&results, path, &answered, &err), STATUS_OK);
    assert_true((id_map_find(&answered, "a", strlen("a")) != NULL) &&
                (id_map_find(&answered, "i2", strlen("i2")) != NULL));
    assert_false((id_map_find(&answered, "i1", strlen("i1")) != NULL) ||
                 (id_map_find(&answered, "i3", strlen("i3")) != NULL));
    assert_int_equal(batch_results_open(&second, path, &answered, &err), STATUS_CONFIG); /* locked */
    struct bytes line;
    bytes_init(&line, 16);
    bytes_append_text(&line, "{\"id\":\"i4\"}");
    assert_int_equal(batch_results_append(&results, &line, &err), STATUS_OK);
    bytes_release(&line);
    assert_int_equal(batch_results_close(&results, &err), STATUS_OK);
    char content[256];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    content[fread(content, 1, sizeof content - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(
        content,
        "{\"id\":\"i1\",\"custom_id\":\"a\"}\n{\"id\":\"i2\",\"custom_id\":null}\n{\"id\":\"i4\"}\n");
    id_map_release(&answered);
}

static void a_file_that_holds_something_else_is_left_alone(void **state)
{
    (void)state;
    static const char text[] = "dear diary\n";
    struct batch_results results;
    struct id_map answered;
    struct error err = {0};
    write_file(text, sizeof text - 1);
    id_map_init(&answered);
    assert_int_equal(batch_results_open(&results, path, &answered, &err), STATUS_CONFIG);
    assert_non_null(strstr(err.text, "line 1 of"));
    assert_int_equal(access(path, R_OK), 0);
    id_map_release(&answered);
}

static void a_set_keeps_every_name_once(void **state)
{
    (void)state;
    struct id_map set;
    char name[16];
    bool added;
    id_map_init(&set);
    assert_false((id_map_find(&set, "0", strlen("0")) != NULL));
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 5000; i++) {
            snprintf(name, sizeof name, "%d", i);
            assert_int_equal(id_map_put(&set, name, &added, NULL), STATUS_OK);
            assert_int_equal(added, round == 0);
        }
    assert_int_equal(set.count, 5000);
    assert_false((id_map_find(&set, "5000", strlen("5000")) != NULL));
    id_map_release(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_are_numbered_and_blank_ones_skipped, make_path, remove_path),
        cmocka_unit_test_setup_teardown(a_line_over_the_limit_is_given_cut, make_path, remove_path),
        cmocka_unit_test_setup_teardown(results_are_resumed_and_a_half_line_is_cut, make_path, remove_path),
        cmocka_unit_test_setup_teardown(a_file_that_holds_something_else_is_left_alone, make_path,
                                        remove_path),
        cmocka_unit_test(a_set_keeps_every_name_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
