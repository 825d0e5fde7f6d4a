// SPDX-License-Identifier: Apache-2.0
// Small tokenizers of every kind over some five thousand texts, against Hugging Face tokenizers: one
// hash per text over ids and decoded text (tools/text_tokenizers.py says of what), and the incremental
// detokenizer against the whole decode, at every cut.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "engine/text/detokenizer.h"
#include "engine/text/text_file.h"

#define GOLDEN_DIR MILLRACE_SOURCE_DIR "/tests/golden/text/tokenizers"
#define MAX_TEXT ((size_t)64 << 20)

static uint64_t fnv(uint64_t hash, const void *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * UINT64_C(0x100000001B3);
    return hash;
}

static uint64_t hash_decoded(uint64_t hash, const struct tokenizer *tokenizer, const struct token_list *ids,
                             bool skip_special)
{
    struct bytes text;
    bytes_init(&text, MAX_TEXT);
    assert_int_equal(tokenizer_decode(tokenizer, ids->ids, ids->count, skip_special, &text, NULL), STATUS_OK);
    hash = fnv(hash, text.data, text.count_bytes);
    bytes_release(&text);
    return fnv(hash, "", 1);
}

/* What the first `count` tokens release one by one, and at the end, is their whole decode. */
static bool increments_agree(const struct tokenizer *tokenizer, const struct token_list *ids, size_t count)
{
    struct bytes whole, parts;
    struct detokenizer *detokenizer;
    const struct detokenizer_options options = {.stop_count = 0};
    bytes_init(&whole, MAX_TEXT);
    bytes_init(&parts, MAX_TEXT);
    assert_int_equal(tokenizer_decode(tokenizer, ids->ids, count, false, &whole, NULL), STATUS_OK);
    assert_int_equal(detokenizer_open(&detokenizer, tokenizer, &options, NULL), STATUS_OK);
    bool agree = true;
    for (size_t i = 0; i < count && agree; i++) {
        int stop;
        assert_int_equal(detokenizer_push(detokenizer, ids->ids[i], &parts, &stop), STATUS_OK);
        agree = stop < 0 && parts.count_bytes <= whole.count_bytes &&
                (parts.count_bytes == 0 || memcmp(parts.data, whole.data, parts.count_bytes) == 0);
    }
    assert_int_equal(detokenizer_finish(detokenizer, &parts), STATUS_OK);
    agree = agree && parts.count_bytes == whole.count_bytes &&
            (whole.count_bytes == 0 || memcmp(parts.data, whole.data, whole.count_bytes) == 0);
    detokenizer_close(detokenizer);
    bytes_release(&whole);
    bytes_release(&parts);
    return agree;
}

static bool text_is_equal(const struct tokenizer *tokenizer, const struct json *text, uint64_t expected)
{
    struct token_list ids = {0};
    struct error err = {0};
    const struct encode_options options = {.add_special_tokens = true};
    if (tokenizer_encode(tokenizer, text->as.string, text->count, &options, &ids, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    uint64_t hash = fnv(UINT64_C(0xCBF29CE484222325), ids.ids, ids.count * sizeof *ids.ids);
    hash = hash_decoded(hash, tokenizer, &ids, false);
    hash = hash_decoded(hash, tokenizer, &ids, true);
    bool equal = hash == expected;
    for (size_t cut = 0; cut <= ids.count; cut++)
        equal = equal && increments_agree(tokenizer, &ids, cut);
    token_list_release(&ids);
    return equal;
}

static void tokenizer_is_equal(const char *name, const struct bytes *texts)
{
    struct bytes json, hashes;
    struct tokenizer *tokenizer;
    struct error err = {0};
    char file[80];
    int count = 0, different = 0;
    bytes_init(&json, MAX_TEXT);
    bytes_init(&hashes, MAX_TEXT);
    snprintf(file, sizeof file, "%s.json", name);
    assert_int_equal(text_file_read(&json, GOLDEN_DIR, file, NULL), STATUS_OK);
    snprintf(file, sizeof file, "%s.hashes", name);
    assert_int_equal(text_file_read(&hashes, GOLDEN_DIR, file, NULL), STATUS_OK);
    if (tokenizer_open_text(&tokenizer, json.data, json.count_bytes, NULL, 0, &err) != STATUS_OK)
        fail_msg("%s: %s", name, err.text);
    char *hash = hashes.data;
    for (char *line = texts->data, *end; (end = strchr(line, '\n')); line = end + 1, count++) {
        struct json_document *document;
        assert_int_equal(json_parse(&document, line, (size_t)(end - line), NULL, NULL), STATUS_OK);
        const uint64_t expected = strtoull(hash, &hash, 16);
        if (!text_is_equal(tokenizer, json_root(document), expected)) {
            if (different++ < 5)
                print_message("%s differs on %.*s\n", name, (int)(end - line < 200 ? end - line : 200), line);
        }
        json_close(document);
    }
    tokenizer_close(tokenizer);
    bytes_release(&json);
    bytes_release(&hashes);
    if (different || count < 5000)
        fail_msg("%s: %d of %d texts differ", name, different, count);
}

static void every_tokenizer_is_equal(void **state)
{
    static const char *const names[] = {
        "gpt2",        "gpt2_prefix",      "llama3",    "qwen2",    "phi4",
        "deepseek",    "smollm",           "starcoder", "bloom",    "llama2",
        "mistral",     "metaspace",        "gemma",     "unigram",  "unigram_bytes",
        "precompiled", "precompiled_fold", "word_end",  "prefixes", "added",
        "contiguous"};
    struct bytes texts;
    const char *only = getenv("MILLRACE_TEST_TOKENIZER");
    (void)state;
    bytes_init(&texts, MAX_TEXT);
    assert_int_equal(text_file_read(&texts, GOLDEN_DIR, "texts.jsonl", NULL), STATUS_OK);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!only || strcmp(only, names[i]) == 0)
            tokenizer_is_equal(names[i], &texts);
    bytes_release(&texts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_tokenizer_is_equal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
