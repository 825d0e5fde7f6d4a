// SPDX-License-Identifier: Apache-2.0
// What makes `submit` resumable: beside the input, FILE.submit says which batch this is and where the job
// topic ended when it began. The broker itself knows what has arrived since: a rerun reads it back and sends
// only the rest.
#ifndef WORKER_CLI_SUBMIT_STATE_H
#define WORKER_CLI_SUBMIT_STATE_H

#include "worker/topic_reader.h"

struct submit_state {
    char path[4096];
    char batch_id[257], topic[256], cluster_id[64];
    char digest[65]; /* SHA-256 of the input's lines */
    struct topic_offsets begin;
    bool resumed;  /* read from a file */
    bool complete; /* everything was stored: a rerun sends nothing */
};

/* Reads FILE.submit when there is one for this batch, topic and cluster. Statuses: OK (see resumed), CONFIG
 * (it belongs to something else: the sentence says what to do). */
MUST_CHECK enum status submit_state_load(struct submit_state *state, struct error *err);
/* Writes it durably, before the first job is sent and when the last one is stored. Statuses: IO. */
MUST_CHECK enum status submit_state_save(const struct submit_state *state, struct error *err);
void submit_state_remove(const struct submit_state *state);

#endif
