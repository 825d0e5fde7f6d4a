// SPDX-License-Identifier: Apache-2.0
// /metrics of a mixture of experts: rows, the busiest expert over the mean; nothing of it for a dense model.
// And what was guessed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "worker/metrics.h"

static char *page_of(const struct engine_stats *stats, struct bytes *out)
{
    static struct metrics metrics = {.model = "m"};
    bytes_init(out, 1 << 20);
    const struct metrics_sources sources = {.engine = stats};
    metrics_render(&metrics, &sources, 0, out);
    bytes_append_char(out, '\0');
    assert_false(out->failed);
    return (char *)out->data;
}

static void experts_have_metrics_and_dense_models_none(void **state)
{
    (void)state;
    struct bytes out;
    struct engine_stats stats = {.running = 3};
    assert_null(strstr(page_of(&stats, &out), "millrace_moe"));
    bytes_release(&out);
    stats.experts = 8; /* 2 layers, 5 rows with 2 choices; all 10 rows had one of the experts in common */
    stats.expert_load = (struct expert_load){.layer_steps = 2, .rows = 20, .touched = 9, .hottest_rows = 10};
    const char *page = page_of(&stats, &out);
    assert_non_null(strstr(page, "\nmillrace_moe_experts 8\n"));
    assert_non_null(strstr(page, "\nmillrace_moe_imbalance 4\n"));
    assert_non_null(strstr(page, "\nmillrace_moe_expert_rows_total 20\n"));
    assert_non_null(strstr(page, "\nmillrace_moe_hottest_expert_rows_total 10\n"));
    assert_non_null(strstr(page, "\nmillrace_moe_experts_used_total 9\n"));
    bytes_release(&out);
    stats.expert_load = (struct expert_load){0}; /* before the first step */
    assert_non_null(strstr(page_of(&stats, &out), "\nmillrace_moe_imbalance 0\n"));
    bytes_release(&out);
}

static void guesses_are_counted(void **state)
{
    (void)state;
    struct bytes out;
    const struct engine_stats stats = {.drafts = 3, .drafted_tokens = 17, .accepted_tokens = 11};
    const char *page = page_of(&stats, &out);
    assert_non_null(strstr(page, "\nvllm:spec_decode_num_drafts_total{model_name=\"m\",engine=\"0\"} 3\n"));
    assert_non_null(
        strstr(page, "\nvllm:spec_decode_num_draft_tokens_total{model_name=\"m\",engine=\"0\"} 17\n"));
    assert_non_null(
        strstr(page, "\nvllm:spec_decode_num_accepted_tokens_total{model_name=\"m\",engine=\"0\"} 11\n"));
    bytes_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(experts_have_metrics_and_dense_models_none),
                                       cmocka_unit_test(guesses_are_counted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
