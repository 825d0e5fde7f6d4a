// SPDX-License-Identifier: Apache-2.0
// A Kafka record of its own: key, value, headers and topic in one allocation, freed with free(). For a job
// that waits for its turn and a result that waits for its broker.
#ifndef WORKER_INTAKE_RECORD_COPY_H
#define WORKER_INTAKE_RECORD_COPY_H

#include "worker/intake/job.h"

/* Every text is NUL-terminated behind its bytes. NULL: no memory. */
struct job_record *record_copy(const struct job_record *record);

#endif
