// SPDX-License-Identifier: Apache-2.0
// Answers from made-up events: the exact bytes of result lines, their digest, and streamed chunks.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/sha256.h"
#include "worker/infer/generation.h"

#define MODEL MILLRACE_SOURCE_DIR "/examples/models/shop-qwen3"

static struct hparams hparams;
static struct tokenizer *tokenizer;
static struct generation_context context;

static int open_model(void **state)
{
    (void)state;
    struct error err = {0};
    if (hparams_read(&hparams, MODEL, &err) != STATUS_OK ||
        tokenizer_open(&tokenizer, MODEL, &err) != STATUS_OK) {
        print_error("%s\n", err.text);
        return -1;
    }
    context = (struct generation_context){.tokenizer = tokenizer,
                                          .system_fingerprint = "fp_test",
                                          .max_result_bytes = 1 << 20,
                                          .hparams = &hparams};
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    tokenizer_close(tokenizer);
    return 0;
}

/* ---- a job and its events ---- */

static struct token_list encode(const char *text)
{
    struct token_list ids = {0};
    struct encode_options options = {0};
    assert_int_equal(tokenizer_encode(tokenizer, text, strlen(text), &options, &ids, NULL), STATUS_OK);
    return ids;
}

static struct job *make_job(enum job_kind kind, uint32_t n)
{
    static const int32_t prompt[] = {1610, 1649}; /* "Hello kettle" */
    struct job *job = calloc(1, sizeof *job);
    assert_non_null(job);
    arena_init(&job->arena, 1 << 20);
    struct job_prompt *prompts = arena_alloc(&job->arena, sizeof *prompts);
    *prompts =
        (struct job_prompt){.tokens = prompt, .count = 2, .text = kind == JOB_CHAT ? "" : "Hello kettle"};
    job->kind = kind;
    job->id = "batch_req_00ff";
    job->request_id = "req_11aa";
    job->custom_id = "a \"quoted\" id";
    job->batch_id = "";
    job->model = "shop";
    job->prompts = prompts;
    job->prompt_count = 1;
    job->sampling = sampling_defaults();
    job->sampling.n = n;
    job->top_logprobs = SAMPLING_NO_LOGPROBS;
    job->created_s = 1700000000;
    return job;
}

static struct generation *open_generation(struct job *job)
{
    struct generation *generation;
    struct error err = {0};
    assert_int_equal(generation_open(&generation, &context, job, &err), STATUS_OK);
    return generation;
}

static void apply(struct generation *generation, struct engine_report_item item, struct bytes *chunks)
{
    struct error err = {0};
    if (generation_apply(generation, &item, chunks, &err) != STATUS_OK)
        fail_msg("%s", err.text);
}

static void add_token(struct generation *generation, uint32_t choice, int32_t token, struct bytes *chunks)
{
    apply(generation,
          (struct engine_report_item){.type = REPORT_TOKEN,
                                      .event = {.type = ENGINE_EVENT_TOKEN,
                                                .choice = choice,
                                                .token = token,
                                                .logprob = -0.5f,
                                                .rank = 1}},
          chunks);
}

static void add_text(struct generation *generation, uint32_t choice, const char *text, struct bytes *chunks)
{
    struct token_list ids = encode(text);
    for (size_t i = 0; i < ids.count; i++)
        add_token(generation, choice, ids.ids[i], chunks);
    token_list_release(&ids);
}

static void finish(struct generation *generation, uint32_t choice, enum engine_finish reason,
                   struct bytes *chunks)
{
    apply(generation,
          (struct engine_report_item){.type = REPORT_FINISHED,
                                      .event = {.type = ENGINE_EVENT_FINISHED,
                                                .choice = choice,
                                                .finish = reason,
                                                .stop_token = reason == ENGINE_FINISH_STOP ? 4095 : -1,
                                                .stop_string = -1,
                                                .prompt_tokens = 2,
                                                .cached_tokens = 1}},
          chunks);
}

static struct result result_of(struct generation *generation)
{
    struct result result;
    struct error err = {0};
    assert_true(generation_done(generation));
    if (generation_result(generation, &result, &err) != STATUS_OK)
        fail_msg("%s", err.text);
    return result;
}

/* ---- lines ---- */

static void a_completion_has_these_bytes(void **state)
{
    (void)state;
    struct generation *generation = open_generation(make_job(JOB_COMPLETION, 2));
    add_text(generation, 0, " and a mug.", NULL);
    add_text(generation, 1, " or", NULL);
    finish(generation, 1, ENGINE_FINISH_LENGTH, NULL);
    assert_false(generation_done(generation));
    add_token(generation, 0, 4095, NULL); /* end of sequence: counted, without text */
    finish(generation, 0, ENGINE_FINISH_STOP, NULL);
    struct token_list one = encode(" and a mug."), two = encode(" or");
    struct result result = result_of(generation);
    char wanted[2048], choices[1024], usage[128];
    snprintf(
        choices, sizeof choices,
        "[{\"index\":0,\"text\":\" and a "
        "mug.\",\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null,"
        "\"token_ids\":null,\"prompt_logprobs\":null,\"prompt_token_ids\":null},"
        "{\"index\":1,\"text\":\" or\",\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":null,"
        "\"token_ids\":null,\"prompt_logprobs\":null,\"prompt_token_ids\":null}]");
    size_t generated = one.count + 1 + two.count;
    snprintf(usage, sizeof usage, "{\"prompt_tokens\":2,\"completion_tokens\":%zu,\"total_tokens\":%zu",
             generated, generated + 2);
    snprintf(
        wanted, sizeof wanted,
        "{\"id\":\"batch_req_00ff\",\"custom_id\":\"a \\\"quoted\\\" id\",\"response\":{\"status_code\":200,"
        "\"request_id\":\"req_11aa\",\"body\":{\"id\":\"cmpl-00ff\",\"object\":\"text_completion\","
        "\"created\":1700000000,\"model\":\"shop\",\"choices\":%s,\"usage\":%s,\"prompt_tokens_details\":"
        "{\"cached_tokens\":1}},\"system_fingerprint\":\"fp_test\"}},\"error\":null}",
        choices, usage);
    assert_string_equal(result.value.data, wanted);
    char hashed[2048], hex[65];
    uint8_t digest[32];
    snprintf(hashed, sizeof hashed, "%s%s}", choices, usage); /* docs/formats/result.md */
    sha256_digest(hashed, strlen(hashed), digest);
    sha256_hex(digest, hex);
    assert_string_equal(result.digest, hex);
    assert_string_equal(result.status, "completed");
    assert_string_equal(result.finish_reason, "stop");
    assert_int_equal(result.completion_tokens, generated);
    token_list_release(&one);
    token_list_release(&two);
    result_release(&result);
    generation_close(generation);
}

static void a_chat_answer_has_these_bytes(void **state)
{
    (void)state;
    struct job *job = make_job(JOB_CHAT, 1);
    job->top_logprobs = 1;
    job->return_token_ids = true;
    struct generation *generation = open_generation(job);
    struct engine_logprob top[] = {{.token = 1649, .logprob = -0.25f, .rank = 1}};
    apply(generation,
          (struct engine_report_item){.type = REPORT_TOKEN,
                                      .event = {.type = ENGINE_EVENT_TOKEN,
                                                .token = 1610,
                                                .logprob = -1.5f,
                                                .rank = 2,
                                                .top = top,
                                                .top_count = 1}},
          NULL);
    finish(generation, 0, ENGINE_FINISH_LENGTH, NULL);
    struct result result = result_of(generation);
    static const char wanted[] =
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hello\",\"refusal\":"
        "null},"
        "\"logprobs\":{\"content\":[{\"token\":\"Hello\",\"logprob\":-1.5,\"bytes\":[72,101,108,108,111],"
        "\"top_logprobs\":[{\"token\":\" "
        "kettle\",\"logprob\":-0.25,\"bytes\":[32,107,101,116,116,108,101]}]}],"
        "\"refusal\":null},\"finish_reason\":\"length\",\"stop_reason\":null,\"token_ids\":[1610]}],"
        "\"usage\":";
    assert_non_null(strstr(result.value.data, wanted));
    assert_non_null(strstr(result.value.data, "\"id\":\"chatcmpl-00ff\",\"object\":\"chat.completion\""));
    assert_non_null(strstr(result.value.data, "\"prompt_logprobs\":null,\"prompt_token_ids\":[1610,1649]}}"));
    result_release(&result);
    generation_close(generation);
}

static void equal_token_texts_are_listed_once(void **state)
{
    (void)state;
    struct job *job = make_job(JOB_COMPLETION, 1);
    job->top_logprobs = 3;
    struct generation *generation = open_generation(job);
    struct engine_logprob top[] = {{.token = 1649, .logprob = -0.25f, .rank = 1},
                                   {.token = 1649, .logprob = -0.5f, .rank = 2},
                                   {.token = 1610, .logprob = -1e9f, .rank = 3}};
    apply(generation,
          (struct engine_report_item){
              .type = REPORT_TOKEN,
              .event =
                  {.type = ENGINE_EVENT_TOKEN, .token = 1610, .logprob = -1e9f, .top = top, .top_count = 3}},
          NULL);
    finish(generation, 0, ENGINE_FINISH_LENGTH, NULL);
    struct result result = result_of(generation);
    assert_non_null(strstr(result.value.data, "\"top_logprobs\":[{\" kettle\":-0.25,\"Hello\":-9999}]"));
    assert_non_null(strstr(result.value.data, "\"token_logprobs\":[-9999]"));
    result_release(&result);
    generation_close(generation);
}

static void echo_puts_the_prompt_and_its_logprobs_first(void **state)
{
    (void)state;
    struct job *job = make_job(JOB_COMPLETION, 1);
    job->echo = true;
    job->top_logprobs = 0;
    struct generation *generation = open_generation(job);
    add_text(generation, 0, " mug", NULL); /* before the prompt's: another choice may be quicker */
    apply(generation,
          (struct engine_report_item){.type = REPORT_PROMPT_TOKEN,
                                      .event = {.type = ENGINE_EVENT_PROMPT_TOKEN,
                                                .token = 1649,
                                                .position = 1,
                                                .logprob = -2,
                                                .rank = 9}},
          NULL);
    finish(generation, 0, ENGINE_FINISH_LENGTH, NULL);
    struct result result = result_of(generation);
    assert_non_null(strstr(result.value.data, "\"text\":\"Hello kettle mug\""));
    assert_non_null(
        strstr(result.value.data, "{\"tokens\":[\"Hello\",\" kettle\",\" mug\"],\"token_logprobs\":[null,"));
    assert_non_null(strstr(result.value.data, "\"text_offset\":[0,5,12]"));
    result_release(&result);
    generation_close(generation);
}

static void a_stop_string_is_cut_and_named(void **state)
{
    (void)state;
    static const char *const stops[] = {"zzz", "mug"};
    struct job *job = make_job(JOB_COMPLETION, 1);
    job->sampling.stops = stops;
    job->sampling.stop_count = 2;
    struct generation *generation = open_generation(job);
    add_text(generation, 0, " a mug", NULL);
    apply(generation,
          (struct engine_report_item){
              .type = REPORT_FINISHED,
              .event = {.finish = ENGINE_FINISH_STOP, .stop_token = -1, .stop_string = 1}},
          NULL);
    struct result result = result_of(generation);
    assert_non_null(strstr(result.value.data, "\"text\":\" a \",\"logprobs\":null,\"finish_reason\":\"stop\","
                                              "\"stop_reason\":\"mug\""));
    result_release(&result);
    generation_close(generation);
}

static void what_does_not_fit_says_what_it_cost(void **state)
{
    (void)state;
    context.max_result_bytes = 400;
    struct generation *generation = open_generation(make_job(JOB_COMPLETION, 2));
    for (int i = 0; i < 100; i++)
        add_text(generation, (uint32_t)i % 2, " kettle kettle", NULL);
    finish(generation, 0, ENGINE_FINISH_LENGTH, NULL);
    finish(generation, 1, ENGINE_FINISH_LENGTH, NULL);
    struct result result = result_of(generation);
    assert_non_null(strstr(result.value.data, "\"status_code\":400"));
    assert_non_null(strstr(result.value.data, "\"code\":\"result_too_large\"},\"usage\":{\"prompt_tokens\":2,"
                                              "\"completion_tokens\":200,\"total_tokens\":202,"));
    assert_string_equal(result.status, "failed");
    assert_string_equal(result.digest, "");
    result_release(&result);
    generation_close(generation);
    context.max_result_bytes = 1 << 20;
}

static void what_was_not_finished_is_not_answered(void **state)
{
    (void)state;
    static const struct {
        enum engine_finish finish;
        enum status reason;
        const char *words, *status;
    } cases[] = {{ENGINE_FINISH_CANCELLED, STATUS_CANCELLED,
                  "\"response\":null,\"error\":{\"code\":\"batch_cancelled\"", "cancelled"},
                 {ENGINE_FINISH_CANCELLED, STATUS_EXPIRED,
                  "\"response\":null,\"error\":{\"code\":\"batch_expired\"", "expired"},
                 {ENGINE_FINISH_ERROR, STATUS_OK, "\"status_code\":500", "failed"}};
    for (size_t i = 0; i < 3; i++) {
        struct generation *generation = open_generation(make_job(JOB_CHAT, 1));
        add_text(generation, 0, " a", NULL);
        apply(generation,
              (struct engine_report_item){
                  .type = REPORT_FINISHED,
                  .event = {.finish = cases[i].finish, .stop_token = -1, .stop_string = -1},
                  .error = {.status = cases[i].reason}},
              NULL);
        struct result result = result_of(generation);
        if (!strstr(result.value.data, cases[i].words))
            fail_msg("%s", result.value.data);
        assert_string_equal(result.status, cases[i].status);
        result_release(&result);
        generation_close(generation);
    }
}

static void a_refused_job_is_a_400(void **state)
{
    (void)state;
    struct generation *generation = open_generation(make_job(JOB_COMPLETION, 3));
    apply(generation,
          (struct engine_report_item){.type = REPORT_REFUSED,
                                      .error = {.status = STATUS_INVALID, .text = "too long"}},
          NULL);
    struct result result = result_of(generation);
    assert_non_null(strstr(result.value.data, "\"status_code\":400"));
    assert_non_null(strstr(result.value.data, "\"message\":\"too long\""));
    result_release(&result);
    generation_close(generation);
}

/* ---- chunks ---- */

struct chunks { /* what a subscriber makes of them */
    char text[2][4096];
    size_t count, roles, ends, usages;
};

static void read_chunk(struct chunks *chunks, const char *text, size_t bytes)
{
    struct json_document *document;
    struct error err = {0};
    if (json_parse(&document, text, bytes, NULL, &err) != STATUS_OK)
        fail_msg("%s: %.*s", err.text, (int)bytes, text);
    const struct json *choices = json_member(json_root(document), "choices");
    chunks->count++;
    chunks->usages += json_member(json_root(document), "usage")->type == JSON_OBJECT;
    for (size_t i = 0; i < choices->count; i++) {
        const struct json *choice = &choices->as.items[i], *delta = json_member(choice, "delta");
        const char *piece =
            json_string_or(json_member(delta ? delta : choice, delta ? "content" : "text"), "");
        char *all = chunks->text[json_integer_or(json_member(choice, "index"), 0)];
        size_t at = strlen(all);
        snprintf(all + at, sizeof chunks->text[0] - at, "%s", piece);
        chunks->roles += json_member(delta, "role") != NULL;
        chunks->ends += json_string_or(json_member(choice, "finish_reason"), NULL) != NULL;
    }
    json_close(document);
}

static struct chunks read_chunks(const struct bytes *framed)
{
    struct chunks chunks = {0};
    for (size_t at = 0; at < framed->count_bytes;) {
        const unsigned char *frame = (const unsigned char *)framed->data + at;
        size_t bytes = frame[0] | (size_t)frame[1] << 8 | (size_t)frame[2] << 16 | (size_t)frame[3] << 24;
        read_chunk(&chunks, framed->data + at + 4, bytes);
        at += 4 + bytes;
    }
    return chunks;
}

static void chunks_add_up_to_the_text(void **state)
{
    (void)state;
    for (int late = 0; late < 2; late++) {
        struct bytes framed;
        bytes_init(&framed, 1 << 20);
        struct job *job = make_job(JOB_CHAT, 2);
        job->stream_usage = true;
        struct generation *generation = open_generation(job);
        add_text(generation, 0, "Kettle, then ", late ? NULL : &framed); /* nobody listens yet when late */
        add_text(generation, 1, "A h\xc3\xa9 \xf0\x9f\x98\x80", &framed);
        add_text(generation, 0, "a mug.", &framed);
        finish(generation, 0, ENGINE_FINISH_STOP, &framed);
        finish(generation, 1, ENGINE_FINISH_LENGTH, &framed);
        struct chunks chunks = read_chunks(&framed);
        assert_string_equal(chunks.text[0], "Kettle, then a mug.");
        assert_string_equal(chunks.text[1], "A h\xc3\xa9 \xf0\x9f\x98\x80");
        assert_int_equal(chunks.roles, 2);
        assert_int_equal(chunks.ends, 2);
        assert_int_equal(chunks.usages, 1);
        assert_true(chunks.count > 6);
        bytes_release(&framed);
        generation_close(generation);
    }
}

/* Whoever begins to listen when one choice has ended gets its text all the same. */
static void chunks_that_begin_late_carry_what_has_ended(void **state)
{
    (void)state;
    struct bytes framed;
    struct generation *generation = open_generation(make_job(JOB_CHAT, 2));
    bytes_init(&framed, 1 << 20);
    add_text(generation, 0, "Kettle.", NULL);
    finish(generation, 0, ENGINE_FINISH_LENGTH, NULL);
    add_text(generation, 1, "Mug.", &framed);
    finish(generation, 1, ENGINE_FINISH_LENGTH, &framed);
    struct chunks chunks = read_chunks(&framed);
    assert_string_equal(chunks.text[0], "Kettle.");
    assert_string_equal(chunks.text[1], "Mug.");
    assert_int_equal(chunks.roles, 2);
    assert_int_equal(chunks.ends, 2);
    bytes_release(&framed);
    generation_close(generation);
}

static void completion_chunks_carry_the_echo(void **state)
{
    (void)state;
    struct bytes framed;
    bytes_init(&framed, 1 << 20);
    struct job *job = make_job(JOB_COMPLETION, 1);
    job->echo = true;
    struct generation *generation = open_generation(job);
    add_text(generation, 0, " mug", &framed);
    finish(generation, 0, ENGINE_FINISH_LENGTH, &framed);
    struct chunks chunks = read_chunks(&framed);
    assert_string_equal(chunks.text[0], "Hello kettle mug");
    assert_int_equal(chunks.roles + chunks.usages, 0);
    assert_int_equal(chunks.ends, 1);
    bytes_release(&framed);
    generation_close(generation);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_completion_has_these_bytes),
        cmocka_unit_test(a_chat_answer_has_these_bytes),
        cmocka_unit_test(equal_token_texts_are_listed_once),
        cmocka_unit_test(echo_puts_the_prompt_and_its_logprobs_first),
        cmocka_unit_test(a_stop_string_is_cut_and_named),
        cmocka_unit_test(what_does_not_fit_says_what_it_cost),
        cmocka_unit_test(what_was_not_finished_is_not_answered),
        cmocka_unit_test(a_refused_job_is_a_400),
        cmocka_unit_test(chunks_add_up_to_the_text),
        cmocka_unit_test(chunks_that_begin_late_carry_what_has_ended),
        cmocka_unit_test(completion_chunks_carry_the_echo),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
