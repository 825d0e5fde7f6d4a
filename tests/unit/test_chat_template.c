// SPDX-License-Identifier: Apache-2.0
// Templates in the manner of each model family, rendered as transformers renders them (tests/golden/text,
// made by tools/make_text_golden.py); what is refused at load, with its line; the bounds of a rendering.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/text/chat_template.h"
#include "engine/text/text_file.h"

#define GOLDEN_DIR MILLRACE_SOURCE_DIR "/tests/golden/text"
#define GOLDEN_NOW_MS INT64_C(1770091506000)
#define MAX_TEXT ((size_t)64 << 20)

static enum status open_text(struct chat_template **out, const char *source, struct error *err)
{
    return chat_template_open_text(out, source, strlen(source), "<s>", "</s>", err);
}

/* Renders one line of the golden file and compares; counts what differs. */
static bool case_is_equal(const struct chat_template *chat_template, const struct json *line)
{
    struct bytes out;
    struct error err = {0};
    const struct json *expected = json_member(line, "expected");
    const struct chat_render_options options = {
        .messages = json_member(line, "messages"),
        .tools = json_member(line, "tools"),
        .documents = json_member(line, "documents"),
        .kwargs = json_member(line, "kwargs"),
        .add_generation_prompt = json_bool_or(json_member(line, "add_generation_prompt"), false),
        .continue_final_message = json_bool_or(json_member(line, "continue_final_message"), false),
        .now_ms = GOLDEN_NOW_MS};
    bytes_init(&out, MAX_TEXT);
    const enum status status = chat_template_render(chat_template, &options, &out, &err);
    bool equal;
    if (expected)
        equal = status == STATUS_OK && out.count_bytes == expected->count &&
                memcmp(out.data, expected->as.string, out.count_bytes) == 0;
    else
        equal = status == STATUS_INVALID && out.count_bytes == 0 && err.text[0];
    if (!equal)
        print_message("%s (%s)\n--- expected\n%s\n--- rendered\n%s\n",
                      json_string_or(json_member(line, "template"), ""), err.text,
                      json_string_or(expected, "(a failure)"), out.data ? out.data : "");
    bytes_release(&out);
    return equal;
}

static void golden_renderings_are_equal(void **state)
{
    struct bytes file;
    struct chat_template *chat_template = NULL;
    struct error err = {0};
    int rendered = 0, different = 0;
    (void)state;
    bytes_init(&file, MAX_TEXT);
    assert_int_equal(text_file_read(&file, GOLDEN_DIR, "templates.jsonl", NULL), STATUS_OK);
    for (char *line = file.data, *end; (end = strchr(line, '\n')); line = end + 1) {
        struct json_document *document;
        assert_int_equal(json_parse(&document, line, (size_t)(end - line), NULL, &err), STATUS_OK);
        const struct json *root = json_root(document), *source = json_member(root, "source");
        if (source) {
            chat_template_close(chat_template);
            if (open_text(&chat_template, source->as.string, &err) != STATUS_OK)
                fail_msg("%s: %s", json_string_or(json_member(root, "name"), ""), err.text);
        } else {
            rendered++;
            different += !case_is_equal(chat_template, root);
        }
        json_close(document);
    }
    chat_template_close(chat_template);
    bytes_release(&file);
    assert_true(rendered >= 300);
    assert_int_equal(different, 0);
}

static void refusals_name_construct_and_line(void **state)
{
    static const struct {
        const char *source, *construct;
        int line;
        enum status status;
    } cases[] = {
        {"a\n{% include 'x' %}", "include", 2, STATUS_UNSUPPORTED},
        {"{% extends 'x' %}", "extends", 1, STATUS_UNSUPPORTED},
        {"\n\n{{ x | xmlattr }}", "xmlattr", 3, STATUS_UNSUPPORTED},
        {"{{ x is odder }}", "odder", 1, STATUS_UNSUPPORTED},
        {"{{ x.format(1) }}", "format", 1, STATUS_UNSUPPORTED},
        {"{% for x in y recursive %}{% endfor %}", "recursive", 1, STATUS_UNSUPPORTED},
        {"{{ f(*x) }}", "star", 1, STATUS_UNSUPPORTED},
        {"\n{{ x", "not closed", 2, STATUS_INVALID},
        {"{% if x %}", "endif", 1, STATUS_INVALID},
        {"{% break %}", "loop", 1, STATUS_INVALID},
        {"{{ 'abc }}", "string", 1, STATUS_INVALID},
        {"{{ 1 + }}", "expression", 1, STATUS_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct chat_template *chat_template;
        struct error err = {0};
        char line[32];
        snprintf(line, sizeof line, "line %d:", cases[i].line);
        assert_int_equal(open_text(&chat_template, cases[i].source, &err), cases[i].status);
        assert_null(chat_template);
        if (!strstr(err.text, cases[i].construct) || !strstr(err.text, line))
            fail_msg("\"%s\" should name %s and %s", err.text, cases[i].construct, line);
    }
}

static enum status render_text(const char *source, size_t max_bytes, struct error *err)
{
    static const char messages[] = "[{\"role\":\"user\",\"content\":\"x\"}]";
    struct chat_template *chat_template;
    struct json_document *document;
    struct bytes out;
    assert_int_equal(open_text(&chat_template, source, err), STATUS_OK);
    assert_int_equal(json_parse(&document, messages, strlen(messages), NULL, NULL), STATUS_OK);
    bytes_init(&out, max_bytes);
    const struct chat_render_options options = {.messages = json_root(document)};
    const enum status status = chat_template_render(chat_template, &options, &out, err);
    if (status != STATUS_OK)
        assert_int_equal(out.count_bytes, 0);
    bytes_release(&out);
    json_close(document);
    chat_template_close(chat_template);
    return status;
}

static void endless_work_is_stopped(void **state)
{
    static const char *const sources[] = {
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x=[ns.x] %}{% endfor %}{{ ns.x }}",
    };
    struct error err = {0};
    (void)state;
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++)
        assert_int_equal(render_text(sources[i], MAX_TEXT, &err), STATUS_TOO_LARGE);
    assert_int_equal(render_text("{% for a in range(999) %}0123456789{% endfor %}", 5000, &err),
                     STATUS_TOO_LARGE);
}

static void a_template_speaks_for_itself(void **state)
{
    struct error err = {0};
    (void)state;
    assert_int_equal(render_text("{{ raise_exception('Roles must alternate') }}", MAX_TEXT, &err),
                     STATUS_INVALID);
    assert_string_equal(err.text, "Roles must alternate");
    assert_int_equal(render_text("\n{{ messages[0].missing.more }}", MAX_TEXT, &err), STATUS_INVALID);
    assert_non_null(strstr(err.text, "line 2"));
    assert_non_null(strstr(err.text, "missing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_renderings_are_equal),
        cmocka_unit_test(refusals_name_construct_and_line),
        cmocka_unit_test(endless_work_is_stopped),
        cmocka_unit_test(a_template_speaks_for_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
