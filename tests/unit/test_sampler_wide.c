// SPDX-License-Identifier: Apache-2.0
// The sampler over a vocabulary wide enough for its shortcuts (groups of neighbours bound a top_k, light
// tokens are dropped before top_p), against a plain implementation that sorts everything; and over broken
// rows.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/philox.h"
#include "engine/sampler.h"

enum { VOCAB = 3001, TOKENS = 40, PROMPT = 25, ROWS = 1500 };

static const int32_t eos[] = {1, 250};
static struct sampler *sampler;
static float logits[VOCAB];
static int32_t tokens[TOKENS];

static int open_sampler(void **state)
{
    (void)state;
    return sampler_open(&sampler, VOCAB, NULL) == STATUS_OK ? 0 : -1;
}

static int close_sampler(void **state)
{
    (void)state;
    sampler_close(sampler);
    return 0;
}

/* ---- the plain implementation ---- */

struct candidate {
    int32_t token;
    float score;
    double weight;
    bool stays;
};

static int by_score(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->token - y->token;
}

static int by_token(const void *a, const void *b)
{
    return ((const struct candidate *)a)->token - ((const struct candidate *)b)->token;
}

static bool is_allowed(const struct sampling_params *s, int32_t token)
{
    for (size_t i = 0; i < s->allowed_count; i++)
        if (s->allowed_tokens[i] == token)
            return true;
    return s->allowed_count == 0;
}

static bool ends_with_bad_word(const struct sampler_row *row, int32_t token)
{
    for (size_t i = 0; i < row->sampling->bad_word_count; i++) {
        const struct token_run *word = &row->sampling->bad_words[i];
        bool same = word->tokens[word->count - 1] == token;
        for (size_t back = 1; back < word->count; back++)
            same = same && row->prompt_tokens + back <= row->token_count &&
                   row->tokens[row->token_count - back] == word->tokens[word->count - 1 - back];
        if (same)
            return true;
    }
    return false;
}

static bool ends_too_early(const struct sampler_row *row, int32_t token)
{
    bool ends = token == eos[0] || token == eos[1];
    for (size_t i = 0; i < row->sampling->stop_token_count; i++)
        ends = ends || row->sampling->stop_tokens[i] == token;
    return ends && row->token_count - row->prompt_tokens < row->sampling->min_tokens;
}

static float plain_score(const struct sampler_row *row, int32_t token)
{
    const struct sampling_params *s = row->sampling;
    float score = row->logits[token];
    for (size_t i = 0; i < s->logit_bias_count; i++)
        if (s->logit_bias[i].token == token)
            score += s->logit_bias[i].bias;
    if (!is_allowed(s, token) || ends_with_bad_word(row, token) || ends_too_early(row, token))
        return -INFINITY;
    int in_prompt = 0, in_output = 0;
    for (uint32_t i = 0; i < row->token_count; i++)
        *(i < row->prompt_tokens ? &in_prompt : &in_output) += row->tokens[i] == token;
    if (in_prompt + in_output > 0 && s->repetition_penalty != 1.0f)
        score = score > 0 ? score / s->repetition_penalty : score * s->repetition_penalty;
    if (in_output > 0)
        score -= s->frequency_penalty * (float)in_output + s->presence_penalty;
    return score;
}

/* Marks what min_p, top_k and top_p leave of candidates sorted by score. */
static void plain_cuts(struct candidate *c, const struct sampling_params *s)
{
    for (int i = 0; i < VOCAB; i++) {
        c[i].weight = exp((double)c[i].score - (double)c[0].score);
        c[i].stays = c[i].score > -INFINITY && c[i].weight >= (double)s->min_p * (1 - 1e-6) &&
                     (s->top_k == 0 || i < s->top_k);
    }
    double total = 0, sum = 0;
    for (int i = 0; i < VOCAB; i++)
        total += c[i].stays ? c[i].weight : 0;
    for (int i = 0; i < VOCAB && s->top_p < 1.0f; i++) {
        if (sum >= (double)s->top_p * total)
            c[i].stays = false;
        sum += c[i].stays ? c[i].weight : 0;
    }
}

static int32_t plain_pick(const struct sampler_row *row)
{
    struct candidate c[VOCAB];
    const struct sampling_params *s = row->sampling;
    for (int32_t i = 0; i < VOCAB; i++)
        c[i] = (struct candidate){.token = i, .score = plain_score(row, i)};
    if (s->temperature >= 1e-5f)
        for (int i = 0; i < VOCAB; i++)
            c[i].score /= s->temperature;
    qsort(c, VOCAB, sizeof c[0], by_score);
    if (s->temperature < 1e-5f)
        return c[0].token;
    plain_cuts(c, s);
    qsort(c, VOCAB, sizeof c[0], by_token);
    double total = 0, sum = 0;
    for (int i = 0; i < VOCAB; i++)
        total += c[i].stays ? c[i].weight : 0;
    double target = total * philox_uniform(s->seed, row->choice, row->token_count - row->prompt_tokens);
    for (int i = 0; i < VOCAB; i++) {
        sum += c[i].stays ? c[i].weight : 0;
        if (c[i].stays && sum > target)
            return c[i].token;
    }
    fail();
    return -1;
}

/* ---- random rows ---- */

static double random_of(int row, int what)
{
    return philox_uniform(2024, (uint32_t)what, (uint32_t)row);
}

static void fill_row(int number)
{
    bool ties = number % 4 == 0;
    for (int i = 0; i < VOCAB; i++) {
        double value = random_of(number * VOCAB + i, 100) * 24 - 12;
        logits[i] = (float)(ties ? floor(value) : value);
    }
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (int32_t)(random_of(number * TOKENS + i, 101) * (i % 2 ? VOCAB : 12));
}

static float one_of(int row, int what, float off, float low, float high)
{
    double value = random_of(row, what);
    return value < 0.5 ? off : low + (float)(value * 2 - 1) * (high - low);
}

static struct sampling_params random_params(int row)
{
    static const struct token_bias biases[] = {{5, 4.5f}, {77, -100.0f}, {250, 3.0f}};
    static const int32_t allowed[] = {3, 250, 9, 5, 140, 77};
    static const int32_t stops[] = {140, 9};
    static int32_t long_word[3], short_word[1] = {5};
    static const struct token_run words[] = {{long_word, 3}, {short_word, 1}};
    memcpy(long_word, tokens + TOKENS - 2, 2 * sizeof(int32_t)); /* the output ends with its beginning */
    long_word[2] = 3;
    struct sampling_params s = sampling_defaults();
    s.seed = (uint64_t)row * 12345;
    s.temperature = one_of(row, 0, 1.0f, 0.0f, 2.0f);
    s.top_p = one_of(row, 1, 1.0f, 0.05f, 1.0f);
    s.top_k = (int32_t)one_of(row, 2, 0, 1, row % 2 ? 60 : 2 * VOCAB);
    s.min_p = one_of(row, 3, 0, 0, 0.5f);
    s.repetition_penalty = one_of(row, 4, 1, 0.5f, 2);
    s.frequency_penalty = one_of(row, 5, 0, -2, 2);
    s.presence_penalty = one_of(row, 6, 0, -2, 2);
    s.min_tokens = random_of(row, 7) < 0.5 ? 0 : 10 + (uint32_t)(random_of(row, 8) * 10);
    s.logit_bias = biases;
    s.logit_bias_count = random_of(row, 9) < 0.5 ? 0 : 3;
    s.allowed_tokens = allowed;
    s.allowed_count = random_of(row, 10) < 0.8 ? 0 : 6;
    s.stop_tokens = stops;
    s.stop_token_count = random_of(row, 11) < 0.5 ? 0 : 2;
    s.bad_words = words;
    s.bad_word_count = random_of(row, 12) < 0.5 ? 0 : 2;
    return s;
}

static struct sampler_row row_of(const struct sampling_params *sampling)
{
    return (struct sampler_row){.logits = logits,
                                .sampling = sampling,
                                .tokens = tokens,
                                .token_count = TOKENS,
                                .prompt_tokens = PROMPT,
                                .eos = eos,
                                .eos_count = 2};
}

static void picks_what_the_plain_implementation_picks(void **state)
{
    (void)state;
    for (int number = 0; number < ROWS; number++) {
        fill_row(number);
        struct sampling_params s = random_params(number);
        struct sampler_row row = row_of(&s);
        row.choice = (uint32_t)number % 3;
        int32_t expected = plain_pick(&row), actual = sampler_pick(sampler, &row);
        if (expected != actual)
            fail_msg("row %d: token %d, expected %d", number, actual, expected);
    }
}

static void equal_logits_go_to_the_lowest_id(void **state)
{
    (void)state;
    struct sampling_params s = sampling_defaults();
    struct sampler_row row = row_of(&s);
    for (int i = 0; i < VOCAB; i++)
        logits[i] = -1.0f;
    assert_int_equal(sampler_pick(sampler, &row), 0);
    logits[290] = logits[41] = 2.0f;
    assert_int_equal(sampler_pick(sampler, &row), 41);
    s.temperature = 1.0f;
    s.top_k = 1;
    for (s.seed = 0; s.seed < 50; s.seed++)
        assert_int_equal(sampler_pick(sampler, &row), 41);
}

static void a_broken_row_still_gives_a_token(void **state)
{
    (void)state;
    struct sampling_params s = sampling_defaults();
    struct sampler_row row = row_of(&s);
    for (int kind = 0; kind < 3; kind++) {
        static const float values[] = {NAN, -INFINITY, INFINITY};
        for (int i = 0; i < VOCAB; i++)
            logits[i] = values[kind];
        s.top_p = 0.5f;
        s.top_k = kind * 10;
        for (s.temperature = 0; s.temperature < 2; s.temperature += 1.0f) {
            int32_t token = sampler_pick(sampler, &row);
            assert_true(token >= 0 && token < VOCAB);
        }
    }
}

static void logprobs_are_those_of_the_unmodified_logits(void **state)
{
    (void)state;
    static const int32_t wanted[] = {VOCAB - 1, 0};
    struct engine_logprob of_token, out[SAMPLING_MAX_LOGPROBS + 2];
    struct sampling_params s = sampling_defaults();
    s.logprob_tokens = wanted;
    s.logprob_token_count = 2;
    for (int number = 0; number < 200; number++) {
        struct candidate c[VOCAB];
        double sum = 0;
        fill_row(number);
        for (int i = 0; i < VOCAB; i++) {
            c[i] = (struct candidate){.token = i, .score = logits[i]};
            sum += exp((double)logits[i]);
        }
        qsort(c, VOCAB, sizeof c[0], by_score);
        int place = number * 13 % VOCAB;
        size_t count = sampler_logprobs(sampler, logits, c[place].token, 20, &s, &of_token, out);
        assert_int_equal(count, 22);
        assert_int_equal(of_token.rank, place + 1);
        assert_true(fabs((double)of_token.logprob - ((double)c[place].score - log(sum))) < 1e-6);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(out[i].token, c[i].token);
            assert_int_equal(out[i].rank, i + 1);
            assert_true(fabs((double)out[i].logprob - ((double)c[i].score - log(sum))) < 1e-6);
        }
        assert_int_equal(out[20].token, VOCAB - 1);
        assert_int_equal(out[21].token, 0);
        assert_int_equal(c[out[21].rank - 1].token, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picks_what_the_plain_implementation_picks),
        cmocka_unit_test(equal_logits_go_to_the_lowest_id),
        cmocka_unit_test(a_broken_row_still_gives_a_token),
        cmocka_unit_test(logprobs_are_those_of_the_unmodified_logits),
    };
    return cmocka_run_group_tests(tests, open_sampler, close_sampler);
}
