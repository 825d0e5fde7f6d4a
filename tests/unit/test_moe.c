// SPDX-License-Identifier: Apache-2.0
// Mixture of experts: which experts a row chooses and with what weight, how even the pieces of one layer's
// products come out over a team, and the counters of rows per expert. Logits against transformers and bytes
// in any company: test_logits, test_model_bytes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/model/moe.h"
#include "tests/support/model_runner.h"

static void choices_are(const char *expected, const float *logits, int32_t count, int32_t experts)
{
    int32_t choices[8];
    float weights[8];
    char text[32] = "";
    moe_choose(choices, weights, count, logits, experts, true);
    for (int32_t i = 0; i < count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), i ? " %d" : "%d", choices[i]);
    assert_string_equal(text, expected);
}

static void the_largest_logits_are_chosen_and_ties_go_to_the_lower_expert(void **state)
{
    (void)state;
    choices_are("3 0", (const float[]){2.0f, 1.0f, -1.0f, 5.0f}, 2, 4);
    choices_are("1 3 0 2", (const float[]){0.0f, 7.0f, 0.0f, 7.0f}, 4, 4);
    choices_are("0 1 2", (const float[]){1.0f, 1.0f, 1.0f, 1.0f, 1.0f}, 3, 5);
    choices_are("2", (const float[]){-3e38f, -INFINITY, 3e38f}, 1, 3);
    choices_are("0 1 2", (const float[]){NAN, NAN, NAN, NAN}, 3, 4); /* distinct experts whatever comes */
}

static void weights_are_the_softmax_over_all_or_among_the_chosen(void **state)
{
    (void)state;
    const float logits[] = {0.5f, -1.0f, 2.0f, 0.25f, 1.5f};
    int32_t choices[3];
    float weights[3];
    double all = 0.0, chosen = exp(2.0) + exp(1.5) + exp(0.5);
    for (int i = 0; i < 5; i++)
        all += exp((double)logits[i]);
    moe_choose(choices, weights, 3, logits, 5, false);
    for (int i = 0; i < 3; i++)
        assert_true(fabs((double)weights[i] - exp((double)logits[choices[i]]) / all) < 1e-7);
    moe_choose(choices, weights, 3, logits, 5, true);
    for (int i = 0; i < 3; i++)
        assert_true(fabs((double)weights[i] - exp((double)logits[choices[i]]) / chosen) < 1e-7);
}

enum { EXPERTS = 64, WIDTH = 512, MEMBERS = 8, GRANULE = 32 };

/* Rows by Zipf's law (exponent 1.2), the hot experts spread over all. */
static void zipf_rows(int32_t out[EXPERTS], int32_t rows)
{
    double sum = 0.0;
    for (int i = 0; i < EXPERTS; i++)
        sum += pow(i + 1, -1.2);
    for (int i = 0; i < EXPERTS; i++)
        out[i * 37 % EXPERTS] = (int32_t)(rows * pow(i + 1, -1.2) / sum) + 1;
}

/* What the busiest member does over what an even share is. */
static double imbalance(const struct listed_product *list, int count)
{
    int64_t all = 0;
    for (int i = 0; i < count; i++)
        all += WIDTH / GRANULE * product_panel_cost(list[i].x.rows);
    return (double)product_list_busiest(list, count, GRANULE, MEMBERS) * MEMBERS / (double)all;
}

static void groups_are_in_order_of_their_rows(void **state)
{
    (void)state;
    struct moe_group groups[6];
    assert_int_equal(moe_order(groups, (const int32_t[]){3, 0, 7, 1, 7, 0}, 6), 4);
    static const int32_t expected[][2] = {{2, 7}, {4, 7}, {0, 3}, {3, 1}};
    for (int i = 0; i < 4; i++)
        assert_true(groups[i].expert_index == expected[i][0] && groups[i].rows == expected[i][1]);
    assert_int_equal(moe_order(groups, (const int32_t[]){0, 0}, 2), 0);
}

static void a_hot_expert_leaves_no_member_idle(void **state)
{
    (void)state;
    static struct listed_product list[EXPERTS];
    static struct moe_group groups[EXPERTS];
    const struct weight w = {.n = WIDTH, .k = WIDTH};
    int32_t rows[EXPERTS];
    zipf_rows(rows, 4096);
    double fixed[MEMBERS] = {0}, all = 0.0, most = 0.0; /* eight experts to each member */
    for (int i = 0; i < EXPERTS; i++) {
        const double cost = (double)product_panel_cost(rows[i]);
        fixed[i / (EXPERTS / MEMBERS)] += cost, all += cost;
    }
    for (int m = 0; m < MEMBERS; m++)
        most = fixed[m] > most ? fixed[m] : most;
    assert_int_equal(moe_order(groups, rows, EXPERTS), EXPERTS);
    for (int i = 0; i < EXPERTS; i++)
        list[i] = (struct listed_product){.product = {.weight = &w}, .x = {.rows = groups[i].rows}};
    product_list_cut(list, EXPERTS, GRANULE, MEMBERS * PRODUCT_LIST_PIECES);
    const double packed = imbalance(list, EXPERTS);
    print_message("busiest member over the mean: %.2f by experts, %.3f by pieces\n", most * MEMBERS / all,
                  packed);
    assert_true(most * MEMBERS / all > 1.5);
    assert_true(packed <= 1.10);
    list[0].x.rows = 512; /* one expert has everything */
    product_list_cut(list, 1, GRANULE, MEMBERS * PRODUCT_LIST_PIECES);
    assert_true(imbalance(list, 1) <= 1.10);
    product_list_cut(list, 1, GRANULE, 1);
    assert_int_equal(list[0].piece, WIDTH);
}

static void rows_are_counted_by_expert(void **state)
{
    (void)state;
    enum { ROWS = 40, CHOICES = 3, SPARSE = 2 };
    struct model_runner runner;
    struct runner_sequence sequence, *sequences[] = {&sequence};
    int32_t tokens[2 * ROWS];
    static float logits[ROWS * 288];
    for (int i = 0; i < 2 * ROWS; i++)
        tokens[i] = i * 37 % 288;
    model_runner_open(&runner, &(struct runner_options){"qwen3-moe", "generic", "f32", "f32", 2, 16});
    model_runner_sequence(&runner, &sequence, tokens, 2 * ROWS);
    for (int step = 0; step < 2; step++)
        model_runner_step(&runner, sequences, &(const int32_t){ROWS}, 1, logits);
    const struct hparams *h = model_hparams(runner.model);
    const struct expert_load load = model_expert_load(runner.model);
    assert_int_equal(load.layer_steps, 2 * SPARSE);
    assert_int_equal(load.rows, 2 * SPARSE * ROWS * CHOICES);
    assert_in_range(load.touched, CHOICES * load.layer_steps, 9 * load.layer_steps);
    assert_in_range(load.hottest_rows, load.rows / 9, ROWS * load.layer_steps);
    uint64_t hottest = 0;
    for (int32_t layer = 0; layer < h->layers; layer++) {
        const uint64_t *rows = model_expert_rows(runner.model, layer);
        uint64_t sum = 0, most = 0;
        for (int32_t i = 0; i < h->experts; i++)
            sum += rows[i], most = rows[i] > most ? rows[i] : most;
        assert_int_equal(sum, hparams_layer_is_sparse(h, layer) ? 2 * ROWS * CHOICES : 0);
        hottest += most;
    }
    assert_true(hottest <= load.hottest_rows); /* of sums, and the sum of those of each step */
    model_runner_close(&runner);
    model_runner_open(&runner, &(struct runner_options){"qwen3", "generic", "f32", "f32", 2, 16});
    assert_null(model_expert_rows(runner.model, 0));
    assert_int_equal(model_expert_load(runner.model).rows, 0);
    model_runner_close(&runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_logits_are_chosen_and_ties_go_to_the_lower_expert),
        cmocka_unit_test(weights_are_the_softmax_over_all_or_among_the_chosen),
        cmocka_unit_test(groups_are_in_order_of_their_rows),
        cmocka_unit_test(a_hot_expert_leaves_no_member_idle),
        cmocka_unit_test(rows_are_counted_by_expert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
