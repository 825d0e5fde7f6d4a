// SPDX-License-Identifier: Apache-2.0
#include "worker/intake/job.h"

#include <stdlib.h>

#include "engine/constrain/constraint.h"

void job_close(struct job *job)
{
    if (!job)
        return;
    constraint_give_back(job->sampling.constraint);
    struct arena arena =
        job->arena; /* the job itself is the caller's malloc; what it points to is the arena's */
    arena_release(&arena);
    free(job);
}
