// SPDX-License-Identifier: Apache-2.0
// A trained model against another implementation: shared/data/models/stories260k reproduces what llama2.c
// printed for each prompt of reference.jsonl (temperature 0, at most 256 positions), to the character, with
// every kernel set of this machine. Skipped where the shared data is absent.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "engine/text/tokenizer.h"
#include "tests/support/model_runner.h"

enum { POSITIONS = 256, MAX_VOCAB = 512, BOS = 1, SKIPPED = 77 };

static char model_dir[1024];

static int32_t argmax(const float *logits, int32_t vocab)
{
    int32_t best = 0;
    for (int32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* Prompt and continuation as text, until BOS comes or the positions are used up. */
static void generate(struct model_runner *runner, const struct tokenizer *tokenizer, const char *prompt,
                     struct bytes *text)
{
    const struct encode_options encode = {.add_special_tokens = true};
    struct token_list tokens = {0};
    struct runner_sequence sequence;
    float *logits = malloc(POSITIONS * MAX_VOCAB * sizeof *logits);
    assert_non_null(logits);
    const int32_t vocab = model_hparams(runner->model)->vocab;
    assert_true(vocab <= MAX_VOCAB);
    assert_int_equal(tokenizer_encode(tokenizer, prompt, strlen(prompt), &encode, &tokens, NULL), STATUS_OK);
    assert_int_equal(tokens.ids[0], BOS);
    int32_t rows = (int32_t)tokens.count;
    model_runner_sequence(runner, &sequence, tokens.ids, POSITIONS);
    for (;;) {
        struct runner_sequence *sequences[] = {&sequence};
        model_runner_step(runner, sequences, &rows, 1, logits);
        int32_t next = argmax(logits + (size_t)(rows - 1) * (size_t)vocab, vocab);
        if (next == BOS)
            break;
        assert_int_equal(token_list_push(&tokens, next), STATUS_OK);
        if (sequence.context_tokens == POSITIONS)
            break; /* the last token was printed, but never fed back */
        sequence.tokens = tokens.ids;
        rows = 1;
    }
    assert_int_equal(tokenizer_decode(tokenizer, tokens.ids, tokens.count, true, text, NULL), STATUS_OK);
    token_list_release(&tokens);
    free(logits);
}

static void check_line(const char *set, const struct tokenizer *tokenizer, const char *line)
{
    struct json_document *document;
    struct model_runner runner;
    struct bytes text;
    assert_int_equal(json_parse(&document, line, strlen(line), NULL, NULL), STATUS_OK);
    const char *expected = json_string_or(json_member(json_root(document), "text"), "");
    model_runner_open(&runner, &(struct runner_options){model_dir, set, "auto", "auto", 2, 0});
    bytes_init(&text, 1 << 16);
    generate(&runner, tokenizer, json_string_or(json_member(json_root(document), "prompt"), NULL), &text);
    size_t length = strlen(expected);
    assert_true(length > 100);
    assert_int_equal(text.count_bytes, length);
    assert_memory_equal(text.data, expected, length);
    bytes_release(&text);
    model_runner_close(&runner);
    json_close(document);
}

static void a_trained_model_tells_the_same_stories(void **state)
{
    (void)state;
    static const char *const sets[] = {"generic", "openblas", "avx2", "avx512", "amx"};
    char path[1100], line[8192];
    struct tokenizer *tokenizer;
    struct error err;
    if (tokenizer_open(&tokenizer, model_dir, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        if (!kernels_find(sets[i]))
            continue;
        int count = 0;
        snprintf(path, sizeof path, "%s/reference.jsonl", model_dir);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        for (; fgets(line, sizeof line, file); count++)
            check_line(sets[i], tokenizer, line);
        fclose(file);
        assert_true(count >= 8);
        print_message("kernel set %s: %d stories equal\n", sets[i], count);
    }
    tokenizer_close(tokenizer);
}

int main(void)
{
    const char *shared = getenv("MILLRACE_SHARED");
    snprintf(model_dir, sizeof model_dir, "%s/data/models/stories260k",
             shared ? shared : MILLRACE_SOURCE_DIR "/../shared");
    if (access(model_dir, R_OK) != 0) {
        printf("SKIP: %s is absent; set MILLRACE_SHARED\n", model_dir);
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_trained_model_tells_the_same_stories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
