// SPDX-License-Identifier: Apache-2.0
// The sampler against a straightforward reference in double precision that sorts everything: every field of
// sampling.h alone and 4,000 random mixtures; ties, cuts, corner cases; frequencies of draws by chi-square.
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

enum { VOCAB = 97, MAX_TOKENS = 64, MIXTURES = 4000 };

static struct sampler *sampler;
static float logits[VOCAB];
static int32_t tokens[MAX_TOKENS];
static const int32_t eos[] = {2, 5};

static uint32_t random_state = 1;
static uint32_t random_below(uint32_t below)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % below;
}

static float random_float(float low, float high)
{
    return low + (high - low) * (float)random_below(1 << 24) / (float)(1 << 24);
}

static void random_logits(void)
{
    for (int i = 0; i < VOCAB; i++)
        logits[i] = random_float(-6, 6);
}

/* ---- the reference ---- */

struct scored {
    int32_t token;
    double score;
};

static int by_score_then_id(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->token - y->token;
}

static bool listed(const int32_t *list, size_t count, int32_t token)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == token)
            return true;
    return false;
}

static bool ends_with(const struct sampler_row *row, const struct token_run *word)
{
    size_t lead = word->count - 1;
    if (row->token_count - row->prompt_tokens < lead)
        return false;
    for (size_t i = 0; i < lead; i++)
        if (row->tokens[row->token_count - lead + i] != word->tokens[i])
            return false;
    return true;
}

static bool forbidden(const struct sampler_row *row, int32_t token)
{
    const struct sampling_params *s = row->sampling;
    if (s->allowed_count && !listed(s->allowed_tokens, s->allowed_count, token))
        return true;
    if (row->token_count - row->prompt_tokens < s->min_tokens &&
        (listed(row->eos, (size_t)row->eos_count, token) ||
         listed(s->stop_tokens, s->stop_token_count, token)))
        return true;
    for (size_t i = 0; i < s->bad_word_count; i++)
        if (s->bad_words[i].tokens[s->bad_words[i].count - 1] == token && ends_with(row, &s->bad_words[i]))
            return true;
    return false;
}

static double reference_score(const struct sampler_row *row, int32_t token)
{
    const struct sampling_params *s = row->sampling;
    double score = (double)row->logits[token];
    int in_output = 0;
    for (size_t i = 0; i < s->logit_bias_count; i++)
        if (s->logit_bias[i].token == token)
            score += (double)s->logit_bias[i].bias;
    if (forbidden(row, token))
        return -INFINITY;
    for (uint32_t i = row->prompt_tokens; i < row->token_count; i++)
        in_output += row->tokens[i] == token;
    if (listed(row->tokens, row->token_count, token))
        score = score > 0 ? score / (double)s->repetition_penalty : score * (double)s->repetition_penalty;
    score -= in_output * (double)s->frequency_penalty;
    return score - (in_output > 0) * (double)s->presence_penalty;
}

/* Candidates that are left after every cut, best first, with unnormalised probabilities. */
static int reference_candidates(const struct sampler_row *row, struct scored *out, double *weights)
{
    const struct sampling_params *s = row->sampling;
    int count = 0;
    for (int32_t i = 0; i < VOCAB; i++) {
        double score = reference_score(row, i);
        if (score > -INFINITY)
            out[count++] = (struct scored){i, score / (double)s->temperature};
    }
    qsort(out, (size_t)count, sizeof *out, by_score_then_id);
    for (int i = 0; i < count; i++)
        weights[i] = exp(out[i].score - out[0].score);
    while (count > 1 && weights[count - 1] < (double)s->min_p)
        count--;
    if (s->top_k > 0 && count > s->top_k)
        count = s->top_k;
    double total = 0, sum = 0;
    for (int i = 0; i < count; i++)
        total += weights[i];
    for (int i = 0; i < count; i++) {
        sum += weights[i];
        if (sum >= (double)s->top_p * total)
            return i + 1;
    }
    return count;
}

static int by_id(const void *a, const void *b)
{
    return ((const struct scored *)a)->token - ((const struct scored *)b)->token;
}

static int32_t reference_greedy(const struct sampler_row *row)
{
    int32_t best = 0;
    for (int32_t i = 1; i < VOCAB; i++)
        if (reference_score(row, i) > reference_score(row, best))
            best = i;
    return best;
}

static int32_t reference_pick(const struct sampler_row *row)
{
    struct scored candidates[VOCAB];
    double weights[VOCAB], total = 0, sum = 0;
    if (row->sampling->temperature < 1e-5f)
        return reference_greedy(row);
    int count = reference_candidates(row, candidates, weights);
    if (count == 0)
        return 0;
    double best = candidates[0].score;
    qsort(candidates, (size_t)count, sizeof *candidates, by_id);
    for (int i = 0; i < count; i++)
        total += exp(candidates[i].score - best);
    double u = philox_uniform(row->sampling->seed, row->choice, row->token_count - row->prompt_tokens);
    for (int i = 0; i < count; i++) {
        sum += exp(candidates[i].score - best);
        if (sum > u * total)
            return candidates[i].token;
    }
    return candidates[count - 1].token;
}

/* ---- helpers ---- */

static struct sampling_params sampled(void)
{
    struct sampling_params s = sampling_defaults();
    s.temperature = 1.0f;
    s.seed = 42;
    return s;
}

static struct sampler_row row_of(const struct sampling_params *s, uint32_t prompt, uint32_t count)
{
    return (struct sampler_row){.logits = logits,
                                .sampling = s,
                                .tokens = tokens,
                                .token_count = count,
                                .prompt_tokens = prompt,
                                .eos = eos,
                                .eos_count = 2};
}

static int32_t pick(const struct sampling_params *s)
{
    struct sampler_row row = row_of(s, 1, 1);
    return sampler_pick(sampler, &row);
}

/* Which tokens come up in many draws. */
static void drawn(struct sampling_params *s, bool seen[VOCAB])
{
    memset(seen, 0, VOCAB);
    for (s->seed = 0; s->seed < 4000; s->seed++)
        seen[pick(s)] = true;
}

static int count_of(const bool seen[VOCAB])
{
    int count = 0;
    for (int i = 0; i < VOCAB; i++)
        count += seen[i];
    return count;
}

/* ---- greedy ---- */

static void greedy_takes_the_best_and_the_lowest_id_of_a_tie(void **state)
{
    (void)state;
    struct sampling_params s = sampling_defaults();
    for (int i = 0; i < VOCAB; i++)
        logits[i] = -1;
    logits[60] = logits[31] = logits[90] = 3;
    assert_int_equal(pick(&s), 31);
    s.temperature = 9e-6f; /* greedy still */
    assert_int_equal(pick(&s), 31);
    struct token_bias bias = {90, 0.5f};
    s.logit_bias = &bias;
    s.logit_bias_count = 1;
    assert_int_equal(pick(&s), 90);
    bias.bias = 0;
    assert_int_equal(pick(&s), 31);
}

/* ---- cuts ---- */

/* Equal scores at the cut: the lower ids stay, and exactly k of them. */
static void top_k_keeps_exactly_k(void **state)
{
    (void)state;
    bool seen[VOCAB];
    struct sampling_params s = sampled();
    for (int i = 0; i < VOCAB; i++)
        logits[i] = 0;
    logits[70] = 1;
    s.top_k = 4;
    drawn(&s, seen);
    assert_int_equal(count_of(seen), 4);
    assert_true(seen[70] && seen[0] && seen[1] && seen[2]);
    s.top_k = 1;
    drawn(&s, seen);
    assert_true(count_of(seen) == 1 && seen[70]);
    s.top_k = VOCAB;
    drawn(&s, seen);
    assert_int_equal(count_of(seen), VOCAB);
    s.top_k = 100000; /* more than there are */
    drawn(&s, seen);
    assert_int_equal(count_of(seen), VOCAB);
}

/* Four tokens of one half, one quarter, one eighth, one eighth. */
static void set_halves(void)
{
    for (int i = 0; i < VOCAB; i++)
        logits[i] = -100;
    logits[50] = logf(8);
    logits[3] = logf(4);
    logits[80] = logits[20] = logf(2);
}

static void top_p_keeps_the_smallest_set_that_reaches_it(void **state)
{
    (void)state;
    static const struct {
        float top_p;
        int count;
    } cases[] = {{0.01f, 1}, {0.49f, 1}, {0.51f, 2}, {0.74f, 2}, {0.76f, 3}, {0.87f, 3}, {0.88f, 4}};
    struct sampling_params s = sampled();
    bool seen[VOCAB];
    set_halves();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        s.top_p = cases[i].top_p;
        drawn(&s, seen);
        assert_int_equal(count_of(seen), cases[i].count);
        assert_true(seen[50]);
        assert_int_equal(seen[20], cases[i].count >= 3); /* of the two eighths the lower id */
    }
}

static void min_p_is_relative_to_the_best(void **state)
{
    (void)state;
    static const struct {
        float min_p;
        int count;
    } cases[] = {{1.0f, 1}, {0.6f, 1}, {0.49f, 2}, {0.26f, 2}, {0.24f, 4}};
    struct sampling_params s = sampled();
    bool seen[VOCAB];
    set_halves();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        s.min_p = cases[i].min_p;
        drawn(&s, seen);
        assert_int_equal(count_of(seen), cases[i].count);
    }
}

/* top_p is of what top_k left: of (1/2, 1/4) the better half has two thirds. */
static void top_p_counts_what_the_other_cuts_left(void **state)
{
    (void)state;
    struct sampling_params s = sampled();
    bool seen[VOCAB];
    set_halves();
    s.top_k = 2;
    s.top_p = 0.65f;
    drawn(&s, seen);
    assert_int_equal(count_of(seen), 1);
    s.top_p = 0.68f;
    drawn(&s, seen);
    assert_int_equal(count_of(seen), 2);
}

/* ---- what changes scores ---- */

static void penalties_move_the_greedy_choice(void **state)
{
    (void)state;
    struct sampling_params s = sampling_defaults();
    for (int i = 0; i < VOCAB; i++)
        logits[i] = 0;
    logits[10] = 3;
    logits[11] = 2;
    tokens[0] = 10; /* the prompt */
    tokens[1] = 11;
    struct sampler_row row = row_of(&s, 1, 1);
    s.presence_penalty = 2; /* output only: the prompt does not count */
    assert_int_equal(sampler_pick(sampler, &row), 10);
    s.presence_penalty = 0;
    s.repetition_penalty = 2; /* prompt and output: 10 falls to 1.5 */
    assert_int_equal(sampler_pick(sampler, &row), 11);
    row.token_count = 2; /* 11 falls to 1 */
    assert_int_equal(sampler_pick(sampler, &row), 10);
    s.repetition_penalty = 1;
    tokens[1] = tokens[2] = tokens[3] = 10;
    row.token_count = 4;
    s.frequency_penalty = 0.3f; /* three times: 3 - 0.9 */
    assert_int_equal(sampler_pick(sampler, &row), 10);
    s.frequency_penalty = 0.34f;
    assert_int_equal(sampler_pick(sampler, &row), 11);
    s.frequency_penalty = 0;
    s.presence_penalty = 0.9f; /* once, however often */
    assert_int_equal(sampler_pick(sampler, &row), 10);
    s.presence_penalty = 1.1f;
    assert_int_equal(sampler_pick(sampler, &row), 11);
}

static void a_negative_score_is_multiplied_by_the_repetition_penalty(void **state)
{
    (void)state;
    struct sampling_params s = sampling_defaults();
    for (int i = 0; i < VOCAB; i++)
        logits[i] = -10;
    logits[10] = -2;
    logits[11] = -3;
    tokens[0] = 10;
    s.repetition_penalty = 1.4f;
    struct sampler_row row = row_of(&s, 1, 1);
    assert_int_equal(sampler_pick(sampler, &row), 10);
    s.repetition_penalty = 1.6f;
    assert_int_equal(sampler_pick(sampler, &row), 11);
}

static void a_bad_word_of_several_tokens_is_cut_at_its_last(void **state)
{
    (void)state;
    static const int32_t word[] = {7, 8, 9};
    const struct token_run run = {word, 3};
    struct sampling_params s = sampling_defaults();
    s.bad_words = &run;
    s.bad_word_count = 1;
    for (int i = 0; i < VOCAB; i++)
        logits[i] = 0;
    logits[9] = 2;
    logits[4] = 1;
    tokens[0] = 7;
    tokens[1] = 8;
    struct sampler_row row = row_of(&s, 1, 2); /* the 7 is the prompt's: not a generated bad word */
    assert_int_equal(sampler_pick(sampler, &row), 9);
    tokens[1] = 7;
    tokens[2] = 8;
    row.token_count = 3;
    assert_int_equal(sampler_pick(sampler, &row), 4);
    tokens[2] = 6;
    assert_int_equal(sampler_pick(sampler, &row), 9);
}

static void endings_wait_for_min_tokens(void **state)
{
    (void)state;
    static const int32_t stops[] = {40};
    struct sampling_params s = sampling_defaults();
    s.stop_tokens = stops;
    s.stop_token_count = 1;
    s.min_tokens = 2;
    for (int i = 0; i < VOCAB; i++)
        logits[i] = 0;
    logits[2] = 5; /* eos */
    logits[5] = 4; /* the other eos */
    logits[40] = 3;
    logits[41] = 2;
    struct sampler_row row = row_of(&s, 1, 2); /* one generated */
    assert_int_equal(sampler_pick(sampler, &row), 41);
    row.token_count = 3;
    assert_int_equal(sampler_pick(sampler, &row), 2);
}

static void only_allowed_tokens_come(void **state)
{
    (void)state;
    static const int32_t allowed[] = {12, 90, 12};
    struct sampling_params s = sampled();
    bool seen[VOCAB];
    random_logits();
    logits[12] = logits[90] = -5;
    s.allowed_tokens = allowed;
    s.allowed_count = 3;
    drawn(&s, seen);
    assert_true(count_of(seen) == 2 && seen[12] && seen[90]);
}

static void a_bias_of_a_hundred_decides(void **state)
{
    (void)state;
    struct token_bias bias[] = {{33, 100}, {34, -100}};
    struct sampling_params s = sampled();
    bool seen[VOCAB];
    random_logits();
    logits[34] = 20;
    s.logit_bias = bias;
    s.logit_bias_count = 2;
    drawn(&s, seen);
    assert_true(count_of(seen) == 1 && seen[33]);
}

/* Everything forbidden: the lowest id, whether greedy or not, and no endless search. */
static void nothing_allowed_still_gives_a_token(void **state)
{
    (void)state;
    static const int32_t allowed[] = {2};
    struct sampling_params s = sampled();
    random_logits();
    s.allowed_tokens = allowed;
    s.allowed_count = 1;
    s.min_tokens = 1; /* forbids eos, the only allowed one */
    s.top_k = 3;
    s.top_p = 0.5f;
    s.min_p = 0.1f;
    s.repetition_penalty = 1.5f;
    assert_int_equal(pick(&s), 0);
    s.temperature = 0;
    assert_int_equal(pick(&s), 0);
}

/* Impossible tokens stay impossible under every cut that would otherwise reach them. */
static void minus_infinity_is_never_drawn(void **state)
{
    (void)state;
    struct sampling_params s = sampled();
    bool seen[VOCAB];
    for (int i = 0; i < VOCAB; i++)
        logits[i] = -INFINITY;
    logits[30] = logits[31] = 0;
    s.top_k = 50;
    s.top_p = 0.999f;
    s.temperature = 100;
    drawn(&s, seen);
    assert_true(count_of(seen) == 2 && seen[30] && seen[31]);
    for (int i = 0; i < VOCAB; i++)
        logits[i] = 0;
    logits[50] = -INFINITY;
    s.top_k = 0;
    s.repetition_penalty = 1.3f;
    tokens[0] = 50;
    drawn(&s, seen);
    assert_true(count_of(seen) > 90 && !seen[50]);
}

static void a_very_low_temperature_is_nearly_greedy(void **state)
{
    (void)state;
    struct sampling_params s = sampled();
    bool seen[VOCAB];
    random_logits();
    logits[44] = 7;
    s.temperature = 1e-5f;
    drawn(&s, seen);
    assert_true(count_of(seen) == 1 && seen[44]);
}

/* ---- everything together ---- */

struct mixture {
    struct sampling_params s;
    struct token_bias bias[3];
    int32_t allowed[40], stops[2], word[2][3];
    struct token_run words[2];
};

static void mix_lists(struct mixture *m)
{
    for (int i = 0; i < 3; i++)
        m->bias[i] = (struct token_bias){(int32_t)random_below(VOCAB), random_float(-5, 5)};
    for (int i = 0; i < 40; i++)
        m->allowed[i] = (int32_t)random_below(VOCAB);
    for (int i = 0; i < 2; i++) {
        m->stops[i] = (int32_t)random_below(VOCAB);
        for (int j = 0; j < 3; j++)
            m->word[i][j] = (int32_t)random_below(4); /* tokens are from a small set too: it comes up */
        m->words[i] = (struct token_run){m->word[i], 1 + random_below(3)};
    }
    m->s.logit_bias = m->bias;
    m->s.logit_bias_count = random_below(4);
    m->s.allowed_tokens = m->allowed;
    m->s.allowed_count = random_below(2) * random_below(41);
    m->s.stop_tokens = m->stops;
    m->s.stop_token_count = random_below(3);
    m->s.bad_words = m->words;
    m->s.bad_word_count = random_below(3);
}

static void mix(struct mixture *m)
{
    m->s = sampling_defaults();
    m->s.seed = (uint64_t)random_below(1 << 24) << 20 | random_below(1 << 20);
    m->s.temperature = random_below(4) ? random_float(0.1f, 2) : 0;
    m->s.top_p = random_below(2) ? random_float(0.05f, 1) : 1;
    m->s.top_k = (int32_t)(random_below(2) * random_below(VOCAB + 10));
    m->s.min_p = random_below(2) ? random_float(0, 0.5f) : 0;
    m->s.presence_penalty = random_below(2) ? random_float(-2, 2) : 0;
    m->s.frequency_penalty = random_below(2) ? random_float(-2, 2) : 0;
    m->s.repetition_penalty = random_below(2) ? random_float(0.5f, 2) : 1;
    m->s.min_tokens = random_below(10);
    mix_lists(m);
}

static void random_mixtures_agree_with_the_reference(void **state)
{
    (void)state;
    for (int i = 0; i < MIXTURES; i++) {
        struct mixture m;
        mix(&m);
        random_logits();
        for (int t = 0; t < MAX_TOKENS; t++)
            tokens[t] = (int32_t)random_below(random_below(2) ? 4 : VOCAB);
        uint32_t prompt = 1 + random_below(30);
        struct sampler_row row = row_of(&m.s, prompt, prompt + random_below(30));
        row.choice = random_below(4);
        int32_t got = sampler_pick(sampler, &row), expected = reference_pick(&row);
        if (got != expected)
            fail_msg("mixture %d: token %d, expected %d", i, got, expected);
        assert_int_equal(sampler_pick(sampler, &row), got); /* nothing is left from the call before */
    }
}

/* 99.9 % point of chi-square (Wilson and Hilferty's approximation). */
static double chi_square_limit(int freedom)
{
    double d = freedom, z = 3.0902, a = 2 / (9 * d);
    return d * pow(1 - a + z * sqrt(a), 3);
}

static void check_frequencies(struct sampling_params *s)
{
    enum { DRAWS = 60000 };
    struct scored candidates[VOCAB];
    double weights[VOCAB], counts[VOCAB] = {0}, total = 0, chi_square = 0, rest = 0, rest_count = 0;
    struct sampler_row row = row_of(s, 1, 1);
    int count = reference_candidates(&row, candidates, weights), classes = 0;
    for (int i = 0; i < count; i++)
        total += weights[i];
    for (s->seed = 1; s->seed <= DRAWS; s->seed++)
        counts[sampler_pick(sampler, &row)]++;
    for (int i = 0; i < count; i++) {
        double expected = DRAWS * weights[i] / total, got = counts[candidates[i].token];
        if (expected < 10) { /* rare ones together */
            rest += expected;
            rest_count += got;
            continue;
        }
        classes++;
        chi_square += (got - expected) * (got - expected) / expected;
    }
    if (rest > 0) {
        classes++;
        chi_square += (rest_count - rest) * (rest_count - rest) / rest;
    }
    print_message("%d classes: chi-square %.1f, limit %.1f\n", classes, chi_square,
                  chi_square_limit(classes - 1));
    assert_true(classes > 3 && chi_square < chi_square_limit(classes - 1));
}

static void draws_have_the_frequencies_they_should(void **state)
{
    (void)state;
    struct sampling_params s = sampled();
    random_logits();
    check_frequencies(&s);
    s.temperature = 0.7f;
    check_frequencies(&s);
    s.temperature = 1.5f;
    s.top_k = 20;
    check_frequencies(&s);
    s.top_k = 0;
    s.top_p = 0.8f;
    check_frequencies(&s);
    s.min_p = 0.1f;
    check_frequencies(&s);
}

/* ---- log-probabilities ---- */

static double reference_logprob(int32_t token)
{
    double sum = 0;
    for (int i = 0; i < VOCAB; i++)
        sum += exp((double)logits[i]);
    return (double)logits[token] - log(sum);
}

static int32_t reference_rank(int32_t token)
{
    int32_t rank = 1;
    for (int i = 0; i < VOCAB; i++)
        rank += logits[i] > logits[token] || (logits[i] == logits[token] && i < token);
    return rank;
}

static void check_logprob(const struct engine_logprob *got, int32_t token)
{
    assert_int_equal(got->token, token);
    assert_true(fabs((double)got->logprob - reference_logprob(token)) < 1e-6 * 20);
    assert_int_equal(got->rank, reference_rank(token));
}

static void logprobs_and_ranks_are_of_the_unmodified_logits(void **state)
{
    (void)state;
    static const int32_t wanted[] = {96, 0, 13};
    struct sampling_params s = sampled();
    struct engine_logprob of_token, out[SAMPLING_MAX_LOGPROBS + 3];
    s.logprob_tokens = wanted;
    s.logprob_token_count = 3;
    for (int round = 0; round < 200; round++) {
        random_logits();
        if (round % 2)
            for (int i = 0; i < VOCAB; i++)
                logits[i] = floorf(logits[i]); /* many ties */
        size_t top = random_below(SAMPLING_MAX_LOGPROBS + 1);
        int32_t token = (int32_t)random_below(VOCAB);
        assert_int_equal(sampler_logprobs(sampler, logits, token, top, &s, &of_token, out), top + 3);
        check_logprob(&of_token, token);
        for (size_t i = 0; i < top; i++) {
            assert_int_equal(out[i].rank, i + 1);
            check_logprob(&out[i], out[i].token);
        }
        for (size_t i = 0; i < 3; i++)
            check_logprob(&out[top + i], wanted[i]);
    }
}

static void more_logprobs_than_tokens_gives_all_tokens(void **state)
{
    (void)state;
    struct sampling_params s = sampled();
    struct engine_logprob of_token, out[SAMPLING_MAX_LOGPROBS];
    struct sampler *small;
    const float three[] = {1, 3, 2};
    assert_int_equal(sampler_open(&small, 3, NULL), STATUS_OK);
    assert_int_equal(sampler_logprobs(small, three, 0, 20, &s, &of_token, out), 3);
    assert_true(out[0].token == 1 && out[1].token == 2 && out[2].token == 0);
    assert_int_equal(of_token.rank, 3);
    sampler_close(small);
}

static int open_sampler(void **state)
{
    (void)state;
    return sampler_open(&sampler, VOCAB, NULL);
}

static int close_sampler(void **state)
{
    (void)state;
    sampler_close(sampler);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_best_and_the_lowest_id_of_a_tie),
        cmocka_unit_test(top_k_keeps_exactly_k),
        cmocka_unit_test(top_p_keeps_the_smallest_set_that_reaches_it),
        cmocka_unit_test(min_p_is_relative_to_the_best),
        cmocka_unit_test(top_p_counts_what_the_other_cuts_left),
        cmocka_unit_test(penalties_move_the_greedy_choice),
        cmocka_unit_test(a_negative_score_is_multiplied_by_the_repetition_penalty),
        cmocka_unit_test(a_bad_word_of_several_tokens_is_cut_at_its_last),
        cmocka_unit_test(endings_wait_for_min_tokens),
        cmocka_unit_test(only_allowed_tokens_come),
        cmocka_unit_test(a_bias_of_a_hundred_decides),
        cmocka_unit_test(nothing_allowed_still_gives_a_token),
        cmocka_unit_test(minus_infinity_is_never_drawn),
        cmocka_unit_test(a_very_low_temperature_is_nearly_greedy),
        cmocka_unit_test(random_mixtures_agree_with_the_reference),
        cmocka_unit_test(draws_have_the_frequencies_they_should),
        cmocka_unit_test(logprobs_and_ranks_are_of_the_unmodified_logits),
        cmocka_unit_test(more_logprobs_than_tokens_gives_all_tokens),
    };
    return cmocka_run_group_tests(tests, open_sampler, close_sampler);
}
