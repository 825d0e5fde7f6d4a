// SPDX-License-Identifier: Apache-2.0
// Encoding and decoding of real vocabularies: Qwen2's byte-level BPE against llama.cpp's vectors,
// stories260k's sentencepiece-style BPE with byte fallback; what is refused, and in which words.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/text/text_file.h"
#include "engine/text/tokenizer.h"

#define SKIPPED 77
#define MAX_TEXT ((size_t)64 << 20)

static char shared_dir[512];

static struct tokenizer *open_shared(const char *name)
{
    char dir[600];
    struct tokenizer *tokenizer;
    struct error err = {0};
    snprintf(dir, sizeof dir, "%s/data/%s", shared_dir, name);
    if (tokenizer_open(&tokenizer, dir, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return tokenizer;
}

static void read_shared(struct bytes *out, const char *dir_name, const char *name)
{
    char dir[600];
    snprintf(dir, sizeof dir, "%s/data/%s", shared_dir, dir_name);
    bytes_init(out, MAX_TEXT);
    assert_int_equal(text_file_read(out, dir, name, NULL), STATUS_OK);
}

/* "12 34": the ids, as the vectors write them. */
static void ids_text(const struct tokenizer *tokenizer, const char *text, size_t bytes, struct bytes *out)
{
    struct token_list ids = {0};
    struct error err = {0};
    if (tokenizer_encode(tokenizer, text, bytes, &(struct encode_options){0}, &ids, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    bytes_reset(out);
    for (size_t i = 0; i < ids.count; i++)
        bytes_appendf(out, " %d", ids.ids[i]);
    bytes_append(out, "", 0);
    struct bytes decoded;
    bytes_init(&decoded, MAX_TEXT);
    assert_int_equal(tokenizer_decode(tokenizer, ids.ids, ids.count, false, &decoded, NULL), STATUS_OK);
    assert_int_equal(decoded.count_bytes, bytes);
    if (bytes)
        assert_memory_equal(decoded.data, text, bytes);
    bytes_release(&decoded);
    token_list_release(&ids);
}

static void qwen2_vectors_are_equal(void **state)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    struct bytes input, expected, ids;
    int count = 0;
    (void)state;
    struct tokenizer *tokenizer = open_shared("tokenizers/qwen2");
    read_shared(&input, "tokenizers/qwen2", "vectors.inp");
    read_shared(&expected, "tokenizers/qwen2", "vectors.out");
    bytes_init(&ids, MAX_TEXT);
    char *line = expected.data;
    for (const char *text = input.data; text; count++) {
        const char *end = strstr(text, separator);
        const size_t bytes = end ? (size_t)(end - text) : strlen(text);
        char *line_end = strchr(line, '\n');
        if (line_end)
            *line_end = '\0';
        ids_text(tokenizer, text, bytes, &ids);
        const size_t blanks = strspn(line, " ");
        assert_string_equal(ids.data + strspn(ids.data, " "), line + blanks);
        line = line_end ? line_end + 1 : line + strlen(line);
        text = end ? end + sizeof separator - 1 : NULL;
    }
    assert_true(count > 40);
    bytes_release(&ids);
    bytes_release(&input);
    bytes_release(&expected);
    tokenizer_close(tokenizer);
}

static void qwen2_answers_about_its_tokens(void **state)
{
    size_t bytes;
    (void)state;
    struct tokenizer *tokenizer = open_shared("tokenizers/qwen2");
    assert_int_equal(tokenizer_vocab_size(tokenizer), 151646);
    assert_int_equal(tokenizer_token_id(tokenizer, "<|im_end|>"), 151645);
    assert_int_equal(tokenizer_token_id(tokenizer, "no such token"), -1);
    assert_true(tokenizer_is_special(tokenizer, 151645));
    assert_false(tokenizer_is_special(tokenizer, 1879));
    assert_true(tokenizer_is_valid(tokenizer, 0));
    assert_false(tokenizer_is_valid(tokenizer, 151646));
    assert_false(tokenizer_is_valid(tokenizer, -1));
    const char *text = tokenizer_token_bytes(tokenizer, 1879, &bytes);
    assert_int_equal(bytes, 6);
    assert_memory_equal(text, " world", 6);
    tokenizer_close(tokenizer);
}

static void special_tokens_may_be_plain_text(void **state)
{
    static const char text[] = "a<|im_end|>b";
    struct token_list ids = {0};
    (void)state;
    struct tokenizer *tokenizer = open_shared("tokenizers/qwen2");
    const struct encode_options special = {0}, plain = {.plain_special_tokens = true};
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), &special, &ids, NULL), STATUS_OK);
    assert_int_equal(ids.count, 3);
    assert_int_equal(ids.ids[1], 151645);
    ids.count = 0;
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), &plain, &ids, NULL), STATUS_OK);
    for (size_t i = 0; i < ids.count; i++)
        assert_true(ids.ids[i] < 151643);
    token_list_release(&ids);
    tokenizer_close(tokenizer);
}

static void long_runs_take_linear_time(void **state)
{
    const size_t bytes = 1 << 20;
    struct token_list ids = {0};
    (void)state;
    struct tokenizer *tokenizer = open_shared("tokenizers/qwen2");
    char *text = malloc(bytes);
    assert_non_null(text);
    for (int c = 0; c < 3; c++) { /* a quadratic step would take minutes here, and the test its time limit */
        memset(text, "a \n"[c], bytes);
        ids.count = 0;
        assert_int_equal(tokenizer_encode(tokenizer, text, bytes, &(struct encode_options){0}, &ids, NULL),
                         STATUS_OK);
        assert_true(ids.count > 0 && ids.count < bytes);
    }
    free(text);
    token_list_release(&ids);
    tokenizer_close(tokenizer);
}

static void stories_has_bos_and_byte_fallback(void **state)
{
    static const char text[] = "Once upon a time \xF0\x9F\xA6\x99";
    struct token_list ids = {0};
    struct bytes out;
    (void)state;
    struct tokenizer *tokenizer = open_shared("models/stories260k");
    const struct encode_options options = {.add_special_tokens = true};
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), &options, &ids, NULL), STATUS_OK);
    assert_int_equal(ids.ids[0], 1);
    assert_int_equal(tokenizer_bos(tokenizer), 1);
    assert_int_equal(tokenizer_eos(tokenizer), 2);
    assert_int_equal(ids.ids[ids.count - 4], 0xF0 + 3); /* bytes follow <unk>, <s>, </s> */
    assert_int_equal(ids.ids[ids.count - 1], 0x99 + 3);
    bytes_init(&out, MAX_TEXT);
    assert_int_equal(tokenizer_decode(tokenizer, ids.ids, ids.count, true, &out, NULL), STATUS_OK);
    assert_string_equal(out.data, text);
    bytes_reset(&out);
    assert_int_equal(tokenizer_decode(tokenizer, ids.ids, ids.count - 1, true, &out, NULL), STATUS_OK);
    assert_string_equal(out.data, "Once upon a time \xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    bytes_release(&out);
    token_list_release(&ids);
    tokenizer_close(tokenizer);
}

static void refusals_name_the_type(void **state)
{
    static const struct {
        const char *json, *named;
        enum status status;
    } cases[] = {
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", "WordPiece", STATUS_UNSUPPORTED},
        {"{\"normalizer\":{\"type\":\"Odd\"},\"model\":{}}", "Odd", STATUS_UNSUPPORTED},
        {"{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"},\"model\":{}}", "UnicodeScripts",
         STATUS_UNSUPPORTED},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"decoder\":{\"type\":\"CTC\"}}",
         "CTC", STATUS_UNSUPPORTED},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"post_processor\":{\"type\":"
         "\"New\"}}",
         "New", STATUS_UNSUPPORTED},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", "merge 0",
         STATUS_INVALID},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "vocabulary entry 0",
         STATUS_INVALID},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", "two tokens",
         STATUS_INVALID},
        {"{\"model\":", "tokenizer.json", STATUS_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tokenizer *tokenizer;
        struct error err = {0};
        assert_int_equal(tokenizer_open_text(&tokenizer, cases[i].json, strlen(cases[i].json), NULL, 0, &err),
                         cases[i].status);
        assert_null(tokenizer);
        if (!strstr(err.text, cases[i].named))
            fail_msg("\"%s\" does not name %s", err.text, cases[i].named);
    }
}

static void invalid_utf8_is_refused(void **state)
{
    static const char json[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}";
    struct tokenizer *tokenizer;
    struct token_list ids = {0};
    struct error err = {0};
    (void)state;
    assert_int_equal(tokenizer_open_text(&tokenizer, json, strlen(json), NULL, 0, NULL), STATUS_OK);
    assert_int_equal(tokenizer_encode(tokenizer, "a\xFF", 2, &(struct encode_options){0}, &ids, &err),
                     STATUS_INVALID);
    assert_non_null(strstr(err.text, "byte 1"));
    assert_int_equal(ids.count, 0);
    token_list_release(&ids);
    tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest always[] = {
        cmocka_unit_test(refusals_name_the_type),
        cmocka_unit_test(invalid_utf8_is_refused),
    };
    const struct CMUnitTest with_shared[] = {
        cmocka_unit_test(qwen2_vectors_are_equal),           cmocka_unit_test(qwen2_answers_about_its_tokens),
        cmocka_unit_test(special_tokens_may_be_plain_text),  cmocka_unit_test(long_runs_take_linear_time),
        cmocka_unit_test(stories_has_bos_and_byte_fallback),
    };
    const char *shared = getenv("MILLRACE_SHARED");
    snprintf(shared_dir, sizeof shared_dir, "%s", shared ? shared : MILLRACE_SOURCE_DIR "/../shared");
    char path[600];
    snprintf(path, sizeof path, "%s/data/tokenizers/qwen2/tokenizer.json", shared_dir);
    const int failed = cmocka_run_group_tests(always, NULL, NULL);
    FILE *file = fopen(path, "rb");
    if (!file) {
        printf("SKIP: %s is absent (MILLRACE_SHARED says where shared data lies)\n", path);
        return failed ? failed : SKIPPED;
    }
    fclose(file);
    return failed + cmocka_run_group_tests(with_shared, NULL, NULL);
}
