// SPDX-License-Identifier: Apache-2.0
// The "post_processor" of tokenizer.json for one sequence: ids that go before and after it (BOS and the
// like). Immutable after init. An unknown type is refused by name.
#ifndef ENGINE_TEXT_POST_PROCESSOR_H
#define ENGINE_TEXT_POST_PROCESSOR_H

#include "base/json.h"
#include "engine/text/tokenizer.h"

#define POST_PROCESSOR_MAX_IDS 64

struct post_processor {
    int32_t before[POST_PROCESSOR_MAX_IDS], after[POST_PROCESSOR_MAX_IDS];
    size_t before_count, after_count;
};

/* Statuses: INVALID, UNSUPPORTED, TOO_LARGE. */
MUST_CHECK enum status post_processor_init(struct post_processor *processor, const struct json *node,
                                           struct error *err);

#endif
