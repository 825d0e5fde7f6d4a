// SPDX-License-Identifier: Apache-2.0
// What has been cancelled: batches and single jobs, each until a moment. A job is cancelled when it was
// enqueued no later than its cancellation, so that the same batch name can be submitted again. Bounded:
// beyond its size the oldest cancellation is forgotten. Pure; owner: the intake thread.
#ifndef WORKER_INTAKE_CANCELLATIONS_H
#define WORKER_INTAKE_CANCELLATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { CANCEL_MAX_ENTRIES = 65536 };

struct cancellations;

struct cancel_key { /* of a batch, or of a job in it: half a SHA-256 */
    uint8_t bytes[16];
};

struct cancel_names {                 /* what a job can be cancelled by */
    struct cancel_key batch, job, id; /* id: its custom_id in whatever batch, for tombstones */
};

/* custom_id NULL: the whole batch. */
struct cancel_key cancel_key(const char *batch_id, const char *custom_id);
struct cancel_key cancel_key_of_id(const char *custom_id, size_t bytes);

MUST_CHECK enum status cancellations_open(struct cancellations **out, struct error *err);
void cancellations_close(struct cancellations *cancellations);
/* A later moment replaces an earlier one. */
void cancellations_add(struct cancellations *cancellations, const struct cancel_key *key, int64_t until_ms);
/* Is a job enqueued at `enqueued_ms` cancelled? -1 (unknown time): by any of its cancellations. */
bool cancellations_cover(const struct cancellations *cancellations, const struct cancel_names *names,
                         int64_t enqueued_ms);

/* The value of a record of the control topic, {"batch_id":…,"custom_id":…|absent}. Statuses: INVALID. */
MUST_CHECK enum status cancel_read(const char *value, size_t bytes, struct cancel_key *out,
                                   struct error *err);

#endif
