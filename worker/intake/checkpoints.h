// SPDX-License-Identifier: Apache-2.0
// What a worker that leaves has generated of its running jobs, for whoever gets their partitions: records of
// the status topic, written in the transaction of its farewell, removed in that of the job's result. A
// checkpoint is an optimisation: it is used only where job, prompt and model are the ones that it names, and
// then the answer has the bytes that it would have without. Format: docs/formats/checkpoint.md.
#ifndef WORKER_INTAKE_CHECKPOINTS_H
#define WORKER_INTAKE_CHECKPOINTS_H

#include "worker/emit/finished_result.h"

enum {
    CHECKPOINT_VERSION = 1,
    CHECKPOINTS_MOST = 4096, /* of the partitions of one worker; of more jobs run from their beginning */
    CHECKPOINT_MOST_TOKENS = 1 << 17
};

/* The record that keeps these tokens of the job; NULL: no memory. job_handle is the job's. */
struct finished_result *checkpoint_new(uint64_t job_handle, const struct job *job, const char *fingerprint,
                                       const char *status_topic, const int32_t *tokens, size_t count);

struct checkpoints; /* those that may be of use; owner: the intake thread */

MUST_CHECK enum status checkpoints_open(struct checkpoints **out, struct error *err);
void checkpoints_close(struct checkpoints *checkpoints);
/* Whether the key of a record of the status topic is a checkpoint's, and of which place. */
bool checkpoint_key_read(const char *key, size_t key_bytes, char topic[256], int32_t *partition,
                         int64_t *offset);
/* A record with such a key; the latest counts, a tombstone removes. */
void checkpoints_take(struct checkpoints *checkpoints, const struct job_record *record);
bool checkpoints_has(const struct checkpoints *checkpoints, const char *topic, int32_t partition,
                     int64_t offset);
/* Gives the job its tokens, when there are any and they are its own. */
void checkpoints_resume(const struct checkpoints *checkpoints, struct job *job, const char *fingerprint);
/* The job is answered: the tombstone that goes with its result; NULL: there is nothing to remove. */
struct finished_result *checkpoints_remove(struct checkpoints *checkpoints, const char *topic,
                                           int32_t partition, int64_t offset, const char *status_topic);
/* The partition is another worker's. */
void checkpoints_forget(struct checkpoints *checkpoints, const char *topic, int32_t partition);

#endif
