// SPDX-License-Identifier: Apache-2.0
// The job parser with the bundled model's tokenizer and template, for the tests of lines.
#ifndef TESTS_SUPPORT_JOB_FIXTURE_H
#define TESTS_SUPPORT_JOB_FIXTURE_H

#include "worker/intake/job_parse.h"

#define CHAT "/v1/chat/completions"
#define COMPLETION "/v1/completions"
#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]"

extern struct job_parse_context job_fixture; /* from open to close */

/* cmocka group setup and teardown. */
int job_fixture_open(void **state);
int job_fixture_close(void **state);
struct job_record job_fixture_record(const char *value, size_t bytes);
enum status job_fixture_parse(const char *line, struct job **job, struct job_fault *fault);
/* A line with these members in its body; valid until the next call. */
const char *job_fixture_line(const char *url, const char *body);
struct job *accept(const char *url, const char *body);
void expect_fault(const char *line, int http_status, const char *param, const char *words);
void refuse(const char *url, const char *body, const char *param, const char *words);
void refuse_completion(const char *members, const char *param, const char *words);

#endif
