// SPDX-License-Identifier: Apache-2.0
// What has become of a batch's jobs, and what they cost: the value of every record of the status topic
// (docs/formats/status.md), in the shape of OpenAI's Batch object. Pure.
#ifndef WORKER_BATCH_SUMS_H
#define WORKER_BATCH_SUMS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

enum { BATCH_SUMS_VERSION = 1 }; /* of the records; one of another version is not read */

struct batch_sums {
    int64_t total;      /* -1: unknown */
    int64_t created_ms; /* of the submit; -1: unknown */
    int64_t completed, failed, cancelled, expired;
    int64_t input_tokens, cached_tokens, output_tokens;
    int64_t core_us;           /* processor time of the workers */
    int64_t first_ms, last_ms; /* of answers; -1: none */
};

void batch_sums_init(struct batch_sums *sums);
/* Adds what `part` counts; its total and creation, where known, replace those of `sums`. */
void batch_sums_add(struct batch_sums *sums, const struct batch_sums *part);
int64_t batch_sums_answered(const struct batch_sums *sums);
/* "in_progress", "completed", "cancelled", or "validating" before the first answer: OpenAI's words. */
const char *batch_sums_word(const struct batch_sums *sums);
/* OpenAI's Batch object with usage. */
void batch_sums_write(const struct batch_sums *sums, const char *batch_id, struct bytes *out);
/* False: `value` is none. */
bool batch_sums_read(struct batch_sums *out, const char *value, size_t bytes);
/* The batch of the key B or B/topic/partition; a topic's name has no slash. Returns the bytes of B; *topic
 * and *partition are NULL and -1 for the key B alone. `topic` points into the key. */
size_t batch_sums_split_key(const char *key, size_t key_bytes, const char **topic, size_t *topic_bytes,
                            int32_t *partition);

#endif
