// SPDX-License-Identifier: Apache-2.0
#include "engine/logit_reader.h"

#include <stdlib.h>

struct noted_row {
    int32_t index;
    struct logit_row row;
};

struct logit_reader {
    struct thread_team *team;
    struct sampler **samplers; /* [members] */
    int members;
    struct noted_row *noted; /* [max_rows] */
    int32_t noted_count, max_rows;
    struct logit_reading *readings;  /* [max_rows] */
    struct engine_logprob *logprobs; /* [max_rows][max_logprobs] */
    size_t max_logprobs;
};

static enum status open_samplers(struct logit_reader *reader, int32_t vocab, struct error *err)
{
    enum status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < reader->members; i++)
        status = sampler_open(&reader->samplers[i], vocab, err);
    return status;
}

enum status logit_reader_open(struct logit_reader **out, struct thread_team *team, int32_t vocab,
                              int32_t max_rows, size_t max_logprobs, struct error *err)
{
    *out = NULL;
    const size_t rows = (size_t)max_rows;
    struct logit_reader *reader = calloc(1, sizeof *reader);
    if (reader) {
        reader->team = team;
        reader->members = thread_team_size(team);
        reader->max_rows = max_rows;
        reader->max_logprobs = max_logprobs;
        reader->samplers = calloc((size_t)reader->members, sizeof(struct sampler *));
        reader->noted = calloc(rows, sizeof *reader->noted);
        reader->readings = calloc(rows, sizeof *reader->readings);
        reader->logprobs = calloc(rows * max_logprobs, sizeof *reader->logprobs);
    }
    enum status status = STATUS_OK;
    if (!reader || !reader->samplers || !reader->noted || !reader->readings || !reader->logprobs)
        status = error_set(err, STATUS_NO_MEMORY, "no memory for reading %d rows of logits", max_rows);
    if (status == STATUS_OK)
        status = open_samplers(reader, vocab, err);
    if (status == STATUS_OK)
        *out = reader;
    else
        logit_reader_close(reader);
    return status;
}

void logit_reader_close(struct logit_reader *reader)
{
    if (!reader)
        return;
    for (int i = 0; reader->samplers && i < reader->members; i++)
        sampler_close(reader->samplers[i]);
    free(reader->logprobs);
    free(reader->readings);
    free(reader->noted);
    free(reader->samplers);
    free(reader);
}

static void read_row(struct logit_reader *reader, struct sampler *sampler, int32_t index,
                     const struct logit_row *row)
{
    struct logit_reading *reading = &reader->readings[index];
    struct engine_logprob *top = reader->logprobs + (size_t)index * reader->max_logprobs;
    *reading = (struct logit_reading){.token = row->token};
    if (row->token == LOGIT_ROW_PICK)
        reading->token = sampler_pick(sampler, &row->row);
    if (row->top == SAMPLING_NO_LOGPROBS || reading->token < 0)
        return;
    reading->top = top;
    reading->top_count = sampler_logprobs(sampler, row->row.logits, reading->token, (size_t)row->top,
                                          row->row.sampling, &reading->of_token, top);
}

static void read_noted(void *context, int member, int members)
{
    struct logit_reader *reader = context;
    (void)members;
    for (int i; (i = thread_team_next(reader->team)) < reader->noted_count;)
        read_row(reader, reader->samplers[member], reader->noted[i].index, &reader->noted[i].row);
}

void logit_reader_note(struct logit_reader *reader, int32_t index, const struct logit_row *row)
{
    CHECK(reader->noted_count < reader->max_rows);
    CHECK(row->token != LOGIT_ROW_PICK || !row->row.sampling->constraint);
    reader->noted[reader->noted_count++] = (struct noted_row){index, *row};
}

void logit_reader_run(struct logit_reader *reader)
{
    if (reader->noted_count == 1) /* not worth waking anybody */
        logit_reader_read(reader, reader->noted[0].index, &reader->noted[0].row);
    else if (reader->noted_count > 1)
        thread_team_run(reader->team, read_noted, reader);
    reader->noted_count = 0;
}

void logit_reader_read(struct logit_reader *reader, int32_t index, const struct logit_row *row)
{
    read_row(reader, reader->samplers[0], index, row);
}

const struct logit_reading *logit_reader_reading(const struct logit_reader *reader, int32_t index)
{
    return &reader->readings[index];
}

struct sampler *logit_reader_sampler(struct logit_reader *reader)
{
    return reader->samplers[0];
}
