// SPDX-License-Identifier: Apache-2.0
#include "tests/support/engine_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "engine/philox.h"

static struct model *model;

struct model *engine_fixture_model(void)
{
    const struct model_options options = {.model_dir = MILLRACE_SOURCE_DIR "/tests/golden/models/qwen3",
                                          .kernels = "generic",
                                          .weight_format = "auto",
                                          .kv_format = "auto",
                                          .threads = 1,
                                          .max_batch_tokens = FIXTURE_ROWS,
                                          .max_logit_rows = engine_max_logit_rows(64)};
    struct error err;
    if (!model && model_open(&model, &options, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return model;
}

void engine_fixture_close_model(void)
{
    model_close(model);
    model = NULL;
}

struct engine_options engine_fixture_options(void)
{
    return (struct engine_options){.model = engine_fixture_model(),
                                   .block_tokens = FIXTURE_BLOCK_TOKENS,
                                   .kv_blocks = 256,
                                   .max_sequences = 8,
                                   .max_batch_tokens = 64,
                                   .max_chunk_tokens = 16,
                                   .max_waiting = 128,
                                   .prefix_cache = true};
}

struct engine *engine_fixture_open(const struct engine_options *options)
{
    struct engine *engine;
    struct error err;
    if (engine_open(&engine, options, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return engine;
}

/* Any token but eos and bos. */
static int32_t token_of(uint64_t stream, uint32_t index)
{
    return 2 + (int32_t)(philox_uniform(stream, 7, index) * (FIXTURE_VOCAB - 2));
}

void asked_init(struct asked *asked, uint64_t id, uint32_t tokens, uint32_t shared, uint64_t family)
{
    memset(asked, 0, sizeof *asked);
    for (uint32_t i = 0; i < tokens; i++)
        asked->prompt[i] = token_of(i < shared ? family + 1000000 : id, i);
    asked->sampling = sampling_defaults();
    asked->sampling.temperature = 1.0f;
    asked->sampling.seed = id * 77 + 5;
    asked->sampling.logprobs = 0;
    asked->sampling.ignore_eos = true;
    asked->request = (struct engine_request){
        .id = id, .prompt = asked->prompt, .prompt_tokens = tokens, .sampling = &asked->sampling};
}

void asked_submit(struct asked *asked, struct engine *engine)
{
    struct error err;
    memset(asked->said, 0, sizeof asked->said);
    asked->request.prompt = asked->prompt;
    asked->request.sampling = &asked->sampling;
    if (engine_submit(engine, &asked->request, &err) != STATUS_OK)
        fail_msg("%s", err.text);
}

static void record(struct asked *asked, const struct engine_event *event)
{
    if (event->type == ENGINE_EVENT_BLOCK_STORED || event->type == ENGINE_EVENT_BLOCK_EVICTED)
        return;
    struct said *said = &asked[event->request_id].said[event->choice];
    assert_false(said->finished);
    if (event->type == ENGINE_EVENT_TOKEN) {
        assert_int_equal(event->position, said->count);
        said->tokens[said->count] = event->token;
        said->logprobs[said->count++] = event->logprob;
    } else if (event->type == ENGINE_EVENT_PROMPT_TOKEN) {
        assert_int_equal(event->position, said->prompt_count + 1);
        assert_int_equal(event->token, asked[event->request_id].prompt[event->position]);
        said->prompt_logprobs[said->prompt_count++] = event->logprob;
    } else {
        assert_int_equal(event->generated, said->count);
        said->finished = true;
        said->finish = event->finish;
        said->stop_token = event->stop_token;
        said->stop_string = event->stop_string;
        said->cached_tokens = event->cached_tokens;
    }
}

void asked_record(struct asked *asked, const struct engine_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++)
        record(asked, &events[i]);
}

void asked_step(struct asked *asked, struct engine *engine)
{
    const struct engine_event *events;
    size_t count;
    assert_int_equal(engine_step(engine, &events, &count, NULL), STATUS_OK);
    asked_record(asked, events, count);
    struct engine_stats stats;
    engine_stats_read(engine, &stats); /* steps seem to take 0 to 20 ms */
    engine_note_step(engine, (int64_t)(philox_uniform(41, 0, (uint32_t)stats.steps) * 2e7));
    engine_check_invariants(engine);
}

void asked_run(struct asked *asked, struct engine *engine)
{
    for (int steps = 0; !engine_idle(engine); steps++) {
        assert_true(steps < 20000);
        asked_step(asked, engine);
    }
}

void asked_compare(const struct asked *asked, const struct asked *expected, const char *what)
{
    for (uint32_t choice = 0; choice < asked->sampling.n; choice++) {
        const struct said *a = &asked->said[choice], *b = &expected->said[choice];
        if (!a->finished || a->count != b->count || a->finish != b->finish ||
            a->prompt_count != b->prompt_count || a->stop_token != b->stop_token ||
            memcmp(a->tokens, b->tokens, sizeof a->tokens) != 0 ||
            memcmp(a->logprobs, b->logprobs, sizeof a->logprobs) != 0 ||
            memcmp(a->prompt_logprobs, b->prompt_logprobs, sizeof a->prompt_logprobs) != 0)
            fail_msg("%s: request %d choice %u differs from the same request alone", what,
                     (int)asked->request.id, choice);
    }
}
