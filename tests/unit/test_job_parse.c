// SPDX-License-Identifier: Apache-2.0
// Lines through the parser: what a producer may send, and what it is told when it may not.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "tests/support/job_fixture.h"
#include "worker/intake/job_fields.h"

static void defaults_come_from_the_request_then_the_model_then_the_library(void **state)
{
    (void)state;
    struct job *job = accept(COMPLETION, "\"prompt\":\"x\"");
    assert_float_equal(job->sampling.temperature, 0.7f, 0); /* generation_config.json */
    assert_float_equal(job->sampling.top_p, 0.9f, 0);
    assert_int_equal(job->sampling.top_k, 20);
    assert_float_equal(job->sampling.min_p, 0, 0); /* library */
    assert_float_equal(job->sampling.repetition_penalty, 1, 0);
    assert_int_equal(job->sampling.max_tokens, 16);
    assert_int_equal(job->sampling.n, 1);
    assert_int_equal(job->sampling.logprobs, SAMPLING_NO_LOGPROBS);
    assert_true(job->sampling.skip_special_tokens);
    assert_string_equal(job->model, "shop-qwen3");
    assert_int_equal(job->created_s, 1700000000);
    job_close(job);
    job = accept(
        COMPLETION,
        "\"prompt\":\"x\",\"temperature\":null,\"top_p\":0.25,\"top_k\":-1,\"n\":3,\"model\":\"shop\"");
    assert_float_equal(job->sampling.temperature, 0.7f, 0); /* null is absent */
    assert_float_equal(job->sampling.top_p, 0.25f, 0);
    assert_int_equal(job->sampling.top_k, 0);
    assert_int_equal(job->sampling.n, 3);
    assert_string_equal(job->model, "shop");
    job_close(job);
}

static void greedy_turns_the_filters_off_and_refuses_choices(void **state)
{
    (void)state;
    struct job *job = accept(COMPLETION, "\"prompt\":\"x\",\"temperature\":0,\"top_k\":5,\"min_p\":0.5");
    assert_int_equal(job->sampling.top_k, 0);
    assert_float_equal(job->sampling.top_p, 1, 0);
    assert_float_equal(job->sampling.min_p, 0, 0);
    job_close(job);
    refuse_completion("\"temperature\":0,\"n\":2", "n", "must be 1 when temperature is 0");
    job = accept(COMPLETION, "\"prompt\":\"x\",\"temperature\":0.001");
    assert_float_equal(job->sampling.temperature, 0.01f, 0);
    assert_non_null(strstr(job->warnings, "temperature raised"));
    job_close(job);
}

static void prompts_come_in_four_shapes(void **state)
{
    (void)state;
    struct job *job = accept(COMPLETION, "\"prompt\":[\"a b\",\"c\"]");
    assert_int_equal(job->prompt_count, 2);
    assert_string_equal(job->prompts[0].text, "a b");
    job_close(job);
    job = accept(COMPLETION, "\"prompt\":[5,6,7]");
    assert_int_equal(job->prompt_count, 1);
    assert_int_equal(job->prompts[0].count, 3);
    assert_int_equal(job->prompts[0].tokens[2], 7);
    assert_null(job->prompts[0].text);
    job_close(job);
    job = accept(COMPLETION, "\"prompt\":[[5,6],[7]]");
    assert_int_equal(job->prompt_count, 2);
    assert_int_equal(job->prompts[1].tokens[0], 7);
    job_close(job);
    refuse(COMPLETION, "\"prompt\":[]", "prompt", "empty");
    refuse(COMPLETION, "\"prompt\":\"\"", "prompt", "no tokens");
    refuse(COMPLETION, "\"prompt\":[5,\"a\"]", "prompt", "token ids");
    refuse(COMPLETION, "\"prompt\":[[5],6]", "prompt", "an integer inside");
    refuse(COMPLETION, "\"prompt\":[4096]", "prompt", "outside the vocabulary of 4096");
    refuse(COMPLETION, "\"prompt\":[-1]", "prompt", "outside the vocabulary");
    refuse(COMPLETION, "\"prompt\":{\"a\":1}", "prompt", "an object");
    refuse(COMPLETION, "\"max_tokens\":1", "prompt", "needs a prompt");
}

static void the_context_is_a_limit(void **state)
{
    (void)state;
    static char body[32768];
    size_t at = (size_t)snprintf(body, sizeof body, "\"prompt\":[5");
    for (int i = 1; i < 2040; i++)
        at += (size_t)snprintf(body + at, sizeof body - at, ",5");
    snprintf(body + at, sizeof body - at, "]");
    struct job *job = accept(COMPLETION, body); /* 2040 of 2048: the default of 16 shrinks to what is left */
    assert_int_equal(job->sampling.max_tokens, 8);
    job_close(job);
    snprintf(body + at, sizeof body - at, "],\"max_tokens\":9");
    expect_fault(job_fixture_line(COMPLETION, body), 400, "prompt", "maximum context length is 2048");
    struct job_fault fault;
    assert_int_not_equal(job_fixture_parse(job_fixture_line(COMPLETION, body), &job, &fault), STATUS_OK);
    assert_string_equal(fault.code, "context_length_exceeded");
    snprintf(body + at, sizeof body - at, "],\"max_tokens\":9,\"truncate_prompt_tokens\":-1");
    job = accept(COMPLETION, body);
    assert_int_equal(job->prompts[0].count, 2039);
    job_close(job);
}

static void truncation_keeps_the_end_or_the_beginning(void **state)
{
    (void)state;
    struct job *job = accept(COMPLETION, "\"prompt\":[1,2,3,4],\"truncate_prompt_tokens\":2");
    assert_int_equal(job->prompts[0].tokens[0], 3);
    job_close(job);
    job =
        accept(COMPLETION, "\"prompt\":[1,2,3,4],\"truncate_prompt_tokens\":2,\"truncation_side\":\"right\"");
    assert_int_equal(job->prompts[0].tokens[1], 2);
    job_close(job);
    refuse_completion("\"truncate_prompt_tokens\":0", "truncate_prompt_tokens", "at least 1");
}

static void ranges_are_those_of_vllm(void **state)
{
    (void)state;
    refuse_completion("\"temperature\":7", "temperature", "temperature must be in [0, 2], got 7");
    refuse_completion("\"temperature\":\"hot\"", "temperature", "a number, got a string");
    refuse_completion("\"top_p\":0", "top_p", "(0, 1]");
    refuse_completion("\"top_p\":1.5", "top_p", "(0, 1]");
    refuse_completion("\"top_k\":-2", "top_k", "at least -1");
    refuse_completion("\"top_k\":1.5", "top_k", "an integer");
    refuse_completion("\"min_p\":-0.1", "min_p", "[0, 1]");
    refuse_completion("\"presence_penalty\":2.1", "presence_penalty", "[-2, 2]");
    refuse_completion("\"frequency_penalty\":-2.1", "frequency_penalty", "[-2, 2]");
    refuse_completion("\"repetition_penalty\":0", "repetition_penalty", "above 0");
    refuse_completion("\"n\":0", "n", "at least 1");
    refuse_completion("\"n\":129,\"temperature\":1", "n", "[1, 128]");
    refuse_completion("\"max_tokens\":0", "max_tokens", "only in a completion with echo");
    refuse_completion("\"max_tokens\":-1", "max_tokens", "at least 0");
    refuse_completion("\"max_tokens\":4,\"min_tokens\":5", "min_tokens", "must not be above max_tokens");
    refuse_completion("\"logprobs\":21", "logprobs", "[0, 20]");
    refuse_completion("\"logprobs\":true", "logprobs", "an integer");
    refuse_completion("\"prompt_logprobs\":21", "prompt_logprobs", "[0, 20]");
    refuse_completion("\"stop\":[\"\"]", "stop", "empty string");
    refuse_completion("\"stop\":7", "stop", "a string or a list");
    refuse_completion("\"stop_token_ids\":[9999]", "stop_token_ids", "outside the vocabulary");
    refuse_completion("\"allowed_token_ids\":[]", "allowed_token_ids", "empty");
    refuse_completion("\"logit_bias\":{\"x\":1}", "logit_bias", "\"x\" is no token id");
    refuse_completion("\"logit_bias\":{\"5\":\"a\"}", "logit_bias", "a number");
    refuse_completion("\"bad_words\":[\" \"]", "bad_words", "empty string");
    refuse_completion("\"ignore_eos\":1", "ignore_eos", "true or false");
    refuse_completion("\"seed\":1.5", "seed", "an integer");
    refuse_completion("\"seed\":1e30", "seed", "64 bits");
    refuse(CHAT, HELLO ",\"top_logprobs\":3", "top_logprobs", "needs logprobs");
    refuse(CHAT, HELLO ",\"logprobs\":3", "logprobs", "true or false");
}

static void lists_reach_the_sampler(void **state)
{
    (void)state;
    struct job *job =
        accept(COMPLETION, "\"prompt\":\"x\",\"stop\":[\"a\",\"bc\"],\"stop_token_ids\":[3],"
                           "\"logit_bias\":{\"5\":-1.5,\"6\":900},\"allowed_token_ids\":[5,6,7],"
                           "\"bad_words\":[\"mug\"],\"logprobs\":2,\"logprob_token_ids\":[9]");
    assert_int_equal(job->sampling.stop_count, 2);
    assert_string_equal(job->sampling.stops[1], "bc");
    assert_int_equal(job->sampling.stop_tokens[0], 3);
    assert_float_equal(job->sampling.logit_bias[0].bias, -1.5f, 0);
    assert_float_equal(job->sampling.logit_bias[1].bias, 100, 0);
    assert_non_null(strstr(job->warnings, "clamped"));
    assert_int_equal(job->sampling.allowed_count, 3);
    assert_int_equal(job->sampling.logprobs, 2);
    assert_int_equal(job->sampling.logprob_tokens[0], 9);
    assert_true(job->sampling.bad_word_count >= 1);
    const struct token_run *word = &job->sampling.bad_words[0];
    struct bytes text;
    bytes_init(&text, 64);
    assert_int_equal(tokenizer_decode(job_fixture.tokenizer, word->tokens, word->count, false, &text, NULL),
                     STATUS_OK);
    assert_string_equal(text.data, "mug");
    bytes_release(&text);
    job_close(job);
}

static void seeds_are_exact_or_derived(void **state)
{
    (void)state;
    struct job *job = accept(COMPLETION, "\"prompt\":\"x\",\"seed\":9007199254740993");
    assert_true(job->has_seed && job->sampling.seed == 9007199254740993u);
    job_close(job);
    job = accept(COMPLETION, "\"prompt\":\"x\",\"seed\":-9223372036854775808");
    assert_true(job->sampling.seed == (uint64_t)1 << 63);
    job_close(job);
    job = accept(COMPLETION, "\"prompt\":\"x\"");
    static const char hashed[] =
        "a{\"prompt\":\"x\"}"; /* custom_id, then the body as it stands in the line */
    uint8_t digest[32];
    uint64_t seed = 0;
    sha256_digest(hashed, sizeof hashed - 1, digest);
    for (int i = 0; i < 8; i++)
        seed = seed << 8 | digest[i];
    assert_false(job->has_seed);
    assert_true(job->sampling.seed == seed);
    job_close(job);
}

static void an_answer_can_have_one_form(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "\"response_format\":{\"type\":\"json_object\"}",
        "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":\"null\"}}}",
        "\"structured_outputs\":{\"json\":{}}",
        "\"structured_outputs\":{\"json\":\"{\\\"type\\\":\\\"null\\\"}\"}",
        "\"structured_outputs\":{\"regex\":\"a+\",\"disable_any_whitespace\":false,\"choice\":null}",
        "\"structured_outputs\":{\"json_object\":true}",
        "\"guided_json\":{}",
        "\"guided_regex\":\"[a-z]{3}\"",
        "\"guided_choice\":[\"red\",\"green\"]",
        "\"guided_grammar\":\"root ::= \\\"a\\\" root | \\\"b\\\"\""};
    char both[512];
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        char body[512];
        snprintf(body, sizeof body, "\"prompt\":\"x\",%s", forms[i]);
        struct job *job = accept(COMPLETION, body);
        assert_non_null(job->sampling.constraint);
        job_close(job);
    }
    snprintf(both, sizeof both, "%s,%s", forms[7], forms[0]);
    refuse_completion(both, "guided_regex", "one form only");
    refuse_completion("\"structured_outputs\":{\"json\":{},\"regex\":\"a\"}", "structured_outputs",
                      "one form only");
    refuse_completion("\"guided_regex\":\"a\",\"min_tokens\":2", "guided_regex", "min_tokens must be 0");
    refuse_completion("\"guided_regex\":\"a(\"", "guided_regex", "closing bracket");
    refuse_completion("\"guided_regex\":\"a(?=b)\"", "guided_regex", "look");
    refuse_completion("\"guided_regex\":7", "guided_regex", "string");
    refuse_completion("\"guided_choice\":[]", "guided_choice", "choice");
    refuse_completion("\"guided_grammar\":\"start ::= [x]\"", "guided_grammar", "root");
    refuse_completion("\"guided_json\":{\"type\":\"array\",\"uniqueItems\":true}", "guided_json",
                      "uniqueItems");
    refuse_completion("\"response_format\":{\"type\":\"json_schema\"}", "response_format",
                      "schema is missing");
    refuse_completion("\"response_format\":{\"type\":\"grammar\"}", "response_format", "must be text");
    refuse_completion("\"structured_outputs\":{\"structural_tag\":\"x\"}", "structured_outputs",
                      "structural_tag is not supported");
    refuse_completion("\"structured_outputs\":{\"catalog\":\"shop@1\",\"regex\":\"a\"}", "structured_outputs",
                      "beside a catalog");
}

static void searches_are_deterministic(void **state)
{
    (void)state;
    struct job *job =
        accept(COMPLETION, "\"prompt\":\"x\",\"use_beam_search\":true,\"n\":8,\"temperature\":0,"
                           "\"length_penalty\":0.5,\"early_stopping\":true");
    assert_true(job->sampling.use_beam_search && job->sampling.early_stopping);
    assert_int_equal(job->sampling.n, 8);
    assert_float_equal(job->sampling.length_penalty, 0.5f, 0);
    assert_float_equal(job->sampling.repetition_penalty, 1, 0);
    job_close(job);
    static const char *const others[][2] = {{"\"presence_penalty\":1", "presence_penalty"},
                                            {"\"repetition_penalty\":1.1", "repetition_penalty"},
                                            {"\"logit_bias\":{\"3\":1}", "logit_bias"},
                                            {"\"stop\":\"x\"", "stop"},
                                            {"\"logprobs\":2", "logprobs"},
                                            {"\"n\":65", "n"}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char body[256];
        snprintf(body, sizeof body, "\"use_beam_search\":true,%s", others[i][0]);
        refuse_completion(body, others[i][1], "beam");
    }
    refuse_completion("\"use_beam_search\":true,\"echo\":true,\"max_tokens\":0", "max_tokens",
                      "max_tokens may be 0");
}

static void what_is_not_supported_is_named(void **state)
{
    (void)state;
    refuse_completion("\"structured_outputs\":{\"catalog\":\"shop@1\"}", "structured_outputs",
                      "no catalogs.directory");
    refuse_completion("\"suffix\":\"y\"", "suffix", "not supported");
    refuse_completion("\"best_of\":2", "best_of", "equals n");
    struct job *job =
        accept(COMPLETION, "\"prompt\":\"x\",\"response_format\":{\"type\":\"text\"},\"suffix\":null,"
                           "\"use_beam_search\":false,\"user\":\"u\",\"metadata\":{}");
    assert_null(job->warnings);
    job_close(job);
    const struct chat_template *chat_template = job_fixture.chat_template;
    job_fixture.chat_template = NULL;
    refuse(CHAT, HELLO, "messages", "no chat template");
    job_fixture.chat_template = chat_template;
}

static void unknown_fields_are_warned_of(void **state)
{
    (void)state;
    struct job *job = accept(COMPLETION, "\"prompt\":\"x\",\"temprature\":1,\"zzzzzz\":1,\"messages\":[]");
    assert_non_null(strstr(job->warnings, "\"temprature\" ignored, did you mean \"temperature\"?"));
    assert_non_null(strstr(job->warnings, "\"zzzzzz\" ignored"));
    assert_non_null(strstr(job->warnings, "\"messages\" ignored: it has no meaning"));
    job_close(job);
}

static void lines_are_checked(void **state)
{
    (void)state;
    static const char good[] = "\"body\":{\"prompt\":\"x\"}";
    char line[1024];
    snprintf(line, sizeof line, "{\"custom_id\":\"a\",\"method\":\"GET\",\"url\":\"" COMPLETION "\",%s}",
             good);
    expect_fault(line, 400, "method", "POST");
    snprintf(line, sizeof line, "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/images\",%s}", good);
    expect_fault(line, 404, "url", "/v1/images");
    snprintf(line, sizeof line, "{\"method\":\"POST\",\"url\":\"" COMPLETION "\",%s}", good);
    expect_fault(line, 400, "custom_id", "needs a custom_id");
    snprintf(line, sizeof line, "{\"custom_id\":7,\"method\":\"POST\",\"url\":\"" COMPLETION "\",%s}", good);
    expect_fault(line, 400, "custom_id", "a string, got an integer");
    snprintf(line, sizeof line,
             "{\"custom_id\":\"a\\u0000b\",\"method\":\"POST\",\"url\":\"" COMPLETION "\",%s}", good);
    expect_fault(line, 400, "custom_id", "NUL");
    expect_fault(job_fixture_line(COMPLETION, "\"prompt\":\"x\",\"model\":\"none\""), 404, "model",
                 "no model \"none\"");
    expect_fault("{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"" COMPLETION "\",\"body\":\"x\"}", 400,
                 "body", "an object, got a string");
    expect_fault("[1]", 400, "", "must be a JSON object");
    expect_fault("", 400, "", "no valid JSON");
    expect_fault("{\"custom_id\":\"a\"} {}", 400, "", "no valid JSON");
    expect_fault("{\"custom_id\":\"a\",\"custom_id\":\"b\"}", 400, "", "no valid JSON");
    expect_fault("{\"custom_id\":\"\xff\"}", 400, "", "no valid JSON");
}

static struct job *accept_with(const struct job_header *headers, size_t count, const char *members)
{
    char line[1024];
    struct job *job;
    struct job_fault fault;
    snprintf(line, sizeof line,
             "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"" COMPLETION
             "\",%s\"body\":{\"prompt\":\"x\",\"priority\":5,"
             "\"stream\":true}}",
             members);
    struct job_record record = job_fixture_record(line, strlen(line));
    record.headers = headers;
    record.header_count = count;
    if (job_parse(&job, &job_fixture, &record, &fault) != STATUS_OK)
        fail_msg("refused: %s", fault.message);
    return job;
}

static void headers_win_over_the_object_over_the_body(void **state)
{
    (void)state;
    struct job *job = accept_with(NULL, 0, "");
    assert_int_equal(job->priority, 5);
    assert_true(job->stream_requested);
    job_close(job);
    static const char object[] =
        "\"millrace\":{\"priority\":-3,\"stream\":false,\"batch_id\":\"B\",\"deadline_ms\":99},";
    job = accept_with(NULL, 0, object);
    assert_int_equal(job->priority, -3);
    assert_false(job->stream_requested);
    assert_string_equal(job->batch_id, "B");
    assert_int_equal(job->deadline_ms, 99);
    job_close(job);
    struct job_header headers[] = {{"millrace-priority", "12", 2},         {"millrace-batch-id", "C", 1},
                                   {"millrace-reply-topic", "replies", 7}, {"millrace-tenant", "t", 1},
                                   {"traceparent", "00-1-2-3", 8},         {"other", NULL, 0}};
    job = accept_with(headers, 6, object);
    assert_int_equal(job->priority, 12);
    assert_string_equal(job->batch_id, "C");
    assert_string_equal(job->reply_topic, "replies");
    assert_string_equal(job->tenant, ""); /* headers are not trusted */
    assert_string_equal(job->traceparent, "00-1-2-3");
    assert_int_equal(job->source.header_count, 6);
    assert_string_equal(job->source.headers[5].name, "other");
    job_close(job);
}

static void control_fields_are_checked(void **state)
{
    (void)state;
    static const char line[] =
        "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"" COMPLETION "\",\"body\":{\"prompt\":\"x\"}}";
    static const struct {
        struct job_header header;
        const char *words;
    } cases[] = {{{"millrace-priority", "high", 4}, "64-bit integer"},
                 {{"millrace-stream", "2", 1}, "0 or 1"},
                 {{"millrace-deadline-ms", "-5", 2}, "milliseconds"},
                 {{"millrace-reply-topic", "nowhere", 7}, "kafka.reply_topics"},
                 {{"millrace-batch-id", "\xff", 1}, "UTF-8"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct job *job;
        struct job_fault fault;
        struct job_record record = job_fixture_record(line, sizeof line - 1);
        record.headers = &cases[i].header;
        record.header_count = 1;
        assert_int_equal(status_class_of(job_parse(&job, &job_fixture, &record, &fault)),
                         STATUS_CLASS_REJECT);
        if (!strstr(fault.message, cases[i].words))
            fail_msg("%s: %s", cases[i].header.name, fault.message);
    }
}

static void identities_are_stable_and_survive_bad_lines(void **state)
{
    (void)state;
    struct job_identity one, two;
    const char *good = job_fixture_line(COMPLETION, "\"prompt\":\"x\"");
    struct job_record record = job_fixture_record(good, strlen(good));
    job_identity_read(&one, &record);
    job_identity_read(&two, &record);
    assert_memory_equal(&one, &two, sizeof one);
    assert_string_equal(one.custom_id, "a");
    assert_int_equal(strncmp(one.id, "batch_req_", 10), 0);
    record.offset = 8;
    job_identity_read(&two, &record);
    assert_string_not_equal(one.id, two.id);
    struct job *job = accept(COMPLETION, "\"prompt\":\"x\"");
    assert_string_equal(job->id, one.id);
    job_close(job);
    static const struct {
        const char *line, *custom_id;
    } cases[] = {{"{\"custom_id\":\"late\",\"body\":{\"a\":[1,2}}", "late"}, /* recovered: it comes first */
                 {"{\"body\":{\"custom_id\":\"inner\"},\"custom_id\":\"\\u0061\"} trailing", "a"},
                 {"{\"custom_id\":\"cut", ""},
                 {"{\"custom_id\":\"a\\u0000b\"}", ""},
                 {"{\"custom_id\":7}", ""},
                 {"hello", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        record = job_fixture_record(cases[i].line, strlen(cases[i].line));
        job_identity_read(&one, &record);
        assert_string_equal(one.custom_id, cases[i].custom_id);
        assert_int_equal(one.has_custom_id, cases[i].custom_id[0] != '\0');
    }
}

static void fields_are_documented_from_the_table(void **state)
{
    (void)state;
    struct bytes text;
    static char file[65536];
    bytes_init(&text, sizeof file);
    job_fields_print(&text);
    FILE *in = fopen(MILLRACE_SOURCE_DIR "/docs/formats/fields.md", "rb");
    assert_non_null(in);
    size_t bytes = fread(file, 1, sizeof file - 1, in);
    fclose(in);
    file[bytes] = '\0';
    assert_string_equal(text.data, file);
    bytes_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_come_from_the_request_then_the_model_then_the_library),
        cmocka_unit_test(greedy_turns_the_filters_off_and_refuses_choices),
        cmocka_unit_test(prompts_come_in_four_shapes),
        cmocka_unit_test(the_context_is_a_limit),
        cmocka_unit_test(truncation_keeps_the_end_or_the_beginning),
        cmocka_unit_test(ranges_are_those_of_vllm),
        cmocka_unit_test(lists_reach_the_sampler),
        cmocka_unit_test(seeds_are_exact_or_derived),
        cmocka_unit_test(an_answer_can_have_one_form),
        cmocka_unit_test(searches_are_deterministic),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(unknown_fields_are_warned_of),
        cmocka_unit_test(lines_are_checked),
        cmocka_unit_test(headers_win_over_the_object_over_the_body),
        cmocka_unit_test(control_fields_are_checked),
        cmocka_unit_test(identities_are_stable_and_survive_bad_lines),
        cmocka_unit_test(fields_are_documented_from_the_table),
    };
    return cmocka_run_group_tests(tests, job_fixture_open, job_fixture_close);
}
