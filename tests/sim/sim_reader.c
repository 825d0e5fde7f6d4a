// SPDX-License-Identifier: Apache-2.0
// Readers of tokens: the product's stream client, one per worker, and what each put together of every job.
// What a reader has of an attempt that came to its end without a gap is the text of the job's answer. What
// workers publish is looked at too: numbers without holes, and nothing behind the last chunk of an attempt.
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "tests/sim/sim.h"
#include "worker/cli/stream_client.h"
#include "worker/emit/token_stream.h"

struct assembly { /* what one reader has of one job */
    uint64_t epoch, next;
    uint32_t attempt;
    bool begun, gap, ended;
    char text[SIM_CHOICES][SIM_TEXT_BYTES];
};

static struct reader {
    struct stream_client *client;
    struct config config;
    int64_t stalled_until_ms;
    struct assembly jobs[SIM_MOST_JOBS];
} readers[SIM_WORKERS];

static struct reader *reading; /* the one whose chunks are handed out */

/* ---- what is published ---- */

static struct sim_job *job_of(const char *topic)
{
    const char *name = strrchr(topic, '.');
    return name ? sim_find_job(name + 1, strlen(name + 1)) : NULL;
}

static struct sim_stream *stream_of(struct sim_job *job, uint64_t epoch, uint32_t attempt)
{
    for (int i = 0; i < SIM_MOST_STREAMS; i++) {
        struct sim_stream *stream = &job->streams[i];
        if (stream->begun && stream->epoch == epoch && stream->attempt == attempt)
            return stream;
    }
    struct sim_stream *stream = &job->streams[job->stream_turn++ % SIM_MOST_STREAMS];
    *stream = (struct sim_stream){.begun = true, .epoch = epoch, .attempt = attempt};
    return stream;
}

/* One worker runs a job once at a time: an attempt is over before it begins the next. */
static void check_others(const struct sim_job *job, const struct sim_stream *stream)
{
    for (int i = 0; i < SIM_MOST_STREAMS; i++) {
        const struct sim_stream *other = &job->streams[i];
        if (other != stream && other->begun && !other->ended && other->epoch == stream->epoch)
            sim_violate("%s: attempts %u and %u are published side by side", job->name, other->attempt,
                        stream->attempt);
    }
}

void sim_stream_published(const char *topic, size_t topic_bytes, uint64_t seq, uint64_t epoch,
                          uint32_t attempt, uint32_t flags)
{
    struct sim_job *job = topic_bytes && topic[topic_bytes - 1] == '\0' ? job_of(topic) : NULL;
    CHECK(job != NULL);
    sim_trace("stream: %s epoch %llx attempt %u chunk %llu flags %u", job->name, (unsigned long long)epoch,
              attempt, (unsigned long long)seq, flags);
    struct sim_stream *stream = stream_of(job, epoch, attempt);
    if (stream->ended)
        sim_violate("%s: chunk %llu follows the last one of its attempt", job->name, (unsigned long long)seq);
    else if (seq != stream->next)
        sim_violate("%s: chunk %llu is published where %llu is due", job->name, (unsigned long long)seq,
                    (unsigned long long)stream->next);
    else if ((seq == 0) != ((flags & TOKEN_STREAM_FIRST) != 0))
        sim_violate("%s: chunk %llu has the flags %u", job->name, (unsigned long long)seq, flags);
    check_others(job, stream);
    stream->next = seq + 1;
    stream->ended = (flags & TOKEN_STREAM_LAST) != 0;
}

/* ---- what a reader has ---- */

static void add_text(struct assembly *assembly, const struct stream_chunk *chunk)
{
    struct json_document *document;
    struct error err;
    if (json_parse(&document, chunk->data, chunk->bytes, NULL, &err) != STATUS_OK) {
        sim_violate("a chunk of %s is no JSON: %s", chunk->topic, err.text);
        return;
    }
    const struct json *choices = json_member(json_root(document), "choices");
    for (size_t i = 0; choices && i < choices->count; i++) {
        const struct json *choice = &choices->as.items[i];
        int64_t index = json_integer_or(json_member(choice, "index"), -1);
        if (index < 0 || index >= SIM_CHOICES) {
            sim_violate("a chunk of %s is of choice %lld", chunk->topic, (long long)index);
            break;
        }
        sim_add_text(assembly->text[index], json_member(choice, "text"));
    }
    json_close(document);
}

static void check_text(const struct sim_job *job, const struct assembly *assembly)
{
    const struct sim_body *body = sim_body(job->body);
    bool may_be_cut = job->cancelled || job->deadline_ms;
    for (int i = 0; i < SIM_CHOICES; i++) {
        size_t have = strlen(assembly->text[i]);
        bool good = may_be_cut ? strncmp(body->text[i], assembly->text[i], have) == 0
                               : strcmp(body->text[i], assembly->text[i]) == 0;
        if (!good)
            sim_violate("a reader of %s has \"%.60s\" and the answer is \"%.60s\"", job->name,
                        assembly->text[i], body->text[i]);
    }
}

static void take(void *context, const struct stream_chunk *chunk)
{
    struct reader *reader = context;
    struct sim_job *job = job_of(chunk->topic);
    CHECK(job != NULL);
    struct assembly *assembly = &reader->jobs[job - sim.jobs];
    sim_trace("reader %d: %s epoch %llx attempt %u chunk %llu flags %u missed %llu", (int)(reader - readers),
              job->name, (unsigned long long)chunk->epoch, chunk->attempt, (unsigned long long)chunk->seq,
              chunk->flags, (unsigned long long)chunk->missed);
    sim_trace("%.*s", (int)chunk->bytes, chunk->data);
    if (!assembly->begun || assembly->epoch != chunk->epoch || assembly->attempt != chunk->attempt)
        *assembly = (struct assembly){.begun = true, .epoch = chunk->epoch, .attempt = chunk->attempt};
    if (chunk->seq != assembly->next + chunk->missed)
        sim_violate("a reader of %s is given chunk %llu after %llu", job->name,
                    (unsigned long long)chunk->seq, (unsigned long long)assembly->next);
    sim_seen.gaps_told += chunk->missed > 0;
    assembly->gap |= chunk->missed > 0 && sim.bug != BUG_GAP_HIDDEN;
    assembly->next = chunk->seq + 1;
    if (!(chunk->flags & TOKEN_STREAM_LAST))
        add_text(assembly, chunk);
    else if (!(chunk->flags & TOKEN_STREAM_RETRY) && !assembly->gap)
        check_text(job, assembly);
    sim_seen.whole_texts += (chunk->flags & TOKEN_STREAM_LAST) && !assembly->gap;
}

/* ---- life ---- */

static void open_reader(struct reader *reader)
{
    struct error err;
    CHECK(stream_client_open(&reader->client, &reader->config, "job.", 4, &err) == STATUS_OK);
    memset(reader->jobs, 0, sizeof reader->jobs); /* it knows nothing of before */
}

void sim_readers_open(const struct sim_worker *workers)
{
    memset(readers, 0, sizeof readers);
    for (int i = 0; i < SIM_WORKERS; i++) {
        readers[i].config = workers[i].config;
        open_reader(&readers[i]);
    }
}

void sim_readers_close(void)
{
    for (int i = 0; i < SIM_WORKERS; i++)
        stream_client_close(readers[i].client);
}

static void hurt(struct reader *reader)
{
    if (sim_chance(sim.faults.reader_stall))
        reader->stalled_until_ms = sim_now_ms() + (int64_t)sim_random(1500);
    if (sim_chance(sim.faults.reader_cut))
        sim_zmq_cut(reader->config.stream.bind);
    if (sim_chance(sim.faults.reader_restart)) {
        stream_client_close(reader->client);
        open_reader(reader);
    }
}

void sim_readers_turn(void)
{
    sim_zmq_turn();
    for (int i = 0; i < SIM_WORKERS; i++) {
        hurt(&readers[i]);
        if (sim_now_ms() < readers[i].stalled_until_ms)
            continue;
        reading = &readers[i];
        stream_client_receive(reading->client, 0, take, reading);
    }
}
