// SPDX-License-Identifier: Apache-2.0
// Reads the status topic once, from its beginning to everything that was written before the call, also by a
// transaction whose end is not known there yet.
#ifndef WORKER_INTAKE_STATUS_TOPIC_H
#define WORKER_INTAKE_STATUS_TOPIC_H

#include "config/config.h"
#include "worker/intake/job.h"

typedef void status_topic_taker(void *context, const struct job_record *record);

/* Statuses: UNAVAILABLE (no such topic, or a transaction stays open). */
MUST_CHECK enum status status_topic_read(const struct config *config, status_topic_taker *take, void *context,
                                         struct error *err);

#endif
