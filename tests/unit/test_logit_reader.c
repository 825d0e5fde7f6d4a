// SPDX-License-Identifier: Apache-2.0
// A team reads many rows of logits as one sampler reads each alone: tokens, log-probabilities and what is
// left behind for the next step.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/constrain/constraint.h"
#include "engine/logit_reader.h"
#include "engine/philox.h"

enum { VOCAB = 1003, ROWS = 40, TOKENS = 12, PROMPT = 7, TOP = 4, WANTED = 2, MEMBERS = 3, STEPS = 50 };

static struct thread_team *team;
static struct logit_reader *reader;
static float logits[ROWS][VOCAB];
static int32_t tokens[TOKENS];
static struct sampling_params params[ROWS];
static const int32_t wanted[WANTED] = {3, VOCAB - 1};

static int open_reader(void **state)
{
    (void)state;
    if (thread_team_open(&team, MEMBERS, NULL) != STATUS_OK)
        return -1;
    return logit_reader_open(&reader, team, VOCAB, ROWS, TOP + WANTED, NULL) == STATUS_OK ? 0 : -1;
}

static int close_reader(void **state)
{
    (void)state;
    logit_reader_close(reader);
    thread_team_close(team);
    return 0;
}

static void fill(uint64_t step)
{
    for (uint32_t row = 0; row < ROWS; row++) {
        for (uint32_t i = 0; i < VOCAB; i++)
            logits[row][i] = (float)(8 * philox_uniform(step, row, i));
        struct sampling_params s = sampling_defaults();
        s.seed = step;
        s.temperature = row % 3 ? 0.9f : 0;
        s.top_p = row % 4 ? 1.0f : 0.8f;
        s.top_k = row % 5 ? 0 : 20;
        s.frequency_penalty = row % 6 ? 0 : 1.5f;
        s.logprobs = row % 2 ? SAMPLING_NO_LOGPROBS : TOP;
        s.logprob_tokens = wanted;
        s.logprob_token_count = row % 4 ? 0 : WANTED;
        params[row] = s;
    }
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (int32_t)(step * 31 + (uint64_t)i * 7) % VOCAB;
}

static struct logit_row row_of(int row)
{
    return (struct logit_row){.row = {.logits = logits[row],
                                      .sampling = &params[row],
                                      .tokens = tokens,
                                      .token_count = TOKENS,
                                      .prompt_tokens = PROMPT,
                                      .choice = (uint32_t)row},
                              .token = row % 7 ? LOGIT_ROW_PICK : row,
                              .top = params[row].logprobs};
}

static void check_row(struct sampler *sampler, const struct logit_reading *reading, int index)
{
    const struct logit_row row = row_of(index);
    struct engine_logprob of_token = {0}, top[TOP + WANTED];
    size_t count = 0;
    int32_t token = row.token == LOGIT_ROW_PICK ? sampler_pick(sampler, &row.row) : row.token;
    if (row.top != SAMPLING_NO_LOGPROBS)
        count = sampler_logprobs(sampler, row.row.logits, token, TOP, row.row.sampling, &of_token, top);
    assert_int_equal(reading->token, token);
    assert_int_equal(reading->top_count, count);
    assert_int_equal(reading->top != NULL, row.top != SAMPLING_NO_LOGPROBS);
    assert_memory_equal(&reading->of_token, &of_token, sizeof of_token);
    if (count)
        assert_memory_equal(reading->top, top, count * sizeof *top);
}

static void a_team_reads_what_one_sampler_reads(void **state)
{
    (void)state;
    struct sampler *sampler;
    assert_int_equal(sampler_open(&sampler, VOCAB, NULL), STATUS_OK);
    for (int step = 0; step < STEPS; step++) {
        const int count = step % ROWS + 1;
        fill((uint64_t)step);
        for (int i = 0; i < count; i++) {
            const struct logit_row row = row_of(i);
            logit_reader_note(reader, i, &row);
        }
        logit_reader_run(reader);
        for (int i = 0; i < count; i++)
            check_row(sampler, logit_reader_reading(reader, i), i);
    }
    sampler_close(sampler);
}

/* A prompt's log-probabilities ask no constraint, so that its rows are read with all others. */
static void a_known_token_asks_no_constraint(void **state)
{
    (void)state;
    struct constraint unasked = {.ops = NULL};
    fill(1);
    for (int i = 0; i < ROWS; i++) {
        params[i].constraint = &unasked;
        struct logit_row row = row_of(i);
        row.token = i;
        row.top = 0;
        logit_reader_note(reader, i, &row);
    }
    logit_reader_run(reader);
    for (int i = 0; i < ROWS; i++) {
        assert_int_equal(logit_reader_reading(reader, i)->token, i);
        assert_true(logit_reader_reading(reader, i)->of_token.logprob < 0);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_team_reads_what_one_sampler_reads),
        cmocka_unit_test(a_known_token_asks_no_constraint),
    };
    return cmocka_run_group_tests(tests, open_reader, close_reader);
}
