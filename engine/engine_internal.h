// SPDX-License-Identifier: Apache-2.0
// The inside of struct engine, shared by engine.c (steps) and engine_blocks.c (blocks for the KV tier).
// Private to engine/.
#ifndef ENGINE_ENGINE_INTERNAL_H
#define ENGINE_ENGINE_INTERNAL_H

#include "base/bytes.h"
#include "engine/engine.h"
#include "engine/kv/block_pool.h"
#include "engine/scheduler.h"

struct engine {
    struct engine_options options;
    const struct hparams *hparams;
    int32_t max_context_tokens, max_logit_rows;
    struct block_pool *pool;
    struct kv_cache *kv;
    struct kv_windows *windows; /* NULL: block tables alone */
    struct scheduler *scheduler;
    struct logit_reader *reader;
    struct mask_ahead *masks;
    float *logits; /* [max_logit_rows][vocab] */
    int64_t arrivals;
    struct beam_group *searches; /* that run or are not reported yet, oldest first */
    struct sequence *ended; /* finished in the last step, closed in the next: events point to their tokens */
    struct engine_event *events; /* [event_capacity]; [0, reported) were handed out by the last step */
    size_t event_count, event_capacity, reported;
    engine_evicted *evicted;
    void *evicted_context;
    struct bytes scratch_text; /* what stop detokenizers release; not used */
    struct engine_stats stats;
};

#endif
