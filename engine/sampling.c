// SPDX-License-Identifier: Apache-2.0
#include "engine/sampling.h"

struct sampling_params sampling_defaults(void)
{
    return (struct sampling_params){
        .top_p = 1.0f,
        .repetition_penalty = 1.0f,
        .n = 1,
        .max_tokens = 16,
        .logprobs = SAMPLING_NO_LOGPROBS,
        .prompt_logprobs = SAMPLING_NO_LOGPROBS,
        .skip_special_tokens = true,
        .length_penalty = 1.0f,
    };
}
