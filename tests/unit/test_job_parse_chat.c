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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_is_rendered_and_capped),
        cmocka_unit_test(content_parts_are_joined),
    };
    return cmocka_run_group_tests(tests, job_fixture_open, job_fixture_close);
}
