// SPDX-License-Identifier: Apache-2.0
// JSON schemas as grammars against the official JSON Schema Test Suite (tests/golden/schemas/suite.jsonl): a
// text that the suite calls invalid is never let through, and what is refused or narrowed is exactly what
// narrowed.txt says. `test_grammar_schema --print` writes that list, to be read before it is kept.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "engine/constrain/grammar_store.h"
#include "engine/constrain/matcher.h"

#define GOLDEN MILLRACE_SOURCE_DIR "/tests/golden/schemas/"

static bool matches(struct matcher *matcher, const char *text, size_t bytes)
{
    uint32_t state = MATCHER_START;
    for (size_t i = 0; i < bytes && state != MATCHER_DEAD; i++)
        state = matcher_step(matcher, state, (unsigned char)text[i]);
    return state != MATCHER_DEAD && matcher_accepts(matcher, state);
}

/* ---- the suite ---- */

struct counts {
    int schemas, refused, agreed, narrowed, let_through;
};

static void check_cases(struct matcher *matcher, const struct json *group, struct bytes *out,
                        struct counts *counts)
{
    const char *from = json_string_or(json_member(group, "from"), "?");
    const struct json *cases = json_member(group, "cases");
    for (size_t i = 0; i < cases->count; i++) {
        const struct json *text = &cases->as.items[i].as.items[0];
        bool valid = cases->as.items[i].as.items[1].type == JSON_TRUE;
        bool passed = matches(matcher, text->as.string, text->count);
        counts->agreed += passed == valid;
        if (valid && !passed) {
            counts->narrowed++;
            bytes_appendf(out, "narrowed | %s | %s\n", from, text->as.string);
        }
        if (!valid && passed) {
            counts->let_through++;
            print_error("%s lets through %s\n", from, text->as.string);
        }
    }
}

static void check_group(const struct json *group, struct bytes *out, struct counts *counts)
{
    struct grammar *grammar;
    struct matcher *matcher;
    struct error err = {0};
    enum status status = grammar_compile(GRAMMAR_OF_SCHEMA, json_member(group, "schema"), &grammar, &err);
    counts->schemas++;
    if (status != STATUS_OK) {
        counts->refused++;
        bytes_appendf(out, "refused | %s | %s\n", json_string_or(json_member(group, "from"), "?"), err.text);
        return;
    }
    assert_int_equal(matcher_open(&matcher, grammar, &err), STATUS_OK);
    check_cases(matcher, group, out, counts);
    matcher_close(matcher);
}

static void run_suite(struct bytes *out, struct counts *counts)
{
    FILE *file = fopen(GOLDEN "suite.jsonl", "r");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t bytes;
    assert_non_null(file);
    while ((bytes = getline(&line, &capacity, file)) > 0) {
        struct json_document *document;
        assert_int_equal(json_parse(&document, line, (size_t)bytes, NULL, NULL), STATUS_OK);
        check_group(json_root(document), out, counts);
        json_close(document);
    }
    free(line);
    fclose(file);
}

static void the_official_suite_agrees(void **state)
{
    struct bytes found;
    struct counts counts = {0};
    char *expected = calloc(1, 1 << 20);
    FILE *file = fopen(GOLDEN "narrowed.txt", "r");
    (void)state;
    assert_non_null(file);
    assert_true(fread(expected, 1, (1 << 20) - 1, file) > 0);
    fclose(file);
    bytes_init(&found, 1 << 20);
    run_suite(&found, &counts);
    assert_int_equal(counts.let_through, 0);
    assert_true(counts.agreed > 500);
    assert_string_equal(found.data, expected);
    bytes_release(&found);
    free(expected);
}

/* ---- what the suite does not say ---- */

struct sample {
    const char *schema;
    const char *yes[6], *no[8];
};

static void check(const struct sample *sample)
{
    struct json_document *document;
    struct grammar *grammar;
    struct matcher *matcher;
    struct error err = {0};
    assert_int_equal(json_parse(&document, sample->schema, strlen(sample->schema), NULL, &err), STATUS_OK);
    if (grammar_compile(GRAMMAR_OF_SCHEMA, json_root(document), &grammar, &err) != STATUS_OK)
        fail_msg("%s: %s", sample->schema, err.text);
    assert_int_equal(matcher_open(&matcher, grammar, &err), STATUS_OK);
    for (int i = 0; i < 6 && sample->yes[i]; i++)
        if (!matches(matcher, sample->yes[i], strlen(sample->yes[i])))
            fail_msg("%s does not allow %s", sample->schema, sample->yes[i]);
    for (int i = 0; i < 8 && sample->no[i]; i++)
        if (matches(matcher, sample->no[i], strlen(sample->no[i])))
            fail_msg("%s allows %s", sample->schema, sample->no[i]);
    matcher_close(matcher);
    json_close(document);
}

static void texts_are_json_and_members_keep_their_order(void **state)
{
    static const struct sample samples[] = {
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"string\"}},"
         "\"required\":[\"b\"]}",
         {"{\"b\":\"\"}", "{\"a\":1,\"b\":\"x\"}", "{ \"a\": -1, \"b\": \"\\u00e9\" }",
          "{\n  \"b\": \"x\"\n}"},
         {"{}", "{\"a\":1}", "{\"b\":\"x\",\"a\":1}", "{\"b\":\"x\",}", "{\"b\":\"x\",\"c\":1}",
          "{\"b\":\"\n\"}", "{\"a\":01,\"b\":\"\"}", "{\"b\":\"x\"} "}},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"}},\"additionalProperties\":{\"type\":"
         "\"integer\"}}",
         {"{}", "{\"a\":null}", "{\"a\":null,\"b\":1}", "{\"ab\":1,\"b\":2}", "{\"\":1}"},
         {"{\"a\":1}", "{\"b\":1,\"a\":null}", "{\"a\":null,\"a\":1}", "{\"b\":null}", "{\"b\":1,}"}},
        {"{\"type\":\"array\",\"items\":{\"enum\":[\"\xc3\xa9\",\"\\\"\",null,7,-7]},\"minItems\":1,"
         "\"maxItems\":3}",
         {"[\"\xc3\xa9\"]", "[\"\\\"\",null]", "[7, -7,\n7]"},
         {"[]", "[7,7,7,7]", "[\"e\"]", "[,7]", "[7,]", "[77]"}},
        {"{\"type\":\"integer\",\"minimum\":-12,\"maximum\":345}",
         {"0", "-12", "345", "99", "-1", "300"},
         {"-13", "346", "1000", "-0", "00", "1.0", "1e1", ""}},
        {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":100}",
         {"100", "0.5", "0.001", "99.99", "1", "100.0"},
         {"0", "0.0", "100.1", "101", "-1", "1.", ".5"}},
        {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
         {"\"ab\"", "\"\xc3\xa9\xe2\x82\xac\"", "\"\\u00e9\\n\"", "\"\xf0\x9f\x99\x82xy\""},
         {"\"a\"", "\"abcd\"", "\"\xc3\xa9\"", "\"ab", "\"\\u00e\"", "\"\xc3\""}},
        {"{\"type\":\"string\",\"pattern\":\"^[A-Z]{2}-\\\\d+$\"}",
         {"\"AB-1\"", "\"ZZ-0042\""},
         {"\"AB-\"", "\"aB-1\"", "\"AB-1 \"", "\"xAB-1\"", "AB-1"}},
        {"{\"type\":\"string\",\"pattern\":\"b.d\"}",
         {"\"bad\"", "\"abcdbxd\"", "\"b\\\"d\"", "\"\\nbad\""},
         {"\"bd\"", "\"b\\nd\""}},
        {"{\"type\":\"string\",\"format\":\"date\"}",
         {"\"2026-11-24\"", "\"2026-01-31\"", "\"2026-04-30\""},
         {"\"2026-02-30\"", "\"2026-04-31\"", "\"2026-13-01\"", "\"26-01-01\"", "\"0000-01-01\""}},
        {"{\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
         "node\"},{\"type\":"
         "\"null\"}]}},\"required\":[\"next\"]}},\"$ref\":\"#/$defs/node\"}",
         {"{\"next\":null}", "{\"next\":{\"next\":{\"next\":null}}}"},
         {"{}", "{\"next\":{}}", "{\"next\":{\"next\":null}", "null"}},
        {"{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"kind\":{\"const\":\"a\"},\"x\":{\"type\":"
         "\"boolean\"}},\"required\":"
         "[\"kind\",\"x\"]},{\"type\":\"object\",\"properties\":{\"kind\":{\"const\":\"b\"}},\"required\":["
         "\"kind\"]}]}",
         {"{\"kind\":\"a\",\"x\":true}", "{\"kind\":\"b\"}"},
         {"{\"kind\":\"a\"}", "{\"kind\":\"b\",\"x\":true}", "{\"kind\":\"c\"}"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++)
        check(&samples[i]);
}

static void schemas_that_cannot_be_built_are_refused(void **state)
{
    static const char *const schemas[] = {
        "{\"$defs\":{\"a\":{\"anyOf\":[{\"$ref\":\"#/$defs/a\"},{\"type\":\"null\"}]}},\"$ref\":\"#/$defs/"
        "a\"}",
        "{\"$ref\":\"#\"}",
        "{\"type\":\"array\",\"maxItems\":1000000}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++) {
        struct json_document *document;
        struct grammar *grammar;
        struct error err = {0};
        assert_int_equal(json_parse(&document, schemas[i], strlen(schemas[i]), NULL, &err), STATUS_OK);
        enum status status = grammar_compile(GRAMMAR_OF_SCHEMA, json_root(document), &grammar, &err);
        if (status == STATUS_OK)
            fail_msg("accepted: %s", schemas[i]);
        assert_int_equal(status_class_of(status), STATUS_CLASS_REJECT);
        assert_true(strlen(err.text) > 0);
        json_close(document);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_official_suite_agrees),
        cmocka_unit_test(texts_are_json_and_members_keep_their_order),
        cmocka_unit_test(schemas_that_cannot_be_built_are_refused),
    };
    if (argc > 1 && strcmp(argv[1], "--print") == 0) {
        struct bytes found;
        struct counts counts = {0};
        bytes_init(&found, 1 << 20);
        run_suite(&found, &counts);
        fputs(found.data, stdout);
        fprintf(stderr, "%d schemas, %d refused; texts: %d agree, %d narrowed, %d let through\n",
                counts.schemas, counts.refused, counts.agreed, counts.narrowed, counts.let_through);
        bytes_release(&found);
        return counts.let_through > 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
