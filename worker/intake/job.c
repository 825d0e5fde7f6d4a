// SPDX-License-Identifier: Apache-2.0
#include "worker/intake/job.h"

#include <stdlib.h>
#include <string.h>

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

bool job_is_resumable(const struct job *job)
{
    const struct sampling_params *s = &job->sampling;
    return job->kind != JOB_SCORE && job->prompt_count == 1 && s->n == 1 && !s->use_beam_search &&
           s->logprobs == SAMPLING_NO_LOGPROBS && s->prompt_logprobs == SAMPLING_NO_LOGPROBS;
}

bool job_resume(struct job *job, const int32_t *tokens, size_t count)
{
    CHECK(job_is_resumable(job));
    const struct job_prompt *from = &job->prompts[0];
    int32_t *all = arena_alloc_array(&job->arena, from->count + count, sizeof *all);
    struct job_prompt *prompt = all ? arena_alloc(&job->arena, sizeof *prompt) : NULL;
    if (!prompt)
        return false;
    memcpy(all, from->tokens, from->count * sizeof *all);
    memcpy(all + from->count, tokens, count * sizeof *all);
    *prompt = *from;
    prompt->tokens = all;
    job->prompts = prompt;
    job->resumed_tokens = count;
    return true;
}
