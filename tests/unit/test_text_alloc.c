// SPDX-License-Identifier: Apache-2.0
// Every allocation of the text room fails once: opening, encoding, decoding and rendering say NO_MEMORY, hold
// on to nothing (ASan watches) and work again afterwards.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/text/chat_template.h"
#include "engine/text/detokenizer.h"
#include "engine/text/text_file.h"
#include "tests/support/failing_alloc.h"

#define GOLDEN_DIR MILLRACE_SOURCE_DIR "/tests/golden/text/tokenizers"
#define MAX_TEXT ((size_t)16 << 20)
#define MAX_TRIALS 100000

static enum status detokenize(const struct tokenizer *tokenizer, const struct token_list *ids,
                              struct bytes *out, struct error *err)
{
    static const char *const stops[] = {"never there"};
    const struct detokenizer_options options = {.stops = stops, .stop_count = 1};
    struct detokenizer *detokenizer;
    enum status status = detokenizer_open(&detokenizer, tokenizer, &options, err);
    for (size_t i = 0; i < ids->count && status == STATUS_OK; i++) {
        int stop;
        status = detokenizer_push(detokenizer, ids->ids[i], out, &stop);
    }
    if (status == STATUS_OK)
        status = detokenizer_finish(detokenizer, out);
    detokenizer_close(detokenizer);
    return status;
}

static enum status use_tokenizer(const struct bytes *json, struct error *err)
{
    static const char text[] = "  The cat\xE2\x82\xAC  sat e\xCC\x81 12345 \xF0\x9F\xA6\x99 <|im_end|> \n\n";
    const struct encode_options options = {.add_special_tokens = true};
    struct tokenizer *tokenizer;
    struct token_list ids = {0};
    struct bytes out, parts;
    bytes_init(&out, MAX_TEXT);
    bytes_init(&parts, MAX_TEXT);
    enum status status =
        tokenizer_open_text(&tokenizer, json->data, json->count_bytes, "{\"bos_token\":\"<s>\"}", 19, err);
    if (status == STATUS_OK)
        status = tokenizer_encode(tokenizer, text, strlen(text), &options, &ids, err);
    if (status == STATUS_OK)
        status = tokenizer_decode(tokenizer, ids.ids, ids.count, false, &out, err);
    if (status == STATUS_OK)
        status = detokenize(tokenizer, &ids, &parts, err);
    if (status == STATUS_OK)
        assert_string_equal(out.data, parts.data);
    bytes_release(&out);
    bytes_release(&parts);
    token_list_release(&ids);
    tokenizer_close(tokenizer);
    return status;
}

static void tokenizers_survive(void **state)
{
    static const char *const files[] = {"qwen2.json", "llama2.json", "unigram_bytes.json", "added.json"};
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct bytes json;
        bool failed = true;
        int trials = 0;
        bytes_init(&json, MAX_TEXT);
        assert_int_equal(text_file_read(&json, GOLDEN_DIR, files[i], NULL), STATUS_OK);
        for (int nth = 1; failed && nth < MAX_TRIALS; nth++) {
            failing_alloc_arm(nth);
            const enum status status = use_tokenizer(&json, NULL);
            failed = failing_alloc_disarm();
            trials++;
            assert_int_equal(status, failed ? STATUS_NO_MEMORY : STATUS_OK);
        }
        assert_false(failed);
        assert_true(trials > 50);
        bytes_release(&json);
    }
}

static enum status use_template(void)
{
    static const char source[] =
        "{% macro m(x) %}[{{ x | upper }}]{% endmacro %}{% set ns = namespace(n=0) %}{% for k in messages %}"
        "{% set ns.n = ns.n + 1 %}{{ m(k.role) }}{{ k | tojson(indent=2) }}{{ 'a' ~ ns.n }}{% endfor %}"
        "{% set b %}{{ messages | map(attribute='role') | sort | join(',') }}{% endset %}{{ b.split(',') }}";
    static const char messages[] =
        "[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"y\"}]";
    struct chat_template *chat_template = NULL;
    struct json_document *document = NULL;
    struct bytes out;
    bytes_init(&out, MAX_TEXT);
    enum status status = json_parse(&document, messages, strlen(messages), NULL, NULL);
    if (status == STATUS_OK)
        status = chat_template_open_text(&chat_template, source, strlen(source), "<s>", "</s>", NULL);
    if (status == STATUS_OK) {
        const struct chat_render_options options = {.messages = json_root(document)};
        status = chat_template_render(chat_template, &options, &out, NULL);
    }
    bytes_release(&out);
    chat_template_close(chat_template);
    json_close(document);
    return status;
}

static void chat_templates_survive(void **state)
{
    bool failed = true;
    (void)state;
    for (int nth = 1; failed && nth < MAX_TRIALS; nth++) {
        failing_alloc_arm(nth);
        const enum status status = use_template();
        failed = failing_alloc_disarm();
        assert_int_equal(status, failed ? STATUS_NO_MEMORY : STATUS_OK);
    }
    assert_false(failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokenizers_survive),
        cmocka_unit_test(chat_templates_survive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
