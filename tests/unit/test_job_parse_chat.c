// SPDX-License-Identifier: Apache-2.0
// Chat jobs through the parser, with the bundled model's template.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/job_fixture.h"

static void chat_is_rendered_and_capped(void **state)
{
    (void)state;
    struct job *job = accept(CHAT, HELLO);
    struct bytes text;
    bytes_init(&text, 4096);
    assert_int_equal(tokenizer_decode(job_fixture.tokenizer, job->prompts[0].tokens, job->prompts[0].count,
                                      false, &text, NULL),
                     STATUS_OK);
    assert_string_equal(text.data, "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n");
    bytes_release(&text);
    assert_int_equal(job->kind, JOB_CHAT);
    assert_int_equal(job->sampling.max_tokens, 100); /* limits.default_max_tokens */
    job_close(job);
}

static void content_parts_are_joined(void **state)
{
    (void)state;
    struct job *parts = accept(CHAT, "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
                                     "\"text\",\"text\":\"hel\"},"
                                     "{\"type\":\"text\",\"text\":\"lo\"}]}]");
    struct job *plain = accept(CHAT, "\"messages\":[{\"role\":\"user\",\"content\":\"hel\\nlo\"}]");
    assert_int_equal(parts->prompts[0].count, plain->prompts[0].count);
    assert_memory_equal(parts->prompts[0].tokens, plain->prompts[0].tokens, plain->prompts[0].count * 4);
    job_close(parts);
    job_close(plain);
    refuse(CHAT,
           "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_"
           "url\",\"image_url\":{}}]}]",
           "messages", "image_url");
    refuse(CHAT, "\"messages\":[]", "messages", "not empty");
    refuse(CHAT, "\"messages\":[{\"content\":\"x\"}]", "messages", "role");
    refuse(CHAT, "\"messages\":[{\"role\":\"user\",\"content\":7}]", "messages", "an integer");
    refuse(CHAT, "\"max_tokens\":4", "messages", "needs messages");
}

/* OpenAI writes the arguments of a call as JSON in a string; templates print objects. */
static void arguments_become_an_object(void **state)
{
    static const char *const arguments[] = {"\"{\\\"a\\\": [1, 2.0, null, true, \\\"x\\\"]}\"",
                                            "{\"a\":[1,2.0,null,true,\"x\"]}"};
    struct job *jobs[2];
    (void)state;
    const struct chat_template *before = job_fixture.chat_template;
    struct chat_template *prints_calls;
    const char source[] = "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.arguments }}"
                          "{{ c.function.arguments|tojson }}{% endfor %}{% endfor %}";
    assert_int_equal(chat_template_open_text(&prints_calls, source, sizeof source - 1, "", "", NULL),
                     STATUS_OK);
    job_fixture.chat_template = prints_calls;
    for (size_t i = 0; i < 2; i++) {
        char body[512];
        snprintf(body, sizeof body,
                 "\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"function\":{"
                 "\"name\":\"f\",\"arguments\":%s}}]}]",
                 arguments[i]);
        jobs[i] = accept(CHAT, body);
    }
    assert_int_equal(jobs[0]->prompts[0].count, jobs[1]->prompts[0].count);
    assert_memory_equal(jobs[0]->prompts[0].tokens, jobs[1]->prompts[0].tokens,
                        jobs[0]->prompts[0].count * 4);
    refuse(CHAT,
           "\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
           "\"arguments\":\"{a\"}}]}]",
           "messages", "must be JSON");
    for (size_t i = 0; i < 2; i++)
        job_close(jobs[i]);
    job_fixture.chat_template = before;
    chat_template_close(prints_calls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_is_rendered_and_capped),
        cmocka_unit_test(content_parts_are_joined),
        cmocka_unit_test(arguments_become_an_object),
    };
    return cmocka_run_group_tests(tests, job_fixture_open, job_fixture_close);
}
