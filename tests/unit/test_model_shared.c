// SPDX-License-Identifier: Apache-2.0
// Sequences whose block tables begin with the same blocks attend to them together: their logits have the
// bytes of sequences that share nothing, for 2 to 64 sequences in trees of partly shared prefixes, decoding
// beside prefill, on every kernel set of this machine.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "tests/support/model_runner.h"

enum { BRANCHES = 64, LENGTH = 216, STEPS = 2, VOCAB = 288, BLOCK_TOKENS = 16, FIRST_STEP = 190 };

static int32_t tokens[BRANCHES][LENGTH];
static float expected[BRANCHES][LENGTH][VOCAB];
static float logits[RUNNER_MAX_ROWS][VOCAB];
static struct runner_sequence sequences[BRANCHES];

/* Branch i begins like branch (i - 1) / 2, for so many whole blocks; 4 blocks are a tile. */
static int32_t parent_of(int32_t branch)
{
    return branch > 0 ? (branch - 1) / 2 : 0;
}

static int32_t shared_blocks(int32_t branch)
{
    static const int32_t blocks[] = {11, 4, 8, 0, 9, 11, 3, 10};
    return branch > 0 ? blocks[branch % 8] : 0;
}

static void write_prompts(void)
{
    for (int32_t i = 0; i < BRANCHES; i++)
        for (int32_t t = 0; t < LENGTH; t++)
            tokens[i][t] = t < shared_blocks(i) * BLOCK_TOKENS ? tokens[parent_of(i)][t]
                                                               : (t * 7919 + i * 131 + 5) % VOCAB;
}

static void compute_expected(const struct runner_options *variant)
{
    struct model_runner runner;
    model_runner_open(&runner, variant);
    for (int32_t i = 0; i < BRANCHES; i++) {
        struct runner_sequence *sequence = &sequences[i];
        const int32_t rows = LENGTH;
        model_runner_sequence(&runner, sequence, tokens[i], LENGTH);
        model_runner_step(&runner, &sequence, &rows, 1, expected[i][0]);
    }
    model_runner_close(&runner);
}

/* Branches share blocks with their parents; the first tokens of each are computed alone. */
static void open_tree(struct model_runner *runner, const struct runner_options *variant, int32_t count)
{
    model_runner_open(runner, variant);
    for (int32_t i = 0; i < count; i++) {
        struct runner_sequence *sequence = &sequences[i];
        model_runner_sequence(runner, sequence, tokens[i], LENGTH);
        memcpy(sequence->block_table, sequences[parent_of(i)].block_table,
               (size_t)shared_blocks(i) * sizeof *sequence->block_table);
        sequence->context_tokens = shared_blocks(i) * BLOCK_TOKENS;
        const int32_t rows = FIRST_STEP + i % 7 - sequence->context_tokens;
        model_runner_step(runner, &sequence, &rows, 1, logits[0]);
    }
}

/* All branches in one batch: most decode, some take in several tokens. */
static void check_step(const struct runner_options *variant, struct model_runner *runner, int32_t count)
{
    struct runner_sequence *parts[BRANCHES] = {0};
    int32_t rows[BRANCHES] = {0}, row = 0;
    for (int32_t i = 0; i < count; i++)
        parts[i] = &sequences[i], rows[i] = i % 9 == 4 ? 6 : 1;
    model_runner_step(runner, parts, rows, count, logits[0]);
    for (int32_t i = 0; i < count; row += rows[i++])
        if (memcmp(logits[row], expected[i][sequences[i].context_tokens - rows[i]],
                   (size_t)rows[i] * sizeof logits[0]) != 0)
            fail_msg("%s %s, kv %s, %d sequences: sequence %d has other bytes when it shares blocks",
                     variant->golden, variant->kernels, variant->kv_format, count, i);
}

static void check_variant(struct runner_options variant)
{
    static const int32_t counts[] = {2, 5, 33, 64};
    compute_expected(&variant);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct model_runner runner;
        variant.threads = i % 2 == 0 ? 1 : 3;
        open_tree(&runner, &variant, counts[i]);
        for (int step = 0; step < STEPS; step++)
            check_step(&variant, &runner, counts[i]);
        model_runner_close(&runner);
    }
}

static void sharing_blocks_changes_no_byte(void **state)
{
    (void)state;
    static const char *const sets[] = {"generic", "avx2", "avx512", "amx"};
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        const struct kernels *set = kernels_find(sets[i]);
        if (!set)
            continue;
        check_variant((struct runner_options){"mistral", sets[i], "f32", "bf16", 2, BLOCK_TOKENS});
        if (set->attention_tile_tokens == 0)
            continue; /* one variant shows that blocks can be shared at all */
        check_variant((struct runner_options){"qwen3", sets[i], "f32", "f32", 2, BLOCK_TOKENS});
        check_variant((struct runner_options){"llama-llama3", sets[i], "bf16",
                                              set->has_kv_int8 ? "int8" : "bf16", 2, BLOCK_TOKENS});
    }
}

int main(void)
{
    write_prompts();
    const struct CMUnitTest tests[] = {cmocka_unit_test(sharing_blocks_changes_no_byte)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
