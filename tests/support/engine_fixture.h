// SPDX-License-Identifier: Apache-2.0
// An engine over the golden Qwen3 miniature (vocabulary 288, context 256, eos 1), driven step by step with
// the invariants checked after each one; what every choice said is kept for comparison in bytes.
#ifndef TESTS_SUPPORT_ENGINE_FIXTURE_H
#define TESTS_SUPPORT_ENGINE_FIXTURE_H

#include "engine/engine.h"
#include "engine/model/model.h"

enum {
    FIXTURE_VOCAB = 288,
    FIXTURE_EOS = 1,
    FIXTURE_BLOCK_TOKENS = 16,
    FIXTURE_MAX_TOKENS = 256,
    FIXTURE_MAX_CHOICES = 8,
    FIXTURE_ROWS = 400 /* of a step, at most */
};

/* What one choice said. */
struct said {
    uint32_t count, prompt_count;
    int32_t tokens[FIXTURE_MAX_TOKENS];
    float logprobs[FIXTURE_MAX_TOKENS];
    float prompt_logprobs[FIXTURE_MAX_TOKENS];
    bool finished;
    enum engine_finish finish;
    int32_t stop_token, stop_string;
    uint32_t cached_tokens;
};

/* One request with room for its prompt and its answers. */
struct asked {
    struct engine_request request;
    struct sampling_params sampling;
    int32_t prompt[FIXTURE_MAX_TOKENS];
    struct said said[FIXTURE_MAX_CHOICES];
};

struct model *engine_fixture_model(void); /* opened on first use */
void engine_fixture_close_model(void);
/* Roomy: 16-row chunks, 8 sequences, 256 blocks, prefix cache on. */
struct engine_options engine_fixture_options(void);
struct engine *engine_fixture_open(const struct engine_options *options); /* fails the test on error */

/* Prompt of `tokens` tokens: the first `shared` are those of family `family`, the rest those of `id`; sampled
 * at temperature 1 with logprobs, eos ignored. */
void asked_init(struct asked *asked, uint64_t id, uint32_t tokens, uint32_t shared, uint64_t family);
void asked_submit(struct asked *asked, struct engine *engine);
/* Events of a step go to asked[request id]. */
void asked_record(struct asked *asked, const struct engine_event *events, size_t count);
/* One step, recorded. */
void asked_step(struct asked *asked, struct engine *engine);
void asked_run(struct asked *asked, struct engine *engine); /* until idle */
/* Fails the test where tokens, logprobs or ends differ in any byte. */
void asked_compare(const struct asked *asked, const struct asked *expected, const char *what);

#endif
