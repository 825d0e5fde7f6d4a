// SPDX-License-Identifier: Apache-2.0
// The forward pass against Hugging Face transformers in float32 (tests/golden/models, made by
// tools/make_model_golden.py): logits of every prompt position within 1e-4 and greedy continuations equal
// token by token, for every architecture, every kernel set of this machine and several chunkings.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/model_runner.h"

static const char *const models[] = {"llama-llama3", "llama-linear", "llama-yarn", "mistral",  "mixtral",
                                     "qwen2",        "qwen2-moe",    "qwen3",      "qwen3-moe"};
static const char *const sets[] = {"generic", "openblas", "avx2", "avx512", "amx"};
enum { MODELS = sizeof models / sizeof models[0], SETS = sizeof sets / sizeof sets[0] };

static int32_t argmax(const float *logits, int32_t vocab)
{
    int32_t best = 0;
    for (int32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* Prefill in chunks; returns the largest difference and leaves the last row's logits at `last`. */
static double prefill(struct model_runner *runner, struct runner_sequence *sequence,
                      const struct golden *golden, int32_t chunk, float *last)
{
    const size_t vocab = (size_t)golden->vocab;
    float *logits = malloc((size_t)golden->prompt_tokens * vocab * sizeof *logits);
    assert_non_null(logits);
    double worst = 0.0;
    for (int32_t done = 0, rows; done < golden->prompt_tokens; done += rows) {
        rows = golden->prompt_tokens - done < chunk ? golden->prompt_tokens - done : chunk;
        model_runner_step(runner, &sequence, &rows, 1, logits);
        for (size_t i = 0; i < (size_t)rows * vocab; i++) {
            double difference = fabs((double)logits[i] - (double)golden->logits[(size_t)done * vocab + i]);
            worst = difference > worst || isnan(difference) ? difference : worst;
        }
        memcpy(last, logits + (size_t)(rows - 1) * vocab, vocab * sizeof *last);
    }
    free(logits);
    return worst;
}

static void check_model(const char *name, const char *set, int32_t chunk)
{
    struct golden golden;
    struct model_runner runner;
    struct runner_sequence sequence;
    golden_open(&golden, name);
    model_runner_open(&runner, &(struct runner_options){name, set, "f32", "f32", 1, 0});
    model_runner_sequence(&runner, &sequence, golden.tokens, golden.prompt_tokens + golden.greedy_tokens);
    float *logits = malloc((size_t)golden.vocab * sizeof *logits);
    assert_non_null(logits);
    double worst = prefill(&runner, &sequence, &golden, chunk, logits);
    if (!(worst <= 1e-4))
        fail_msg("%s, kernel set %s, chunks of %d: logits differ by %g", name, set, chunk, worst);
    for (int32_t i = 0; i < golden.greedy_tokens; i++) {
        assert_int_equal(argmax(logits, golden.vocab), golden.tokens[golden.prompt_tokens + i]);
        const int32_t one = 1;
        struct runner_sequence *sequences[] = {&sequence};
        model_runner_step(&runner, sequences, &one, 1, logits);
    }
    print_message("%-14s %-9s chunks of %3d: max |dlogit| %.1e\n", name, set, chunk, worst);
    free(logits);
    model_runner_close(&runner);
    golden_close(&golden);
}

static void logits_and_greedy_tokens_agree_with_transformers(void **state)
{
    (void)state;
    static const int32_t chunks[] = {1, 16, 333};
    for (int set = 0; set < SETS; set++) {
        if (!kernels_find(sets[set])) {
            print_message("kernel set %s: not on this machine\n", sets[set]);
            continue;
        }
        for (int model = 0; model < MODELS; model++)
            for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++)
                check_model(models[model], sets[set], chunks[i]);
    }
}

/* bf16 weights in a bf16 checkpoint are exact: the same logits as with f32 weights. Only for sets whose bf16
 * products are made in f32. */
static void packing_bf16_weights_loses_nothing(void **state)
{
    (void)state;
    struct golden golden;
    struct model_runner runner;
    struct runner_sequence sequence;
    float last[512];
    golden_open(&golden, "mistral");
    assert_true(golden.vocab <= 512);
    model_runner_open(&runner, &(struct runner_options){"mistral", "generic", "auto", "f32", 1, 0});
    assert_string_equal(model_weight_format_name(runner.model), "bf16");
    model_runner_sequence(&runner, &sequence, golden.tokens, golden.prompt_tokens);
    assert_true(prefill(&runner, &sequence, &golden, 333, last) <= 1e-4);
    model_runner_close(&runner);
    golden_close(&golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_and_greedy_tokens_agree_with_transformers),
        cmocka_unit_test(packing_bf16_weights_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
