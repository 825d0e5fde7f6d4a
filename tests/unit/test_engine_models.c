// SPDX-License-Identifier: Apache-2.0
// The promise in bytes again, for what test_engine.c leaves out: the machine's own kernel set and the generic
// one, one and two threads, sliding windows and yarn, 200 requests with stop tokens, biases and greedy ones
// among them. And the engine's log-probabilities of a prompt against those of transformers.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/philox.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/model_runner.h"

enum { REQUESTS = 200, FEWER = 50, LONGEST = FIXTURE_MAX_TOKENS / FIXTURE_BLOCK_TOKENS };

static struct asked alone[REQUESTS], company[REQUESTS];
static uint64_t requests; /* of them used */
static const struct token_bias bias[] = {{17, 3.0f}, {30, -100.0f}};
static const int32_t stop_tokens[] = {40, 41, 42, 43};

static struct model *open_model(const char *golden, const char *kernels, const char *format, int threads)
{
    char path[1024];
    struct model *model;
    struct error err;
    snprintf(path, sizeof path, "%s/tests/golden/models/%s", MILLRACE_SOURCE_DIR, golden);
    const struct model_options options = {.model_dir = path,
                                          .kernels = kernels,
                                          .weight_format = format,
                                          .kv_format = format,
                                          .threads = threads,
                                          .max_batch_tokens = FIXTURE_ROWS,
                                          .max_logit_rows = engine_max_logit_rows(64)};
    if (model_open(&model, &options, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return model;
}

static uint32_t random_below(uint32_t below, uint64_t id, uint32_t what)
{
    return (uint32_t)(philox_uniform(2026, (uint32_t)id, what) * below);
}

static void init_request(struct asked *asked, uint64_t id)
{
    uint32_t tokens = 1 + random_below(id % 8 == 0 ? 200 : 90, id, 0);
    asked_init(asked, id, tokens, random_below(3, id, 1) * 30, id % 3);
    struct sampling_params *s = &asked->sampling;
    s->max_tokens = random_below(24, id, 2);
    s->temperature = random_below(3, id, 3) ? 0.9f : 0.0f;
    s->n = random_below(4, id, 4) ? 1 : 1 + random_below(3, id, 5);
    s->logprobs = random_below(2, id, 6) ? 0 : SAMPLING_NO_LOGPROBS;
    s->prompt_logprobs = random_below(6, id, 7) ? SAMPLING_NO_LOGPROBS : 0;
    s->min_p = random_below(3, id, 8) ? 0.0f : 0.05f;
    s->presence_penalty = random_below(3, id, 9) ? 0.0f : 0.7f;
    s->logit_bias = bias;
    s->logit_bias_count = random_below(3, id, 10);
    s->stop_tokens = stop_tokens;
    s->stop_token_count = 4 * random_below(2, id, 11);
    s->min_tokens = random_below(3, id, 12);
    s->ignore_eos = random_below(2, id, 13);
    asked->request.priority = random_below(3, id, 14);
}

static void compute_alone(struct model *model)
{
    struct engine_options options = engine_fixture_options();
    options.model = model;
    options.prefix_cache = false;
    options.max_chunk_tokens = 333;
    options.max_batch_tokens = FIXTURE_ROWS;
    struct engine *engine = engine_fixture_open(&options);
    for (uint64_t id = 0; id < requests; id++) {
        init_request(&alone[id], id);
        asked_submit(&alone[id], engine);
        asked_run(alone, engine);
        company[id] = alone[id];
    }
    engine_close(engine);
}

struct company {
    int32_t sequences, chunk, preempt_every, blocks;
    bool prefix_cache;
    int32_t drafts;
};

static const struct company companies[] = {
    {2, 16, 0, 256, true, 7},        {7, 333, 3, 256, true, 7},       {64, 333, 0, 1024, true, 0},
    {64, 1, 7, 1024, true, 0},       {64, 16, 3, 1024, false, 2},     {7, 16, 7, LONGEST, true, 0},
    {7, 1, 3, LONGEST + 1, true, 3}, {64, 333, 3, LONGEST, false, 7},
};

static void check_company(struct model *model, const struct company *c)
{
    char what[80];
    struct engine_options options = engine_fixture_options();
    options.model = model;
    options.max_sequences = c->sequences;
    options.max_chunk_tokens = c->chunk;
    options.max_batch_tokens = c->chunk > 64 ? FIXTURE_ROWS : 64;
    options.force_preempt_every = c->preempt_every;
    options.kv_blocks = c->blocks;
    options.prefix_cache = c->prefix_cache;
    options.speculative_tokens = c->drafts;
    options.max_waiting = 3 * REQUESTS;
    struct engine *engine = engine_fixture_open(&options);
    for (uint64_t id = 0; id < requests; id++)
        asked_submit(&company[id], engine);
    asked_run(company, engine);
    snprintf(what, sizeof what, "batch %d, chunk %d, preempt %d, blocks %d, cache %d, drafts %d",
             c->sequences, c->chunk, c->preempt_every, c->blocks, c->prefix_cache, c->drafts);
    for (uint64_t id = 0; id < requests; id++)
        asked_compare(&company[id], &alone[id], what);
    struct engine_stats stats;
    engine_stats_read(engine, &stats);
    assert_int_equal(stats.expert_load.rows > 0, model_hparams(model)->experts > 0);
    engine_close(engine);
}

static void check_model(const char *golden, const char *kernels, uint64_t count)
{
    requests = count;
    struct model *one = open_model(golden, kernels, "auto", 1);
    struct model *two = open_model(golden, kernels, "auto", 2);
    compute_alone(one);
    for (size_t i = 0; i < sizeof companies / sizeof companies[0]; i++)
        check_company(i % 2 ? one : two, &companies[i]);
    print_message("%s: kernel set %s\n", golden, model_kernels_name(one));
    model_close(two);
    model_close(one);
}

static void company_does_not_show_with_the_machines_kernels(void **state)
{
    (void)state;
    check_model("qwen3", "auto", REQUESTS);
}

static void company_does_not_show_behind_a_sliding_window(void **state)
{
    (void)state;
    check_model("mistral", "generic", FEWER);
    check_model("mistral", "auto", FEWER);
}

static void company_does_not_show_with_yarn(void **state)
{
    (void)state;
    check_model("llama-yarn", "auto", FEWER);
}

static void company_does_not_show_among_experts(void **state)
{
    (void)state;
    check_model("qwen3-moe", "auto", FEWER);
    check_model("qwen2-moe", "generic", FEWER);
}

/* ---- against transformers ---- */

static double golden_logprob(const struct golden *golden, int32_t position)
{
    const float *logits = golden->logits + (size_t)(position - 1) * (size_t)golden->vocab;
    double sum = 0;
    for (int32_t i = 0; i < golden->vocab; i++)
        sum += exp((double)logits[i]);
    return (double)logits[golden->tokens[position]] - log(sum);
}

static void score_golden(const char *name, int32_t chunk, uint32_t neighbours)
{
    struct golden golden;
    golden_open(&golden, name);
    struct engine_options options = engine_fixture_options();
    options.model = open_model(name, "auto", "f32", 1);
    options.max_chunk_tokens = chunk;
    options.max_sequences = 33;
    struct engine *engine = engine_fixture_open(&options);
    for (uint64_t id = 1; id <= neighbours; id++) { /* they decode while the prompt is scored */
        asked_init(&company[id], id, 4, 0, 0);
        company[id].sampling.max_tokens = 60;
        asked_submit(&company[id], engine);
    }
    asked_step(company, engine);
    struct asked *asked = &company[0];
    asked_init(asked, 0, (uint32_t)golden.prompt_tokens, 0, 0);
    memcpy(asked->prompt, golden.tokens, (size_t)golden.prompt_tokens * sizeof(int32_t));
    asked->sampling.temperature = 0;
    asked->sampling.prompt_logprobs = 0;
    asked->sampling.max_tokens = (uint32_t)golden.greedy_tokens;
    asked_submit(asked, engine);
    int steps = 0;
    for (; asked->said[0].count == 0; steps++)
        asked_step(company, engine);
    if (chunk >= 16) /* neighbours do not take the rows of logits that scoring needs */
        assert_true(steps <= golden.prompt_tokens / 16 + 2);
    asked_run(company, engine);
    assert_int_equal(asked->said[0].prompt_count, golden.prompt_tokens - 1);
    for (int32_t i = 1; i < golden.prompt_tokens; i++)
        assert_true(fabs((double)asked->said[0].prompt_logprobs[i - 1] - golden_logprob(&golden, i)) < 2e-4);
    assert_memory_equal(asked->said[0].tokens, golden.tokens + golden.prompt_tokens,
                        (size_t)golden.greedy_tokens * sizeof(int32_t));
    engine_close(engine);
    model_close(options.model);
    golden_close(&golden);
}

static void prompt_logprobs_are_those_of_transformers(void **state)
{
    (void)state;
    static const char *const names[] = {"qwen3", "mistral", "llama-linear", "llama-yarn"};
    for (size_t i = 0; i < 4; i++) {
        score_golden(names[i], 333, 0);
        score_golden(names[i], 1, 0);
        score_golden(names[i], 16, 32);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(company_does_not_show_with_the_machines_kernels),
        cmocka_unit_test(company_does_not_show_behind_a_sliding_window),
        cmocka_unit_test(company_does_not_show_with_yarn),
        cmocka_unit_test(company_does_not_show_among_experts),
        cmocka_unit_test(prompt_logprobs_are_those_of_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
