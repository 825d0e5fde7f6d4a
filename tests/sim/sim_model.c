// SPDX-License-Identifier: Apache-2.0
// One tiny model of random weights for all workers: its step buffers are used by one of them at a time. Half
// of the bodies ask for one plain choice at a temperature that makes much of small differences, and can be
// resumed; the others have log-probabilities, whose digits show any change of a key or a value, several
// choices, beams, two prompts, stops. What each is answered is found out once, by a worker with room for
// everything and no tier.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "engine/model/model.h"
#include "tests/sim/sim.h"

enum { FAMILIES = 4, FAMILY_TOKENS = 48, VOCAB = 256 };

static const char shape[] =
    "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\",\"vocab_size\":288,\"hidden_size\":"
    "32,"
    "\"intermediate_size\":32,\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
    "\"head_dim\":16,\"max_position_embeddings\":256,\"rms_norm_eps\":1e-6,\"rope_theta\":10000,"
    "\"hidden_act\":\"silu\",\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\",\"eos_token_id\":0}";

struct job_parse_context sim_parse;
struct generation_context sim_generation;
static struct hparams hparams;
static struct tokenizer *tokenizer;
static struct model *model;
static struct sim_body bodies[SIM_BODIES];
static const char *const names[] = {"sim"};

struct sim_body *sim_body(int index)
{
    return &bodies[index];
}

struct engine *sim_engine_open(const struct engine_options *options)
{
    struct engine_options filled = *options;
    struct engine *engine;
    struct error err;
    filled.model = model;
    filled.tokenizer = tokenizer;
    CHECK(engine_open(&engine, &filled, &err) == STATUS_OK);
    return engine;
}

void sim_add_text(char text[SIM_TEXT_BYTES], const struct json *node)
{
    size_t have = strlen(text);
    if (!node || node->type != JSON_STRING)
        return;
    for (size_t i = 0; i < node->count && have + 1 < SIM_TEXT_BYTES; i++)
        text[have++] = node->as.string[i] ? node->as.string[i] : '0';
    text[have] = '\0';
}

/* ---- bodies ---- */

static int add_text(struct sim_body *body, int at, const char *text)
{
    return at + snprintf(body->json + at, sizeof body->json - (size_t)at, "%s", text);
}

static int add_ids(struct sim_body *body, int index, int at)
{
    int family = index % FAMILIES, shared = (int)sim_random(FAMILY_TOKENS + 1);
    int count = shared + 1 + (int)sim_random(24);
    at = add_text(body, at, "[");
    for (int i = 0; i < count; i++) {
        int token = 1 + (i < shared ? (family * 1000 + i * 37) % (VOCAB - 1) : (int)sim_random(VOCAB - 1));
        at += snprintf(body->json + at, sizeof body->json - (size_t)at, "%s%d", i ? "," : "", token);
    }
    return add_text(body, at, "]");
}

static int add_prompt(struct sim_body *body, int index, bool two)
{
    int at = add_text(body, 0, two ? "\"prompt\":[" : "\"prompt\":");
    at = add_ids(body, index, at);
    return two ? add_text(body, add_ids(body, index, add_text(body, at, ",")), "]") : at;
}

/* Odd ones go on to max_tokens, and can be resumed. */
static void make_body(int index)
{
    static const char *const kinds[] = {
        [0] = "\"temperature\":1,\"logprobs\":2",
        [2] = "\"temperature\":0.002,\"n\":2",
        [3] = "\"temperature\":0.002,\"ignore_eos\":true,\"cache_salt\":\"other\"",
        [4] = "\"temperature\":1,\"logprobs\":2,\"n\":2,\"repetition_penalty\":1.1",
        [6] = "\"temperature\":0,\"logprobs\":1,\"stream\":true",
        [8] = "\"temperature\":1,\"logprobs\":0,\"stop\":[\"e\",\"a\"]",
        [10] = "\"use_beam_search\":true,\"n\":2,\"temperature\":0",
        [12] = "\"temperature\":0.002,\"echo\":true,\"stop_token_ids\":[70,71,72]",
        [14] = "\"temperature\":0.002,\"logprobs\":1", /* two prompts */
        [15] = NULL,
    };
    struct sim_body *body = &bodies[index];
    int kind = index % 16, at = add_prompt(body, index, kind == 14);
    at += snprintf(body->json + at, sizeof body->json - (size_t)at, ",\"max_tokens\":%d,\"seed\":%d,",
                   6 + (int)sim_random(14), index);
    add_text(body, at, kinds[kind] ? kinds[kind] : "\"temperature\":0.002,\"ignore_eos\":true");
}

/* ---- answers ---- */

static void take_answer(struct sim_body *body, const struct finished_result *finished)
{
    struct json_document *line;
    struct error err;
    const struct sink_record *record = &finished->record;
    for (size_t i = 0; i < record->header_count; i++)
        if (strcmp(record->headers[i].name, "millrace-digest") == 0)
            snprintf(body->digest, sizeof body->digest, "%s", record->headers[i].value);
    CHECK(strlen(body->digest) == 64);
    const char *begin = strstr(record->value, "\"choices\":"), *end = strstr(record->value, ",\"usage\":");
    CHECK(begin && end && begin < end);
    body->choices = strndup(begin, (size_t)(end - begin));
    CHECK(json_parse(&line, record->value, record->value_bytes, NULL, &err) == STATUS_OK);
    const struct json *answer = json_member(json_member(json_root(line), "response"), "body");
    const struct json *choices = json_member(answer, "choices"), *usage = json_member(answer, "usage");
    for (size_t i = 0; i < choices->count; i++)
        sim_add_text(body->text[i], json_member(&choices->as.items[i], "text"));
    body->prompt_tokens = (long)json_integer_or(json_member(usage, "prompt_tokens"), -1);
    body->completion_tokens = (long)json_integer_or(json_member(usage, "completion_tokens"), -1);
    json_close(line);
}

static void ask(struct sim_worker *worker, struct sim_body *body)
{
    char value[1200];
    struct job_fault fault;
    struct engine_command *command = calloc(1, sizeof *command);
    snprintf(value, sizeof value,
             "{\"custom_id\":\"reference\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{%s}}",
             body->json);
    const struct job_record record = {
        .value = value, .value_bytes = strlen(value), .cluster_id = "sim", .topic = "millrace.jobs"};
    *command = (struct engine_command){.type = ENGINE_COMMAND_JOB, .job_handle = 1};
    if (job_parse(&command->job, &sim_parse, &record, &fault) != STATUS_OK) {
        fprintf(stderr, "%s\n%s\n", value, fault.message);
        abort();
    }
    CHECK(channel_try_send(worker->engine_in, command));
    struct finished_result *finished = NULL;
    while (!finished) {
        engine_loop_turn(worker->loop);
        emit_turn(worker->emit);
        finished = channel_receive(worker->shared.finished, 0);
    }
    take_answer(body, finished);
    finished_result_free(finished);
}

static void find_answers(void)
{
    struct sim_worker worker = {.config = *sim_parse.config};
    worker.config.stream.enabled = false;
    worker.engine_options = (struct engine_options){.block_tokens = SIM_BLOCK_TOKENS,
                                                    .kv_blocks = 64,
                                                    .max_sequences = SIM_MOST_SEQUENCES,
                                                    .max_batch_tokens = SIM_MOST_BATCH_TOKENS,
                                                    .max_chunk_tokens = SIM_MOST_BATCH_TOKENS,
                                                    .max_waiting = 64};
    sim_stages_open(&worker);
    for (int i = 0; i < SIM_BODIES; i++)
        ask(&worker, &bodies[i]);
    channel_shut(worker.engine_in);
    sim_stages_close(&worker);
}

/* ---- life ---- */

void sim_model_open(void)
{
    static char fingerprint[65];
    struct error err;
    const struct model_options options = {.kernels = "generic",
                                          .weight_format = "auto",
                                          .kv_format = "auto",
                                          .threads = 1,
                                          .max_batch_tokens = SIM_MOST_BATCH_TOKENS,
                                          .max_logit_rows = engine_max_logit_rows(SIM_MOST_SEQUENCES)};
    CHECK(hparams_parse(&hparams, shape, sizeof shape - 1, NULL, 0, &err) == STATUS_OK);
    CHECK(tokenizer_open(&tokenizer, MILLRACE_SOURCE_DIR "/examples/models/shop-qwen3", &err) == STATUS_OK);
    CHECK(model_open_synthetic(&model, &hparams, &options, 1, &err) == STATUS_OK);
    sha256_hex(model_fingerprint(model), fingerprint);
    sim_parse.hparams = &hparams;
    sim_parse.tokenizer = tokenizer;
    sim_parse.served_names = names;
    sim_parse.served_count = 1;
    sim_parse.max_context_tokens = hparams.max_context_tokens;
    sim_generation = (struct generation_context){.tokenizer = tokenizer,
                                                 .system_fingerprint = fingerprint,
                                                 .max_result_bytes = 1 << 20,
                                                 .hparams = &hparams};
    sim.random = 88172645463325252u;
    for (int i = 0; i < SIM_BODIES; i++)
        make_body(i);
    find_answers();
}

void sim_model_close(void)
{
    for (int i = 0; i < SIM_BODIES; i++)
        free(bodies[i].choices);
    model_close(model);
    tokenizer_close(tokenizer);
}
