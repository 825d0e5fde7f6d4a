// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/constrain/constraint.h"
#include "engine/kernels/exp.h"
#include "engine/kernels/huge_memory.h"
#include "engine/philox.h"

#define GREEDY_BELOW 1e-5f
#define LEAST_EXPONENT -87.33f /* e^ of less is 0 */

enum { LANES = 16, GROUP_TOKENS = 64 };

struct sampler {
    int32_t vocab;
    float *scores;   /* [vocab] working copy of a row */
    float *weights;  /* [vocab] e^(score - best), 0 of what is cut */
    int32_t *order;  /* [vocab] candidates of a selection */
    int32_t *counts; /* [vocab] occurrences among generated tokens, zero between calls */
    uint8_t *seen;   /* [vocab] occurs in prompt or output; zero between calls */
};

/* Candidates are ordered by score, then by lower id: a cut is the last one that stays. */
struct cut {
    float score;
    int32_t token;
};

static const struct cut no_cut = {-INFINITY, INT32_MAX};

/* How many tokens the group of neighbours that begins there has. */
static int32_t group_size(int32_t vocab, int32_t begin)
{
    return vocab - begin < GROUP_TOKENS ? vocab - begin : GROUP_TOKENS;
}

static bool stays(const float *scores, int32_t token, struct cut cut)
{
    return (scores[token] > cut.score) | ((scores[token] == cut.score) & (token <= cut.token));
}

static bool before(const float *scores, int32_t a, int32_t b)
{
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
}

/* Resident from the start, as the plan of memory counts what is there when the engine is open. */
static void *zeros(size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory)
        huge_memory_touch(memory, bytes);
    return memory;
}

enum status sampler_open(struct sampler **out, int32_t vocab, struct error *err)
{
    *out = NULL;
    struct sampler *sampler = calloc(1, sizeof *sampler);
    size_t count = (size_t)vocab;
    if (sampler) {
        sampler->vocab = vocab;
        sampler->scores = zeros(count * sizeof *sampler->scores);
        sampler->weights = zeros(count * sizeof *sampler->weights);
        sampler->order = zeros(count * sizeof *sampler->order);
        sampler->counts = zeros(count * sizeof *sampler->counts);
        sampler->seen = zeros(count * sizeof *sampler->seen);
    }
    if (!sampler || !sampler->scores || !sampler->weights || !sampler->order || !sampler->counts ||
        !sampler->seen) {
        sampler_close(sampler);
        return error_set(err, STATUS_NO_MEMORY, "no memory for sampling over %d tokens", vocab);
    }
    *out = sampler;
    return STATUS_OK;
}

void sampler_close(struct sampler *sampler)
{
    if (!sampler)
        return;
    free(sampler->seen);
    free(sampler->counts);
    free(sampler->order);
    free(sampler->weights);
    free(sampler->scores);
    free(sampler);
}

/* The greatest score of [begin, end); lanes, so that the compiler may use vectors. -INFINITY for NaN alone.
 */
static float greatest(const float *scores, int32_t begin, int32_t end)
{
    float lanes[LANES], best = -INFINITY;
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] = -INFINITY;
    for (; begin + LANES <= end; begin += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] = scores[begin + lane] > lanes[lane] ? scores[begin + lane] : lanes[lane];
    for (int lane = 0; lane < LANES; lane++)
        best = lanes[lane] > best ? lanes[lane] : best;
    for (; begin < end; begin++)
        best = scores[begin] > best ? scores[begin] : best;
    return best;
}

/* The best of [begin, end), lowest id on ties; `begin` when there is none (NaN). */
static int32_t best_of(const float *scores, int32_t begin, int32_t end)
{
    float best = greatest(scores, begin, end);
    for (int32_t i = begin; i < end; i++)
        if (scores[i] == best)
            return i;
    return begin;
}

static void forbid(struct sampler *sampler, int32_t token)
{
    if (token >= 0 && token < sampler->vocab)
        sampler->scores[token] = -INFINITY;
}

static void keep_allowed(struct sampler *sampler, const struct sampler_row *row)
{
    const struct sampling_params *s = row->sampling;
    for (int32_t i = 0; i < sampler->vocab; i++)
        sampler->scores[i] = -INFINITY;
    for (size_t i = 0; i < s->allowed_count; i++)
        sampler->scores[s->allowed_tokens[i]] = row->logits[s->allowed_tokens[i]];
}

static void mark(struct sampler *sampler, const int32_t *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (tokens[i] >= 0 && tokens[i] < sampler->vocab)
            sampler->seen[tokens[i]] = 1;
}

/* A machine that knows the few tokens that may follow: all others are forbidden. */
static void keep_few(struct sampler *sampler, const struct sampler_row *row, bool may_end)
{
    struct constraint *constraint = row->sampling->constraint;
    const int32_t *tokens;
    size_t count = constraint->ops->tokens(constraint, row->constraint_state, &tokens);
    mark(sampler, tokens, count);
    if (may_end) {
        mark(sampler, row->eos, (size_t)row->eos_count);
        mark(sampler, row->sampling->stop_tokens, row->sampling->stop_token_count);
    }
    for (int32_t i = 0; i < sampler->vocab; i++) {
        if (!sampler->seen[i])
            sampler->scores[i] = -INFINITY;
        sampler->seen[i] = 0;
    }
}

/* Stop tokens are allowed where the text may end, whatever the mask says of them. */
static void keep_stops(const struct sampler *sampler, const int32_t *stops, size_t count, bool may_end,
                       const uint64_t *mask, const float *scores)
{
    for (size_t i = 0; i < count; i++) {
        int32_t token = stops[i];
        if (token < 0 || token >= sampler->vocab)
            continue;
        bool was_allowed = mask[token / 64] >> (token % 64) & 1;
        sampler->scores[token] = may_end ? scores[i] : was_allowed ? -INFINITY : sampler->scores[token];
    }
}

/* Word by word: most are all ones or all zeros. */
static void apply_mask(struct sampler *sampler, const uint64_t *mask)
{
    for (int32_t first = 0; first < sampler->vocab; first += GROUP_TOKENS) {
        uint64_t word = mask[first / GROUP_TOKENS];
        int32_t end = first + group_size(sampler->vocab, first);
        if (word == UINT64_MAX)
            continue;
        for (int32_t i = first; i < end; i++, word >>= 1)
            sampler->scores[i] = word & 1 ? sampler->scores[i] : -INFINITY;
    }
}

enum { MOST_KEPT_STOPS = 64 };

static void save_scores(const struct sampler *sampler, const int32_t *stops, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = stops[i] >= 0 && stops[i] < sampler->vocab ? sampler->scores[stops[i]] : -INFINITY;
}

/* False: the machine passed a bound. */
static bool keep_masked(struct sampler *sampler, const struct sampler_row *row, bool may_end)
{
    struct constraint *constraint = row->sampling->constraint;
    const uint64_t *mask = constraint->ops->mask(constraint, row->constraint_state);
    float of_eos[MOST_KEPT_STOPS], of_stops[MOST_KEPT_STOPS];
    size_t eos = (size_t)row->eos_count, stops = row->sampling->stop_token_count;
    eos = eos < MOST_KEPT_STOPS ? eos : MOST_KEPT_STOPS;
    stops = stops < MOST_KEPT_STOPS ? stops : MOST_KEPT_STOPS;
    if (!mask)
        return false;
    save_scores(sampler, row->eos, eos, of_eos);
    save_scores(sampler, row->sampling->stop_tokens, stops, of_stops);
    apply_mask(sampler, mask);
    keep_stops(sampler, row->eos, eos, may_end, mask, of_eos);
    keep_stops(sampler, row->sampling->stop_tokens, stops, may_end, mask, of_stops);
    return true;
}

/* Forbids what the constraint does not allow. False: it passed a bound. */
static bool constrain(struct sampler *sampler, const struct sampler_row *row)
{
    struct constraint *constraint = row->sampling->constraint;
    if (!constraint)
        return true;
    bool may_end = constraint->ops->accepts(constraint, row->constraint_state);
    if (!constraint->ops->tokens)
        return keep_masked(sampler, row, may_end);
    keep_few(sampler, row, may_end);
    return true;
}

static void forbid_endings(struct sampler *sampler, const struct sampler_row *row)
{
    const struct sampling_params *s = row->sampling;
    if (row->token_count - row->prompt_tokens >= s->min_tokens)
        return;
    for (int32_t i = 0; i < row->eos_count; i++)
        forbid(sampler, row->eos[i]);
    for (size_t i = 0; i < s->stop_token_count; i++)
        forbid(sampler, s->stop_tokens[i]);
}

/* The last token of a bad word is forbidden where the generated text ends with all the others. */
static void forbid_bad_words(struct sampler *sampler, const struct sampler_row *row)
{
    uint32_t generated = row->token_count - row->prompt_tokens;
    for (size_t i = 0; i < row->sampling->bad_word_count; i++) {
        const struct token_run *word = &row->sampling->bad_words[i];
        size_t lead = word->count - 1;
        if (lead <= generated &&
            memcmp(row->tokens + row->token_count - lead, word->tokens, lead * sizeof(int32_t)) == 0)
            forbid(sampler, word->tokens[lead]);
    }
}

static void penalise_one(struct sampler *sampler, const struct sampling_params *s, int32_t token)
{
    float *score = &sampler->scores[token];
    if (s->repetition_penalty != 1.0f)
        *score = *score > 0 ? *score / s->repetition_penalty : *score * s->repetition_penalty;
    int32_t count = sampler->counts[token];
    if (count > 0)
        *score -= s->frequency_penalty * (float)count + s->presence_penalty;
}

/* Each token that occurred is penalised once; the tables are left zero for the next row. */
static void penalise(struct sampler *sampler, const struct sampler_row *row)
{
    const struct sampling_params *s = row->sampling;
    bool output_only = s->repetition_penalty == 1.0f;
    if (output_only && s->frequency_penalty == 0 && s->presence_penalty == 0)
        return;
    uint32_t first = output_only ? row->prompt_tokens : 0;
    for (uint32_t i = row->prompt_tokens; i < row->token_count; i++)
        sampler->counts[row->tokens[i]]++;
    for (uint32_t i = first; i < row->token_count; i++) {
        int32_t token = row->tokens[i];
        if (!sampler->seen[token])
            penalise_one(sampler, s, token);
        sampler->seen[token] = 1;
    }
    for (uint32_t i = first; i < row->token_count; i++) {
        sampler->seen[row->tokens[i]] = 0;
        sampler->counts[row->tokens[i]] = 0;
    }
}

static bool process(struct sampler *sampler, const struct sampler_row *row)
{
    const struct sampling_params *s = row->sampling;
    if (s->allowed_count)
        keep_allowed(sampler, row);
    else
        memcpy(sampler->scores, row->logits, (size_t)sampler->vocab * sizeof(float));
    if (!constrain(sampler, row))
        return false;
    for (size_t i = 0; i < s->logit_bias_count; i++)
        sampler->scores[s->logit_bias[i].token] += s->logit_bias[i].bias;
    forbid_endings(sampler, row);
    forbid_bad_words(sampler, row);
    penalise(sampler, row);
    return true;
}

static bool changes_scores(const struct sampler_row *row)
{
    const struct sampling_params *s = row->sampling;
    return s->constraint || s->allowed_count || s->logit_bias_count || s->bad_word_count ||
           s->repetition_penalty != 1.0f || s->frequency_penalty != 0 || s->presence_penalty != 0 ||
           row->token_count - row->prompt_tokens < s->min_tokens;
}

/* Moves the candidates before `pivot` to the front of order[low..high) (Hoare's selection, 1961); returns the
 * pivot's place. The middle element is the pivot, so that equal rows are always partitioned alike. */
static int32_t partition(const float *scores, int32_t *order, int32_t low, int32_t high)
{
    int32_t middle = low + (high - low) / 2;
    int32_t pivot = order[middle];
    order[middle] = order[high - 1];
    int32_t place = low;
    for (int32_t i = low; i < high - 1; i++)
        if (before(scores, order[i], pivot)) {
            int32_t moved = order[i];
            order[i] = order[place];
            order[place++] = moved;
        }
    order[high - 1] = order[place];
    order[place] = pivot;
    return place;
}

/* Puts the k best of order[0..count) first, unsorted. */
static void select_best(const float *scores, int32_t *order, int32_t count, int32_t k)
{
    int32_t low = 0, high = count;
    while (high - low > 1) {
        int32_t place = partition(scores, order, low, high);
        if (place == k || place == k - 1)
            return;
        if (place > k)
            high = place;
        else
            low = place + 1;
    }
}

static struct cut worst_of(const float *scores, const int32_t *order, int32_t count)
{
    int32_t worst = order[0];
    for (int32_t i = 1; i < count; i++)
        if (before(scores, worst, order[i]))
            worst = order[i];
    return (struct cut){scores[worst], worst};
}

/* A score that at least k tokens reach, so that a selection need not look at the others: the k-th best among
 * the best of each group of neighbours. -INFINITY when k is more than there are groups. */
static float reached_by(const float *scores, int32_t vocab, int32_t k, int32_t *order)
{
    int32_t groups = 0;
    for (int32_t begin = 0; begin < vocab; begin += GROUP_TOKENS)
        order[groups++] = best_of(scores, begin, begin + group_size(vocab, begin));
    if (k > groups)
        return -INFINITY;
    select_best(scores, order, groups, k);
    return worst_of(scores, order, k).score;
}

/* Tokens that are possible at all and not cut, into order, by id. */
static int32_t gather(const struct sampler *sampler, struct cut cut)
{
    int32_t count = 0;
    for (int32_t i = 0; i < sampler->vocab; i++)
        if (sampler->scores[i] > -INFINITY && stays(sampler->scores, i, cut))
            sampler->order[count++] = i;
    return count;
}

/* x, or 0 */
static float where(bool condition, float x)
{
    return dtype_f32_from_bits(dtype_f32_bits(x) & -(uint32_t)condition);
}

/* What the scores weigh beside the best one. All tokens are weighed and no branch is taken, so that compilers
 * use vectors: of 150,000 tokens few are worth leaving out. */
static void weigh(struct sampler *sampler, struct cut cut, float best)
{
    for (int32_t i = 0; i < sampler->vocab; i++) {
        const float x = sampler->scores[i] - best;
        sampler->weights[i] =
            where((x >= LEAST_EXPONENT) & stays(sampler->scores, i, cut), exp_f32_in_range(x));
    }
}

static void drop(struct sampler *sampler, struct cut cut)
{
    for (int32_t i = 0; i < sampler->vocab; i++)
        sampler->weights[i] = where(stays(sampler->scores, i, cut), sampler->weights[i]);
}

/* The sum of a group of neighbours, in an order of its own for vectors. */
static double group_sum(const float *weights, int32_t count)
{
    float lanes[LANES] = {0};
    double sum = 0;
    int32_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += weights[i + lane];
    for (int lane = 0; lane < LANES; lane++)
        sum += (double)lanes[lane];
    for (; i < count; i++)
        sum += (double)weights[i];
    return sum;
}

/* What the tokens of a group weigh together. */
static double group_mass(const struct sampler *sampler, int32_t begin)
{
    return group_sum(sampler->weights + begin, group_size(sampler->vocab, begin));
}

static double mass(const struct sampler *sampler)
{
    double sum = 0;
    for (int32_t begin = 0; begin < sampler->vocab; begin += GROUP_TOKENS)
        sum += group_mass(sampler, begin);
    return sum;
}

static struct cut cut_top_k(struct sampler *sampler, struct cut cut, int32_t k)
{
    struct cut enough = {reached_by(sampler->scores, sampler->vocab, k, sampler->order), INT32_MAX};
    int32_t count = gather(sampler, enough.score > cut.score ? enough : cut);
    if (count < k)
        return cut;
    select_best(sampler->scores, sampler->order, count, k);
    return worst_of(sampler->scores, sampler->order, k);
}

/* Gathers those that may be among the best tokens with mass top_p: all tokens lighter than an equal share of
 * the rest's mass weigh less than the rest together. Half of that leaves room for rounding. */
static int32_t gather_heavy(const struct sampler *sampler, double total, double top_p)
{
    int32_t count = 0, heavy = 0;
    for (int32_t i = 0; i < sampler->vocab; i++)
        count += sampler->weights[i] > 0;
    const float light = (float)(0.5 * (1 - top_p) * total / count);
    for (int32_t i = 0; i < sampler->vocab; i++)
        if (sampler->weights[i] > 0 && sampler->weights[i] >= light)
            sampler->order[heavy++] = i;
    return heavy;
}

/* Keeps the smallest set of best tokens whose mass reaches top_p, by selection weighted with probability. */
static struct cut cut_top_p(struct sampler *sampler, struct cut cut, double top_p)
{
    double total = mass(sampler), taken = 0;
    int32_t count = gather_heavy(sampler, total, top_p), low = 0, high = count;
    while (high - low > 1) {
        int32_t place = partition(sampler->scores, sampler->order, low, high);
        double better = 0; /* mass before the pivot */
        for (int32_t i = low; i < place; i++)
            better += (double)sampler->weights[sampler->order[i]];
        double pivot_mass = (double)sampler->weights[sampler->order[place]];
        if (taken + better >= top_p * total) {
            high = place;
        } else if (taken + better + pivot_mass >= top_p * total) {
            low = place;
            break;
        } else {
            taken += better + pivot_mass;
            low = place + 1;
        }
    }
    if (low >= count) /* rounding left a sliver beyond the last token: all stay */
        return cut;
    return (struct cut){sampler->scores[sampler->order[low]], sampler->order[low]};
}

/* The weights that a token is drawn by: none of what min_p, top_k and top_p cut off. */
static void weigh_candidates(struct sampler *sampler, const struct sampling_params *s, float best)
{
    struct cut cut = no_cut;
    if (s->min_p > 0)
        cut.score = best + logf(s->min_p);
    if (s->top_k > 0 && s->top_k < sampler->vocab)
        cut = cut_top_k(sampler, cut, s->top_k);
    weigh(sampler, cut, best);
    if (s->top_p < 1.0f)
        drop(sampler, cut_top_p(sampler, cut, (double)s->top_p));
}

/* The first token at which the weights up to it exceed the target; the last one of any weight where rounding
 * leaves none. */
static int32_t draw(const struct sampler *sampler, double target)
{
    double before = 0;
    int32_t begin = 0;
    for (; begin + GROUP_TOKENS < sampler->vocab; begin += GROUP_TOKENS) {
        const double group = group_mass(sampler, begin);
        if (before + group > target)
            break;
        before += group;
    }
    for (int32_t i = begin; i < sampler->vocab; i++) {
        before += (double)sampler->weights[i];
        if (before > target)
            return i;
    }
    int32_t last = sampler->vocab - 1;
    while (last > 0 && !(sampler->weights[last] > 0))
        last--;
    return last;
}

int32_t sampler_pick(struct sampler *sampler, const struct sampler_row *row)
{
    bool greedy = row->sampling->temperature < GREEDY_BELOW;
    if (greedy && !changes_scores(row))
        return best_of(row->logits, 0, sampler->vocab);
    if (!process(sampler, row))
        return SAMPLER_NOTHING;
    int32_t best = best_of(sampler->scores, 0, sampler->vocab);
    if (row->sampling->constraint && !(sampler->scores[best] > -INFINITY))
        return SAMPLER_DEAD_END;
    if (greedy || !(sampler->scores[best] > -INFINITY))
        return best; /* everything forbidden, or not a number: the lowest id, deterministically */
    for (int32_t i = 0; i < sampler->vocab; i++)
        sampler->scores[i] /= row->sampling->temperature;
    float best_score = sampler->scores[best];
    weigh_candidates(sampler, row->sampling, best_score);
    return draw(sampler, mass(sampler) * philox_uniform(row->sampling->seed, row->choice,
                                                        row->token_count - row->prompt_tokens));
}

static double log_sum(const float *logits, int32_t vocab, float best)
{
    double sum = 0;
    for (int32_t begin = 0; begin < vocab; begin += GROUP_TOKENS) {
        float weights[GROUP_TOKENS];
        const int32_t count = group_size(vocab, begin);
        for (int32_t i = 0; i < count; i++) {
            const float x = logits[begin + i] - best;
            weights[i] = where(x >= LEAST_EXPONENT, exp_f32_in_range(x));
        }
        sum += group_sum(weights, count);
    }
    return (double)best + log(sum);
}

const float *sampler_scores(struct sampler *sampler, const struct sampler_row *row, double *norm)
{
    *norm = log_sum(row->logits, sampler->vocab, row->logits[best_of(row->logits, 0, sampler->vocab)]);
    if (!changes_scores(row))
        return row->logits;
    return process(sampler, row) ? sampler->scores : NULL;
}

static int32_t rank_of(const float *logits, int32_t vocab, int32_t token)
{
    int32_t rank = 1;
    for (int32_t i = 0; i < vocab; i++)
        rank += before(logits, i, token);
    return rank;
}

static int compare_rank(const void *a, const void *b)
{
    const struct engine_logprob *x = a, *y = b;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

size_t sampler_logprobs(struct sampler *sampler, const float *logits, int32_t token, size_t top,
                        const struct sampling_params *sampling, struct engine_logprob *of_token,
                        struct engine_logprob *out)
{
    double norm = log_sum(logits, sampler->vocab, logits[best_of(logits, 0, sampler->vocab)]);
    *of_token = (struct engine_logprob){token, (float)((double)logits[token] - norm),
                                        rank_of(logits, sampler->vocab, token)};
    int32_t k = (int32_t)top < sampler->vocab ? (int32_t)top : sampler->vocab;
    size_t count = 0;
    if (k > 0) {
        struct cut enough = {reached_by(logits, sampler->vocab, k, sampler->order), INT32_MAX};
        int32_t candidates = 0;
        for (int32_t i = 0; i < sampler->vocab; i++)
            if (stays(logits, i, enough))
                sampler->order[candidates++] = i;
        if (candidates < k) /* only where logits are not numbers: the first ids stand in */
            for (candidates = 0; candidates < k; candidates++)
                sampler->order[candidates] = candidates;
        select_best(logits, sampler->order, candidates, k);
        for (int32_t i = 0; i < k; i++) {
            int32_t id = sampler->order[i];
            int32_t rank = 1;
            for (int32_t j = 0; j < k; j++)
                rank += before(logits, sampler->order[j], id);
            out[count++] = (struct engine_logprob){id, (float)((double)logits[id] - norm), rank};
        }
        qsort(out, count, sizeof *out, compare_rank);
    }
    for (size_t i = 0; i < sampling->logprob_token_count; i++) {
        int32_t id = sampling->logprob_tokens[i];
        out[count++] = (struct engine_logprob){id, (float)((double)logits[id] - norm),
                                               rank_of(logits, sampler->vocab, id)};
    }
    return count;
}
