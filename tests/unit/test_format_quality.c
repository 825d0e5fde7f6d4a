// SPDX-License-Identifier: Apache-2.0
// What a weight format costs in quality, for every kernel set of this machine: perplexity of the bundled
// model's golden answers and of the stories of stories260k (where the shared data is there), and agreement of
// the most likely token with f32 (the oracle's). Issue 4's bounds.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "engine/text/tokenizer.h"
#include "tests/support/model_runner.h"

enum { MAX_TEXTS = 256, MAX_TOKENS = 512, MAX_TOTAL = 16384, CHUNK = 64 };

struct text {
    int32_t tokens[MAX_TOKENS];
    int32_t count, prompt;
};

struct corpus {
    const char *name, *model;
    double bf16_agreement; /* at least; issue 4 bounds it on the bundled model */
    struct text texts[MAX_TEXTS];
    int count;
};

struct quality {
    double loss; /* sum of -ln p of the golden answers' tokens */
    int32_t scored, tops;
    int32_t top[MAX_TOTAL]; /* most likely token at every position */
};

static void append_ids(struct text *text, const struct json *ids)
{
    assert_non_null(ids);
    for (size_t i = 0; i < ids->count && text->count < MAX_TOKENS; i++)
        text->tokens[text->count++] = (int32_t)json_integer_or(&ids->as.items[i], -1);
}

/* A golden answer: ids of prompt and output. */
static void read_answer(struct text *text, const struct json *line, const struct tokenizer *tokenizer)
{
    (void)tokenizer;
    append_ids(text, json_member(line, "prompt_ids"));
    text->prompt = text->count;
    append_ids(text, json_member(line, "output_ids"));
}

/* A story: text, of which everything behind the first token counts. */
static void read_story(struct text *text, const struct json *line, const struct tokenizer *tokenizer)
{
    const struct encode_options encode = {.add_special_tokens = true};
    const char *story = json_string_or(json_member(line, "text"), "");
    struct token_list tokens = {0};
    assert_int_equal(tokenizer_encode(tokenizer, story, strlen(story), &encode, &tokens, NULL), STATUS_OK);
    for (size_t i = 0; i < tokens.count && text->count < MAX_TOKENS; i++)
        text->tokens[text->count++] = tokens.ids[i];
    text->prompt = 1;
    token_list_release(&tokens);
}

static void read_corpus(struct corpus *corpus, const char *path,
                        void (*read)(struct text *, const struct json *, const struct tokenizer *))
{
    static char line[1 << 16];
    struct tokenizer *tokenizer;
    struct json_document *document;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(tokenizer_open(&tokenizer, corpus->model, NULL), STATUS_OK);
    for (; corpus->count < MAX_TEXTS && fgets(line, sizeof line, file); corpus->count++) {
        struct text *text = &corpus->texts[corpus->count];
        *text = (struct text){0};
        assert_int_equal(json_parse(&document, line, strlen(line), NULL, NULL), STATUS_OK);
        read(text, json_root(document), tokenizer);
        json_close(document);
    }
    tokenizer_close(tokenizer);
    fclose(file);
}

/* Looks at the logits behind token `position`. */
static void look(struct quality *quality, const struct text *text, int32_t position, const float *logits,
                 int32_t vocab)
{
    int32_t best = 0;
    double sum = 0.0;
    for (int32_t i = 1; i < vocab; i++)
        best = logits[i] > logits[best] ? i : best;
    for (int32_t i = 0; i < vocab; i++)
        sum += exp((double)logits[i] - (double)logits[best]);
    assert_true(quality->tops < MAX_TOTAL);
    quality->top[quality->tops++] = best;
    if (position + 1 < text->prompt || position + 1 >= text->count)
        return;
    quality->loss += log(sum) - ((double)logits[text->tokens[position + 1]] - (double)logits[best]);
    quality->scored++;
}

static void score_text(struct quality *quality, struct model_runner *runner, const struct text *text)
{
    const int32_t vocab = model_hparams(runner->model)->vocab;
    float *logits = malloc((size_t)CHUNK * (size_t)vocab * sizeof *logits);
    struct runner_sequence sequence, *sequences = &sequence;
    assert_non_null(logits);
    model_runner_sequence(runner, &sequence, text->tokens, text->count);
    for (int32_t done = 0, rows; done < text->count; done += rows) {
        rows = text->count - done < CHUNK ? text->count - done : CHUNK;
        model_runner_step(runner, &sequences, &rows, 1, logits);
        for (int32_t row = 0; row < rows; row++)
            look(quality, text, done + row, logits + (size_t)row * (size_t)vocab, vocab);
    }
    free(logits);
}

static void measure(struct quality *quality, const struct corpus *corpus, const char *set, const char *format,
                    const char *kv_format)
{
    *quality = (struct quality){0};
    struct model_runner runner;
    model_runner_open(&runner, &(struct runner_options){corpus->model, set, format, kv_format, 1, 0});
    const int32_t blocks = runner.next_block;
    for (int i = 0; i < corpus->count; i++, runner.next_block = blocks) /* the blocks are free again */
        score_text(quality, &runner, &corpus->texts[i]);
    model_runner_close(&runner);
    assert_true(quality->scored > 100);
}

static void check_corpus(const struct corpus *corpus)
{
    static const char *const sets[] = {"amx", "avx512", "avx2", "generic"};
    const struct {
        const char *name;
        enum weight_format format;
        const char *kv_format;
        double perplexity_ratio, agreement; /* at most, at least */
    } formats[] = {{"bf16", WEIGHT_BF16, "bf16", 1.005, corpus->bf16_agreement},
                   {"int8", WEIGHT_INT8, "bf16", 1.01, 0.0},
                   {"int4", WEIGHT_INT4, "bf16", 1.05, 0.0},
                   {"bf16", WEIGHT_BF16, "int8", 1.01, 0.0}};
    static struct quality exact, quality;
    measure(&exact, corpus, "generic", "f32", "bf16");
    for (size_t set = 0; set < sizeof sets / sizeof sets[0]; set++)
        for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
            const struct kernels *kernels = kernels_find(sets[set]);
            const bool kv_int8 = strcmp(formats[i].kv_format, "int8") == 0;
            if (!kernels || !kernels->has_format(formats[i].format) || (kv_int8 && !kernels->has_kv_int8))
                continue;
            measure(&quality, corpus, sets[set], formats[i].name, formats[i].kv_format);
            int32_t same = 0;
            for (int32_t t = 0; t < exact.tops; t++)
                same += quality.top[t] == exact.top[t];
            const double ratio = exp((quality.loss - exact.loss) / exact.scored);
            const double agreement = (double)same / exact.tops;
            print_message(
                "%-11s %-8s %-5s kv %-5s perplexity %.4f (f32 %.4f), ratio %.4f; top-1 agreement %.2f %%\n",
                corpus->name, sets[set], formats[i].name, formats[i].kv_format,
                exp(quality.loss / quality.scored), exp(exact.loss / exact.scored), ratio, 100 * agreement);
            assert_true(ratio <= formats[i].perplexity_ratio);
            assert_true(agreement >= formats[i].agreement);
        }
}

static void formats_keep_their_quality_on_the_bundled_model(void **state)
{
    (void)state;
    static struct corpus corpus = {.name = "shop-qwen3",
                                   .model = MILLRACE_SOURCE_DIR "/examples/models/shop-qwen3",
                                   .bf16_agreement = 0.995};
    read_corpus(&corpus, MILLRACE_SOURCE_DIR "/examples/models/shop-qwen3/golden.jsonl", read_answer);
    check_corpus(&corpus);
}

static void formats_keep_their_quality_on_stories(void **state)
{
    (void)state;
    static struct corpus corpus = {.name = "stories260k"};
    static char model[1024], path[1100];
    const char *shared = getenv("MILLRACE_SHARED");
    snprintf(model, sizeof model, "%s/data/models/stories260k",
             shared ? shared : MILLRACE_SOURCE_DIR "/../shared");
    snprintf(path, sizeof path, "%s/reference.jsonl", model);
    if (access(path, R_OK) != 0)
        skip();
    corpus.model = model;
    read_corpus(&corpus, path, read_story);
    check_corpus(&corpus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(formats_keep_their_quality_on_the_bundled_model),
                                       cmocka_unit_test(formats_keep_their_quality_on_stories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
