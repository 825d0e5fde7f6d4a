// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/json.h"

static struct json_document *parse_ok(const char *text)
{
    struct json_document *document;
    struct error err;
    assert_int_equal(json_parse(&document, text, strlen(text), NULL, &err), STATUS_OK);
    return document;
}

static void integers_of_64_bits_stay_exact(void **state)
{
    (void)state;
    struct json_document *document = parse_ok("{\"a\":9007199254740993,\"b\":[-9223372036854775808,"
                                              "9223372036854775807],\"c\":9223372036854775808}");
    const struct json *root = json_root(document);
    assert_true(json_member(root, "a")->as.integer == 9007199254740993);
    const struct json *b = json_member(root, "b");
    assert_true(b->as.items[0].as.integer == INT64_MIN && b->as.items[1].as.integer == INT64_MAX);
    assert_int_equal(json_member(root, "c")->type, JSON_NUMBER);
    json_close(document);
}

static void nul_inside_strings_survives(void **state)
{
    (void)state;
    struct json_document *document = parse_ok("{\"k\\u0000y\":\"a\\u0000b\\ud83d\\ude00\",\"z\":\"plain\"}");
    const struct json *item = &json_root(document)->as.items[0];
    assert_int_equal(item->key_bytes, 3);
    assert_memory_equal(item->key, "k\0y", 3);
    assert_int_equal(item->count, 7);
    assert_memory_equal(item->as.string, "a\0b\xF0\x9F\x98\x80", 7);
    assert_true(json_is_string(json_member(json_root(document), "z"), "plain"));
    json_close(document);
}

static void bad_text_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "{} x",
        "{\"a\":1,\"a\":2}",
        "[1e400]",
        "\"\\ud800\"",
        "\"\xff\"",
        "01",
        "[1,]",
        "nul",
        "\"\n\"",
        "[\"\xED\xA0\x80\"]",
        "{\"a\":1 \"b\":2}",
        "\"abc",
        "-",
        "1.",
        "+1",
        "{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"a\":1}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct json_document *document;
        struct error err = {0};
        if (json_parse(&document, bad[i], strlen(bad[i]), NULL, &err) != STATUS_INVALID)
            fail_msg("accepted %s", bad[i]);
        assert_non_null(strstr(err.text, "not valid JSON"));
    }
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char text[300];
    struct json_document *document;
    memset(text, '[', 100);
    memset(text + 100, ']', 100);
    assert_int_equal(json_parse(&document, text, 200, NULL, NULL), STATUS_INVALID);
    assert_int_equal(json_parse(&document, text + 50, 100, NULL, NULL), STATUS_OK);
    json_close(document);
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    const char *text =
        "{\"s\":\"q\\\"\\\\\\n\\u0001é\",\"n\":[0.1,-2,1e+300],\"o\":{},\"t\":[true,false,null]}";
    struct json_document *document = parse_ok(text);
    struct bytes out;
    bytes_init(&out, 1000);
    json_append_node(&out, json_root(document));
    assert_string_equal(out.data, text);
    bytes_release(&out);
    json_close(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_of_64_bits_stay_exact),
        cmocka_unit_test(nul_inside_strings_survives),
        cmocka_unit_test(bad_text_is_refused),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(what_is_written_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
